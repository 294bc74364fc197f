"""Write the held-out film as reconstructed from brains: pictures, sound and words to compare with the real ones.

T TRs of the test block, F features, P pictures in a row, L annotations, X Y Z the grid, H W C rows, columns, colours,
B books of codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.lesions import LesionContext
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.components.loss_terms import SOURCES
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.stimulus import encodec
from giblet_train.data.stimulus.audio import SAMPLE_HZ, steps_per_tr
from giblet_train.data.stimulus.griffin_lim import loudness_scale, wave_of_mel, write_wav
from giblet_train.pages.film import film_time, moments, player
from giblet_train.pages.page import figure, html_page, paragraph, table
from giblet_train.pages.png import png_bytes
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.records import SCHEMA

N_PICTURES = 12
ENLARGED = 3
GAP_PIXELS = 4
SOUNDS = {
    "film": "the film's own audio features",
    "predicted": "from predicted brains",
    "measured": "from measured brains",
}
Film = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Retrieved:
    """An annotation of the held-out film, and the one nearest to the reconstructed words.

    rank: rank of the true one, from 1.
    """

    first_tr: int
    n_trs: int
    said: str
    nearest: dict[str, str]
    rank: dict[str, int]


def reconstruct(run: LoadedRun, out: Path, report_progress: ProgressCallback) -> dict[str, object]:
    """Write frames.png, a .wav per source and index.html into the empty folder `out`; return the content of words.json.

    Codes are written as the most likely ones, a .npy file per source; pictures or sound only if codes can be decoded.
    """
    if not run.data.targets:
        raise ConfigError(
            "This run reconstructs no feature space.", "Train one with a weight: data.features.NAME.weight."
        )
    none_V = np.zeros(run.data.n_voxels, bool)
    films: dict[str, Film] = {s: LesionContext.of(run, s, "missing").film(none_V) for s in SOURCES}
    truth = {m: target_TF[run.data.split.test] for m, target_TF in run.data.targets.items()}
    picture_trs, rows = _write_pictures(run, out, films, report_progress)
    codes = {s: argmax_codes(run.data, film) for s, film in {"film": truth, **films}.items()}
    waves, rate_hz = decoded_sounds(run, {"film": truth, **films}, codes, report_progress)
    for name, wave_S in waves.items():
        write_wav(out / f"sound_{name}.wav", wave_S, rate_hz)
    has_text = "text" in run.data.targets
    matches = retrieved(run.data, {s: film["text"] for s, film in films.items()}) if has_text else []
    facts: dict[str, object] = {
        "schema": SCHEMA,
        "run_id": run.run_dir.run_id,
        "checkpoint": run.record.file,
        "fold": run.data.split.fold,
        "credit": run.credit(),
        "frames": {"rows": list(rows), "trs": picture_trs},
        "sounds": {name: f"sound_{name}.wav" for name in waves},
        "codes": _write_codes(out, codes),
        "n_annotations": len(_annotations(run.data)[0]) if has_text else 0,
        "words": [asdict(match) for match in matches],
    }
    film_s = [run.data.study.shown_at(tr)[1] for tr in picture_trs]
    sections = [
        ("Pictures", _pictures_section(rows, film_s)),
        ("Sound", _sound_section(waves, rate_hz)),
        ("Codes", _codes_section(codes, facts["codes"])),
        ("Words", _words_section(run.data, matches, facts["n_annotations"])),
    ]
    opening = paragraph(
        f"Checkpoint {run.record.file}, test block of fold {run.data.split.fold}: {len(run.data.split.test)} TRs that "
        "were used neither for training nor for selection. giblet evaluate RUN gives skill and identification.",
        "lead",
    )
    sections.append(("Source", paragraph(run.credit())))
    page = html_page(f"The held-out film, reconstructed: {run.run_dir.run_id}", sections, opening)
    (out / "index.html").write_text(page, encoding="utf-8")
    return facts


def format_reconstruction(facts: Mapping[str, Any]) -> list[str]:
    """Format the result as text: the files, the ranks of the words, and the credit of the film."""
    pictures, sounds, codes = facts["frames"], facts["sounds"], facts["codes"]
    picture_text = (
        f"{len(pictures['trs'])} pictures of {', '.join(pictures['rows'])}" if pictures["rows"] else "no pictures"
    )
    sound_text = f"sound from {', '.join(sounds)}" if sounds else "no sound: its features are not giblet's own"
    code_text = f"; most likely codes of {', '.join(next(iter(codes.values())))}" if codes else ""
    lines = [
        f"{facts['run_id']}, {facts['checkpoint']}, held-out film of fold {facts['fold']}",
        f"{picture_text}; {sound_text}{code_text}",
    ]
    for source in SOURCES if facts["words"] else ():
        ranks = [word["rank"][source] for word in facts["words"]]
        firsts = sum(rank == 1 for rank in ranks)
        lines.append(
            f"words from {source} brains: of {facts['n_annotations']} annotations the true one has median rank "
            f"{median(ranks):g}, and is the first {firsts} of {len(ranks)} times"
        )
    return [*lines, str(facts["credit"])]


def argmax_codes(data: PreparedSplit, film: Film) -> dict[str, NDArray[np.int64]]:
    """Return modality that is codes -> (T, B), the most likely code of each book."""
    return {m: film[m].reshape(-1, *book.shape).argmax(axis=-1) for m, book in data.unigram.items()}


def _write_codes(out: Path, codes: Mapping[str, Mapping[str, NDArray[np.int64]]]) -> dict[str, dict[str, str]]:
    """Write the codes; return source -> modality -> file."""
    files: dict[str, dict[str, str]] = {}
    for source, film in codes.items():
        for modality, codes_TB in film.items():
            files.setdefault(source, {})[modality] = f"codes_{modality}_{source}.npy"
            np.save(out / files[source][modality], codes_TB)
    return files


def _write_pictures(
    run: LoadedRun, out: Path, films: Mapping[str, Film], report_progress: ProgressCallback
) -> tuple[list[int], dict[str, NDArray[np.uint8]]]:
    if not has_pictures(run.data):
        report_progress("no pictures: the features have no components of frames", 0.1)
        return [], {}
    report_progress("drawing frames", 0.1)
    picture_trs, rows = picture_rows(run.data, films)
    (out / "frames.png").write_bytes(png_bytes(picture_sheet(rows)))
    return picture_trs, rows


def picture_rows(data: PreparedSplit, films: Mapping[str, Film]) -> tuple[list[int], dict[str, NDArray[np.uint8]]]:
    """Return evenly spaced TRs of the test block, and their `pictures_at`."""
    test = data.split.test
    position_P = np.unique(np.linspace(0, len(test) - 1, min(N_PICTURES, len(test))).round().astype(int))
    return test[position_P].tolist(), pictures_at(data, films, position_P)


def has_pictures(data: PreparedSplit) -> bool:
    """Return True if reconstructed video features can be shown as pictures."""
    return "video" in data.targets and "video" not in data.unigram and len(data.frame_pca.variance_F) > 0


def pictures_at(
    data: PreparedSplit, films: Mapping[str, Film], position_P: NDArray[np.intp]
) -> dict[str, NDArray[np.uint8]]:
    """Return pictures (P, H, W, C) of the film, of its frame components and of each reconstruction.

    position_P: positions in the test block.
    """
    frames_TKHWC = data.study.frames_TKHWC[data.split.test[position_P]]
    shape = frames_TKHWC.shape[2:]
    columns = data.pca_columns
    mean_F, sd_F = data.feature_mean["video"][columns], data.feature_sd["video"][columns]
    rows = {
        "film": frames_TKHWC.mean(axis=1).round().astype(np.uint8),
        "its components": data.frame_pca.pictures(data.frame_pca.scores(frames_TKHWC), shape),
    }
    for source, film in films.items():
        scores_PF = film["video"][position_P][:, columns] * sd_F + mean_F
        rows[f"from {source} brains"] = data.frame_pca.pictures(scores_PF, shape)
    return rows


def picture_sheet(rows: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one picture (H, W, C) with a row of enlarged pictures for each entry."""
    strips = []
    for row_PHWC in rows.values():
        large = row_PHWC.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
        tiles = np.pad(large, ((0, 0), (0, GAP_PIXELS), (0, GAP_PIXELS), (0, 0)), constant_values=255)
        strips.append(np.concatenate(list(tiles), axis=1))
    return np.concatenate(strips)


def decoded_sounds(
    run: LoadedRun,
    films: Mapping[str, Film],
    codes: Mapping[str, Mapping[str, NDArray[np.int64]]],
    report_progress: ProgressCallback,
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Return source -> sound (S,), all as loud as the film's, and samples per second.

    There are none if the audio features are neither giblet's own nor codes of an installed EnCodec.
    """
    source = run.config.data.all_sources().get("audio")
    rate_hz = SAMPLE_HZ
    if "audio" not in run.data.targets:
        report_progress("no sound: the stimuli have none", 0.5)
        return {}, rate_hz
    if source is None:
        waves = _waves_of_mel(run, films, report_progress)
    elif source.extractor == "encodec":
        try:
            decoded = {name: encodec.sound(books["audio"], run.data.study.tr_s) for name, books in codes.items()}
        except DataError as error:
            report_progress(f"no sound: {error.message}", 0.5)
            return {}, rate_hz
        waves, rate_hz = {name: wave_S for name, (wave_S, _) in decoded.items()}, decoded["film"][1]
    else:
        report_progress("no sound: only giblet's own audio features and extractor: encodec can be decoded", 0.5)
        return {}, rate_hz
    scale = loudness_scale(waves["film"])
    return {name: wave_S * scale for name, wave_S in waves.items()}, rate_hz


def _waves_of_mel(
    run: LoadedRun, films: Mapping[str, Film], report_progress: ProgressCallback
) -> dict[str, NDArray[np.float32]]:
    data, n_mels = run.data, run.config.model.n_mels
    step_s = data.study.tr_s / steps_per_tr(data.study.tr_s)
    waves = {}
    for number, (name, film) in enumerate(films.items()):
        report_progress(f"finding phases for the sound of {name}", 0.2 + 0.2 * number)
        decibels_TF = film["audio"] * data.feature_sd["audio"] + data.feature_mean["audio"]
        waves[name] = wave_of_mel(decibels_TF.reshape(-1, n_mels), step_s)
    return waves


def retrieved(data: PreparedSplit, words: Mapping[str, NDArray[np.float32]]) -> list[Retrieved]:
    """Return, for each annotation of the test block, the nearest annotation of the study by cosine of embeddings.

    words: source -> (T, F) reconstructed text features; they are averaged over the annotation's TRs.
    """
    labels, unit_LF = _annotations(data)
    test = data.split.test
    matches = []
    for label, group in groupby(enumerate(test.tolist()), key=lambda item: data.study.text_labels[item[1]]):
        places = [place for place, _ in group]
        if not label:
            continue
        likeness = {s: unit_LF @ (words_TF[places].mean(axis=0) - _usual(data)) for s, words_TF in words.items()}
        own = labels.index(label)
        matches.append(
            Retrieved(
                first_tr=int(test[places[0]]),
                n_trs=len(places),
                said=label,
                nearest={s: labels[int(like_L.argmax())] for s, like_L in likeness.items()},
                rank={s: int((like_L > like_L[own]).sum()) + 1 for s, like_L in likeness.items()},
            )
        )
    return matches


def _annotations(data: PreparedSplit) -> tuple[list[str], NDArray[np.float32]]:
    """Return each different annotation of the study, and its mean text features (L, F) of norm 1."""
    labels = sorted({label for label in data.study.text_labels if label})
    rows = [np.array([own == label for own in data.study.text_labels]) for label in labels]
    mean_LF = np.array([data.targets["text"][row_T].mean(axis=0) - _usual(data) for row_T in rows])
    norm_L1 = np.linalg.norm(mean_LF, axis=1, keepdims=True) if labels else np.ones((0, 1))
    return labels, np.asarray(mean_LF / np.maximum(norm_L1, 1e-9), np.float32)


def _usual(data: PreparedSplit) -> NDArray[np.float32] | float:
    """Return the training mean of the text features: 0 if standardised, else the frequency of each code."""
    return data.unigram["text"].ravel() if "text" in data.unigram else 0.0


def _pictures_section(rows: Mapping[str, NDArray[np.uint8]], film_s: Sequence[float]) -> str:
    if not rows:
        return paragraph("None: the video features are codes, or have no components of frames.")
    caption = (
        f"From above: {escape('; '.join(rows))}. Below: film time. “its components” is the best that the features show."
    )
    return figure(moments(rows, film_s), caption, "frames.png")


def _sound_section(waves: Mapping[str, NDArray[np.float32]], rate_hz: int) -> str:
    if not waves:
        return paragraph("None: only giblet's own audio features and codes of EnCodec can be made audible.")
    files = ", ".join(f"sound_{name}.wav" for name in waves)
    players = "".join(player(wave_S, rate_hz, SOUNDS[name]) for name, wave_S in waves.items())
    return players + paragraph(f"Source: {files} next to this page", "source")


def _codes_section(codes: Mapping[str, Mapping[str, NDArray[np.int64]]], files: object) -> str:
    if not any(codes.values()):
        return ""
    assert isinstance(files, dict)
    names = ", ".join(file for film in files.values() for file in film.values())
    return paragraph(f"The most likely code of each TR and book: {names}.")


def _film_place(data: PreparedSplit, tr: int) -> str:
    """Return the second of the film that is shown at a TR, with the film's name in a study of several."""
    stimulus, second_s = data.study.shown_at(tr)
    is_one_film = len({span.stimulus for span in data.study.spans}) <= 1
    return film_time(second_s) if is_one_film else f"{stimulus} {film_time(second_s)}"


def _words_section(data: PreparedSplit, matches: Sequence[Retrieved], n_annotations: object) -> str:
    if not matches:
        return ""
    header = ("film time", "annotation", *(word for s in SOURCES for word in (f"nearest, from {s} brains", "rank")))
    rows = [
        (
            _film_place(data, match.first_tr),
            match.said,
            *(cell for s in SOURCES for cell in (match.nearest[s], str(match.rank[s]))),
        )
        for match in matches
    ]
    note = (
        f"Of {n_annotations} annotations of the whole study, the one nearest to the reconstructed text; and the rank "
        "of the true one, 1 for the nearest."
    )
    return paragraph(note) + table(header, rows, (0, 1, 2, 4))
