"""Evidence from a run's log, weighed against what is known better: its state, its exit code, its device and its events.

Helpers of the rules about the end of a run. Pure.
"""

from __future__ import annotations

import re

import msgspec

from giblet_train.diagnosis.log_reader.end_patterns import cause_of, is_message_of_program
from giblet_train.diagnosis.log_reader.end_scan import ErrorLine, LogEnd
from giblet_train.diagnosis.rules.case import Finding, RunHistory

ENDED_WELL = ("finished", "stopped")
SHOWN = 300
"""Longest quotation of a log line, in characters."""
SHOWN_PLACE, SHOWN_LATER = 100, 160
"""The same for a place in a program, and for an exception that follows from another one."""
NAMED = 0.96
"""Confidence in a cause that a message names."""
MENTIONED = 0.4
"""Confidence in a cause that words name in a text in which no training was seen."""
NOT_FINITE = 0.98
AFTER_END = 0.5
"""The same in a text in which the training has stated its end before."""
LATER = 0.02
"""Confidence lost for every other cause named before it."""
_SIGNAL = re.compile(r"signal (\d+)")
_CAUSES_OF_SIGNAL = {
    1: {"hangup"},
    6: {"collective_timeout", "gpu_failure", "oom_gpu", "oom_host"},
    7: {"shared_memory"},
    9: {"oom_host"},
    11: {"gpu_failure", "shared_memory"},
    15: set[str](),
}
"""Signal -> causes that end a process with it. A Python exception, such as CUDA out of memory, ends it with a code."""
_GPU_CAUSES = frozenset({"oom_gpu", "gpu_failure"})


def log_end(case: RunHistory) -> LogEnd:
    """Return what the log shows of the end; empty without a log."""
    return case.log.end if case.log is not None else LogEnd()


def named_cause(case: RunHistory, cause: str) -> tuple[str, float] | None:
    """Return the message that names a cause of the end, and the confidence in it; None without one.

    An error event and the recorded end of the run count more than its log.
    """
    if case.health is not None and (case.health.live or case.health.state in ENDED_WELL):
        return None
    for sentence in _recorded_errors(case):
        if cause_of(sentence) == cause:
            return sentence[:SHOWN], NAMED
    end = log_end(case)
    line = end.causes.get(cause)
    if line is None or not _is_consistent(case, cause):
        return None
    if is_over(case):
        after_end = end.failed_after_end
        is_named = after_end is not None and cause_of(after_end.text) == cause and end.statement != "interrupted"
        return (describe(line), AFTER_END) if is_named and case.health is None else None
    if not has_training(case) and not is_message_of_program(line.text):
        return describe(line), MENTIONED
    return describe(line), NAMED - LATER * list(end.causes).index(cause)


def has_training(case: RunHistory) -> bool:
    """Return True if a training was seen; else the text may be notes or source in which a cause is only mentioned."""
    log = case.log
    is_seen = log is not None and (bool(log.rows) or log.last_epoch is not None or log.span is not None)
    return is_seen or case.health is not None or bool(case.steps or case.epochs)


def is_over(case: RunHistory) -> bool:
    """Return True if the log states that the training ended by itself or by hand, and no better source contradicts."""
    is_known_to_fail = case.health is not None and case.health.state in ("failed", "died")
    end = log_end(case)
    is_stated = end.statement in ("complete", "early_stop", "interrupted") and not end.is_by_one_rank
    return is_stated and not is_known_to_fail


def describe(line: ErrorLine) -> str:
    """Format an error line, with its rank, its place in the program, and the last exception of its chain, if known."""
    place = f" ({line.place[-SHOWN_PLACE:]})" if line.place else ""
    later = f", then {line.later[:SHOWN_LATER]}" if line.later and line.later != line.text else ""
    before = f", after: {line.before[:SHOWN_LATER].rstrip('.')}" if line.before else ""
    message = quote(line)
    return f"{message.rstrip('.')}{place}{later}{before}" if place or later or before else message


def quote(line: ErrorLine) -> str:
    """Format the message of an error line, with its rank if known."""
    rank = f"rank {line.rank}: " if line.rank is not None else ""
    return f"{rank}{f'{line.text} {line.details}'.strip()[:SHOWN]}"


def log_place(case: RunHistory) -> str:
    """Return how to open the log: a command for a run, or words for a file."""
    return f"`giblet logs {case.run_id}`" if case.run_id else "the log"


def resume(case: RunHistory) -> str:
    """Return how to resume the run; only giblet's own training, which has a configuration, knows `--resume`."""
    if case.run_id and case.config is not None:
        return f"launch it again with `--resume {case.run_id}`"
    return "resume from the last checkpoint"


def exit_signal(case: RunHistory) -> int | None:
    """Return the signal that ended the run, as its supervisor recorded it; None if it ended otherwise."""
    if case.health is None or case.health.reason != "signal":
        return None
    signal = _SIGNAL.search(case.health.sentence)
    return int(signal[1]) if signal else None


def collapse_finding(case: RunHistory) -> Finding | None:
    """Return the finding for a loss or gradient that a log shows to stop being a number."""
    collapse = case.log.collapse if case.log is not None else None
    if collapse is None:
        message = named_cause(case, "nan")
        return (
            msgspec.structs.replace(
                _not_finite(f"The training stopped because its loss was not finite: {message[0]}", {}),
                confidence=NOT_FINITE if message[1] > AFTER_END else message[1],
            )
            if message
            else None
        )
    if collapse.quantity == "loss scale":
        facts = f"The gradients overflowed {collapse.n_lines} times and the loss scale is exhausted: no step is taken"
        return _not_finite(facts, {"component": "loss scale", "epoch": None, "step": None})
    where = f" in epoch {collapse.epoch}" if collapse.epoch is not None else ""
    where += f" at step {collapse.step}" if collapse.step is not None else ""
    since = "at every line" if collapse.from_start else f"since then, in {collapse.n_lines} lines"
    begin = "is" if collapse.from_start else f"became {collapse.value}{where} and is"
    overflow = (
        " A loss cannot become exactly 0 from one line to the next: this is an overflow or nan in half precision."
        if collapse.value == "exactly 0"
        else ""
    )
    sentence = f"The {collapse.quantity} {begin} {collapse.value} {since}.{overflow}"
    return _not_finite(sentence, {"component": collapse.quantity, "epoch": collapse.epoch, "step": collapse.step})


def _not_finite(sentence: str, evidence: dict[str, object]) -> Finding:
    return Finding(
        confidence=NOT_FINITE,
        sentence=sentence if sentence.endswith(".") else f"{sentence}.",
        evidence=evidence,
        action=(
            "Resume from the last good checkpoint with a lower learning_rate, in bfloat16 or float32; look at the data "
            "for values that are not finite."
        ),
    )


def _recorded_errors(case: RunHistory) -> list[str]:
    sentences = [event.sentence for event in case.events if event.level == "error"]
    return [*sentences, case.health.sentence, case.health.reason] if case.health else sentences


def _is_consistent(case: RunHistory, cause: str) -> bool:
    """Return False if the device or the exit signal contradicts a cause that only the log names."""
    if cause in _GPU_CAUSES and case.run is not None and case.run.device == "cpu":
        return False
    signal = exit_signal(case)
    return signal is None or cause in _CAUSES_OF_SIGNAL.get(signal, {cause})
