"""The faults that `giblet demo FAULT` makes: what each is, which cause should be named, and what of the run it changes.

Each fault really happens in a real small run (`giblet_train.training.fault_injection` makes it). `good` is the control,
in which nothing may be raised. Settings override the demo's configuration. Heads start from zero, because a run that
starts from ridge has little left to learn: faults that only keep it from learning would show late or not at all.
"""

from __future__ import annotations

from typing import Any

import msgspec

from giblet_train.diagnosis.rules.case import CauseName

STEP = 40
"""Where faults begin that need a run under way."""
EVENT = "drill"
"""The event that marks, in the records, from which step on a drill's fault is there."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault. cause: what should be named ("" for the control). step: where it begins. says: what really happens."""

    name: str
    cause: CauseName | None
    says: str
    step: int = 0
    settings: dict[str, Any] = {}
    processes: int = 1


_LEARNING: dict[str, Any] = {"model.start": "zero", "num_epochs": 45}
_UNJUDGED: dict[str, Any] = {"criteria": {}, "early_stopping_patience": None}
_WARNED: dict[str, Any] = {"on_sanity_fail": "warn"}
_SHORT: dict[str, Any] = {"warmup_epochs": 1}
_UNTAMED: dict[str, Any] = {"weight_decay": 0.0, "model.dropout": 0.0, "model.modality_dropout": 0.0}


def _drill(
    name: str, cause: CauseName | None, says: str, step: int = 0, processes: int = 1, **settings: Any
) -> tuple[str, Fault]:
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    laid = {**_LEARNING, **_UNJUDGED, **dotted, "distributed.world_size": processes}
    return name, Fault(name=name, cause=cause, says=says, step=step, settings=laid, processes=processes)


FAULTS: dict[str, Fault] = dict(
    (
        _drill("good", None, "nothing is wrong: the control", num_epochs=12),
        _drill("lr", "lr_off_plan", "the schedule moves once per epoch instead of once per step"),
        _drill("dominance", "component_dominates", "the audio's weight is ten thousand times the others'",
               **_SHORT, fmri_weight=0.001, video_weight=0.001, text_weight=0.001, audio_weight=10.0),
        _drill("scale", "scale_mismatch", "raw scanner units against z-scored features, no division by the variance",
               **_WARNED, data__normalize_fmri=False, losses__scale="none"),
        _drill("codes", "categorical_targets", "the audio's targets are codes from 0 to 1023, under a squared error",
               **_WARNED, losses__scale="none"),
        _drill("units", "loss_not_unit_free", "the video's loss is divided by its standard deviation, which is 6",
               **_WARNED, losses__scale="std"),
        _drill("flat", "flat", "the learning rate is a ten-thousandth of what learns", **_SHORT, **_WARNED,
               learning_rate=1e-7),
        _drill("plateau", "plateau", "from step 140 on the weights go back after every step", 140, **_SHORT,
               scheduler_type="none", num_epochs=60),
        _drill("diverging", "diverging", "from step 100 on every step makes the weights 5 % larger", 100, **_SHORT),
        _drill("nan", "nan", "the audio's targets turn into NaN", STEP),
        _drill("overfit", "overfit", "nothing regularises", **_SHORT, **_UNTAMED, learning_rate=3e-3, num_epochs=60,
               scheduler_type="none"),
        _drill("leak", "leak", "validation is held on the training TRs", **_WARNED),
        _drill("clipping", "clipping_always", "the gradient's limit is a ten-thousandth of its norm", **_SHORT,
               gradient_clip_val=1e-4),
        _drill("frozen", "frozen_parameters", "no gradient reaches any weight", STEP),
        _drill("batchnorm", "tiny_batch_norm", "one row is normalised over its batch", STEP),
        _drill("mean", "no_better_than_mean", "what the network sees is shuffled against film and brain", **_SHORT,
               **_UNTAMED, learning_rate=3e-3),
        _drill("noise", "brain_unexplained", "the scans hold no response of the brain, only noise"),
        _drill("unreachable", "criterion_unreachable", "a fall of 90 % is asked of noise", **_SHORT,
               criteria={"loss_drop": {"kind": "loss_drop", "threshold": 0.9}}),
        _drill("oom", "oom_host", "an array is asked for that the process's memory limit does not hold", STEP),
        _drill("gpu-oom", "oom_gpu", "a tensor that no GPU holds (without a GPU: torch's own error)", STEP),
        _drill("disk", "disk_full", "every checkpoint goes to a device that is full", STEP),
        _drill("crash", "crashed", "a step raises KeyError", STEP),
        _drill("stall", "stalled", "a step does not return", STEP, watch__stall_min_s=15.0),
        _drill("loader", "loader_bound", "each batch comes a fifth of a second late"),
        _drill("straggler", "straggler", "rank 1 of 2 is a fifth of a second late in each step", processes=2),
        _drill("communication", "communication_bound", "the sum over 2 ranks takes half a second longer", processes=2),
        _drill("rounding", "rounding", "weights are kept in 8 bits, which the steps are too small for",
               **_SHORT, learning_rate=1e-4),
        _drill("misaligned", "misaligned_time", "the film is believed to start 75 s later than it did", **_WARNED,
               data__stimulus_offset_s=75.0),
        _drill("film", "wrong_film", "the film is another cut: its half minutes in another order"),
        _drill("subject", "subject_apart", "one subject's volumes come 6 TRs late", **_WARNED),
    )
)  # fmt: skip
"""Name -> the fault, one at least for each cause that the rules know."""
