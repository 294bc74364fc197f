"""Annotations as sentence embeddings on the scan's clock.

`embed(sentences, model_name) -> (N, E) float32`; `embed_timeline(segments, tr_s, n_trs, start_s, model_name) ->
(T, E + 1) float32`, whose last column says how much of the TR is annotated.
T TRs, N sentences, E numbers in an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.stimulus import sentence_encoder
from giblet_train.schema.errors import DataError


def embed(sentences: Sequence[str], model_name: str = sentence_encoder.NAME) -> NDArray[np.float32]:
    """Return (N, E) a unit vector for each sentence.

    `all-minilm-l6-v2` (E = 384) runs from its package; any other name is a model of sentence-transformers.
    Raises DataError if the model is not installed: nothing replaces it.
    """
    if not sentences:
        raise DataError("There is no sentence to embed.", "Annotate the film, in data.annotations.")
    if model_name.lower() in sentence_encoder.NAMES:
        return sentence_encoder.embed(sentences)
    if find_spec("sentence_transformers") is None:
        raise DataError(
            f'The sentence model "{model_name}" needs sentence-transformers, which is not installed.',
            f"pip install sentence-transformers, or set data.text_model: {sentence_encoder.NAME}.",
        )
    return _embed_by_hub(sentences, model_name)


def embed_timeline(
    segments: Sequence[Segment], tr_s: float, n_trs: int, start_s: float = 0.0, model_name: str = sentence_encoder.NAME
) -> NDArray[np.float32]:
    """Return (T, E + 1): per TR the overlap-weighted mean of its annotations' embeddings, and the covered share.

    A TR without annotation is all zeros. Raises DataError like `embed`.

    Args:
        start_s: Film second at which TR 0 begins.
    """
    texts = sorted({s.text for s in segments if s.text})
    vectors_NE = embed(texts, model_name)
    row = {text: n for n, text in enumerate(texts)}
    weight_TN = np.zeros((n_trs, len(texts)))
    covered_T = np.zeros(n_trs)
    starts_s = start_s + tr_s * np.arange(n_trs, dtype=np.float64)
    reached_s = -np.inf
    for segment in sorted((s for s in segments if s.text), key=lambda s: s.start_s):
        weight_TN[:, row[segment.text]] += _overlap_s(starts_s, tr_s, segment.start_s, segment.end_s)
        covered_T += _overlap_s(starts_s, tr_s, max(segment.start_s, reached_s), segment.end_s)
        reached_s = max(reached_s, segment.end_s)
    total_T1 = weight_TN.sum(axis=1, keepdims=True)
    mean_TE = (weight_TN / np.where(total_T1 > 0.0, total_T1, 1.0)) @ vectors_NE
    return np.concatenate([mean_TE, (covered_T / tr_s)[:, None].clip(0.0, 1.0)], axis=1).astype(np.float32)


def _overlap_s(starts_s: NDArray[np.floating[Any]], tr_s: float, start_s: float, end_s: float) -> NDArray[np.float64]:
    """Return (T,) seconds that each TR shares with the interval from start_s to end_s."""
    shared_T: NDArray[np.float64] = (np.minimum(starts_s + tr_s, end_s) - np.maximum(starts_s, start_s)).clip(min=0.0)
    return shared_T


def _embed_by_hub(sentences: Sequence[str], model_name: str) -> NDArray[np.float32]:
    library = import_module("sentence_transformers")
    try:
        model = library.SentenceTransformer(model_name, device="cpu")
    except (OSError, ValueError) as error:
        raise DataError(
            f'The sentence model "{model_name}" cannot be loaded: {error}.',
            f"Name a model that is on this machine, or set data.text_model: {sentence_encoder.NAME}.",
        ) from None
    return np.asarray(model.encode(list(sentences), normalize_embeddings=True), np.float32)
