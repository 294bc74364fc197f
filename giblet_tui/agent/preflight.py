"""Collects in one call what decides whether a run can start here: the node, its engine, and the files of the study.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from giblet_tui.agent import host_info, python_env
from giblet_tui.agent.main import Emit, Operation, check_private, home_path
from giblet_tui.agent.run_command import answer

FILES_LIMIT_S = 60.0


def preflight(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return {probe, engine, files}; files is None without a configuration or an engine that can look.

    arguments: workdir; python or key, as for `engine`; config, the text of a configuration, or None.
    Raises AgentRefusal if somebody else may have changed the interpreter: that is checked before it is run.
    """
    python = python_env.interpreter_path(arguments)
    if python.exists():
        check_private(str(python), home_path(arguments["workdir"]))
    with ThreadPoolExecutor(max_workers=3) as pool:
        probe = pool.submit(host_info.probe, arguments, emit)
        engine = pool.submit(python_env.engine, arguments, emit)
        files = pool.submit(study_files, arguments) if arguments.get("config") else None
        return {
            "probe": probe.result(),
            "engine": engine.result(),
            "files": None if files is None else files.result(),
        }


def study_files(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return {n_files, problems} of the engine's look for the study's files, or {unknown: why it could not look}."""
    python = str(python_env.interpreter_path(arguments))
    workdir = home_path(arguments["workdir"])
    argv = [python, "-m", "giblet_train", "data", "files", "--workdir", workdir]
    result = answer(argv, FILES_LIMIT_S, text=arguments["config"], folder="/")
    if result is None:
        return {"unknown": "%s cannot be run, or gives no answer within %.0f s" % (python, FILES_LIMIT_S)}
    try:
        report = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else None
    except (ValueError, IndexError) as error:
        return {"unknown": "%s: %s" % (type(error).__name__, error)}
    if report is None:
        lines = result.stderr.strip().splitlines()
        return {"unknown": lines[-1][:300] if lines else "it ended with code %d" % result.returncode}
    return dict(report)


OPERATIONS: dict[str, Operation] = {"preflight": preflight}
