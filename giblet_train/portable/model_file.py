"""The file of a published model: named arrays in safetensors and a JSON header; nothing in it can be executed.

No array has a time axis. V voxels in C order of the mask, K latents, F features.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from giblet_train.data.geometry import Geometry
from giblet_train.schema.errors import ConfigError, DataError

FORMAT, OLDEST_FORMAT = 3, 2
"""Raised when an older giblet could not read the file."""
SUFFIX = ".giblet"
AVERAGE = "average"
"""Label of the head that predicts the average subject."""
HEADER, CHECKSUM = "giblet", "sha256"
"""Keys in the metadata of safetensors: the header, and the checksum of header and arrays."""

Arrays = Mapping[str, NDArray[Any]]


class FeatureSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A modality of the input and what computes its features."""

    source: Literal["giblet", "extractor", "file", "model"]
    """`giblet`: computed by giblet; `extractor`: by an installed package; `file`: given by the user; `model`: by a
    pretrained model."""
    extractor: str
    """Name of the extractor or of the pretrained model."""
    version: str
    """Version of the package that computed the features for training."""
    n_features: int
    """Features that the network reads, including components of frames."""
    codes: int | None = None
    """Codes in a book, if the features are shares of codes."""
    rows_per_s: float | None = None
    """Rows a second of a features file; None for one row per TR."""
    reads: Literal["pictures", "sound", "text"] | None = None
    """What a pretrained model is shown; None for what it was made for."""
    layer: int | tuple[int, ...] | None = None
    """Layers of a pretrained model; None for the one at two thirds of its depth."""
    context_words: int | None = None
    """Words before each word that a pretrained model of text reads; None for giblet's default."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of giblet's own extractors."""

    fps: float
    """Frames read per second of film."""
    video_height: int
    """Rows of a small frame."""
    video_width: int
    """Columns of a small frame."""
    n_mels: int
    """Mel bands."""
    text_model: str
    """Sentence model."""
    apply_hrf: bool
    """True if features are convolved with Glover's response before they enter the network."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the network; see `model.presets.ModelSize`."""

    width: int
    n_layers: int
    n_attention_heads: int
    bottleneck_dim: int
    residual_dim: int
    window_trs: int
    context_trs: int
    fir_trs: int
    decoder_width: int
    has_start: bool
    """True if a closed-form start precedes what was learnt."""
    n_latents: int
    """K."""
    n_inputs: dict[str, int]
    """Modality -> features of the input."""
    n_targets: dict[str, int]
    """Modality -> features that decoders reconstruct."""
    learnt_share: float
    """Share of the learnt addition to the start that counts."""
    expansion_rms: dict[str, float] = {}
    """Nonlinear feature space -> its root mean square over training rows; empty without nonlinear spaces."""
    chunk_trs: int = 256
    """Rows that are predicted as one window."""


class HeadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out correlation of a head, mean over responsive voxels; of the average head also over subjects."""

    r: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the interval."""
    r_training: float
    """The same over training rows: what it exceeds r by is fitted noise of the training responses."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a user of the model must know."""

    run_id: str
    study: dict[str, Any]
    """Name, number of subjects and rows, TR, stimuli."""
    figures: dict[str, Any]
    """Evaluation of the run on its held-out rows; see docs/inspect.md."""
    heads: dict[str, HeadFigures]
    """Published head -> its held-out correlation."""
    verdict: dict[str, Any]
    """Verdict of the run, with the sentence of each criterion."""
    limitations: tuple[str, ...]
    """Sentences."""
    versions: dict[str, str]
    """Package -> version that made the file."""
    licence: str
    """Licence of the model, as stated at publication."""
    credit: str
    """Credit of the stimulus."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the file that is not an array."""

    format: int
    """Version of this file format."""
    tr_s: float
    """Seconds per row of the model."""
    subjects: tuple[str, ...]
    """Labels of the heads in the file."""
    n_subjects: int
    """Subjects that the model was trained on."""
    features: dict[str, FeatureSpace]
    """Modality -> what computes it."""
    settings: Settings
    shape: Shape
    geometry: Geometry
    """Where the V positions are."""
    detrend: float | str
    """Drift that was removed from responses: `mean`, `none`, or a period in seconds."""
    gap_s: float
    """Seconds between training and held-out rows."""
    units: str
    """Unit of the predictions."""
    card: Card


@dataclass(frozen=True)
class ModelFile:
    """A published model in memory."""

    header: Header
    arrays: Arrays

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return the positions that the model predicts, in the shape of its geometry."""
        return np.asarray(self.arrays["mask"], bool)

    def head(self, subject: str) -> NDArray[np.float32]:
        """Return the head (K, V) of a subject. Raises ConfigError if the file has none."""
        return self.arrays[f"heads.{self.label(subject)}"]

    def label(self, subject: str) -> str:
        """Return the label of a head named as `sub-01`, `01`, `1` or `average`. Raises ConfigError."""
        labels = {name: label for label in self.header.subjects for name in _label_spellings(label)}
        if subject not in labels:
            raise ConfigError(
                f"The model has no head for subject {subject}; it has {', '.join(self.header.subjects)}.",
                "Name one of these, or fit a head with giblet new-subject.",
            )
        return labels[subject]

    def under(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays whose name starts with the prefix, by the rest of their name."""
        return {name[len(prefix) :]: array for name, array in self.arrays.items() if name.startswith(prefix)}


def check_model_path(path: Path) -> Path:
    """Return the path of a model to write. Raises ConfigError if it does not end with `.giblet` or is a folder."""
    path = path.expanduser()
    if path.suffix != SUFFIX or path.is_dir():
        raise ConfigError(f"{path} is not the name of a model file.", f"Name a file that ends with {SUFFIX}.")
    return path


def default_subject(model: ModelFile) -> str:
    """Return the average subject, or the first subject of a model without one."""
    return AVERAGE if AVERAGE in model.header.subjects else model.header.subjects[0]


def write_model(model: ModelFile, path: Path) -> None:
    """Write the file, whole or not at all. Raises ConfigError if it cannot be written."""
    arrays = {name: np.array(array, order="C") for name, array in model.arrays.items()}
    header = msgspec.json.encode(model.header).decode()
    metadata = {HEADER: header, CHECKSUM: _checksum(header, arrays)}
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(save(arrays, metadata))
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from None


def read_model(path: Path) -> ModelFile:
    """Read a published model.

    Raises ConfigError if there is no file, DataError if it is damaged or of a newer format.
    """
    if not path.is_file():
        raise ConfigError(f"There is no model {path}.", f"giblet publish RUN -o model{SUFFIX}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        raise DataError(f"{path} is damaged or no published model.", "Copy or publish it again.") from None
    if HEADER not in metadata:
        raise DataError(
            f"{path} is no published model: it has no giblet header.", f"giblet publish RUN -o model{SUFFIX}"
        )
    model = ModelFile(_header(path, metadata[HEADER]), arrays)
    if metadata.get(CHECKSUM) != _checksum(metadata[HEADER], arrays):
        raise DataError(f"{path} is damaged: its checksum differs.", "Copy or publish it again.")
    _check_complete(path, model)
    return model


def _checksum(header: str, arrays: Arrays) -> str:
    total = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _header(path: Path, text: str) -> Header:
    try:
        version = msgspec.json.decode(text)["format"]
        if isinstance(version, int) and version > FORMAT:
            raise DataError(
                f"{path} has model format {version}; this giblet reads formats {OLDEST_FORMAT} to {FORMAT}.",
                "Install a newer giblet.",
            )
        if isinstance(version, int) and version < OLDEST_FORMAT:
            raise DataError(
                f"{path} has model format {version}; this giblet reads formats {OLDEST_FORMAT} to {FORMAT}.",
                "Publish its run again.",
            )
        return msgspec.json.decode(text, type=Header)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise DataError(f"The header of {path} is damaged: {error}.", "Copy or publish it again.") from None


def _check_complete(path: Path, model: ModelFile) -> None:
    """Raise DataError if a head or the mask is missing, has a wrong shape, or has values that are not finite."""
    header = model.header
    mask = model.arrays.get("mask")
    if mask is None or mask.shape != header.geometry.shape:
        raise DataError(f"{path} is damaged: it has no mask of its geometry.", "Publish it again.")
    shape_KV = (header.shape.n_latents, int(np.count_nonzero(mask)))
    for subject in header.subjects:
        head_KV = model.arrays.get(f"heads.{subject}")
        if head_KV is None or head_KV.shape != shape_KV:
            raise DataError(f"{path} is damaged: the head of {subject} is missing or incomplete.", "Publish it again.")
    damaged_names = [
        name for name, array in model.arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if damaged_names:
        raise DataError(f"{path} is damaged: {damaged_names[0]} has values that are not finite.", "Publish it again.")


def _label_spellings(label: str) -> set[str]:
    bare = label.removeprefix("sub-")
    short = bare.lstrip("0") or bare
    return {label, bare, short, f"sub-{short}"}
