"""Sizes of the network: three presets, overridden by the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from giblet_train.schema.config import ModelConfig
from giblet_train.schema.errors import ConfigError


@dataclass(frozen=True)
class ModelSize:
    """Sizes that do not depend on the data. Lengths are in TRs."""

    width: int
    n_layers: int
    n_attention_heads: int
    bottleneck_dim: int
    """Latents of the ridge start, or of the whole network without one."""
    residual_dim: int
    """Latents that the network adds to a ridge start."""
    window_trs: int
    context_trs: int
    fir_trs: int
    decoder_width: int


# tiny has no blocks: with minutes of film they fit noise, and its latents are then a reduced-rank FIR regression.
_PRESETS = {
    "tiny": ModelSize(64, 0, 2, 24, 16, 78, 26, 27, 128),
    "lab": ModelSize(384, 4, 6, 256, 32, 142, 26, 27, 512),
    "large": ModelSize(1024, 8, 16, 1024, 64, 206, 26, 27, 1024),
}


def shape_of(config: ModelConfig) -> ModelSize:
    """Return the preset's sizes, overridden by the configuration. Raises ConfigError if they are inconsistent."""
    preset = _PRESETS[config.preset]
    shape = ModelSize(
        width=config.width or preset.width,
        n_layers=preset.n_layers if config.n_layers is None else config.n_layers,
        n_attention_heads=preset.n_attention_heads,
        bottleneck_dim=config.bottleneck_dim or preset.bottleneck_dim,
        residual_dim=preset.residual_dim,
        window_trs=config.window_trs or preset.window_trs,
        context_trs=config.context_trs,
        fir_trs=config.fir_trs,
        decoder_width=preset.decoder_width,
    )
    attends = config.kind == "trunk" and shape.n_layers > 0
    if attends and shape.width % (2 * shape.n_attention_heads):
        raise ConfigError(
            f"model.width {shape.width} cannot be divided over {shape.n_attention_heads} attention heads of even size.",
            f"Choose a multiple of {2 * shape.n_attention_heads}.",
        )
    if shape.window_trs <= shape.context_trs:
        raise ConfigError(
            f"A window of {shape.window_trs} TRs is all context; model.context_trs is {shape.context_trs}.",
            "Lengthen model.window_trs or shorten model.context_trs.",
        )
    return shape
