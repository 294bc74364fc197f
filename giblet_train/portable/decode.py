"""Reconstruct the film that one person saw from that person's responses.

T rows of the model, F features, H W C rows, columns and colours of a picture, L annotations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.reconstruct import N_PICTURES, picture_sheet
from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.stimulus.audio import SAMPLE_HZ, steps_per_tr
from giblet_train.data.stimulus.griffin_lim import loudness_scale, wave_of_mel, write_wav
from giblet_train.data.stimulus.text import embed
from giblet_train.evaluation.metrics import SEGMENT_TRS, reconstruction
from giblet_train.pages.film import film_time, moments, player
from giblet_train.pages.page import figure, html_page, paragraph, table
from giblet_train.pages.png import png_bytes
from giblet_train.pages.scores import COLUMNS, score_cells, score_table
from giblet_train.portable.film_features import Film, FilmFeatures, frame_components
from giblet_train.portable.inference import Inference
from giblet_train.portable.measured import Measured
from giblet_train.portable.model_file import AVERAGE, ModelFile
from giblet_train.portable.option_words import options_for_keys
from giblet_train.portable.resample import resample
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback

Singles = NDArray[np.float32]
FEWEST_TRS = 10
NOT_HELD_OUT = "If the model was trained on this film, these figures are not held out."


@dataclass(frozen=True)
class Word:
    """The annotation that is nearest to the decoded text of some rows."""

    first_tr: int
    n_trs: int
    nearest: str
    annotation: str
    """The true annotation; "" if the film is not known."""
    rank: int | None
    """Rank of the true annotation among all, from 1; None if the film is not known."""


@dataclass(frozen=True)
class Decoded:
    """The film as one person's responses show it."""

    subject: str
    """Head that read the responses."""
    tr_s: float
    """Seconds per row."""
    features: Mapping[str, Singles]
    """Modality -> (T, F), standardised, or probabilities of codes."""
    pictures_THWC: NDArray[np.uint8] | None
    """A picture of each row; None if the model has no components of frames."""
    mel_IM: Singles | None
    """Decibels of mel bands in steps of about a tenth of a second; None if the sound is not giblet's own features."""
    words: tuple[Word, ...]
    """Nearest annotations; empty without annotations or text."""
    figures: Mapping[str, Mapping[str, float]]
    """Modality -> skill, r and identification of segments, as in docs/inspect.md; empty if the film is not known."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that had to be done to fit film or scan to the model."""

    @property
    def seconds(self) -> float:
        """Return the seconds that were decoded."""
        return len(next(iter(self.features.values()))) * self.tr_s


def read_sentences(annotations: Path | None, tr_s: float) -> tuple[str, ...]:
    """Return the different texts of an annotation table; none without a table. Raises DataError."""
    if annotations is None:
        return ()
    with options_for_keys():
        segments = read_annotations(annotations.expanduser(), tr_s).segments
    return tuple(sorted({s.text for s in segments if s.text}))


def known_film(model: ModelFile, film: Film) -> FilmFeatures:
    """Return the features of a film to compare with; its text is left out if it comes without annotations.

    Raises what `FilmFeatures.of` raises.
    """
    needs_text = "text" in model.header.features and film.annotations is None and "text" not in film.features
    return FilmFeatures.of(model, replace(film, without=film.without | {"text"}) if needs_text else film)


def decode(
    inference: Inference, measured: Measured, subject: str, film: FilmFeatures | None, sentences: tuple[str, ...]
) -> Decoded:
    """Decode one person's responses.

    Args:
        inference: the model.
        measured: the person's responses, from the first volume on.
        subject: head that reads them.
        film: the film that was shown, if it is known: decoding is then compared with it.
        sentences: annotations among which the nearest one is searched; those of the film if empty.

    Raises ConfigError for an unknown subject or too short a series.
    """
    model = inference.file
    label = model.label(subject)
    bold_TV = resample(measured.whole(), measured.tr_s, model.header.tr_s)
    if film is not None:
        bold_TV = bold_TV[: film.n_trs]
    if len(bold_TV) < FEWEST_TRS:
        raise ConfigError(
            f"The series has {len(bold_TV)} rows of {model.header.tr_s:g} s; decoding needs {FEWEST_TRS}.",
            "Give a longer one.",
        )
    features = inference.reconstruct(bold_TV, label)
    true = {} if film is None else {m: x_TF[: len(bold_TV)] for m, x_TF in film.targets().items()}
    arrays = model.arrays
    return Decoded(
        subject=label,
        tr_s=model.header.tr_s,
        features=features,
        pictures_THWC=_pictures(model, features),
        mel_IM=_mel(model, features),
        words=tuple(_words(model, features["text"], film, sentences)) if "text" in features else (),
        figures={
            m: reconstruction(features[m], true_TF, arrays[f"target.{m}.weight_F"], arrays.get(f"target.{m}.unigram"))
            for m, true_TF in true.items()
            if m in features
        },
    )


def write_decoded(
    decoded: Decoded, film: FilmFeatures | None, out: Path, report_progress: ProgressCallback
) -> list[str]:
    """Write pictures, sound, words, features and a page into the folder `out`; return lines that describe them.

    The files appear together or not at all. Raises what `atomic_directory` raises.
    """
    with atomic_directory(out) as folder:
        np.savez(folder / "features.npz", allow_pickle=False, **decoded.features)
        rows = _picture_rows(decoded, film)
        if rows:
            (folder / "frames.png").write_bytes(png_bytes(picture_sheet(rows)))
        wave_S = None
        if decoded.mel_IM is not None:
            report_progress("finding phases for the sound", 0.5)
            wave_S = wave_of_mel(decoded.mel_IM, decoded.tr_s / steps_per_tr(decoded.tr_s))
            wave_S *= loudness_scale(wave_S)
            write_wav(folder / "sound.wav", wave_S, SAMPLE_HZ)
        facts = decoded_facts(decoded)
        (folder / "decoded.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        lines = decoded_lines(decoded)
        (folder / "index.html").write_text(_page(decoded, rows, wave_S), encoding="utf-8")
        folder.replace(out)
    return lines


def decoded_facts(decoded: Decoded) -> dict[str, Any]:
    """Return subject, seconds, figures and words."""
    return {
        "subject": decoded.subject,
        "tr_s": decoded.tr_s,
        "seconds": decoded.seconds,
        "figures": {m: dict(scores) for m, scores in decoded.figures.items()},
        "words": [vars(word) for word in decoded.words],
    }


def decoded_lines(decoded: Decoded) -> list[str]:
    """Format the result as text."""
    lines = [f"decoded {decoded.seconds:.0f} s of film with {_head(decoded.subject)}"]
    if decoded.figures:
        lines.append(f"  {'':12}" + "".join(f"{name:>12}" for name in COLUMNS.values()))
    for modality, scores in decoded.figures.items():
        lines.append(f"  {modality:12}" + "".join(f"{cell:>12}" for cell in score_cells(scores)))
    ranks = [word.rank for word in decoded.words if word.rank is not None]
    if ranks:
        n_annotations = len({word.annotation for word in decoded.words if word.annotation})
        lines.append(f"  words: the true one of {n_annotations} annotations has median rank {np.median(ranks):g}")
    if decoded.figures:
        lines.append(f"  {NOT_HELD_OUT}")
    return lines


def _pictures(model: ModelFile, features: Mapping[str, Singles]) -> NDArray[np.uint8] | None:
    pca = frame_components(model)
    if pca is None or "video" not in features or "target.video.unigram" in model.arrays:
        return None
    columns = slice(features["video"].shape[1] - len(pca.variance_F), None)
    mean_F, sd_F = model.arrays["target.video.mean_F"][columns], model.arrays["target.video.sd_F"][columns]
    settings = model.header.settings
    return pca.pictures(features["video"][:, columns] * sd_F + mean_F, (settings.video_height, settings.video_width, 3))


def _mel(model: ModelFile, features: Mapping[str, Singles]) -> Singles | None:
    space = model.header.features.get("audio")
    if space is None or space.source != "giblet" or "audio" not in features:
        return None
    decibels_TF = features["audio"] * model.arrays["target.audio.sd_F"] + model.arrays["target.audio.mean_F"]
    return np.asarray(decibels_TF.reshape(-1, model.header.settings.n_mels), np.float32)


def _words(model: ModelFile, text_TF: Singles, film: FilmFeatures | None, sentences: tuple[str, ...]) -> list[Word]:
    """Return the annotation nearest to the decoded text of each annotation of the film, or of every few rows."""
    space = model.header.features["text"]
    film_labels = film.labels[: len(text_TF)] if film is not None and film.segments else []
    labels = sorted({*sentences} or {label for label in film_labels if label})
    if not labels or space.source != "giblet":
        return []
    vectors_LE = embed(labels, model.header.settings.text_model)
    annotated_LF = np.concatenate([vectors_LE, np.ones((len(labels), 1), np.float32)], axis=1)
    sd_F = np.where(model.arrays["target.text.sd_F"] > 0, model.arrays["target.text.sd_F"], np.inf)
    unit_LF = (annotated_LF - model.arrays["target.text.mean_F"]) / sd_F
    unit_LF /= np.maximum(np.linalg.norm(unit_LF, axis=1, keepdims=True), 1e-9)
    keys = film_labels or [str(row // SEGMENT_TRS) for row in range(len(text_TF))]
    words = []
    for key, group in groupby(enumerate(keys), key=lambda item: item[1]):
        rows = [row for row, _ in group]
        if not key:
            continue
        like_L = unit_LF @ text_TF[rows].mean(axis=0)
        own_label = key if film_labels and key in labels else ""
        rank = int((like_L > like_L[labels.index(own_label)]).sum()) + 1 if own_label else None
        words.append(Word(rows[0], len(rows), labels[int(like_L.argmax())], own_label, rank))
    return words


def _picture_rows(decoded: Decoded, film: FilmFeatures | None) -> dict[str, NDArray[np.uint8]]:
    """Return rows of evenly spaced pictures: of the film if it is known, and decoded ones."""
    if decoded.pictures_THWC is None:
        return {}
    row_P = _picture_places(decoded)
    rows = {}
    if film is not None:
        [frames] = film.frames_in_parts(film.n_trs)
        rows["film"] = frames[row_P].mean(axis=1).round().astype(np.uint8)
    return rows | {"decoded": decoded.pictures_THWC[row_P]}


def _picture_places(decoded: Decoded) -> NDArray[np.intp]:
    """Return evenly spaced rows."""
    n_trs = len(next(iter(decoded.features.values())))
    return np.unique(np.linspace(0, n_trs - 1, min(N_PICTURES, n_trs)).round().astype(int))


def _head(subject: str) -> str:
    """Return the head of a subject in words; `average` names the average subject."""
    return "the head of the average subject" if subject == AVERAGE else f"the head of {subject}"


def _page(decoded: Decoded, rows: Mapping[str, NDArray[np.uint8]], wave_S: Singles | None) -> str:
    sections = [
        ("How much is decoded", _scores(decoded)),
        ("Pictures", _pictures_section(decoded, rows)),
        ("Sound", "" if wave_S is None else player(wave_S, SAMPLE_HZ, f"Sound decoded with {_head(decoded.subject)}")),
        ("Words", _words_section(decoded)),
    ]
    opening = paragraph(
        f"What {decoded.seconds:.0f} s of one person's responses show of the film, read by "
        f"{_head(decoded.subject)}. Row by row of {decoded.tr_s:g} s, the model estimates the features of the film; "
        "pictures, sound and nearest annotations are made from them.",
        "lead",
    )
    return html_page("A film, decoded from one person's responses", sections, opening)


def _scores(decoded: Decoded) -> str:
    if not decoded.figures:
        return paragraph("Nothing can be compared, because the film is not known: add --film FILM.")
    return score_table(decoded.figures, SEGMENT_TRS, NOT_HELD_OUT)


def _pictures_section(decoded: Decoded, rows: Mapping[str, NDArray[np.uint8]]) -> str:
    if not rows:
        return paragraph("None: the model has no components of frames.")
    film_s = [row * decoded.tr_s for row in _picture_places(decoded)]
    caption = (
        f"{'From above: film; decoded. ' if len(rows) > 1 else ''}Below: time since the first volume. Models "
        "reconstruct light and colour, not objects. The less is decoded, the nearer pictures are to the mean."
    )
    return figure(moments(rows, film_s), caption, "frames.png")


def _words_section(decoded: Decoded) -> str:
    if not decoded.words:
        return ""
    is_known = any(word.annotation for word in decoded.words)
    header = (
        "time",
        *(["annotation"] if is_known else []),
        "nearest to the decoded text",
        *(["rank"] if is_known else []),
    )
    rows = [
        (
            film_time(word.first_tr * decoded.tr_s),
            *([word.annotation] if is_known else []),
            word.nearest,
            *(["" if word.rank is None else str(word.rank)] if is_known else []),
        )
        for word in decoded.words
    ]
    note = "Rank of the true annotation among all, 1 for the nearest." if is_known else ""
    return (paragraph(note) if note else "") + table(header, rows, (0, 1, 2))
