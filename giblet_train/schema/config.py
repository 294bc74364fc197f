"""The configuration of a run: frozen records, strict where people write, complete once resolved.

A file names only what differs (`extends: base`). Loading migrates or refuses the lab's older keys with a sentence
each, checks fields against one another, and yields one `Config` whose `dump` spells out every default. Two configs are
the same experiment exactly when their `content_hash` is.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from giblet_train.schema import yaml_io
from giblet_train.schema.errors import ConfigError

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}$"
MODALITIES = ("video", "audio", "text")
COMPONENTS = ("fmri", *MODALITIES)
TINY_TRS = 60
"""What `data.simulate: tiny` has in all; the other sizes fit the splits of the film."""

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of keys; an unknown one is an error that names the nearest."""


class BidsConfig(Section, frozen=True, kw_only=True):
    """Which of fMRIPrep's files are read, and which columns of its confounds are regressed out."""

    task: str | None = None
    space: str = "MNI152NLin2009cAsym"
    runs: tuple[Count, ...] | None = None
    confounds: tuple[str, ...] | None = None


class FeatureSource(Section, frozen=True, kw_only=True):
    """Features of one modality that a lab brings: an installed extractor's, or the rows of a .npy file."""

    extractor: str | None = None
    file: str | None = None
    rows_per_s: Positive | None = None
    codes: Count | None = None


class FeaturesConfig(Section, frozen=True, kw_only=True):
    """Where features come from instead of giblet's own."""

    video: FeatureSource | None = None
    audio: FeatureSource | None = None
    text: FeatureSource | None = None

    def brought(self) -> dict[str, FeatureSource]:
        """Modality -> its source, of those that are brought."""
        named = {m: getattr(self, m) for m in MODALITIES}
        return {m: source for m, source in named.items() if source is not None}


class DataConfig(Section, frozen=True, kw_only=True):
    """Where the study lies and how it is read."""

    data_dir: str = "data"
    simulate: Literal["tiny", "small", "full", "scale"] | None = None
    layout: Literal["lab", "bids"] = "lab"
    bids: BidsConfig = BidsConfig()
    video: str = "stimuli_Sherlock.m4v"
    annotations: str = "annotations.xlsx"
    bold: str = "sherlock_nii/sherlock_movie_s{subject}.nii.gz"
    subjects: Literal["all"] | tuple[Count, ...] = "all"
    tr: Positive = 1.5
    scan_lengths_trs: tuple[Count, ...] | None = None
    stimulus_offset_s: float | Literal["auto"] = 0.0
    mask: str = "vote"
    atlas: str | None = None
    normalize_fmri: bool = True
    detrend: Literal["mean", "none"] | Positive = "mean"
    mode: Literal["per_subject", "cross_subject"] = "per_subject"
    apply_hrf: bool = False
    fps: Positive = 2.0
    text_model: str = "all-minilm-l6-v2"
    features: FeaturesConfig = FeaturesConfig()


class SplitConfig(Section, frozen=True, kw_only=True):
    """What is held out: contiguous blocks with a gap on both sides, or whole scans; and an inner validation block."""

    kind: Literal["blocks", "scans"] = "blocks"
    n_folds: Annotated[int, Meta(ge=2)] = 5
    fold: CountOrZero = 0
    gap_trs: CountOrZero = 14
    validation_trs: Count = 90
    validation_fraction: Fraction = 0.15
    validation_block: CountOrZero = 0
    usable_trs: Count | None = None
    leave_out_subject: Count | None = None


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network: modality encoders, a temporal trunk, a causal FIR, linear heads and decoders."""

    kind: Literal["trunk", "dense"] = "trunk"
    preset: Literal["tiny", "lab", "large"] = "tiny"
    bottleneck_dim: Count | None = None
    width: Count | None = None
    n_layers: CountOrZero | None = None
    window_trs: Count | None = None
    context_trs: CountOrZero = 12
    fir_trs: Count = 13
    dropout: Fraction = 0.2
    modality_dropout: Fraction = 0.2
    compress: Literal["joint", "per_subject", "none"] = "joint"
    start: Literal["ridge", "zero"] = "ridge"
    start_near: Fraction = 0.8
    head_width: Count = 4096
    learnt_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    video_height: Count = 36
    video_width: Count = 64
    n_mels: Count = 64
    n_voxels: Count | None = None
    text_dim: Count | None = None


class LossConfig(Section, frozen=True, kw_only=True):
    """How each term is scaled: by `variance`, 1.0 is the best constant; the others repeat the lab's mistakes."""

    scale: Literal["variance", "std", "none"] = "variance"


class BalanceConfig(Section, frozen=True, kw_only=True):
    """How the terms are weighed against one another, beyond their fixed weights."""

    kind: Literal["fixed", "gradnorm", "uncertainty"] = "fixed"
    every_steps: Count = 20


class DistributedConfig(Section, frozen=True, kw_only=True):
    """Processes of one run. giblet chooses address and port itself."""

    world_size: Count = 1
    backend: Literal["auto", "gloo", "nccl"] = "auto"


class Criterion(Section, frozen=True, kw_only=True):
    """One success criterion: a kind of check, its threshold, and on which part and scale it is judged."""

    kind: Literal[
        "loss_drop",
        "val_gap",
        "no_dominance",
        "starts_at_one",
        "lr_reaches_peak",
        "beats_null",
        "beats_mean",
        "reconstruction_skill",
        "validation_improves",
        "no_nan",
    ]
    threshold: float
    split: Literal["train", "held-out"] = "train"
    scale: Literal["raw", "explainable"] = "raw"


class WatchConfig(Section, frozen=True, kw_only=True):
    """When an observation becomes a cause or an alert. Times are in this run's own step pace."""

    stall_factor: Positive = 20.0
    stall_min_s: Positive = 120.0
    lr_tolerance: Positive = 0.01
    dominance_share: Fraction = 0.9
    lr_steps: Count = 20
    scale_ratio: Positive = 100.0
    unit_factor: Positive = 2.0
    unit_free_total: Positive = 20.0
    recent_steps: Count = 50
    flat_steps: Count = 100
    flat_epochs: Count = 5
    flat_change: Positive = 0.005
    plateau_fall: Positive = 0.03
    diverging_factor: Positive = 1.5
    frozen_steps: Count = 20
    clipping_share: Fraction = 0.95
    clipping_factor: Positive = 3.0
    overfit_rise: Positive = 0.035
    leak_tolerance: Positive = 0.001
    data_share: Fraction = 0.5
    communication_share: Fraction = 0.5
    straggler_share: Fraction = 0.8
    raise_looks: Count = 2
    clear_looks: Count = 5
    notify: str | None = None


class Config(Section, frozen=True, kw_only=True):
    """A whole run. Every key is read by the engine or by what judges it."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN)]
    stage: Literal["test", "cluster", "production"] = "test"
    note: str = ""
    seed: CountOrZero = 0
    threads: Count | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    num_epochs: Count = 20
    steps_per_epoch: Count | None = None
    batch_size: Count = 4
    learning_rate: Positive = 1e-3
    min_lr: NonNegative = 0.0
    weight_decay: NonNegative = 0.05
    scheduler_type: Literal["cosine", "step", "none"] = "cosine"
    step_decay_epochs: Count = 30
    step_decay_factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    warmup_epochs: NonNegative = 1.0
    warmup_steps: CountOrZero | None = None
    warmup_start_factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    gradient_clip_val: Positive | None = 1.0
    accumulate_steps: Count = 1
    ema_decay: Fraction = 0.98
    use_mixed_precision: bool = False
    deterministic: bool = False

    fmri_loss_type: Literal["mse", "mae", "correlation"] = "mse"
    fmri_weight: NonNegative = 1.0
    reconstruction_weight: NonNegative = 1.0
    video_weight: NonNegative = 1.0
    audio_weight: NonNegative = 1.0
    text_weight: NonNegative = 1.0

    validate_every: Count = 1
    save_every: Count = 1
    keep_checkpoints: Count = 3
    early_stopping_patience: Count | None = 10
    early_stopping_delta: NonNegative = 0.0
    resume_from: str | None = None
    on_sanity_fail: Literal["stop", "warn"] = "stop"

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    balance: BalanceConfig = BalanceConfig()
    distributed: DistributedConfig = DistributedConfig()
    watch: WatchConfig = WatchConfig()
    criteria: dict[str, Criterion] = {}

    def modality_weight(self, modality: str) -> float:
        """The configured weight of one reconstruction, of `MODALITIES`."""
        return float(getattr(self, f"{modality}_weight"))

    def component_weights(self) -> dict[str, float]:
        """Weight of each component in the total: fmri_weight·L_f + reconstruction_weight·Σ w_m L_m / Σ w_m."""
        total = sum(self.modality_weight(m) for m in MODALITIES)
        share = self.reconstruction_weight / total if total else 0.0
        return {"fmri": self.fmri_weight, **{m: share * self.modality_weight(m) for m in MODALITIES}}


def dump(config: Config) -> str:
    """The configuration as YAML with every default spelt out; `read_resolved` gives an equal one."""
    return yaml_io.dump(to_mapping(config))


def to_mapping(config: Config) -> dict[str, Any]:
    """The configuration as plain, JSON-like data."""
    value: dict[str, Any] = msgspec.to_builtins(config)
    return value


def content_hash(config: Config) -> str:
    """12 hex digits over all that can change a result: not name, note, or what only watches."""
    value = to_mapping(config)
    for key in ("name", "note", "watch", "criteria", "stage"):
        value.pop(key)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def diff(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, each with (old, new); `name` and `note` left out."""
    left, right = dict(flatten(to_mapping(old))), dict(flatten(to_mapping(new)))
    keys = [k for k in dict.fromkeys([*left, *right]) if k not in ("name", "note")]
    return {k: (left.get(k), right.get(k)) for k in keys if left.get(k) != right.get(k)}


def nearest(name: str, known: list[str]) -> str:
    """`, did you mean "x"?` for the known name closest to `name`, or nothing."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f', did you mean "{match[0]}"?' if match else ""


def set_dotted(value: dict[str, Any], key: str, item: Any) -> None:
    """Put `item` at a dotted key of nested data. Raises ConfigError where a part of the key is no group."""
    *parents, last = key.split(".")
    for parent in parents:
        value = value.setdefault(parent, {})
        if not isinstance(value, dict):
            raise ConfigError(f'--set {key}: "{parent}" is not a group of keys.')
    value[last] = item


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every key of nested data; an empty group is a value."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
