"""The prepared study: memory-mapped arrays and a manifest, in a folder named by the hash of its sources.

`<workdir>/stores/<key>/` is written under another name and renamed, so it is always complete. One process builds it,
the others wait.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train import __version__
from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.data.manifest import FILE, Manifest, read_manifest
from giblet_train.data.readers.row_plan import Span
from giblet_train.data.readers.runs_table import runs_identity
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.data.readers.study_files import Sources, digests, find_sources
from giblet_train.data.rows import PartialRows
from giblet_train.data.simulation.demo_study import ATLAS, MAKER, simulate_study
from giblet_train.data.stimulus.external import identity
from giblet_train.data.stimulus.feature_cache import FeatureCache
from giblet_train.data.store.build_arrays import FEATURES, SHOWN, BuiltArrays, build_arrays
from giblet_train.data.study import Study
from giblet_train.schema.config import Config, ordered_spaces
from giblet_train.schema.progress import ProgressCallback

STUDY_SEED = 0
CODE = (
    "geometry",
    "manifest",
    "preprocessing/confounds",
    "readers/annotation_cells",
    "readers/annotation_table",
    "readers/annotations",
    "readers/array_file",
    "readers/array_reader",
    "readers/atlas",
    "readers/cifti_header",
    "readers/gifti_header",
    "readers/headers",
    "readers/maps",
    "readers/nifti",
    "readers/volumes",
    "readers/parcel_series",
    "readers/row_plan",
    "readers/series_path",
    "readers/runs_table",
    "readers/sidecar",
    "readers/nifti_header",
    "readers/repetition_time",
    "readers/scan_restarts",
    "readers/timeline",
    "statistics/lag",
    "stimulus/audio",
    "stimulus/encodec",
    "stimulus/external",
    "stimulus/feature_cache",
    "stimulus/film_timeline",
    "stimulus/pretrained",
    "stimulus/pretrained_model",
    "stimulus/row_means",
    "stimulus/features",
    "stimulus/text",
    "stimulus/video",
    "store/bold_array",
    "store/build_arrays",
    "store/feature_lengths",
    "store/layout",
    "store/parcel_means",
    "rows",
    "store/store",
    "study",
)
"""The modules whose text is part of the key: another version of any of them makes another store."""


def build_store(config: Config, data_dir: Path, workdir: Path, progress: ProgressCallback) -> Path:
    """Return the folder of the store that this configuration needs; build it if it does not exist.

    Safe under concurrent processes and an end at any moment. Raises DataError, ConfigError, PreflightRefused.

    Args:
        data_dir: Folder of the study; ignored if `data.simulate` makes the demo study under the workdir.
    """
    folder, config = study_folder(config, data_dir, workdir, progress)
    sources = find_sources(config, folder)
    stores = workdir / "stores"
    digest = digests(sources, stores / "digests.json", progress)
    parameters = store_parameters(config, sources)
    key = store_key(digest, parameters)
    path = stores / key
    if path.exists():
        return path
    progress("preparing the study", 0.0)
    with atomic_directory(path) as aside:
        if path.exists():
            return path
        start_s = time.monotonic()
        cache = FeatureCache(workdir / "features", {file: digest[role] for role, file in sources.named().items()})
        arrays = build_arrays(aside, sources, config, progress, cache)
        manifest = _manifest(key, arrays, aside, digest, parameters, time.monotonic() - start_s)
        (aside / FILE).write_bytes(msgspec.json.encode(manifest))
        aside.rename(path)
    progress("the study is prepared", 1.0)
    return path


def open_store(path: Path) -> Study:
    """Open the study in a store; large arrays are memory maps shared by all processes. Raises DataError."""
    manifest = read_manifest(path)
    return Study(
        key=manifest.key,
        tr_s=manifest.tr_s,
        scan_lengths_trs=manifest.scan_lengths_trs,
        border_trs=manifest.border_trs,
        features={m: _mapped(path / FEATURES / f"{m}.npy") for m in _spaces_in(manifest, FEATURES)},
        shown={m: np.load(path / SHOWN / f"{m}.npy") for m in _spaces_in(manifest, SHOWN)},
        codes=manifest.codes,
        frames_TKHWC=_frames(path, manifest),
        text_labels=manifest.text_labels,
        bold={s: _rows_of(_mapped(path / "bold" / f"{s}.npy"), manifest, s) for s in manifest.subjects},
        reference={s: _mapped(path / "reference" / f"{s}.npy") for s in manifest.subjects},
        mask=np.load(path / "mask.npy"),
        geometry=manifest.geometry,
        confounds={
            s: _rows_of(_mapped(path / name), manifest, s)[:]
            for s in manifest.subjects
            if (name := f"confounds/{s}.npy") in manifest.files
        },
        given_mask_V=np.load(path / "given_mask.npy") if manifest.masked else None,
        parcel_V=np.load(path / "parcels.npy") if manifest.parcel_names else None,
        parcel_names=manifest.parcel_names,
        stimulus_offset_s=manifest.stimulus_offset_s,
        block_names=manifest.block_names,
        spans=tuple(Span(*span) for span in manifest.spans),
        present={
            s: PartialRows.of(np.empty((0, 0)), ranges, manifest.n_trs).position_T >= 0
            for s, ranges in manifest.presence.items()
        },
        notes=manifest.notes,
    )


def study_folder(config: Config, data_dir: Path, workdir: Path, progress: ProgressCallback) -> tuple[Path, Config]:
    """Return the folder of the study's files and its configuration; a simulated study sets its own names."""
    size = config.data.simulate
    if size is None:
        return data_dir, config
    folder = workdir / "studies" / f"{size}-{STUDY_SEED}-maker{MAKER}"
    facts = simulate_study(folder, size, seed=STUDY_SEED, progress=progress)
    data = msgspec.structs.replace(
        config.data,
        layout="lab",
        video="film.mp4",
        audio=None,
        annotations="annotations.xlsx",
        bold="bold/sub-{subject:02d}.nii.gz",
        atlas=ATLAS,
        tr=facts.tr_s,
        scan_lengths_trs=facts.scan_lengths_trs,
    )
    return folder, msgspec.structs.replace(config, data=data)


def store_parameters(config: Config, sources: Sources) -> dict[str, Any]:
    """Return the configuration values that decide the content of a store."""
    data, model = config.data, config.model
    return {
        "tr": data.tr,
        "trust_tr": data.trust_tr,
        "scan_lengths_trs": data.scan_lengths_trs,
        "stimulus_offset_s": data.stimulus_offset_s,
        "drop_first_trs": data.drop_first_trs,
        "fps": data.fps,
        "text_model": data.text_model,
        "video_height": model.video_height,
        "video_width": model.video_width,
        "n_mels": model.n_mels,
        "confounds": data.bids.confounds,
        "parcellate": data.parcellate,
        "datasets": {s: [split_dataset(p)[1] for p in paths] for s, paths in sources.bold.items()},
        "spaces": data.spaces,
        "features": {m: identity(source) for m, source in data.sources_of().items()},
        "stimuli": {
            name: {"features": {m: identity(source) for m, source in data.sources_of(stimulus).items()}}
            | {"annotations_scan": stimulus.annotations_scan}
            for name, stimulus in data.stimuli.items()
        },
        "runs": runs_identity(sources.runs),
        "usable_trs": config.split.usable_trs if data.simulate is None else None,
    }


def store_key(digest: dict[str, str], parameters: dict[str, Any]) -> str:
    """Return 16 hex digits over the content of all sources, the parameters, and the code that makes the arrays."""
    content = {"sources": digest, "parameters": parameters, "code": _code_digest()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _code_digest() -> str:
    digest, data = hashlib.sha256(), Path(__file__).parent.parent
    for name in CODE:
        digest.update((data / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _manifest(
    key: str, arrays: BuiltArrays, folder: Path, digest: dict[str, str], parameters: dict[str, Any], seconds: float
) -> Manifest:
    layout, stimulus = arrays.layout, arrays.stimulus
    return Manifest(
        key=key,
        tr_s=layout.tr_s,
        scan_lengths_trs=layout.block_lengths_trs,
        first_tr=layout.first_tr,
        stimulus_offset_s=layout.film_start_s,
        block_names=layout.block_names,
        spans=tuple((s.stimulus, s.first, s.n_trs, s.start_s) for s in layout.spans),
        presence={s: tuple(ranges) for s, ranges in layout.presence.items()},
        border_trs=stimulus.border_trs,
        text_labels=stimulus.labels,
        subjects=tuple(sorted(p.stem for p in (folder / "bold").iterdir())),
        geometry=arrays.geometry,
        masked=arrays.masked,
        notes=arrays.notes,
        sources=digest,
        parameters=parameters,
        versions={"giblet": __version__, "numpy": np.__version__},
        files={p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*.npy"))},
        seconds=seconds,
        parcel_names=dict(arrays.parcel_names),
        codes=dict(arrays.codes),
    )


def _spaces_in(manifest: Manifest, folder: str) -> list[str]:
    """Return the feature spaces that a folder of the store has an array of, in order."""
    paths = (PurePosixPath(name) for name in manifest.files)
    return ordered_spaces(path.stem for path in paths if path.parts[:-1] == (folder,))


def _frames(path: Path, manifest: Manifest) -> NDArray[Any]:
    if "frames.npy" in manifest.files:
        return _mapped(path / "frames.npy")
    return np.zeros((manifest.n_trs, 1, 0, 0, 3), np.uint8)


def _rows_of(array: NDArray[Any], manifest: Manifest, subject: str) -> NDArray[Any] | PartialRows:
    """Return a subject's stored array on the rows of the study."""
    if manifest.presence:
        return PartialRows.of(array, manifest.presence[subject], manifest.n_trs)
    return array[manifest.first_tr : manifest.first_tr + manifest.n_trs]


def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array
