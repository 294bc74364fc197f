"""Sizes of the network: three presets, overridden by the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from giblet_train.schema.config import ModelConfig
from giblet_train.schema.errors import ConfigError

LEAST_CONTEXT_TRS = 12
"""Context within the windows of the presets, if neither configuration nor kernel asks for more."""


@dataclass(frozen=True)
class PresetSizes:
    """Sizes that a preset sets."""

    width: int
    n_layers: int
    n_attention_heads: int
    bottleneck_dim: int
    """Latents of the ridge start, or of the whole network without one."""
    residual_dim: int
    """Latents that the network adds to a ridge start."""
    window_trs: int
    """TRs of a window with the least context."""
    decoder_width: int


@dataclass(frozen=True)
class ModelSize(PresetSizes):
    """Sizes of one network. Lengths are in TRs."""

    context_trs: int
    """First TRs of a window, which are not scored."""
    fir_trs: int
    """Length of the causal FIR kernel."""


# tiny has no blocks: with minutes of film they fit noise, and its latents are then a reduced-rank FIR regression.
_PRESETS = {
    "tiny": PresetSizes(64, 0, 2, 24, 16, 64, 128),
    "lab": PresetSizes(384, 4, 6, 256, 32, 128, 512),
    "large": PresetSizes(1024, 8, 16, 1024, 64, 192, 1024),
}


def shape_of(config: ModelConfig, tr_s: float, train_trs: int) -> ModelSize:
    """Return the preset's sizes, overridden by the configuration. Raises ConfigError if they are inconsistent.

    Args:
        tr_s: seconds from one volume to the next.
        train_trs: training TRs of the split.
    """
    preset, fir_trs = _PRESETS[config.preset], config.kernel_trs(tr_s, train_trs)
    window_trs, context_trs = _window(config, preset, fir_trs)
    shape = ModelSize(
        width=config.width or preset.width,
        n_layers=preset.n_layers if config.n_layers is None else config.n_layers,
        n_attention_heads=preset.n_attention_heads,
        bottleneck_dim=config.bottleneck_dim or preset.bottleneck_dim,
        residual_dim=preset.residual_dim,
        window_trs=window_trs,
        context_trs=context_trs,
        fir_trs=fir_trs,
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


def _window(config: ModelConfig, preset: PresetSizes, fir_trs: int) -> tuple[int, int]:
    """Return the TRs of a window and of its context.

    A context that the configuration does not set leaves as many scored TRs as the preset has, or half of a window that
    it sets.
    """
    if config.context_trs is not None:
        return config.window_trs or preset.window_trs, config.context_trs
    context_trs = max(LEAST_CONTEXT_TRS, fir_trs - 1)
    if config.window_trs is None:
        return preset.window_trs - LEAST_CONTEXT_TRS + context_trs, context_trs
    return config.window_trs, min(context_trs, config.window_trs // 2)
