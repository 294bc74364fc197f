"""Recorded fleets for tests: runs in every state the dashboard must show, made from a seed, at a fixed time."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from msgspec.structs import replace

from giblet_train.schema import config_loader
from giblet_train.schema.config import COMPONENTS, Config, WatchConfig
from giblet_train.schema.health import Health, Signals, health_of
from giblet_train.schema.records import (
    Alert,
    Command,
    EpochMetric,
    Exit,
    Heartbeat,
    Run,
    RunMetric,
    SplitLoss,
    StepMetric,
    ValuesMetric,
)
from giblet_train.schema.schedule import lr_at, lr_schedule
from giblet_tui.monitor.snapshots import Fleet, Gpu, NodeFacts, NodeSnapshot, RunSnapshot

NOW = 1_800_000_000.0
STEPS_PER_EPOCH = 20
STEP_S = 0.4
FALL = {"fmri": 0.25, "video": 0.55, "audio": 0.45, "text": 0.65}


def demo_config(name: str = "demo", stage: str = "test", **changes: object) -> Config:
    """Return a small complete configuration; `changes` are top-level keys."""
    value: dict[str, object] = {
        "name": name,
        "stage": stage,
        "num_epochs": 20,
        "warmup_epochs": 2,
        "learning_rate": 1e-3,
        "criteria": {
            "loss_drop": {"kind": "loss_drop", "threshold": 0.10},
            "no_nan": {"kind": "no_nan", "threshold": 0.0},
            "val_gap": {"kind": "val_gap", "threshold": 2.0},
        },
    }
    return config_loader.from_mapping(value | changes).config


def run(
    name: str = "demo",
    *,
    steps: int = 280,
    node: str = "tensor01",
    state: str = "running",
    sentence: str = "training, heartbeat 1s ago",
    config: Config | None = None,
    flat: bool = False,
    nan_from: int | None = None,
    stuck_lr: float | None = None,
    log: Sequence[str] | None = None,
    alerts: tuple[Alert, ...] = (),
    suffix: str = "a1b2",
    loss_scale: float = 1.0,
) -> RunSnapshot:
    """Return one run after `steps` optimizer steps.

    flat: losses stay where they start. nan_from: audio and the total are null from that step on. stuck_lr: the observed
    rate never moves. loss_scale multiplies every loss, as the lab's 275,000 did.
    """
    config = config or demo_config(name)
    plan = lr_schedule(config, STEPS_PER_EPOCH)
    launched_at = NOW - steps * STEP_S - 20
    step_records, losses = _steps(config, steps, launched_at, flat, nan_from, stuck_lr, loss_scale)
    epochs = _epochs(step_records, losses, loss_scale)
    run_id = f"{name}-20270115-080000-{suffix}"
    epoch = plan.epoch_of(max(0, steps - 1))
    weight = sum(config.component_weights().values())
    return RunSnapshot(
        run=Run(
            run_id=run_id,
            name=name,
            node=node,
            session=f"gib-{run_id}",
            multiplexer="tmux",
            argv=("torchrun",),
            config_hash="0123456789ab",
            giblet_version="0.1.0",
            launched_by="ada",
            launched_at=launched_at,
        ),
        health=Health(state=state, sentence=sentence),  # type: ignore[arg-type]
        config=config,
        heartbeat=Heartbeat(
            state="training", step=steps, epoch=epoch, phase=f"epoch {epoch}", at=NOW - 1, pid=4242, boot_id="boot",
            start_ticks=1, step_s=STEP_S,
        ),
        exit=None if state in ("running", "starting", "stalled") else Exit(run_id=run_id, ended_at=NOW - 60, code=0),
        plan_record=RunMetric(
            seq=0, step=0, epoch=1, at=launched_at, steps_per_epoch=STEPS_PER_EPOCH, total_steps=plan.total_steps,
            warmup_steps=plan.warmup_steps, start_total=weight * loss_scale,
        ),
        steps=tuple(step_records),
        epochs=tuple(epochs),
        alerts=alerts,
        log_tail=tuple(log if log is not None else _log(epochs, config)),
    )  # fmt: skip


def node(
    name: str = "tensor01",
    runs: tuple[RunSnapshot, ...] = (),
    *,
    link: str = "live",
    gpus: int = 0,
    observed_at: float | None = NOW,
    sentence: str = "",
) -> NodeSnapshot:
    """Return a node with its runs; `gpus` idle-to-busy GPUs of 48 GiB."""
    cards = tuple(
        Gpu(
            index=i, uuid=f"GPU-{i}", name="NVIDIA RTX A6000", memory_used_gib=41.5 if i < 6 else 0.4,
            memory_total_gib=48.0, utilisation=96.0 - i if i < 6 else 0.0, temperature=71.0 + i if i < 6 else 34.0,
            processes=((4242 + i, "ada", 41.1),) if i < 6 else (),
            not_free=f"ada (pid {4242 + i}, 41.1 GiB)" if i < 6 else "",
        )
        for i in range(gpus)
    )  # fmt: skip
    facts = NodeFacts(
        hostname=name, clock_skew_s=0.2, n_cpus=64, load_1m=11.5, ram_total_gib=503.0, ram_available_gib=430.0,
        disk_free_gib=1800.0, gpus=cards, gpu_note="" if gpus else "no nvidia-smi on this node",
    )  # fmt: skip
    return NodeSnapshot(
        node=name,
        link=link,  # type: ignore[arg-type]
        observed_at=observed_at,
        link_sentence=sentence,
        facts=facts,
        runs=runs,
    )


def alert(name: str = "flat", sentence: str = "total moved 0.05 % in 5 epochs", level: str = "warning") -> Alert:
    """Return a raised alert."""
    return Alert(
        seq=0, at=NOW - 30, step=200, name=name, level=level, state="raised", sentence=sentence,  # type: ignore[arg-type]
        action="giblet why @last",
    )  # fmt: skip


def healthy() -> Fleet:
    """Return one node with a run in its fourteenth epoch."""
    return Fleet(nodes=(node(runs=(run(),), gpus=8),))


def warming_up() -> Fleet:
    """Return a run in the middle of its warm-up, before its first epoch has ended."""
    return Fleet(nodes=(node(runs=(run(steps=12),)),))


def several() -> Fleet:
    """Return two live nodes and a lost one: running, flat at the lab's scale, NaN, stalled, finished, failed."""
    flat = run("flat", steps=300, flat=True, stuck_lr=1e-5, loss_scale=200_000.0, suffix="f1a7", alerts=(alert(),))
    finished_run = run("pilot", steps=400, state="finished", sentence="finished all its steps", suffix="d0ne")
    failed_run = run("broken", steps=90, nan_from=70, state="failed", sentence="audio is not finite", suffix="bad0")
    stalled_run = run("deep", steps=150, state="stalled", sentence="no step for 14m", suffix="57a1", node="tensor02")
    far = run("far", steps=200, suffix="fa12", node="tensor03")
    return Fleet(
        nodes=(
            node(runs=(run(), flat, finished_run, failed_run), gpus=8),
            node("tensor02", (stalled_run,)),
            node(
                "tensor03", (far,), link="lost", observed_at=NOW - 247, sentence="No answer for 3 s; connecting again."
            ),
        )
    )


def frozen(age_s: float, of: RunSnapshot | None = None) -> NodeSnapshot:
    """Return a node that is heard, `age_s` after its run made the last step."""
    frozen_run = of or run()
    now = frozen_run.steps[-1].at + age_s
    heartbeat = replace(frozen_run.heartbeat, at=frozen_run.steps[-1].at)  # type: ignore[type-var]
    signals = Signals(now=now, launched_at=frozen_run.run.launched_at, process=True, heartbeat=heartbeat)
    health = health_of(signals, WatchConfig(stall_min_s=60.0))
    snapshot = node(runs=(replace(frozen_run, heartbeat=heartbeat, health=health),), gpus=8, observed_at=now)
    return replace(snapshot, facts=replace(snapshot.facts, clock_skew_s=0.0))


def evaluating() -> Fleet:
    """Return a run that has made all its steps and is evaluated on its test block."""
    last_step = run(steps=400)
    assert last_step.heartbeat is not None
    heartbeat = replace(last_step.heartbeat, state="validating", phase="judging the best weights on the test block")
    health = Health(state="running", sentence="judging, heartbeat 1s ago")
    return Fleet(nodes=(node(runs=(replace(last_step, heartbeat=heartbeat, health=health),), gpus=8),))


def starting() -> Fleet:
    """Return a run before its first step."""
    health = Health(state="starting", sentence="preparing the network")
    return Fleet(nodes=(node(runs=(replace(run(steps=0), epochs=(), health=health),), gpus=8),))


def died() -> Fleet:
    """Return a run that was killed."""
    return Fleet(nodes=(node(runs=(run(state="died", sentence="killed by signal 9"),), gpus=8),))


def many() -> Fleet:
    """Return eight nodes with four runs each, among them a sweep."""
    states = (("running", "training, heartbeat 1s ago"), ("finished", "finished all its steps"))
    nodes = []
    for index in range(8):
        name = f"tensor{index + 1:02d}"
        runs = [
            run(f"rate_{rank}", steps=80 + 40 * rank + 9 * index, node=name, suffix=f"{index}{rank}ab",
                state=states[rank % 2][0], sentence=states[rank % 2][1])
            for rank in range(4)
        ]  # fmt: skip
        nodes.append(node(name, tuple(runs), gpus=8))
    return Fleet(nodes=tuple(nodes))


def _steps(
    config: Config,
    steps: int,
    launched_at: float,
    flat: bool,
    nan_from: int | None,
    stuck_lr: float | None,
    scale: float,
) -> tuple[list[StepMetric], list[dict[str, float]]]:
    random_of = random.Random(7)
    weights = config.component_weights()
    plan = lr_schedule(config, STEPS_PER_EPOCH)
    records, losses = [], []
    for step in range(steps):
        progress = 0.0 if flat else 1 - math.exp(-step / 110)
        loss = {c: scale * (1 - FALL[c] * progress + random_of.gauss(0, 0.02)) for c in COMPONENTS}
        losses.append(loss)
        broken = nan_from is not None and step >= nan_from
        weighted = {c: weights[c] * loss[c] for c in COMPONENTS}
        total = sum(weighted.values())
        records.append(
            StepMetric(
                seq=step + 1,
                step=step,
                epoch=plan.epoch_of(step),
                at=launched_at + 20 + step * STEP_S,
                lr=stuck_lr or lr_at(step, plan),
                total=None if broken else total,
                loss={c: None if broken and c == "audio" else v for c, v in loss.items()},
                weight=dict(weights),
                share={c: v / total for c, v in weighted.items()},
                gradient_share={"fmri": 0.58, "video": 0.17, "audio": 0.14, "text": 0.11}
                if step > plan.warmup_steps
                else None,
                gradient_norm=0.8,
                step_s=STEP_S,
            )
        )
    return records, losses


def _epochs(steps: list[StepMetric], losses: list[dict[str, float]], scale: float) -> list[EpochMetric]:
    random_of = random.Random(8)
    epochs = []
    for end in range(STEPS_PER_EPOCH, len(steps) + 1, STEPS_PER_EPOCH):
        part = losses[end - STEPS_PER_EPOCH : end]
        bad = any(s.total is None for s in steps[end - STEPS_PER_EPOCH : end])
        train = {c: sum(loss[c] for loss in part) / len(part) for c in COMPONENTS}
        held_out = {c: v + scale * (0.02 + random_of.gauss(0, 0.006) + 0.00006 * end) for c, v in train.items()}
        last = steps[end - 1]
        epochs.append(
            EpochMetric(
                seq=end + 10_000,
                step=end,
                epoch=end // STEPS_PER_EPOCH,
                at=last.at + 0.1,
                lr=last.lr,
                train=SplitLoss(total=None if bad else _total(train, last), loss=dict(train)),
                validation=SplitLoss(
                    total=None if bad else _total(held_out, last),
                    loss=dict(held_out),
                    skill={c: 1 - v / scale for c, v in held_out.items()},
                ),
                fmri_r=0.01 * end / STEPS_PER_EPOCH,
                seconds=STEPS_PER_EPOCH * STEP_S,
            )
        )
    return epochs


def _total(loss: dict[str, float], step: StepMetric) -> float:
    return sum((step.weight[c] or 0.0) * v for c, v in loss.items())


def _log(epochs: list[EpochMetric], config: Config) -> list[str]:
    lines = [f"giblet 0.1.0: {config.name}, 8 subjects, 2 threads"]
    for e in epochs:
        validation = e.validation.total if e.validation else None
        lines.append(
            f"Epoch {e.epoch}/{config.num_epochs} | Train Loss: {_shown(e.train.total)} | "
            f"Val Loss: {_shown(validation)} | fMRI Corr: {_shown(e.fmri_r)} | LR: {e.lr:.2e}"
        )
    return lines


def _shown(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4f}"


def command_run(epochs: int = 24, *, losses: bool = True, by_step: bool = False) -> RunSnapshot:
    """Return a run of a command of the user's own that prints an accuracy, a PSNR, a word error rate and a norm.

    losses: it prints losses too. by_step: it counts steps, and no epochs.
    """
    run_ = run("resnet")
    at = run_.run.launched_at

    def split(factor: float, epoch: int) -> SplitLoss:
        return SplitLoss(total=factor / math.sqrt(epoch), loss={})

    epoch_records = tuple(
        EpochMetric(seq=i, step=i, epoch=i, at=at + 20 * i, lr=1e-3, train=split(2.0, i), validation=split(2.1, i))
        for i in range(1, epochs)
    )
    values = tuple(
        ValuesMetric(
            seq=epochs + i,
            step=100 * i if by_step else i,
            epoch=0 if by_step else i,
            at=at + 20 * i,
            values={"accuracy": 0.95 - 0.6 / i**0.7, "grad_norm": 1 + 0.3 * math.sin(i)},
            validation={
                "accuracy": 0.85 - 0.6 / i**0.7 - 0.003 * max(0, i - 15),
                "PSNR": 20 + i / 5,
                "WER": 0.5 - i / 80,
            },
        )
        for i in range(1, epochs)
    )
    health = Health(state="running", sentence=f"epoch {epochs - 1} of 40 has ended, by its log, heartbeat 1s ago")
    facts = replace(run_.run, command=Command(words=("python", "train.py"), cwd="/home/ada/work"))
    return replace(
        run_,
        run=facts,
        health=health if losses or not by_step else run_.health,
        config=None,
        plan_record=None,
        steps=(),
        epochs=epoch_records if losses else (),
        values=values,
        log_tail=tuple(f"Epoch {i} train_loss {2 / math.sqrt(i):.3f}" for i in range(1, epochs)),
    )
