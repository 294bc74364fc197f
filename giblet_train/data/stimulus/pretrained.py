"""Features of a stimulus from a pretrained model: of its pictures, its sound, or its words in context.

The model runs once over the whole stimulus, on a clock of its own; its rows are kept by content and averaged over TRs.
T TRs, N rows or words, F features, B inputs of a batch, S samples of sound, H W height and width in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.model_folder import model_files
from giblet_train.data.stimulus import audio, pretrained_model, video
from giblet_train.data.stimulus.feature_cache import FeatureCache
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.stimulus.pretrained_model import ModelInput, PretrainedModel, inspect_model, load_pretrained
from giblet_train.data.stimulus.row_means import row_means
from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import DataError

Singles = NDArray[np.float32]

CONTEXT_WORDS = 32
"""Words before each word that a text model reads."""
LONGEST_TOKENS = 512
"""A context is cut at its beginning if it has more."""
CLIP_HZ, CLIP_STEP_S = 8.0, 1.0
"""Frames per second that a video model sees, and seconds between two of its inputs."""
SOUND_HZ, SOUND_STEP_S, SOUND_BEFORE_S = 10.0, 20.0, 10.0
"""Rows per second of sound; a model hears 20 s at a time, after the 10 s before them."""
SOUND_CLIP_S = 4.0
"""Seconds that a model of sound hears whose tokens are not in order of time."""
MISSING_S, ROUNDING_TRS = 0.5, 1e-6
BATCH = 16


@dataclass(frozen=True)
class ModelRuns:
    """How pretrained models are run."""

    fps: float = 2.0
    """Frames per second that a model of single pictures sees."""
    device: str = "auto"
    """auto, cpu or cuda; auto uses a GPU if there is one."""
    cache: FeatureCache = field(default_factory=FeatureCache)
    report: Callable[[float], None] = lambda share: None
    """Receives the share of the stimulus that is done."""


def pretrained_features(
    where: str, source: FeatureSource, folder: Path, timeline: FilmTimeline, runs: ModelRuns
) -> Singles | None:
    """Return (T, F), or None if the stimulus lacks what the model reads.

    Of words there is one more column, the number of words that begin in each TR. Raises DataError if the model cannot
    be loaded or run.

    Args:
        where: Key of the configuration, for messages.
        folder: Folder of the model.
    """
    model_input = inspect_model(where, folder, source)
    if model_input.reads == "text":
        return _word_features(where, source, folder, timeline, runs)
    media = timeline.sound if model_input.reads == "sound" else timeline.film
    if media is None:
        return None
    rate_hz, rows_of = _method(model_input, runs)

    def compute() -> Singles:
        model = load_pretrained(where, folder, source, runs.device)
        return _rows(where, source, lambda: rows_of(model, media, runs))

    key = _identity(runs.cache.digest_of(media), source, folder, runs) | {
        "reads": model_input.reads,
        "rate_hz": rate_hz,
    }
    rows_NF = runs.cache.rows(key, compute)
    edges_T1 = (timeline.start_s + timeline.tr_s * np.arange(timeline.n_trs + 1)) * rate_hz
    missing_s = (edges_T1[-1] - len(rows_NF)) / rate_hz
    if missing_s > max(1.0 / rate_hz, MISSING_S):
        raise DataError(
            f"{media} lasts {len(rows_NF) / rate_hz:.1f} s, but {edges_T1[-1] / rate_hz:.1f} s are needed.",
            "Correct the onset, or say with split.usable_trs how much of the scan is to be used.",
        )
    # What is left of a film after its last whole row counts as that row.
    rest_NF = np.repeat(rows_NF[-1:], max(0, ceil(missing_s * rate_hz)), axis=0)
    return row_means(np.concatenate([rows_NF, rest_NF]), edges_T1).astype(np.float32)


def _method(
    model_input: ModelInput, runs: ModelRuns
) -> tuple[float, Callable[[PretrainedModel, Path, ModelRuns], Singles]]:
    """Return the rows per second of a model, and the function that computes them."""
    if model_input.reads == "sound":
        return (SOUND_HZ, _sound_rows) if model_input.keeps_time else (1.0 / CLIP_STEP_S, _sound_clip_rows)
    return (runs.fps, _picture_rows) if model_input.clip_frames is None else (1.0 / CLIP_STEP_S, _clip_rows)


def spoken_words(segments: Sequence[Segment]) -> list[tuple[float, str]]:
    """Return (onset in seconds, word) in order of time. The words of a longer segment are spread evenly over it."""
    words: list[tuple[float, str]] = []
    for segment in sorted(segments, key=lambda s: s.start_s):
        parts = segment.text.split()
        step_s = (segment.end_s - segment.start_s) / max(1, len(parts))
        words += [(segment.start_s + n * step_s, part) for n, part in enumerate(parts)]
    return sorted(words, key=lambda word: word[0])


def _word_features(
    where: str, source: FeatureSource, folder: Path, timeline: FilmTimeline, runs: ModelRuns
) -> Singles | None:
    """Return (T, F + 1): the mean of the words that begin in each TR, and their number."""
    word_rows = spoken_words(timeline.segments)
    if not word_rows:
        return None
    words = [word for _, word in word_rows]
    n_context = source.context_words or CONTEXT_WORDS

    def compute() -> Singles:
        model = load_pretrained(where, folder, source, runs.device)
        return _rows(where, source, lambda: _word_rows(model, words, n_context, runs))

    content = hashlib.sha256("\n".join(words).encode()).hexdigest()
    key = _identity(content, source, folder, runs) | {"reads": "text", "context_words": n_context}
    rows_NF = runs.cache.rows(key, compute)
    onsets_N = np.array([onset_s for onset_s, _ in word_rows])
    tr_N = np.floor((onsets_N - timeline.start_s) / timeline.tr_s + ROUNDING_TRS).astype(int)
    inside_N = (tr_N >= 0) & (tr_N < timeline.n_trs)
    total_TF = np.zeros((timeline.n_trs, rows_NF.shape[1] + 1))
    np.add.at(total_TF, tr_N[inside_N], np.pad(rows_NF, ((0, 0), (0, 1)), constant_values=1.0)[inside_N])
    total_TF[:, :-1] /= total_TF[:, -1:].clip(min=1.0)
    return total_TF.astype(np.float32)


def _rows(where: str, source: FeatureSource, compute: Callable[[], Singles]) -> Singles:
    """Return the rows of a model. Raises DataError for whatever the model raises."""
    try:
        return compute()
    except DataError:
        raise
    except Exception as error:  # another's code: whatever it raises is its answer
        sentence = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"{where}: {source.model} failed: {type(error).__name__}: {sentence}.",
            "Use another model or layer, or bring its features as a file.",
        ) from error


def _picture_rows(model: PretrainedModel, film: Path, runs: ModelRuns) -> Singles:
    """Return (N, F): one row for each picture on screen at `fps`, scaled whole to the size that the model reads."""
    height, width = model.picture_size
    n_rows = max(1, int(video.film_seconds(film) * runs.fps))
    rows = []
    for frames in video.read_frames_in_parts(film, 1.0 / runs.fps, n_rows, runs.fps, height, width, 0.0, BATCH):
        rows.append(model.means(**{model.input_name: _scaled(model, frames[:, 0])}))
        runs.report(min(1.0, len(rows) * BATCH / n_rows))
    return np.concatenate(rows)


def _clip_rows(model: PretrainedModel, film: Path, runs: ModelRuns) -> Singles:
    """Return (N, F): one row a second, from the frames up to its end; before the film there is its first frame."""
    n_frames, (height, width) = model.clip_frames or 1, model.picture_size
    n_rows = max(1, int(video.film_seconds(film) / CLIP_STEP_S))
    rows: list[Singles] = []
    clip = torch.zeros(0)
    for frames in video.read_frames_in_parts(film, CLIP_STEP_S, n_rows, CLIP_HZ, height, width, 0.0, 1):
        new = _scaled(model, frames[0])
        clip = torch.cat([clip if len(clip) else new[:1].expand(n_frames, -1, -1, -1), new])[-n_frames:]
        rows.append(model.means(**{model.input_name: clip[None]}))
        runs.report(len(rows) / n_rows)
    return np.concatenate(rows)


def _scaled(model: PretrainedModel, frames_BHWC: NDArray[np.uint8]) -> torch.Tensor:
    """Return pictures (B, C, H, W) with the mean and deviation of colours that the model was trained with."""
    mean_C, sd_C = model.picture_scale()
    light_BHWC = (frames_BHWC.astype(np.float32) / np.float32(255.0) - mean_C) / sd_C
    return torch.from_numpy(np.ascontiguousarray(light_BHWC.transpose(0, 3, 1, 2)))


def _sound_rows(model: PretrainedModel, path: Path, runs: ModelRuns) -> Singles:
    """Return (N, F), SOUND_HZ rows a second. The model hears stretches of SOUND_STEP_S with what precedes them."""
    extractor = model.helper("AutoFeatureExtractor")
    rate_hz = int(extractor.sampling_rate)
    wave_S = audio.read_samples(path, rate_hz)
    n_rows = max(1, int(len(wave_S) / rate_hz * SOUND_HZ))
    per_step = round(SOUND_STEP_S * SOUND_HZ)
    rows = []
    for first in range(0, n_rows, per_step):
        stop = min(first + per_step, n_rows)
        begin_s = max(0.0, first / SOUND_HZ - SOUND_BEFORE_S)
        heard_S = wave_S[round(begin_s * rate_hz) : round(stop / SOUND_HZ * rate_hz)]
        heard_S = np.pad(heard_S, (0, max(0, rate_hz - len(heard_S))))
        inputs = extractor(heard_S, sampling_rate=rate_hz, return_tensors="pt")
        tokens_NF = model.tokens(**{model.input_name: inputs[model.input_name]})[0].cpu().numpy()
        lasts_s = max(len(heard_S) / rate_hz, float(getattr(extractor, "chunk_length", 0)))
        edges_s = np.arange(first, stop + 1) / SOUND_HZ - begin_s
        rows.append(row_means(tokens_NF, edges_s * (len(tokens_NF) / lasts_s)).astype(np.float32))
        runs.report(stop / n_rows)
    return np.concatenate(rows)


def _sound_clip_rows(model: PretrainedModel, path: Path, runs: ModelRuns) -> Singles:
    """Return (N, F): one row a second, from the SOUND_CLIP_S up to its end; before the sound there is silence.

    For models whose tokens mix times and frequencies, such as AST and CLAP.
    """
    extractor = model.helper("AutoFeatureExtractor")
    rate_hz = int(extractor.sampling_rate)
    wave_S = audio.read_samples(path, rate_hz)
    n_rows = max(1, int(len(wave_S) / rate_hz / CLIP_STEP_S))
    per_clip, per_step = round(SOUND_CLIP_S * rate_hz), round(CLIP_STEP_S * rate_hz)
    padded_S = np.pad(wave_S, (per_clip - per_step, max(0, per_step - len(wave_S))))
    rows = []
    for first in range(0, n_rows, BATCH):
        stop = min(first + BATCH, n_rows)
        clips = [padded_S[n * per_step : n * per_step + per_clip] for n in range(first, stop)]
        inputs = extractor(clips, sampling_rate=rate_hz, return_tensors="pt")
        rows.append(model.means(**{name: value for name, value in inputs.items() if model.accepts(name)}))
        runs.report(stop / n_rows)
    return np.concatenate(rows)


def _word_rows(model: PretrainedModel, words: Sequence[str], n_context: int, runs: ModelRuns) -> Singles:
    """Return (N, F): for each word the mean of its tokens, read after the n_context words before it and none after."""
    tokenizer = model.helper("AutoTokenizer")
    tokenizer.truncation_side, tokenizer.padding_side = "left", "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    longest = min(LONGEST_TOKENS, model.longest_tokens, tokenizer.model_max_length)
    rows = []
    for first in range(0, len(words), BATCH):
        ends = range(first, min(first + BATCH, len(words)))
        before = [" ".join(words[max(0, n - n_context) : n]) for n in ends]
        texts = [f"{context} {words[n]}".strip() for context, n in zip(before, ends, strict=True)]
        batch = tokenizer(
            texts,
            return_offsets_mapping=True,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=longest,
        )
        begins_B = torch.tensor([len(text) - len(words[n]) for text, n in zip(texts, ends, strict=True)])
        starts_BN, stops_BN = batch["offset_mapping"].unbind(dim=-1)
        own_BN = ((stops_BN > begins_B[:, None]) & (stops_BN > starts_BN)).float()
        tokens_BNF = model.tokens(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).cpu()
        mean_BF = torch.einsum("bn,bnf->bf", own_BN, tokens_BNF) / own_BN.sum(dim=1, keepdim=True).clamp_min(1.0)
        rows.append(mean_BF.numpy())
        runs.report(ends.stop / len(words))
    return np.concatenate(rows)


def _identity(content: str, source: FeatureSource, folder: Path, runs: ModelRuns) -> dict[str, Any]:
    """Return everything that decides a model's rows, apart from what is particular to pictures, sound or words."""
    modules = (__file__, pretrained_model.__file__, video.__file__, audio.__file__)
    return {
        "content": content,
        "model": [runs.cache.digest_of(path) for path in model_files(folder)],
        "layer": source.layer,
        "code": hashlib.sha256(b"".join(Path(module).read_bytes() for module in modules)).hexdigest(),
        "transformers": version("transformers"),
    }
