"""Models that leave their study: published files, predictions of new films, heads of new people, decoding."""
