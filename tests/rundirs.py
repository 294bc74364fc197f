"""Run directories for tests, as the engine and the supervisor would have left them, out of the recorded fleets."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from giblet_train.schema import config
from giblet_train.schema.records import Exit, SupervisorRecord, encode
from giblet_train.schema.run_dir import RunDir
from giblet_tui.agent.proc import boot_id, start_ticks
from giblet_tui.monitor.snapshots import RunSnapshot


def write(workdir: Path, run: RunSnapshot, *, alive: bool = False, code: int | None = 0) -> RunDir:
    """Return the run's directory under workdir.

    alive: this process stands for its supervisor. code: what exit.json says it ended with, when it is not alive; None
    leaves the record out, as a killed supervisor does.
    """
    folder = RunDir(workdir / "runs" / run.run.run_id)
    folder.path.mkdir(parents=True)
    folder.run.write_bytes(encode(replace(run.run, multiplexer="process", node="local")))
    if run.config is not None:
        folder.config.write_text(config.dump(run.config))
    if run.heartbeat is not None:
        folder.heartbeat.write_bytes(encode(run.heartbeat))
    folder.metrics.write_bytes(b"".join(encode(metric) + b"\n" for metric in run.metrics))
    folder.log.write_text("".join(f"{line}\n" for line in run.log_tail))
    pid = os.getpid() if alive else 2**22
    ticks = start_ticks(pid) or 0
    record = SupervisorRecord(run_id=run.run.run_id, pid=pid, start_ticks=ticks, boot_id=boot_id(), started_at=0.0)
    folder.supervisor.write_bytes(encode(record))
    if not alive and code is not None:
        folder.exit.write_bytes(encode(Exit(run_id=run.run.run_id, ended_at=run.run.launched_at + 60, code=code)))
    return folder
