"""How a run ended, or that it stands still: from its health, its last events and the end of its log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.registry import FAULT_STEP, fault, rule

_GPU = re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory", re.IGNORECASE)
_HOST = re.compile(
    r"\boom[-_ ]?kill|Out of memory: Killed process|for want of memory|MemoryError|Cannot allocate memory|"
    r"DataLoader worker .* killed by signal: Killed",
    re.IGNORECASE,
)
_DISK = re.compile(r"No space left on device|Errno 28|disk is full|Disk quota exceeded|Errno 122", re.IGNORECASE)
_BATCH = re.compile(r"Expected more than 1 value per channel when training", re.IGNORECASE)
_ERROR = re.compile(
    r"^(?:\[rank\d+\]:\s*)?(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Refused|Failed)\b)(?:: (.*))?$"
)
_KILLED = re.compile(r"\b(?:Killed|Segmentation fault|Bus error|Aborted)(?: \(core dumped\))?\s*$|SIGKILL|SIGSEGV")
_WRAPPERS = ("ChildFailedError", "ProcessRaisedException", "CalledProcessError")
"""What torchrun says when a rank has failed: never the cause itself."""
_TRACEBACK = "Traceback (most recent call last)"
_ENDED_WELL = ("finished", "stopped")
SHOWN = 300


@rule(
    group="ending",
    explains=(
        "crashed",
        "oom_host",
    ),
    level="error",
    fault=fault("gpu-oom", "a tensor is allocated that no GPU holds (without a GPU: torch's own error)", FAULT_STEP),
)
def oom_gpu(case: RunHistory) -> Finding | None:
    """A GPU had no memory left."""
    return _said(
        case,
        _GPU,
        "The GPU ran out of memory",
        "Use a smaller batch_size or accumulate_steps above 1; check with `giblet doctor NODE` who else holds the GPU.",
    )


@rule(
    group="ending",
    explains=("crashed",),
    level="error",
    fault=fault("oom", "an array is allocated that exceeds the memory limit of the process", FAULT_STEP),
)
def oom_host(case: RunHistory) -> Finding | None:
    """The node killed it for want of memory."""
    if case.health is not None and case.health.reason == "oom":
        return _cause(0.98, case.health.sentence, {"health": case.health.sentence}, _HOST_ACTION)
    return _said(case, _HOST, "The node ran out of memory", _HOST_ACTION)


_HOST_ACTION = "Use fewer ranks per node or a smaller study in memory; look at who else uses the node's memory."


@rule(
    group="ending",
    explains=("crashed",),
    level="error",
    fault=fault("disk", "every checkpoint is written to a device that is full", FAULT_STEP),
)
def disk_full(case: RunHistory) -> Finding | None:
    """Something could not be written, because the disk is full."""
    event = next((e for e in reversed(case.events) if e.level == "error" and _DISK.search(e.sentence)), None)
    action = "Free space on the node (`giblet rm`, `giblet prune`), then resume from the last checkpoint."
    if event is not None:
        return _cause(0.96, event.sentence, {"step": event.step, "event": event.name}, action)
    return _said(case, _DISK, "The disk is full", action)


@rule(
    group="ending",
    explains=("crashed",),
    level="error",
    fault=fault("batchnorm", "one row is normalised over its batch", FAULT_STEP),
)
def tiny_batch_norm(case: RunHistory) -> Finding | None:
    """Normalisation over a batch of one: the only form of it that records show."""
    return _said(
        case,
        _BATCH,
        "A batch is too small for batch normalisation",
        "Normalise over features (LayerNorm, RMSNorm) instead of over the batch.",
    )


@rule(
    group="ending", level="error", fault=fault("stall", "a step does not return", FAULT_STEP, watch__stall_min_s=15.0)
)
def stalled(case: RunHistory) -> Finding | None:
    """It lives, and makes no step."""
    if case.health is None or case.health.state != "stalled":
        return None
    action = "Look at `giblet logs RUN` and the ranks' logs; a hung exchange does not recover: stop it and resume."
    evidence = {"health": case.health.sentence, "last_step": case.steps[-1].step if case.steps else None}
    return _cause(0.95, f"It stands still: {case.health.sentence}", evidence, action)


@rule(group="fallback", level="error", fault=fault("crash", "a step raises KeyError", FAULT_STEP))
def crashed(case: RunHistory) -> Finding | None:
    """It ended by itself, before its time."""
    health = case.health
    if health is not None and health.state not in ("failed", "died"):
        return None
    failed = next((e.sentence for e in reversed(case.events) if e.name == "failed"), "")
    last = next((line.strip() for line in reversed(case.log_tail) if line.strip()), "")
    raised = any(_TRACEBACK in line for line in case.log_tail) or _ERROR.match(last)
    error = failed or (_root_error(case.log_tail) if raised or health else "") or _first(_KILLED, case.log_tail)
    if health is None and not error:
        return None
    how = health.sentence if health is not None else "its log ends in an error"
    return _cause(
        0.8,
        f"It crashed: {error or how}",
        {"error": error or None, "health": how, "last_step": case.steps[-1].step if case.steps else None},
        "Read the first error in `giblet logs RUN`; what follows it is only its echo. Then resume.",
    )


def _said(case: RunHistory, pattern: re.Pattern[str], what: str, action: str) -> Finding | None:
    """A cause that the end of the log, or an error event, spells out; a run that is well has not died of it."""
    if case.health is not None and (case.health.live or case.health.state in _ENDED_WELL):
        return None
    sentences = [e.sentence for e in case.events if e.level == "error"]
    sentences += [case.health.sentence, case.health.reason] if case.health else []
    found = _first(pattern, [*case.log_tail, *sentences])
    return _cause(0.96, f"{what}: {found}", {"line": found}, action) if found else None


def _first(pattern: re.Pattern[str], lines: Iterable[str]) -> str:
    return next((line.strip()[:SHOWN] for line in lines if pattern.search(line)), "")


def _root_error(lines: Iterable[str]) -> str:
    """The first error line that is not torchrun's word for another's failure."""
    for line in lines:
        found = _ERROR.match(line.strip())
        if found and found[1] not in _WRAPPERS:
            return line.strip()[:SHOWN]
    return ""


def _cause(confidence: float, sentence: str, evidence: dict[str, Any], action: str) -> Finding:
    ended = sentence if sentence.endswith(".") else f"{sentence}."
    return Finding(confidence=confidence, sentence=ended, evidence=evidence, action=action)
