"""Sentences as vectors, and vectors on the scan's clock."""

import importlib.util

import numpy as np
import pytest

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.stimulus import sentence_encoder
from giblet_train.data.stimulus.text import embed, embed_timeline
from giblet_train.schema.errors import DataError

SENTENCES = (
    "A rabbit sleeps in its burrow.",
    "A bunny is dozing in a hole in the ground.",
    "Share prices fell sharply on Monday morning after the bank published its quarterly figures.",
)


def test_sentences_of_one_meaning_are_near():
    vectors_NE = embed(SENTENCES)
    assert vectors_NE.shape == (3, 384)
    assert vectors_NE.dtype == np.float32
    nearness = vectors_NE @ vectors_NE.T
    assert np.diag(nearness) == pytest.approx(1.0, abs=1e-5)
    assert nearness[0, 1] > 0.5
    assert nearness[0, 2] < 0.15


def test_vectors_are_those_of_the_original_library():
    """The first six numbers as transformers 5.23's BertModel gives them, averaged over tokens and scaled to 1."""
    vectors_NE = embed(["The giant grey rabbit stretches both arms and yawns before his burrow.", "Nothing."])
    expected = [
        [0.09871473, 0.06507272, 0.10300496, 0.07294077, -0.04093882, -0.03098986],
        [-0.02503669, -0.01576405, -0.03769341, 0.01106306, 0.06979643, 0.07520449],
    ]
    np.testing.assert_allclose(vectors_NE[:, :6], expected, atol=1e-6)


def test_a_sentence_has_the_same_vector_in_any_company():
    alone = np.concatenate([embed([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(
        embed([*SENTENCES, *("Rinky throws a nut. " * n for n in range(1, 9))])[:3], alone, atol=1e-6
    )


def test_a_model_that_is_not_installed_is_never_replaced(monkeypatch):
    if importlib.util.find_spec("sentence_transformers") is None:
        with pytest.raises(DataError, match='"BAAI/bge-large-en" needs sentence-transformers'):
            embed(SENTENCES, "BAAI/bge-large-en")
    monkeypatch.setattr(sentence_encoder, "PACKAGE", "no-such-package")
    with pytest.raises(DataError, match="package no-such-package is not installed"):
        embed(SENTENCES)


def test_a_tr_is_the_mean_of_its_sentences_weighted_by_overlap():
    segments = [
        Segment(0.0, 3.0, SENTENCES[0]),
        Segment(3.0, 5.0, SENTENCES[1]),
        Segment(5.0, 5.5, ""),
        Segment(10.0, 12.0, SENTENCES[2]),
        Segment(11.0, 12.0, SENTENCES[0]),
    ]
    vectors = dict(zip(SENTENCES, embed(SENTENCES), strict=True))
    rows = embed_timeline(segments, 2.0, 7)
    assert rows.shape == (7, 385)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0, :-1], vectors[SENTENCES[0]], atol=1e-6)
    np.testing.assert_allclose(rows[1, :-1], (vectors[SENTENCES[0]] + vectors[SENTENCES[1]]) / 2, atol=1e-6)
    np.testing.assert_allclose(rows[5, :-1], (2 * vectors[SENTENCES[2]] + vectors[SENTENCES[0]]) / 3, atol=1e-6)
    np.testing.assert_allclose(rows[:, -1], [1, 1, 0.5, 0, 0, 1, 0], atol=1e-6)
    assert not rows[[3, 4, 6]].any()


def test_the_offset_moves_the_film_under_the_scan():
    segments = [Segment(4.0, 6.0, SENTENCES[0]), Segment(6.0, 9.0, SENTENCES[1])]
    np.testing.assert_array_equal(embed_timeline(segments, 1.5, 4, 3.0), embed_timeline(segments, 1.5, 6)[2:])


def test_a_film_without_a_word_is_refused():
    with pytest.raises(DataError, match="no sentence to embed"):
        embed_timeline([Segment(0.0, 2.0, "")], 1.5, 3)
