"""Records of a run's configuration, and operations on whole configurations.

`config_loader` reads files, `config_validation` checks them. Two configurations describe the same experiment exactly
when their `content_hash` is equal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from giblet_train.schema.errors import ConfigError

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}$(?!\n)"
"""`$` alone also matches before a line feed at the end."""
SPACE_PATTERN = r"^[a-z][a-z0-9_]{0,29}$"
Preset = Literal["tiny", "lab", "large"]
MODALITIES = ("video", "audio", "text")
"""Feature spaces that giblet computes by itself."""
COMPONENTS = ("fmri", *MODALITIES)
"""Components of the loss that every study may have; `Config.components` are those of one run."""
RESPONSE_S = 40.0
"""Film that a response may still depend on: a memory of 15 s after the haemodynamic response."""
TINY_TRS = 60
"""TRs of `data.simulate: tiny`; the other sizes fit the splits of the film."""

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of keys. Unknown keys are errors."""


class BidsConfig(Section, frozen=True, kw_only=True):
    """fMRIPrep files to read, and confounds to regress out."""

    task: str | tuple[str, ...] | None = None
    """Task of the film's runs, as in task-NAME, or several such as [bourne01, bourne02]."""
    filters: dict[str, str | int | None] = {}
    """Other entities that the files must have, such as {res: 2, desc: denoised}; null asks for files without one."""
    space: str = "MNI152NLin2009cAsym"
    """Space that all subjects share."""
    runs: tuple[Count, ...] | None = None
    """Run numbers such as [1, 2], in the order of the scans; null = all."""
    confounds: tuple[str, ...] | None = None
    """Columns such as [trans_*, rot_*, csf] to regress out, fitted on training TRs only."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks as a tuple."""
        return (self.task,) if isinstance(self.task, str) else self.task or ()


class FeatureSource(Section, frozen=True, kw_only=True):
    """Where the features of one space come from: an extractor, a file or a pretrained model."""

    extractor: str | None = None
    """Installed feature extractor: a name, or package.module:function."""
    file: str | None = None
    """A .npy, .npz or .h5 file (FILE::NAME) with one row per sample; {stimulus} is replaced by the stimulus's name."""
    model: str | None = None
    """Hugging Face model that runs on the film, such as openai/clip-vit-base-patch32, or a folder."""
    reads: Literal["pictures", "sound", "text"] | None = None
    """pictures, sound or text: what the model is shown; null = what it was made for."""
    layer: int | tuple[int, ...] | None = None
    """Layers of a model or file, from 0, such as 8 or [4, 8]; null = a model's at two thirds of its depth."""
    context_words: Count | None = None
    """Words before each word that a text model reads; null = 32."""
    rows_per_s: Positive | None = None
    """Rows per second of film in the file; null = one row per TR."""
    codes: Count | None = None
    """Number of categories, if the values are codes; they are trained by cross-entropy."""
    weight: NonNegative | None = None
    """Weight of its reconstruction; null = NAME_weight for video, audio and text, and 0 for others: inputs only."""


class StimulusConfig(Section, frozen=True, kw_only=True):
    """One film, sound or story of a study with a table of runs. Paths are relative to data_dir."""

    video: str | None = None
    """Film; null = no pictures."""
    audio: str | None = None
    """Sound file; null = the sound of the film, if it has one."""
    annotations: str | None = None
    """Annotations, words or subtitles in seconds of the stimulus; null = no text."""
    annotations_scan: Count | None = None
    """Part, from 1, of an annotation file whose seconds restart; null = all of it is about this stimulus."""
    features: dict[str, FeatureSource | None] = {}
    """Feature spaces of this stimulus; they replace those of data.features that have the same name."""


class DataConfig(Section, frozen=True, kw_only=True):
    """The study and how it is read."""

    data_dir: str = "data"
    """Folder of the study on the node, relative to its workdir."""
    simulate: Literal["tiny", "small", "full", "scale"] | None = None
    """tiny, small, full or scale: generate the demo study instead of reading data_dir."""
    layout: Literal["lab", "bids"] = "lab"
    """lab: the file names below; bids: fMRIPrep derivatives in data_dir."""
    bids: BidsConfig = BidsConfig()
    """Used with layout: bids only."""
    video: str | None = "stimuli_Sherlock.m4v"
    """Film, relative to data_dir; null = none."""
    audio: str | None = None
    """Sound, if there is no film or the film's sound is a file of its own."""
    annotations: str | None = "annotations.xlsx"
    """Annotations: .xlsx, .csv or BIDS events .tsv; {run} in the name for one file per run."""
    bold: str = "sherlock_nii/sherlock_movie_s{subject}.nii.gz"
    """Scans, with layout: lab; {subject} is the number of the subject."""
    runs: str | None = None
    """Table of runs: a .tsv relative to data_dir, or its lines; it replaces layout, bold, video and annotations."""
    stimuli: dict[str, StimulusConfig] = {}
    """With a table of runs: name -> files of each stimulus."""
    subjects: Literal["all"] | tuple[int | str, ...] = "all"
    """all, 3, 1-17, a list such as [1-5, 9], or labels such as [sid000005, pixar001]."""
    tr: Positive | None = None
    """Repetition time in seconds; null = that of headers and sidecars."""
    trust_tr: Literal["header", "sidecar", "config"] | None = None
    """header, sidecar or config: source of the TR if they disagree; null refuses."""
    drop_first_trs: CountOrZero = 0
    """Volumes at the start of each run that are not used: dummy scans, or before the steady state."""
    scan_lengths_trs: tuple[Count, ...] | None = None
    """TRs of each scan, such as [946, 1030]."""
    stimulus_offset_s: float | Literal["auto"] = 0.0
    """Film time of the first volume in seconds; auto = from the lag analysis."""
    mask: str = "vote"
    """vote; atlas (voxels inside a parcel); or a mask file."""
    atlas: str | None = None
    """Labels in the format of the scans, with names in a .tsv next to it; voxels are ordered by parcel."""
    parcellate: bool = False
    """true: predict the mean of each parcel of the atlas instead of its voxels."""
    normalize_fmri: bool = True
    """Z-score per subject, voxel and scan, from training TRs only."""
    detrend: Literal["mean", "none"] | Positive = "mean"
    """Per block of the split: mean, none, or a cut-off in seconds for slow cosines, such as 128.0."""
    mode: Literal["per_subject", "cross_subject"] = "per_subject"
    """per_subject or cross_subject (one averaged brain)."""
    apply_hrf: bool = False
    """true: convolve features with Glover's HRF; false: learn a kernel initialised from it."""
    fps: Positive = 2.0
    """Frames per second of film that are used."""
    text_model: str = "all-minilm-l6-v2"
    """Sentence encoder; all-minilm-l6-v2 comes with a package, or any sentence-transformers model."""
    features: dict[str, FeatureSource | None] = {}
    """Feature spaces: name -> source. Those named video, audio or text replace giblet's own; others are added."""
    spaces: tuple[str, ...] | None = None
    """Feature spaces that are used, such as [video, clip]; null = all."""

    def sources_of(self, stimulus: StimulusConfig | None = None) -> dict[str, FeatureSource]:
        """Return feature space -> source of a stimulus, for all spaces that are not giblet's own."""
        sources = self.features | (stimulus.features if stimulus else {})
        return {m: source for m, source in sources.items() if source is not None and self.uses(m)}

    def all_sources(self) -> dict[str, FeatureSource]:
        """Return feature space -> source, of the first stimulus that has it."""
        sources = self.sources_of()
        for stimulus in self.stimuli.values():
            sources = self.sources_of(stimulus) | sources
        return sources

    def uses(self, space: str) -> bool:
        """Return True if a feature space is used."""
        return self.spaces is None or space in self.spaces

    @property
    def space_names(self) -> tuple[str, ...]:
        """Return the feature spaces that stimuli may have: video, audio and text, then the others in order."""
        groups = [self.features, *(stimulus.features for stimulus in self.stimuli.values())]
        names = ordered_spaces({*MODALITIES, *(m for group in groups for m, s in group.items() if s is not None)})
        return tuple(m for m in names if self.uses(m))


class SplitConfig(Section, frozen=True, kw_only=True):
    """Test block, gaps, and inner validation block."""

    kind: Literal["blocks", "scans", "runs", "stimuli"] = "blocks"
    """blocks: contiguous blocks with gaps; scans or runs: one whole run per fold; stimuli: one stimulus per fold."""
    n_folds: Annotated[int, Meta(ge=2)] = 5
    """Number of blocks, with kind: blocks."""
    fold: CountOrZero = 0
    """Block or scan held out for the test, from 0."""
    gap_trs: CountOrZero = 14
    """TRs left out on both sides of a held-out block."""
    validation_trs: Count = 90
    """TRs of the validation block, at most ..."""
    validation_fraction: Fraction = 0.15
    """... this fraction of the TRs outside the test block."""
    validation_block: CountOrZero = 0
    """Position of the validation block; 0 is next to the test block. Ensemble members use different ones."""
    usable_trs: Count | None = None
    """Use only the first N TRs, such as the film without its credits."""
    leave_out_subject: int | str | None = None
    """Number or label of a subject that is not trained on and is evaluated separately."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network: modality encoders, temporal trunk, causal FIR, linear heads and decoders."""

    kind: Literal["trunk", "dense"] = "trunk"
    """trunk, or dense (first architecture of the lab, for comparison)."""
    preset: Preset = "tiny"
    """tiny, lab or large; sets the keys below that are null."""
    bottleneck_dim: Count | None = None
    """Latent dimensions from which brain and film are predicted."""
    width: Count | None = None
    """Width of the trunk."""
    n_layers: CountOrZero | None = None
    """Blocks of the trunk."""
    window_trs: Count | None = None
    """TRs per training window; null = 64, 128 or 192 by preset, plus what context_trs: null is above 12."""
    context_trs: CountOrZero | None = None
    """First TRs of a window that are not scored; null = fir_trs - 1, at least 12, at most half of window_trs."""
    fir_trs: Count | None = None
    """Length of the causal FIR kernel in TRs; null = 40 s, as 8 to 64 TRs, at most the training TRs."""
    dropout: Fraction = 0.2
    """Dropout in the trunk."""
    modality_dropout: Fraction = 0.2
    """Probability that a whole modality is hidden from the trunk."""
    compress: Literal["auto", "joint", "per_subject", "none"] = "auto"
    """auto, joint, per_subject or none: basis of the fMRI loss; auto: joint if all subjects share all TRs in use."""
    start: Literal["ridge", "zero"] = "ridge"
    """ridge: initialise the heads from a ridge model of delayed features; zero: from zero."""
    start_near: Fraction = 0.8
    """With start: ridge, weight of neighbouring voxels in the prior; 0 = none."""
    start_nonlinear: bool = True
    """With start: ridge, also try products and rectified projections of the features as kernels."""
    head_width: Count = 4096
    """Width of the layer before the voxels; kind: dense only."""
    learnt_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """With start: ridge, weight of the network's addition outside training; null = 0 unless validation shows a gain."""
    video_height: Count = 36
    """Height of a stored frame in pixels."""
    video_width: Count = 64
    """Width of a stored frame in pixels."""
    n_mels: Count = 64
    """Mel bands of the audio target."""
    n_voxels: Count | None = None
    """Number of voxels, which follows from the data; checked if given."""
    text_dim: Count | None = None
    """Dimensions of the text features, which follow from text_model; checked if given."""

    def kernel_trs(self, tr_s: float, train_trs: int) -> int:
        """Return the length of the causal FIR kernel in TRs.

        Args:
            tr_s: seconds from one volume to the next.
            train_trs: training TRs of the split.
        """
        return self.fir_trs or min(max(8, math.ceil(RESPONSE_S / tr_s)), 64, train_trs)


class LossConfig(Section, frozen=True, kw_only=True):
    """Scale of each loss; only `variance` is unit-free."""

    scale: Literal["variance", "std", "none"] = "variance"
    """variance, std or none; only with variance is 1.0 the best constant."""


class BalanceConfig(Section, frozen=True, kw_only=True):
    """How the losses are weighted against each other, beyond their fixed weights."""

    kind: Literal["fixed", "gradnorm", "uncertainty"] = "fixed"
    """fixed, gradnorm or uncertainty."""
    every_steps: Count = 20
    """Steps between two measurements of the gradient shares (and two updates of gradnorm)."""


class DistributedConfig(Section, frozen=True, kw_only=True):
    """Processes of one run. giblet chooses address and port itself."""

    world_size: Count = 1
    """Processes of the run, one per GPU."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """auto, gloo or nccl."""


class Criterion(Section, frozen=True, kw_only=True):
    """One success criterion."""

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
    """What is checked."""
    threshold: float
    """Value to reach; its meaning depends on the kind."""
    split: Literal["train", "held-out"] = "train"
    """Losses that loss_drop judges: train or held-out."""
    scale: Literal["raw", "explainable"] = "raw"
    """raw: relative to the best constant; explainable: relative to the variance any model could explain."""


class WatchConfig(Section, frozen=True, kw_only=True):
    """Thresholds at which an observation becomes a cause or an alert."""

    stall_factor: Positive = 20.0
    """A run is stalled after this many of its own step times without a heartbeat ..."""
    stall_min_s: Positive = 120.0
    """... but never sooner than this, in seconds."""
    lr_tolerance: Positive = 0.01
    """Relative difference between observed and planned rate that is accepted."""
    dominance_share: Fraction = 0.9
    """Share of weighted loss and gradient above which a component dominates."""
    lr_steps: Count = 20
    """Steps outside lr_tolerance before the rate is off its plan."""
    scale_ratio: Positive = 100.0
    """First loss of a component divided by the others' that counts as a mismatch."""
    unit_factor: Positive = 2.0
    """A first loss this many times above or below 1 carries a unit."""
    unit_free_total: Positive = 20.0
    """First total of a log above which it carries a unit."""
    recent_steps: Count = 50
    """Recent steps over which time shares and clipping are averaged."""
    flat_steps: Count = 100
    """Steps' worth of the base rate (in a log: flat_epochs) without ..."""
    flat_epochs: Count = 5
    """... or epochs of a log without ..."""
    flat_change: Positive = 0.005
    """... this relative decrease of the training loss."""
    plateau_fall: Positive = 0.03
    """Relative decrease that a loss has missed since it stopped decreasing."""
    diverging_factor: Positive = 1.5
    """Training loss divided by its best that counts as diverging."""
    frozen_steps: Count = 20
    """Steps without any gradient."""
    clipping_share: Fraction = 0.95
    """Share of recent steps that were clipped ..."""
    clipping_factor: Positive = 3.0
    """... by gradients this many times the limit."""
    overfit_rise: Positive = 0.035
    """Relative increase of validation above its best; doubled with early stopping."""
    leak_tolerance: Positive = 0.001
    """Relative difference between validation and training, for each component."""
    data_share: Fraction = 0.5
    """Share of the step time spent waiting for data."""
    communication_share: Fraction = 0.5
    """Share of the step time spent exchanging gradients."""
    straggler_share: Fraction = 0.8
    """Share of recent slow steps in which the same rank was slowest."""
    raise_looks: Count = 2
    """Checks by the watcher that find a cause before an alert is raised, unless it is certain."""
    clear_looks: Count = 5
    """Checks without the cause before the alert is cleared."""
    notify: str | tuple[str, ...] | None = None
    """Targets of each alert: `ntfy:URL`, `slack:URL`, `mailto:ADDRESS`, or a command that gets it as JSON on stdin."""


class Config(Section, frozen=True, kw_only=True):
    """Configuration of a run. The engine or the diagnosis reads every key."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """Name of the run: at most 40 of a-z, 0-9, _ and -."""
    stage: Literal["test", "cluster", "production"] = "test"
    """Stage of the ladder: test, cluster or production. Stopping a production run asks for its name."""
    note: str = ""
    """Free text that is shown with the run."""
    seed: CountOrZero = 0
    """Seed of everything random, together with the step."""
    threads: Count | None = None
    """CPU threads per process; null = cores of the node / world_size."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto, cpu or cuda."""

    num_epochs: Count = 20
    """Number of epochs; each has steps_per_epoch steps."""
    steps_per_epoch: Count | None = None
    """Optimizer steps per epoch; null = max(20, training TRs / TRs scored per step)."""
    batch_size: Count = 4
    """Windows per step, over all ranks."""
    learning_rate: Positive = 1e-3
    """Base learning rate, reached at the end of the warm-up."""
    min_lr: NonNegative = 0.0
    """Learning rate at the end of the cosine."""
    weight_decay: NonNegative = 0.05
    """AdamW weight decay, applied to matrices only."""
    scheduler_type: Literal["cosine", "step", "none"] = "cosine"
    """cosine, step or none (constant after the warm-up)."""
    step_decay_epochs: Count = 30
    """With scheduler_type: step, epochs between two reductions of the rate."""
    step_decay_factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """With scheduler_type: step, factor of each reduction."""
    warmup_epochs: NonNegative = 1.0
    """Length of the linear warm-up; it advances with every optimizer step."""
    warmup_steps: CountOrZero | None = None
    """Length of the warm-up in steps; overrides warmup_epochs."""
    warmup_start_factor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """Learning rate of the first step divided by the base rate."""
    gradient_clip_val: Positive | None = 1.0
    """Largest gradient norm; null = no clipping."""
    accumulate_steps: Count = 1
    """Backward passes per optimizer step."""
    ema_decay: Fraction = 0.98
    """Decay of the averaged weights, which are the ones evaluated; 0 = no averaging."""
    use_mixed_precision: bool = False
    """Use bf16 autocast in the trunk where the hardware supports it well."""
    deterministic: bool = False
    """Make GPU results bitwise repeatable; slower."""

    fmri_loss_type: Literal["mse", "mae", "correlation"] = "mse"
    """How predicted and measured responses are compared; all but mse need model.compress: none."""
    fmri_weight: NonNegative = 1.0
    """Weight of the fMRI loss: total = fmri_weight·L_fmri + reconstruction_weight·Σ w·L / Σ w."""
    reconstruction_weight: NonNegative = 1.0
    """Weight of all reconstructions together."""
    video_weight: NonNegative = 1.0
    """Weight of video relative to the other reconstructions."""
    audio_weight: NonNegative = 1.0
    """Weight of audio relative to the other reconstructions."""
    text_weight: NonNegative = 1.0
    """Weight of text relative to the other reconstructions."""

    validate_every: Count = 1
    """Epochs between two validations."""
    save_every: Count = 1
    """Epochs between two periodic checkpoints."""
    keep_checkpoints: Count = 3
    """Periodic checkpoints to keep; `last` and `best` are always kept."""
    early_stopping_patience: Count | None = 10
    """Epochs without a better validation before training stops; null = never."""
    early_stopping_delta: NonNegative = 0.0
    """Smallest decrease of the validation loss that counts as better."""
    resume_from: str | None = None
    """Run id, or path of a checkpoint on the node."""
    on_sanity_fail: Literal["stop", "warn"] = "stop"
    """stop or warn, if the sanity check before step 0 fails."""

    data: DataConfig = DataConfig()
    """Study and how it is read."""
    split: SplitConfig = SplitConfig()
    """Test block and inner validation block."""
    model: ModelConfig = ModelConfig()
    """Network."""
    losses: LossConfig = LossConfig()
    """Scale of the losses."""
    balance: BalanceConfig = BalanceConfig()
    """Weighting of the losses during training."""
    distributed: DistributedConfig = DistributedConfig()
    """Processes of the run."""
    watch: WatchConfig = WatchConfig()
    """Thresholds of the diagnosis (`giblet why`) and the alerts."""
    criteria: dict[str, Criterion] = {}
    """name -> {kind, threshold, split: train|held-out, scale: raw|explainable}."""

    def space_weight(self, space: str) -> float:
        """Return the weight of a feature space's reconstruction; 0 for a space that is not reconstructed."""
        groups = (self.data.features, *(stimulus.features for stimulus in self.data.stimuli.values()))
        weights = (s.weight for group in groups if (s := group.get(space)) is not None and s.weight is not None)
        return next(weights, float(getattr(self, f"{space}_weight")) if space in MODALITIES else 0.0)

    def reconstructs(self, space: str) -> bool:
        """Return True if a feature space is reconstructed: video, audio and text, and others with a weight."""
        return space in MODALITIES or self.space_weight(space) > 0

    @property
    def components(self) -> tuple[str, ...]:
        """Return the components that the loss may have, in order: the responses and all reconstructed spaces."""
        return ("fmri", *(m for m in self.data.space_names if self.reconstructs(m)))

    def component_weights(self, spaces: Sequence[str] | None = None) -> dict[str, float]:
        """Return the weight of each component in fmri_weight·L_f + reconstruction_weight·Σ w_m L_m / Σ w_m.

        Args:
            spaces: Feature spaces that are reconstructed; None for all that may be.
        """
        names = self.components[1:] if spaces is None else spaces
        weights = {m: self.space_weight(m) for m in names}
        total = sum(weights.values())
        share = self.reconstruction_weight / total if total else 0.0
        return {"fmri": self.fmri_weight, **{m: share * weight for m, weight in weights.items()}}


def ordered_spaces(names: Iterable[str]) -> list[str]:
    """Return video, audio and text first, in this order, then the other feature spaces by name."""
    present = set(names)
    return [*(m for m in MODALITIES if m in present), *sorted(present - {*MODALITIES})]


def dump(config: Config) -> str:
    """Return the configuration as YAML with every default; `read_resolved` returns an equal one."""
    from giblet_train.schema import yaml_io  # `giblet ps` needs no YAML

    return yaml_io.dump(to_mapping(config))


def to_mapping(config: Config) -> dict[str, Any]:
    """Return the configuration as plain data."""
    value: dict[str, Any] = msgspec.to_builtins(config)
    return value


def content_hash(config: Config) -> str:
    """Return 12 hex digits over every key that can change a result; name, note and watch keys cannot."""
    import hashlib  # a tenth of the start of `giblet ps`

    value = to_mapping(config)
    for key in ("name", "note", "watch", "criteria", "stage"):
        value.pop(key)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def diff(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Return dotted key -> (old, new) where values differ, without `name` and `note`."""
    old_values, new_values = dict(flatten(to_mapping(old))), dict(flatten(to_mapping(new)))
    keys = [k for k in dict.fromkeys([*old_values, *new_values]) if k not in ("name", "note")]
    return {k: (old_values.get(k), new_values.get(k)) for k in keys if old_values.get(k) != new_values.get(k)}


def name_from(text: str) -> str:
    """Return a name for a configuration from that of a file or folder."""
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:40] or "study"


def nearest(name: str, names: list[str]) -> str:
    """Return `, did you mean "x"?` for the one of `names` closest to `name`, or an empty string."""
    import difflib  # only after a mistake

    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f', did you mean "{match[0]}"?' if match else ""


def set_dotted(value: dict[str, Any], key: str, item: Any) -> None:
    """Set a dotted key of nested data. Raises ConfigError if a part of the key is not a group."""
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
