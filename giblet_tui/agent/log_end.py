"""Find out how a run ended from its whole log, on the node where the log is.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Any

from giblet_train.diagnosis.log_reader.end_scan import ErrorLine
from giblet_train.diagnosis.log_reader.reader import LogReader
from giblet_tui.agent import layout, run_processes, watch_runs
from giblet_tui.agent.main import Emit, Operation
from giblet_tui.agent.records import open_regular


def log_end(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return what a run's log shows of its end, as the fields of `end_scan.LogEnd`.

    arguments: workdir; run_id; lab, a group whose members' runs may be named too.

    Raises AgentRefusal if there is no such run.
    """
    path = watch_runs.find_directory(arguments) or run_processes.find(arguments["workdir"], arguments["run_id"]).path
    reader = LogReader(separates_folds=False)
    try:
        with open(open_regular(str((path / layout.LOG).resolve())), "rb") as file:
            for line in file:
                reader.feed(line.decode("utf-8", "replace"))
    except OSError:
        pass
    log = reader.result()
    end = log.end
    return {
        "causes": [{"cause": cause, "line": _line(line)} for cause, line in end.causes.items()],
        "errors": [_line(line) for line in end.errors],
        "echoes": [_line(line) for line in end.echoes],
        "tail": list(end.tail),
        "failed": end.failed._asdict() if end.failed else None,
        "timed_out_ranks": list(end.timed_out_ranks),
        "missing_ranks": list(end.missing_ranks),
        "statement": end.statement,
        "statement_line": end.statement_line,
        "killed": end.killed,
        "complaint": _line(end.complaint) if end.complaint is not None and not log.completed else None,
        "remedy": end.remedy,
    }


def _line(line: ErrorLine) -> dict[str, Any]:
    return line._asdict()


OPERATIONS: dict[str, Operation] = {"log_end": log_end}
