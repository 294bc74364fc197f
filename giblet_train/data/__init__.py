"""The data of a study: film, annotations and BOLD, brought onto one timeline in seconds and cut into TRs."""
