"""Predict the responses to a new film with a published model, a part at a time, and write them as the study's files.

T rows, K latents, V voxels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import giblet_train
from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.portable.arguments import as_tr_s
from giblet_train.portable.film_features import Film, FilmFeatures
from giblet_train.portable.inference import Inference
from giblet_train.portable.model_file import ModelFile, default_subject
from giblet_train.portable.resample import n_rows, resample_parts
from giblet_train.portable.series_file import series_file, stem_suffix
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback

Singles = NDArray[np.float32]


@dataclass(frozen=True)
class FilmLatents:
    """Latents of a film, computed a part at a time."""

    inference: Inference
    features: FilmFeatures

    @property
    def n_trs(self) -> int:
        """Return the rows of the film."""
        return self.features.n_trs

    def parts(self, report_progress: ProgressCallback = lambda sentence, fraction: None) -> Iterator[Singles]:
        """Yield the latents (n, K) of consecutive rows."""
        shape, context = self.inference.file.header.shape, self.inference.context_trs
        before: dict[str, Singles] = {}
        n_done = 0
        for part in self.features.parts(shape.chunk_trs):
            features = {m: np.concatenate([before[m], x_TF]) if m in before else x_TF for m, x_TF in part.items()}
            n_new = len(next(iter(part.values())))
            z_TK = self.inference.latents(features)
            yield z_TK[len(z_TK) - n_new :]
            before = {m: x_TF[max(0, len(x_TF) - context) :] for m, x_TF in features.items()}
            n_done += n_new
            report_progress(f"{n_done} of {self.n_trs} rows", n_done / self.n_trs)

    def all(self) -> Singles:
        """Return the latents (T, K) of the whole film."""
        return np.concatenate(list(self.parts()))


def predict_to_folder(
    model: ModelFile,
    film: Film,
    subjects: Sequence[str],
    tr_s: float | None,
    out: Path,
    report_progress: ProgressCallback,
) -> dict[str, Any]:
    """Write the predicted series of each subject, with sidecars, into the new folder `out`; return what was written.

    The folder appears whole or not at all. Raises ConfigError for an unknown subject or an impossible TR, and what
    `FilmFeatures.of` and `atomic_directory` raise.

    Args:
        subjects: heads of the model; the average subject's if empty.
        tr_s: seconds per volume; None for the model's.
    """
    labels = list(dict.fromkeys(model.label(s) for s in subjects or [default_subject(model)]))
    to_s = model.header.tr_s if tr_s is None else as_tr_s(tr_s)
    features = FilmFeatures.of(model, film)
    n_volumes = n_rows(features.n_trs, model.header.tr_s, to_s)
    if n_volumes < 1:
        raise ConfigError(f"The film is shorter than one TR of {to_s:g} s.", "Give a shorter TR.")
    for note in features.notes:
        report_progress(note, 0.0)
    latents = FilmLatents(Inference.of(model), features)
    with atomic_directory(out) as folder:
        files = _write(model, latents, labels, to_s, n_volumes, folder, report_progress)
        for label in labels:
            sidecar = _sidecar(model, film, features, to_s, n_volumes)
            _write_json(folder / f"{_bids_stem(model, film, label)}.json", sidecar)
        _write_json(folder / "dataset_description.json", _dataset_description())
        folder.replace(out)
    return {
        "model": model.header.card.run_id,
        "film": str(film.path),
        "tr_s": to_s,
        "n_volumes": n_volumes,
        "files": {
            label: [str(out / path.relative_to(folder)) for path in paths if path.suffix != ".json"]
            for label, paths in files.items()
        },
        "notes": list(features.notes),
    }


def _write(
    model: ModelFile,
    latents: FilmLatents,
    labels: Sequence[str],
    to_s: float,
    n_volumes: int,
    folder: Path,
    report_progress: ProgressCallback,
) -> dict[str, tuple[Path, ...]]:
    """Write one series per subject in one pass over the film; return label -> its files."""
    film = latents.features.film
    series = {s: series_file(folder / _bids_stem(model, film, s), model, n_volumes, to_s) for s in labels}
    for z_TK in resample_parts(latents.parts(report_progress), latents.n_trs, model.header.tr_s, to_s):
        for label in labels:
            series[label].add(latents.inference.predict(z_TK, label))
    return {label: file.close() for label, file in series.items()}


def _bids_stem(model: ModelFile, film: Film, label: str) -> Path:
    """Return the path of a series in the folder, without its ending."""
    task = re.sub(r"[^A-Za-z0-9]", "", film.path.stem) or "film"
    subject = f"sub-{re.sub('[^A-Za-z0-9]', '', label.removeprefix('sub-'))}"
    return Path(subject) / "func" / f"{subject}_task-{task}_desc-predicted_{stem_suffix(model)}"


def _sidecar(model: ModelFile, film: Film, features: FilmFeatures, tr_s: float, n_volumes: int) -> dict[str, Any]:
    header = model.header
    return {
        "RepetitionTime": tr_s,
        "TaskName": film.path.stem,
        "SkullStripped": True,
        "Units": header.units,
        "NumberOfVolumes": n_volumes,
        "StartTime": 0.0,
        "FilmSecondOfFirstVolume": film.start_s,
        "Description": "Predicted, not measured.",
        "Sources": [film.path.name],
        "ModelRun": header.card.run_id,
        "ModelRepetitionTime": header.tr_s,
        "ModelLicence": header.card.licence,
        "Features": {m: f"{space.extractor} {space.version}".strip() for m, space in header.features.items()},
        "WithoutFeatures": sorted(film.without),
        "Notes": list(features.notes),
    }


def _dataset_description() -> dict[str, Any]:
    return {
        "Name": "Predicted responses",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "giblet", "Version": giblet_train.__version__}],
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
