"""Rules about how a run ended, or that it makes no progress: from its state, its events and its log."""

from __future__ import annotations

import re
from typing import Any

from giblet_train.diagnosis.log_reader.checkpoint_mismatch import remedy_of
from giblet_train.diagnosis.log_reader.end_patterns import (
    SIGNALS,
    VANISHED,
    WITHOUT_REASON,
    cause_of,
    is_end_by_scheduler,
    is_exit_only,
)
from giblet_train.diagnosis.log_reader.exit_status import exit_status_of
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.log_evidence import (
    SHOWN_PLACE,
    describe,
    exit_signal,
    has_training,
    is_over,
    log_end,
    log_place,
    named_cause,
    quote,
    resume,
)
from giblet_train.diagnosis.rules.noise import TENTATIVE
from giblet_train.diagnosis.rules.registry import FAULT_STEP, fault, rule
from giblet_train.schema.health import BY_SCHEDULER, duration

INFERRED = 0.6
"""Confidence in a cause that only an exit code suggests."""
WITH_MESSAGE = 0.9
"""Confidence in a crash whose error is in the log."""
AFTER_LAST_EPOCH = 0.5
"""Confidence in a crash after the last planned epoch."""
STALLED_IN_LOG = 0.7
"""Confidence in a stall that only the times of a log show."""
SIGBUS = 7
_ENDINGS = ("crashed", "collective_timeout")
_SPECIFIC_ACTIONS = (
    (
        r"parameters that were not used|find_unused_parameters",
        "Use every parameter in the loss, or pass find_unused_parameters=True to DistributedDataParallel",
    ),
    (
        r"device-side assert|Assertion .* failed",
        "An index or target is out of range: read the assertion above it, and run again with CUDA_LAUNCH_BLOCKING=1",
    ),
    (
        r"driver on your system is too old|no kernel image|CUDA driver version is insufficient|not compiled with CUDA",
        "Install a torch build for the node's driver, or a newer driver; `nvidia-smi` shows its version",
    ),
    (r"busy or unavailable", "End the other process that holds the GPU, or choose another GPU"),
    (
        r"bootstrapping phase|freeze_support",
        "Put the start of the training below `if __name__ == '__main__':`, because workers import the script again",
    ),
    (r"address already in use|EADDRINUSE", "End the process that holds the port, or choose another port"),
    (
        r"illegal memory access|unspecified launch failure",
        "Run it with CUDA_LAUNCH_BLOCKING=1 to find the operation",
    ),
    (
        r"Numpy is not available|compiled using NumPy 1\.x|_ARRAY_API not found|numpy\.dtype size changed",
        "The version of NumPy does not fit a library that was compiled for another one: install `numpy<2`, or a newer "
        "build of that library",
    ),
    (
        r"can't start new thread|Resource temporarily unavailable|pthread_create",
        "The limit of processes and threads was reached: raise it (`ulimit -u`), set OMP_NUM_THREADS=1, or use fewer "
        "loader workers",
    ),
    (
        r"command not found|cannot execute binary file|module\(s\) are unknown",
        "Load the module, or activate the environment, that has this program before the training starts",
    ),
    (r"ModuleNotFoundError|ImportError", "Install the missing module in the environment of the training"),
    (r"FileNotFoundError|No such file", "Check that path on the node"),
    (
        r"PermissionError|Permission denied",
        "Give the user of the training the right to use that path, or choose another",
    ),
    (
        r"truncated file|[Ff]ile is truncated|failed finding central directory|BadZipFile|Bad magic number|bad magic"
        r"|PytorchStreamReader failed|Ran out of input|UnpicklingError: (?:pickle data|invalid load)|CRC check failed"
        r"|HeaderTooSmall|MetadataIncompleteBuffer|not a gzip|unexpected end of (?:data|file)",
        "A file is cut off or damaged: compare its size and checksum with the original, and copy or write it again",
    ),
    (
        r"Weights only load failed|weights_only",
        "The file was written for another default of torch.load: pass weights_only=False if you trust its source",
    ),
    (
        r"\b40[13] Client Error|\b40[13] (?:Unauthorized|Forbidden)|GatedRepoError|gated repo|Invalid (?:user )?token",
        "Log in with an account that has access (`huggingface-cli login`, HF_TOKEN), or ask for access to it",
    ),
    (
        r"Stale file handle|\[Errno (?:5|116|121)\]|Input/output error|Transport endpoint is not connected",
        "The file system failed: see on the node that it is mounted and answers, and ask its administrator",
    ),
    (
        r"ncclSystemError|[Cc]onnection refused|No route to host|Network is unreachable|ncclInternalError.*socket",
        "Check the network between the nodes: address and port of rank 0, interface (NCCL_SOCKET_IFNAME), firewall",
    ),
)
_ACTIONS_AFTER_ENDS = (
    (
        r"TIME LIMIT|time limit|[Ee]xecution duration"
        r"|wall ?(?:time|clock)|RUNLIMIT|h_rt|(?i:state|status)\W{1,16}TIMEOUT|DeadlineExceeded"
        r"|\sTIMEOUT\s",
        "Ask the scheduler for more time",
    ),
    (r"PREEMPT|preempted|spot interruption", "Submit it again: a job of higher priority took its place"),
    (r"NODE[_ ]FAIL", "Start it on another node, and report this one to its administrator"),
    (r"CANCELLED", "Ask who cancelled the job: `scancel`, or a limit of the cluster"),
    (
        r"got signal: 15|15 death signal|signal 15\b|SIGTERM|(?m:^Terminated\s*$)",
        "Find out who ended it: a scheduler's limit, `kill`, or a shutdown of the node",
    ),
)
"""Actions after an end that came from outside; next to an error of the program they only report its consequence."""


@rule(
    group="ending",
    explains=("oom_host", *_ENDINGS),
    level="error",
    fault=fault("gpu-oom", "a tensor is allocated that no GPU holds (without a GPU: torch's own error)", FAULT_STEP),
)
def oom_gpu(case: RunHistory) -> Finding | None:
    """Report that a GPU ran out of memory."""
    action = "Use a smaller batch_size, or accumulate_steps above 1; `giblet doctor NODE` shows who else holds the GPU."
    return _named(case, "oom_gpu", "The GPU ran out of memory", action)


@rule(
    group="ending",
    explains=_ENDINGS,
    level="error",
    fault=fault("oom", "an array is allocated that exceeds the memory limit of the process", FAULT_STEP),
)
def oom_host(case: RunHistory) -> Finding | None:
    """Report that the node ran out of memory: recorded by the kernel, named in the log, or inferred from SIGKILL."""
    action = "Use fewer ranks per node or a smaller study in memory; check who else uses the node's memory."
    if case.health is not None and case.health.reason == "oom":
        return _finding(0.98, case.health.sentence, {"health": case.health.sentence}, action)
    finding = _named(case, "oom_host", "The node ran out of memory", action)
    return finding or _inferred_from_kill(case, action) or _inferred_from_lost_worker(case, action)


def _inferred_from_lost_worker(case: RunHistory, action: str) -> Finding | None:
    """Infer a lack of memory from worker processes that ended without a message."""
    end = log_end(case)
    root = end.root_error
    is_known_to_run = case.health is not None and case.health.state not in ("failed", "died", "ended")
    if root is None or not VANISHED.search(root.text) or end.causes or is_known_to_run or exit_signal(case) is not None:
        return None
    when = "After the training, worker" if is_over(case) else "Worker"
    sentence = f"{when} processes ended without a message, most likely because the node's memory was full: "
    confidence = AFTER_LAST_EPOCH if is_over(case) else INFERRED
    action = f"Confirm with `dmesg | grep -i oom` on the node. {action}"
    return _finding(confidence, f"{sentence}{describe(root)}", {"line": quote(root)}, action)


def _inferred_from_kill(case: RunHistory, action: str) -> Finding | None:
    """Infer a lack of memory from a rank that SIGKILL ended: the kernel does this, and seldom a person."""
    end = log_end(case)
    if not end.killed or end.causes or is_over(case) or exit_signal(case) is not None:
        return None
    if case.health is not None and case.health.state not in ("failed", "died", "ended"):
        return None
    who = f"rank {end.failed.rank}" if end.failed is not None and end.failed.rank is not None else "a process"
    sentence = f"SIGKILL ended {who} ({end.killed[:120]}): most likely the kernel, because the node's memory was full"
    evidence = {"line": end.killed, "rank": end.failed.rank if end.failed else None}
    return _finding(INFERRED, sentence, evidence, f"Confirm with `dmesg | grep -i oom` on the node. {action}")


@rule(group="ending", explains=_ENDINGS, level="error")
def shared_memory(case: RunHistory) -> Finding | None:
    """Report that /dev/shm was too small for the loader's workers."""
    action = "Enlarge /dev/shm (docker: --shm-size=16g or --ipc=host), or use fewer loader workers (num_workers)."
    finding = _named(case, "shared_memory", "Shared memory (/dev/shm) was too small", action)
    return finding or _inferred_from_bus_error(case, action)


def _inferred_from_bus_error(case: RunHistory, action: str) -> Finding | None:
    """Infer that shared memory was too small from a process that SIGBUS ended."""
    end = log_end(case)
    root = end.root_error
    status = exit_status_of(root.text) if root is not None else None
    signal = end.failed.signal if end.failed is not None else status.signal if status is not None else None
    is_known_to_run = case.health is not None and case.health.state not in ("failed", "died", "ended")
    if signal != SIGBUS or end.causes or is_known_to_run or is_over(case) or exit_signal(case) is not None:
        return None
    what = "SIGBUS ended a process, most likely because shared memory (/dev/shm) was full"
    return _finding(INFERRED, f"{what}: {_log_error(case)}", {"line": _log_error(case)}, action)


@rule(group="ending", explains=_ENDINGS, level="error")
def gpu_failure(case: RunHistory) -> Finding | None:
    """Report that a GPU failed: ECC error, Xid, or lost from the bus."""
    action = "Leave that GPU out and report it to the administrator; `nvidia-smi -q` and `dmesg` show the Xid."
    return _named(case, "gpu_failure", "A GPU failed", action)


@rule(
    group="ending",
    explains=_ENDINGS,
    level="error",
    fault=fault("disk", "every checkpoint is written to a device that is full", FAULT_STEP),
)
def disk_full(case: RunHistory) -> Finding | None:
    """Report that a file could not be written because the disk or quota is full."""
    action = f"Free space on the node (`giblet rm`, `giblet prune`) or raise the quota, then {resume(case)}."
    return _event(case, "disk_full", action) or _named(case, "disk_full", "The disk or quota is full", action)


@rule(group="ending", explains=_ENDINGS, level="error")
def too_many_files(case: RunHistory) -> Finding | None:
    """Report that the limit of open files was reached."""
    action = (
        "Raise the limit before starting (ulimit -n 65535), use fewer loader workers, or set "
        "torch.multiprocessing.set_sharing_strategy('file_system')."
    )
    return _named(case, "too_many_files", "Too many files were open", action)


@rule(group="ending", explains=_ENDINGS, level="error")
def hangup(case: RunHistory) -> Finding | None:
    """Report that the training ended with its login session."""
    action = "Start it with `giblet launch`, or by hand inside tmux or screen, so that it outlives the login."
    if exit_signal(case) == 1:
        return _finding(0.95, "SIGHUP ended it: its terminal was closed", {"signal": 1}, action)
    return _named(case, "hangup", "It ended when its terminal was closed (SIGHUP)", action)


@rule(
    group="ending",
    explains=("crashed",),
    level="error",
    fault=fault("batchnorm", "one row is normalised over its batch", FAULT_STEP),
)
def tiny_batch_norm(case: RunHistory) -> Finding | None:
    """Report batch normalisation over a single row, which torch refuses."""
    action = "Normalise over features (LayerNorm, RMSNorm) instead of over the batch."
    return _named(case, "tiny_batch_norm", "A batch is too small for batch normalisation", action)


@rule(group="ending", explains=("crashed",), level="error")
def collective_timeout(case: RunHistory) -> Finding | None:
    """Report a collective operation that timed out without a known error, with the ranks that did not join it."""
    end = log_end(case)
    if end.error_before_timeout is not None:
        return None
    missing = ", ".join(map(str, end.missing_ranks[:8]))
    ranks = f"rank {missing}" if len(end.missing_ranks) == 1 else f"ranks {missing}"
    who = f"{ranks} did not join" if end.missing_ranks else "at least one rank did not join"
    if end.is_by_one_rank:
        who += f", after it had been stated: {end.statement_line[:120]}"
    target = ranks if end.missing_ranks else "the rank that did not report a timeout"
    action = (
        f"Look in {log_place(case)} for what {target} did last: an error, a slow read, or other code than the others."
    )
    finding = _named(case, "collective_timeout", f"A collective operation timed out because {who}", action)
    if finding is None:
        return None
    finding.evidence.update(missing_ranks=list(end.missing_ranks), timed_out_ranks=list(end.timed_out_ranks))
    return finding


@rule(group="ending", explains=_ENDINGS, level="error")
def configuration_error(case: RunHistory) -> Finding | None:
    """Report a configuration that giblet refused, with its own remedy, or a model that does not fit its checkpoint."""
    return _refusal(case, "ConfigError", "The configuration was refused") or _checkpoint_mismatch(case)


@rule(group="ending", explains=_ENDINGS, level="error")
def data_error(case: RunHistory) -> Finding | None:
    """Report data that giblet refused, with its own remedy, or data that ended before the training."""
    action = "Let the data repeat (`dataset.repeat()`), or give the number of steps per epoch that they hold."
    named_error = _named(case, "data_error", "The data ended before the training", action)
    return _refusal(case, "DataError", "The data were refused") or named_error


@rule(
    group="ending",
    explains=("crashed",),
    level="error",
    fault=fault("stall", "a step does not return", FAULT_STEP, watch__stall_min_s=15.0),
)
def stalled(case: RunHistory) -> Finding | None:
    """Report a live run that makes no step, or a log that continues without progress."""
    if case.health is None:
        return _stalled_in_log(case)
    if case.health.state != "stalled":
        return None
    stop = f"`giblet stop {case.run_id}`" if case.run_id else "stop it"
    action = f"Look at {log_place(case)} and the ranks' logs. A hung exchange does not recover: {stop}, then resume."
    evidence = {"health": case.health.sentence, "last_step": case.steps[-1].step if case.steps else None}
    return _finding(0.95, f"It makes no progress: {case.health.sentence}", evidence, action)


def _stalled_in_log(case: RunHistory) -> Finding | None:
    """Return the finding for a log whose lines go on, with later times, long after its last progress."""
    log = case.log
    root = log.end.root_error if log is not None else None
    has_reason = root is not None and not is_exit_only(root.text) and not is_end_by_scheduler(root.text)
    if log is None or log.stall is None or has_reason or log.completed or is_over(case):
        return None
    stall = log.stall
    sentence = (
        f"It made no progress for {duration(stall.seconds)}, from {stall.since} to {stall.until}; before, a pause "
        f"between signs of progress was {duration(stall.usual_s)}"
    )
    action = (
        "A hung exchange, loader or file system does not recover: see with `py-spy dump --pid PID` on each rank where "
        f"it waits, and stop it. Then {resume(case)}."
    )
    return _finding(STALLED_IN_LOG, sentence, {"seconds": stall.seconds, "since": stall.since}, action)


@rule(group="fallback", level="error", fault=fault("crash", "a step raises KeyError", FAULT_STEP))
def crashed(case: RunHistory) -> Finding | None:
    """Report a run that ended by an error before its time."""
    health = case.health
    if (health is not None and health.state not in ("failed", "died", "ended")) or is_over(case):
        return _failure_after_end(case)
    event = next((e.sentence for e in reversed(case.events) if e.name == "failed"), "")
    is_stated = health is not None and health.reason == BY_SCHEDULER
    error = event or ("" if is_stated else _log_error(case))
    if not error and (health is None or health.state == "ended"):
        return _complaint(case)
    end = health.sentence if health is not None else _place_of_end(case)
    evidence = {"error": error or None, "health": end, "last_step": case.steps[-1].step if case.steps else None}
    if place := _place_in_program(case, error):
        evidence |= {"error": error.partition(f" ({place})")[0], "place": place}
    what = "Its scheduler ended it" if _is_cancelled(case, error) else "It crashed"
    silence = ". The log does not show why" if _is_silent(case, error) else ""
    return _finding(_crash_confidence(case), f"{what}: {error or end}{silence}", evidence, _crash_action(case, error))


def _failure_after_end(case: RunHistory) -> Finding | None:
    """Return a tentative finding for an exception after the end of a training that only its log shows."""
    line = log_end(case).failed_after_end
    if line is None or case.health is not None or log_end(case).statement == "interrupted":
        return None
    sentence = f"The training was over, but what followed it failed: {describe(line)}"
    return _finding(AFTER_LAST_EPOCH, sentence, {"error": quote(line)}, _crash_action(case, describe(line)))


def _is_silent(case: RunHistory, error: str) -> bool:
    """Return True if the log only shows that a program ended badly."""
    return case.health is None and not _is_cancelled(case, error) and is_exit_only(error)


def _is_cancelled(case: RunHistory, error: str) -> bool:
    """Return True if a scheduler ended the run, by its log or as the scheduler itself states."""
    is_stated = case.health is not None and case.health.reason == BY_SCHEDULER
    return is_stated or is_end_by_scheduler(error)


def _complaint(case: RunHistory) -> Finding | None:
    """Return a tentative finding for a log that ends before its time after a line marked as an error."""
    line = log_end(case).complaint
    if line is None or case.log is None or case.log.completed or case.stopped_early:
        return None
    sentence = f"It may have crashed: the last lines contain an error: {describe(line)}"
    return _finding(TENTATIVE, sentence, {"error": line.text}, _crash_action(case, line.text))


def _crash_confidence(case: RunHistory) -> float:
    is_after_last_epoch = case.health is None and case.log is not None and case.log.completed
    root = log_end(case).root_error
    if case.health is None and root is not None and WITHOUT_REASON.search(root.text):
        return TENTATIVE
    has_message = case.health is None and root is not None and not is_exit_only(root.text) and has_training(case)
    return AFTER_LAST_EPOCH if is_after_last_epoch else WITH_MESSAGE if has_message else 0.8


def _crash_action(case: RunHistory, error: str) -> str:
    end = log_end(case)
    health = case.health.sentence if case.health is not None else ""
    texts = "\n".join([error, health, *(line.text for line in end.errors), *end.tail[-20:]])
    if end.remedy:
        return end.remedy
    has_reason = bool(error) and not is_exit_only(error) and not _is_cancelled(case, error)
    specific = (
        _first_action(_SPECIFIC_ACTIONS, error)
        or _first_action(_ACTIONS_AFTER_ENDS, f"{error}\n{health}" if has_reason else texts)
        or _first_action(_SPECIFIC_ACTIONS, texts)
    )
    then = "Then " + resume(case) + "."
    if specific:
        return f"{specific}. {then}"
    if _is_silent(case, error):
        return (
            "Look for the reason elsewhere: a file of standard error, `dmesg` on the node, the scheduler's record "
            f"(`sacct -j JOB`). {then}"
        )
    if place := _place_in_program(case, error):
        return f"Look at {place}, where the first error in {log_place(case)} was raised. {then}"
    return f"Read the first error in {log_place(case)}; later errors follow from it. {then}"


def _place_in_program(case: RunHistory, error: str) -> str:
    """Return the file and line of the program that raised the error; empty if the log does not show them."""
    root = log_end(case).root_error
    return root.place[-SHOWN_PLACE:] if root is not None and error == describe(root) else ""


def _first_action(actions: tuple[tuple[str, str], ...], text: str) -> str | None:
    return next((action for pattern, action in actions if re.search(pattern, text)), None)


def _log_error(case: RunHistory) -> str:
    """Return the error that ended the log; empty without one."""
    end = log_end(case)
    root = end.root_error
    failed_rank = end.failed
    if (
        failed_rank is not None
        and failed_rank.exit_code is not None
        and (root is None or root.text.endswith(" FAILED"))
    ):
        signal = (
            f"signal {failed_rank.signal} ({SIGNALS.get(failed_rank.signal, 'unknown')})" if failed_rank.signal else ""
        )
        return (
            f"rank {failed_rank.rank} ended with {signal or f'exit code {failed_rank.exit_code}'} and printed no error"
        )
    return describe(root) if root is not None else end.killed


def _place_of_end(case: RunHistory) -> str:
    log = case.log
    if log is None or not log.rows:
        return "before its first epoch"
    of = f" of {log.n_epochs}" if log.n_epochs else ""
    return f"after epoch {log.rows[-1].epoch}{of}"


def _refusal(case: RunHistory, error: str, what: str) -> Finding | None:
    """Return the finding for an error of giblet's own, from its event or from the log."""
    if case.health is not None and case.health.state not in ("failed", "died", "ended"):
        return None
    event = next((e for e in reversed(case.events) if e.name == "failed" and e.facts.get("error") == error), None)
    if event is not None:
        remedy = str(event.facts.get("remedy") or "") or f"Read {log_place(case)}."
        return _finding(0.95, f"{what}: {event.sentence}", {"error": event.sentence}, remedy)
    end = log_end(case)
    line = next((line for line in end.errors if re.match(rf"(?:[\w.]+\.)?{error}\b", line.text)), None)
    if line is None or is_over(case):
        return None
    return _finding(0.9, f"{what}: {describe(line)}", {"error": line.text}, end.remedy or f"Read {log_place(case)}.")


def _checkpoint_mismatch(case: RunHistory) -> Finding | None:
    """Return the finding for a run that ended because its checkpoint does not fit its model."""
    if (case.health is not None and case.health.state not in ("failed", "died", "ended")) or is_over(case):
        return None
    event = next((e.sentence for e in reversed(case.events) if e.name == "failed"), "")
    root = log_end(case).root_error
    error = event or (describe(root) if root is not None else "")
    remedy = remedy_of(error)
    if remedy is None:
        return None
    return _finding(0.9, f"The checkpoint does not fit the model: {error}", {"error": error}, remedy)


def _event(case: RunHistory, cause: str, action: str) -> Finding | None:
    """Return the finding for the last error event that names a cause, whether or not the run has ended."""
    events = (e for e in reversed(case.events) if e.level == "error" and cause_of(e.sentence) == cause)
    event = next(events, None)
    return _finding(0.96, event.sentence, {"step": event.step, "event": event.name}, action) if event else None


def _named(case: RunHistory, cause: str, what: str, action: str) -> Finding | None:
    """Return the finding for a cause that a message names."""
    message = named_cause(case, cause)
    if message is None:
        return None
    line, confidence = message
    return _finding(confidence, f"{what}: {line}", {"line": line}, action)


def _finding(confidence: float, sentence: str, evidence: dict[str, Any], action: str) -> Finding:
    sentence = sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
    return Finding(confidence=confidence, sentence=sentence, evidence=evidence, action=action)
