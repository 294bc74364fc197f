"""Run directories that go on: made, beaten, appended to and ended by a test, as the real writers would."""

from __future__ import annotations

import os
import time
from pathlib import Path

from giblet_train.schema.config import Config, dump
from giblet_train.schema.records import Exit, Heartbeat, Run, SplitLoss, StepMetric, SupervisorRecord, encode
from giblet_train.schema.run_dir import RunDir, new_run_id, session_name, write_record
from giblet_tui.agent.proc import boot_id, start_ticks


def make_run(workdir: Path, name: str = "demo", node: str = "local", launched_at: float | None = None) -> RunDir:
    """Return a run directory with run.json, config.yaml, and this very process as its supervisor."""
    launched_at = time.time() if launched_at is None else launched_at
    run_id = new_run_id(name, launched_at)
    run_dir = RunDir(workdir / "runs" / run_id)
    run_dir.path.mkdir(parents=True)
    run = Run(
        run_id=run_id,
        name=name,
        node=node,
        session=session_name(run_id),
        multiplexer="process",
        argv=("python", "-m", "giblet_train", "train", str(run_dir.path)),
        config_hash="0" * 16,
        giblet_version="0.1.0",
        launched_by="tester@laptop",
        launched_at=launched_at,
    )
    run_dir.config.write_text(dump(Config(name=name)))
    write_record(run_dir.run, run)
    supervise(run_dir, os.getpid())
    return run_dir


def supervise(run_dir: RunDir, pid: int, boot: str | None = None) -> None:
    """Name a process as the run's supervisor."""
    record = SupervisorRecord(
        run_id=run_dir.run_id,
        pid=pid,
        start_ticks=start_ticks(pid) or 0,
        boot_id=boot or boot_id(),
        started_at=time.time(),
    )
    write_record(run_dir.supervisor, record)


def beat(run_dir: RunDir, state: str = "training", step: int = 1, at: float | None = None, phase: str = "") -> None:
    """Write a heartbeat of the trainer."""
    heartbeat = Heartbeat(
        state=state,  # type: ignore[arg-type]
        step=step,
        epoch=1,
        phase=phase or f"epoch 1, step {step}",
        at=time.time() if at is None else at,
        pid=os.getpid(),
        boot_id=boot_id(),
        start_ticks=0,
        step_s=0.5,
    )
    write_record(run_dir.heartbeat, heartbeat)


def end(run_dir: RunDir, code: int = 0) -> None:
    """Write the record of the end, as the supervisor does."""
    write_record(run_dir.exit, Exit(run_id=run_dir.run_id, ended_at=time.time(), code=code))


def step_line(seq: int) -> bytes:
    """Return a step record as the engine appends it."""
    loss = SplitLoss(total=1.0, loss={"fmri": 1.0, "video": 0.5})
    step = StepMetric(
        seq=seq,
        step=seq,
        epoch=1,
        at=time.time(),
        lr=1e-4,
        total=loss.total,
        loss=loss.loss,
        weight={"fmri": 1.0, "video": 1.0},
        share={"fmri": 0.5, "video": 0.5},
    )
    return encode(step) + b"\n"


def append(path: Path, data: bytes) -> None:
    """Append by one write, as the engine's logger does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
