"""Read how a job ended from what its scheduler or launcher states: HTCondor, PBS, Grid Engine, Slurm, Kubernetes."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

SIGKILL = 9
_OF_SHELL, _OF_PBS = 128, 256
"""Numbers that a shell and PBS add to the signal that ended a program."""
_CODE = re.compile(
    r"\b(?P<condor>(?:ab)?normal termination \((?:return value|signal))\s(?P<of_condor>\d{1,4})\)"
    r"|\b(?P<field>exit_status|(?:derived)?exitcode)\s{0,16}[:=]?\s{0,16}(?P<of_field>-?\d{1,4})(?::(?P<signal>\d{1,3}))?\b"
    r"|^\s*exit[ _]?code['\"]?\s{0,3}:\s{1,16}(?P<of_pod>-?\d{1,4})\s*$"
    r"|\b(?:rc|returncode|retcode)\s?=\s?(?P<of_wrapper>-?\d{1,4})\b"
    r"|\bnon-zero exit (?:status|code):? (?P<of_python>-?\d{1,4})\b"
    r"|^#? ?ended \(code (?P<of_script>-?\d{1,4})\)",
    re.IGNORECASE,
)
"""An exit code. Its first two forms are those of a scheduler, for which 0 is the end of the whole job."""
_STATE_NAMES = (
    "FAILED|OUT_OF_MEMORY|TIMEOUT|DEADLINE|NODE_FAIL|BOOT_FAIL|PREEMPTED|CANCELLED|COMPLETED|ERROR|OOMKILLED|EVICTED"
    "|DEADLINEEXCEEDED|CONTAINERCANNOTRUN|SUCCEEDED"
)
_STATE = re.compile(
    rf"^\W{{0,20}}(?:[\w.-]{{1,40}}\s)?[a-z]{{0,20}}(?:state|status|reason|phase)['\"]?\s{{0,3}}[:=]\s{{0,16}}['\"]?"
    rf"(?P<field>{_STATE_NAMES})(?:['\",;(]|\s*$|\s\()|\b(?:job)?state\s?=\s?(?P<inline>{_STATE_NAMES})\b",
    re.IGNORECASE,
)
_SACCT_ROW = re.compile(
    rf"[\s|](?:(?P<state>{_STATE_NAMES})\+?|(?P<cut>[A-Z_]{{4,12}})\+)[\s|](?:.*[\s|])?"
    r"(?P<code>\d{1,3}):(?P<signal>\d{1,3})[\s|]*$"
)
"""A row of sacct, which cuts long states off and marks them with a plus sign."""
_GRID_ENGINE = re.compile(r"^failed\s{2,}(?P<code>\d{1,3})(?:\s*:\s*(?P<reason>.*))?$")
_ENDS_WELL = ("COMPLETED", "SUCCEEDED")
_OF_THE_SCHEDULER = (
    "TIMEOUT",
    "DEADLINE",
    "DEADLINEEXCEEDED",
    "NODE_FAIL",
    "BOOT_FAIL",
    "PREEMPTED",
    "CANCELLED",
    "EVICTED",
)
_LIMIT = re.compile(r"\b(?:h_rt|s_rt|wallclock|time limit)\b", re.IGNORECASE)


class ExitStatus(NamedTuple):
    """End of a job."""

    is_failure: bool
    signal: Optional[int] = None
    """Signal that ended it; None if it ended otherwise, or the status does not show it."""
    by_scheduler: bool = False
    """True if a limit, the preemption or the node ended it, not the program."""


def exit_status_of(text: str) -> Optional[ExitStatus]:
    """Return the end of a job that a line states; None if it states none."""
    row = _SACCT_ROW.search(text)
    name = _state_of(row) if row else ""
    if row and name:
        return _with_state(name, int(row["signal"]) or _signal(int(row["code"])))
    grid = _GRID_ENGINE.match(text)
    if grid and int(grid["code"]):
        return ExitStatus(True, None, _LIMIT.search(grid["reason"] or "") is not None)
    state, code = _STATE.search(text), _CODE.search(text)
    if state:
        end = _with_state(state["field"] or state["inline"], None)
        return end._replace(signal=_of_code(code).signal) if code else end
    if code is None:
        return None
    status = _of_code(code)
    return status if status.is_failure or code["condor"] or code["field"] else None


def _state_of(row: "re.Match[str]") -> str:
    """Return the state in a row of sacct; empty if what is cut off there is the beginning of none."""
    names = _STATE_NAMES.split("|")
    return row["state"] or next((name for name in names if name.startswith(row["cut"])), "")


def _with_state(state: str, signal: Optional[int]) -> ExitStatus:
    return ExitStatus(state.upper() not in _ENDS_WELL, signal, state.upper() in _OF_THE_SCHEDULER)


def _of_code(match: "re.Match[str]") -> ExitStatus:
    names = ("of_condor", "of_field", "of_pod", "of_wrapper", "of_python", "of_script")
    code = int(next(match[name] for name in names if match[name] is not None))
    own_signal = int(match["signal"] or 0)
    if (match["condor"] or "").lower().endswith("signal"):
        own_signal = code
    return ExitStatus(code != 0 or own_signal != 0, own_signal or _signal(code))


def _signal(code: int) -> Optional[int]:
    """Return the signal that an exit code means; None if the program ended by itself."""
    number = -code if code < 0 else code - _OF_PBS if code > _OF_PBS else code - _OF_SHELL
    return number if 0 < number < 65 else None
