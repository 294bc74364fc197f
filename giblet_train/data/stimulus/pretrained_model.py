"""Load a pretrained model of the package transformers, and run it on pictures, sound or words.

A layer's features are the mean of its tokens; of sound, tokens keep their time.
B inputs of a batch, N tokens, F features of all chosen layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import DataError

Reads = Literal["pictures", "sound", "text"]
INPUT_OF: Mapping[str, Reads] = {
    "pixel_values": "pictures",
    "pixel_values_videos": "pictures",
    "input_values": "sound",
    "input_features": "sound",
    "input_ids": "text",
}
"""Name of a model's main input -> what it reads."""
PARTS: Mapping[Reads, tuple[str, ...]] = {
    "pictures": ("vision_model", "vision_tower", "visual"),
    "sound": ("audio_model", "audio_tower"),
    "text": ("text_model", "language_model"),
}
"""Names of the parts of a model that reads several things."""
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""Files of which a tokenizer has one."""
DEPTH = 2 / 3
"""Layer that is used if none is stated, as a share of the depth: middle to late layers predict brains best."""
LEAST_MISSING = 0.01
"""Share of the weights that may be absent from the files: unused heads of other tasks, which start at random."""
LONGEST_TOKENS, RESERVED_TOKENS = 512, 2
"""Tokens of a text if the model does not state them, and positions that some models keep for padding."""
IN_TIME = ("conv_stride", "max_source_positions", "feature_projection_input_dim")
"""Settings of models of sound whose tokens follow in time: wav2vec2 and its like, Whisper, wav2vec2-BERT."""


@dataclass(frozen=True)
class ModelInput:
    """One input of a pretrained model."""

    reads: Reads
    clip_frames: int | None
    """Frames of one input of a video model; None for others."""
    keeps_time: bool
    """True for a model of sound whose tokens follow in time."""


@dataclass(frozen=True)
class PretrainedModel:
    """A model in evaluation mode on its device."""

    where: str
    """Key of the configuration, for messages."""
    folder: Path
    network: Any
    settings: Any
    """Configuration of the network, or of the part that is used."""
    reads: Reads
    input_name: str
    layers: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Return where the model runs."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def clip_frames(self) -> int | None:
        """Return the frames of one input of a video model; None for a model of single pictures."""
        return _clip_frames(self.settings)

    @property
    def picture_size(self) -> tuple[int, int]:
        """Return the height and width of the pictures that the model reads."""
        size = getattr(self.settings, "image_size", None) or getattr(self.settings, "crop_size", None) or 224
        return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def longest_tokens(self) -> int:
        """Return the most tokens of one input of a model of text."""
        return int(getattr(self.settings, "max_position_embeddings", 0) or LONGEST_TOKENS) - RESERVED_TOKENS

    def picture_scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean and standard deviation of each colour. Raises DataError if the model does not state them."""
        for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
            if (path := self.folder / name).is_file():
                settings = json.loads(path.read_text(encoding="utf-8"))
                if "image_mean" in settings and "image_std" in settings:
                    return np.array(settings["image_mean"], np.float32), np.array(settings["image_std"], np.float32)
        raise DataError(
            f"{self.where}: {self.folder} does not state how pictures are scaled.",
            "Fetch all of the model: preprocessor_config.json has image_mean and image_std.",
        )

    @torch.inference_mode()
    def tokens(self, **inputs: Tensor) -> Tensor:
        """Return the tokens (B, N, F) of the chosen layers, side by side."""
        tensors = {name: value.to(self.device) for name, value in inputs.items()}
        states = self.network(**tensors, output_hidden_states=True).hidden_states
        layers = [states[n].float() for n in self.layers]
        return torch.cat([x.flatten(2).transpose(1, 2) if x.ndim == 4 else x for x in layers], dim=-1)

    def means(self, **inputs: Tensor) -> NDArray[np.float32]:
        """Return the mean token (B, F) of each input."""
        means_BF: NDArray[np.float32] = self.tokens(**inputs).mean(dim=1).cpu().numpy()
        return means_BF

    def accepts(self, name: str) -> bool:
        """Return True if the model has an input of this name."""
        return name in signature(self.network.forward).parameters

    def helper(self, kind: str) -> Any:
        """Return the model's tokenizer or feature extractor. Raises DataError if its files are missing."""
        if kind == "AutoTokenizer" and not any((self.folder / name).is_file() for name in VOCABULARIES):
            raise DataError(
                f"{self.where}: {self.folder} has no tokenizer.", "Fetch all files of the model, not its weights alone."
            )
        try:
            return getattr(import_module("transformers"), kind).from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise DataError(
                f"{self.where}: {self.folder} has no usable {kind.removeprefix('Auto')}: {_first_line(error)}",
                "Fetch all files of the model, not its weights alone.",
            ) from None


def load_pretrained(where: str, folder: Path, source: FeatureSource, device: str) -> PretrainedModel:
    """Load a model from its folder.

    Raises DataError if transformers is missing, if it cannot load the model, or for a layer that does not exist.

    Args:
        where: Key of the configuration, for messages.
        device: auto, cpu or cuda; auto uses a GPU if there is one.
    """
    library = _library(where)
    whole, loading = _attempt(
        where,
        folder,
        lambda: library.AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True),
    )
    network, reads = _part(where, whole, source.reads)
    _check_weights(where, folder, network, {str(name) for name in loading["missing_keys"]})
    on_gpu = device != "cpu" and torch.cuda.is_available()
    network = network.float().eval().to("cuda" if on_gpu else "cpu")
    layers = _layers(where, folder, network.config, source.layer)
    return PretrainedModel(where, folder, network, network.config, reads, network.main_input_name, layers)


def inspect_model(where: str, folder: Path, source: FeatureSource) -> ModelInput:
    """Return what a model reads, from its configuration alone.

    Raises DataError as `load_pretrained` does.
    """
    library = _library(where)

    def structure() -> Any:
        settings = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            return library.AutoModel.from_config(settings)

    network, reads = _part(where, _attempt(where, folder, structure), source.reads)
    _layers(where, folder, network.config, source.layer)
    keeps_time = any(hasattr(network.config, name) for name in IN_TIME)
    return ModelInput(reads, _clip_frames(network.config), keeps_time)


def _clip_frames(settings: Any) -> int | None:
    n_frames = getattr(settings, "num_frames", None) or getattr(settings, "frames_per_clip", None)
    return None if n_frames is None else int(n_frames)


def _library(where: str) -> Any:
    if find_spec("transformers") is None:
        raise DataError(
            f"{where} needs the package transformers, which is not installed.",
            "giblet setup NODE --with transformers; on this machine: pip install transformers.",
        )
    library = import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def _attempt(where: str, folder: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # the library raises whatever a file made it stumble over
        version = import_module("transformers").__version__
        raise DataError(
            f"{where}: transformers {version} cannot load {folder}: {_first_line(error)}",
            "Fetch the model again, or use a version of transformers that knows it.",
        ) from None


def _part(where: str, whole: Any, reads: Reads | None) -> tuple[Any, Reads]:
    """Return the part of a model that reads what is asked for, and what that is."""
    parts: dict[Reads, Any] = {
        what: part for what, names in PARTS.items() if (part := _first_of(whole, names)) is not None
    }
    if not parts:
        own = INPUT_OF.get(whole.main_input_name)
        if own is None or reads not in (None, own):
            raise DataError(
                f"{where}: the model reads {own or whole.main_input_name}, not {reads or 'pictures, sound or text'}.",
                "Choose another model, or bring its features as a file.",
            )
        encoder = whole.get_encoder() if getattr(whole.config, "is_encoder_decoder", False) else whole
        return encoder, own
    if reads is None and len(parts) > 1:
        raise DataError(
            f"{where}: the model reads {' and '.join(parts)}.", f"Choose one: {where}.reads: {next(iter(parts))}."
        )
    what = reads or next(iter(parts))
    if what not in parts:
        raise DataError(f"{where}: the model has no part that reads {what}.", f"It reads {' and '.join(parts)}.")
    return parts[what], what


def _first_of(whole: Any, names: Sequence[str]) -> Any:
    return next((part for name in names if isinstance(part := getattr(whole, name, None), torch.nn.Module)), None)


def _check_weights(where: str, folder: Path, network: Any, missing: set[str]) -> None:
    """Raise DataError if the files lack weights: the library would make them up at random."""
    total = sum(p.numel() for p in network.parameters())
    absent = [name for name, _ in network.named_parameters() if any(m.endswith(name) for m in missing)]
    n_absent = sum(p.numel() for name, p in network.named_parameters() if name in absent and "pooler" not in name)
    if n_absent > LEAST_MISSING * total:
        raise DataError(
            f"{where}: {folder} lacks {len(absent)} arrays of its weights, such as {absent[0]}.",
            "Fetch the model again; random weights are never used.",
        )


def _layers(where: str, folder: Path, settings: Any, layer: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers to use. Layer 0 is the input of the first block, layer n the output of the n-th."""
    depth = getattr(settings, "num_hidden_layers", None) or len(getattr(settings, "depths", ())) or None
    if layer is None:
        if depth is None:
            raise DataError(f"{where}: {folder} does not state its depth.", f"State {where}.layer, such as 8.")
        return (round(DEPTH * depth),)
    layers = (layer,) if isinstance(layer, int) else tuple(layer)
    if not layers or (depth is not None and any(not -depth - 1 <= n <= depth for n in layers)):
        raise DataError(f"{where}: there is no layer {layer}; {folder.name} has {depth}.", f"Use 0 to {depth}.")
    return layers


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
