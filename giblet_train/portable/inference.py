"""Run a published model: standardised features to latents, latents to responses, responses back to the film's features.

T TRs, W window TRs, F features, K latents, V voxels, Z latents that decoders read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.model.feature_expansion import ExpansionInit, FeatureExpansion
from giblet_train.model.heads import ridge_readout
from giblet_train.model.linear_encoder import LinearInit
from giblet_train.model.network import BrainModel, Sizes
from giblet_train.model.presets import ModelSize
from giblet_train.portable.model_file import ModelFile, Shape
from giblet_train.schema.config import ordered_spaces

Singles = NDArray[np.float32]
NETWORK = "network."
_EXPANSION = "linear_path.expansion."


@dataclass(frozen=True)
class Window:
    """Rows that are predicted together."""

    first: int
    """First row of the context."""
    start: int
    """First row that is predicted."""
    stop: int


def windows(n_trs: int, chunk_trs: int, context_trs: int, start: int = 0) -> Iterator[Window]:
    """Yield windows over rows `start` to n_trs, each with the context that precedes it."""
    for first in range(start, n_trs, chunk_trs):
        yield Window(max(0, first - context_trs), first, min(n_trs, first + chunk_trs))


@dataclass(frozen=True)
class Inference:
    """A network without heads, and the heads of a published model."""

    file: ModelFile
    network: BrainModel

    @classmethod
    def of(cls, file: ModelFile) -> Inference:
        """Build the network from the arrays of the file."""
        state = {name: _tensor(array) for name, array in file.under(NETWORK).items()}
        network = _network(file.header.shape, state)
        network.reading_ZZ = state.get("reading_ZZ")
        network.load_state_dict(state)
        network.share = file.header.shape.learnt_share
        return cls(file, network.eval())

    @property
    def context_trs(self) -> int:
        """Return the rows before a window that its prediction depends on."""
        return max(self.file.header.shape.context_trs, self.file.header.shape.fir_trs - 1)

    @torch.no_grad()
    def latents(self, features: Mapping[str, Singles], present_W: NDArray[np.bool_] | None = None) -> Singles:
        """Return the latents (W, K) of a window of standardised features, modality -> (W, F).

        present_W: rows that belong to the window's film; None for all.
        """
        features_by_space = {m: features[m] for m in ordered_spaces(features)}
        n_trs = len(next(iter(features_by_space.values())))
        present_BW = torch.ones(1, n_trs, dtype=torch.bool) if present_W is None else torch.from_numpy(present_W)[None]
        inputs = {m: _tensor(x_WF)[None] * present_BW[..., None] for m, x_WF in features_by_space.items()}
        z_WK: Singles = self.network(inputs, present_BW)[0].numpy()
        return z_WK

    def predict(self, z_TK: Singles, subject: str) -> Singles:
        """Return the responses (T, V) of a subject from latents, in the units of the model."""
        return z_TK @ self.file.head(subject)

    @torch.no_grad()
    def reconstruct(self, bold_TV: Singles, subject: str) -> dict[str, Singles]:
        """Return modality -> features (T, F) that one person's responses show: standardised, or probabilities of codes.

        The ridge of the readout is that of the responses of all subjects; one person's is as many times smaller.
        """
        n_read = self.file.header.shape.bottleneck_dim if self.file.header.shape.has_start else None
        heads_ZV = self.network.reading_heads(_tensor(self.file.head(subject)[:n_read]))
        ridge = self.network.log_ridge.exp() / self.file.header.n_subjects
        [z_TZ] = ridge_readout([_tensor(bold_TV)], heads_ZV, ridge)
        decoded = self.network.decoders(z_TZ[None], None)
        return {m: self._as_features(m, x_BTF[0]).numpy() for m, x_BTF in decoded.items()}

    def _as_features(self, modality: str, decoded_TF: Tensor) -> Tensor:
        unigram_BQ = self.file.arrays.get(f"target.{modality}.unigram")
        if unigram_BQ is None:
            return decoded_TF
        logits_TBQ = decoded_TF.reshape(len(decoded_TF), *unigram_BQ.shape) + _tensor(unigram_BQ).log()
        return logits_TBQ.softmax(dim=-1).flatten(-2)


def _network(shape: Shape, state: Mapping[str, Tensor]) -> BrainModel:
    """Return a network of the right sizes, with heads for no part; its numbers are loaded afterwards."""
    size = ModelSize(**{field.name: getattr(shape, field.name) for field in fields(ModelSize)})
    sizes = Sizes(shape.n_inputs, shape.n_targets, {}, 1, ())
    start = _start(shape, state) if shape.has_start else None
    kernel_ML = torch.zeros(1, shape.fir_trs)
    return BrainModel(size, sizes, kernel_ML, torch.zeros(0), dropout=0.0, modality_dropout=0.0, start=start)


def _start(shape: Shape, state: Mapping[str, Tensor]) -> LinearInit:
    prefix = "linear_path."
    path = {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix) and x.dim() == 3}
    expansion = _expansion(shape, state) if shape.expansion_rms else None
    return LinearInit(path, torch.zeros(shape.bottleneck_dim, 0), expansion)


def _expansion(shape: Shape, state: Mapping[str, Tensor]) -> FeatureExpansion:
    own = {name[len(_EXPANSION) :]: x for name, x in state.items() if name.startswith(_EXPANSION)}

    def by_name(prefix: str) -> dict[str, Tensor]:
        names = [name for name in own if name.startswith(prefix)]
        return {name[len(prefix) :]: own[name] for name in names}

    components = by_name("components_")
    return FeatureExpansion(
        ExpansionInit(
            components_FP={m: components[m] for m in ordered_spaces(components)},
            limit_P=by_name("limit_"),
            directions_PE=own["directions_PE"],
            bias_E=own["bias_E"],
            linear_PE=own["linear_PE"],
            mean=by_name("mean_"),
            rms=shape.expansion_rms,
        )
    )


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))
