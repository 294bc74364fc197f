"""Records answers to a run's alerts (acknowledged or snoozed) in answers.jsonl, one line each.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from giblet_tui.agent import layout, run_processes
from giblet_tui.agent.main import Emit, Operation


def answer(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Append an answer to each of `alerts`. Returns {until, at} in this node's time.

    arguments: workdir; run_id; alerts, [{alert, name}]; snooze_s, or None to acknowledge; by, the user's name.
    Raises AgentRefusal if the run does not exist or belongs to another user.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    now, snooze_s = time.time(), arguments.get("snooze_s")
    until = None if snooze_s is None else now + float(snooze_s)
    reply = {"at": now, "until": until, "by": str(arguments.get("by", ""))[:200]}
    lines = [json.dumps({"alert": int(a["alert"]), "name": str(a["name"])[:100], **reply}) for a in arguments["alerts"]]
    descriptor = os.open(str(run.path / layout.ANSWERS), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, "".join(line + "\n" for line in lines).encode("ascii"))
    finally:
        os.close(descriptor)
    return {"at": now, "until": until}


OPERATIONS: dict[str, Operation] = {"answer": answer}
