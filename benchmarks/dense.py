"""giblet's network beside the lab's first shape of one: `python -m benchmarks.dense WORKDIR`, a page on stdout.

Simulated brain, real film, fold 0 of the demo. Both are trained by the same engine, taking turns of a second; whichever
has used its time stops. Wall time begins with what is solved before the first step. Each is judged by its best
validation.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo_runs import CONFIG, report_progress
from giblet_train.components.build import TrainingSetup
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.distributed.process_group import ProcessGroup, set_threads
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.schema.config_loader import load
from giblet_train.training.load_split import load_split
from giblet_train.training.train_state import TrainState

DENSE = Path(__file__).with_name("dense.yaml")
TURN_S = 1.0
LONGER = 4
PAGE = """# Compared with a dense network

`make bench-dense` (simulated brain, real film, fold 0 of the demo, one thread, both in one process taking turns). The
dense network is `benchmarks/dense.yaml`: 24×32 frames flattened, two TRs a step, every width written out; LayerNorm,
losses in units of their variance, a causal response: the lab's shape without its mistakes. giblet's is the demo's.

| | giblet | dense |
|---|---|---|
{rows}

CPU of a step per subject-TR: {ratio:.0f} times less. A dense step is scored against all subjects at once, where the
lab's samples were one subject's; counted that way, its subject-TRs would cost {n_subjects} times more. giblet's network
{start}.
"""


@dataclass
class Racer:
    """One of the two, and what it has used and reached.

    before_cpu_s: CPU before the first step. wall_s: wall time since the split was there. cpu_s: CPU of steps alone.
    state: which weights were best.
    """

    name: str
    setup: TrainingSetup
    data: PreparedSplit
    evaluator: Evaluator
    before_cpu_s: float
    wall_s: float
    step: int = 0
    cpu_s: float = 0.0
    state: TrainState = field(default_factory=TrainState)

    @classmethod
    def of(cls, name: str, config_path: Path, workdir: Path) -> Racer:
        """Build a training that is ready for its first step."""
        config = load(config_path, {}, [CONFIG.parent]).config
        data = load_split(config, workdir, report_progress)
        set_threads(config, 1)
        wall, cpu = time.perf_counter(), time.process_time()
        setup = TrainingSetup.build(config, data, ProcessGroup(0, 1, torch.device("cpu")))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return cls(name, setup, data, Evaluator.of(setup, data), cpu, wall)

    @property
    def finished(self) -> bool:
        """Return whether the plan has no further step."""
        return self.step >= self.setup.train_step.plan.total_steps

    def turn(self, seconds: float) -> None:
        """Train for some CPU seconds; then validate, which is not counted."""
        wall, cpu = time.perf_counter(), time.process_time()
        while not self.finished and time.perf_counter() - wall < seconds:
            self.setup.train_step.step(self.step, {})
            self.step += 1
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        self.validate()

    def validate(self) -> None:
        """Keep the averaged weights if they are the best so far, as the trainer does."""
        train_step, self.state.step = self.setup.train_step, self.step
        is_best = self.state.record_validation(self.evaluator.validation(train_step.average.model), 0.0)
        train_step.keep_best(is_best)

    def n_parameters(self) -> int:
        """Return the number of trained parameters."""
        return sum(p.numel() for p in self.setup.train_step.model.parameters())

    def cpu_per_subject_tr(self) -> float:
        """Return CPU seconds per subject and TR."""
        train_step = self.setup.train_step
        trs_per_step = train_step.config.batch_size * train_step.windows.scored_trs
        return self.cpu_s / (self.step * trs_per_step * len(self.data.subjects))

    def reached(self) -> dict[str, Any]:
        """Return held-out figures of the best weights so far."""
        model = self.setup.train_step.average.model
        now = {n: t.clone() for n, t in model.state_dict().items()}
        model.load_state_dict(now | self.setup.train_step.best)
        model.share = self.state.best_share
        figures = self.evaluator.evaluation(model, lambda: None)
        model.load_state_dict(now)
        return figures


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir.resolve()
    ours, dense = Racer.of("giblet", CONFIG, workdir), Racer.of("dense", DENSE, workdir)
    start_r = ours.evaluator.validation(ours.setup.train_step.average.model).r
    while not ours.finished:
        ours.turn(TURN_S)
        dense.turn(max(0.0, ours.wall_s - dense.wall_s))
    equal, own = dense.reached(), ours.reached()
    rows = [
        ("parameters", *(f"{r.n_parameters() / 1e6:.2f} M" for r in (ours, dense))),
        ("CPU before the first step", *(f"{r.before_cpu_s:.1f} s" for r in (ours, dense))),
        ("CPU of a step per subject-TR", *(f"{1e6 * r.cpu_per_subject_tr():.1f} µs" for r in (ours, dense))),
        (f"steps in {ours.wall_s:.0f} s of wall time, what comes before them counted", str(ours.step), str(dense.step)),
        *compared(own, equal, "then"),
    ]
    ratio = dense.cpu_per_subject_tr() / ours.cpu_per_subject_tr()
    while dense.wall_s < LONGER * ours.wall_s and not dense.finished:
        dense.turn(TURN_S)
    rows += compared(own, dense.reached(), f"dense after {LONGER} times as long")
    start = "starts from nothing"
    if ours.setup.start_signal is not None:
        ridge = "starts from ridge, which is solved before the first step"
        start = f"{ridge} (validation r {start_r:.3f} by itself)"
    print(
        PAGE.format(
            rows="\n".join(f"| {' | '.join(row)} |" for row in rows),
            ratio=ratio,
            n_subjects=len(ours.data.subjects),
            start=start,
        ),
        end="",
    )


def compared(ours: dict[str, Any], dense: dict[str, Any], when: str) -> list[tuple[str, str, str]]:
    """Return the rows of a table: held-out r and skill of both."""
    pairs = [(figures["encoding"], figures["skill"]) for figures in (ours, dense)]
    r_ours, r_dense = (f"{e['r_responsive']:.3f} (null {e['r_null']:+.3f})" for e, _ in pairs)
    skill_ours, skill_dense = (", ".join(f"{c} {s[c]:+.2f}" for c in ("video", "audio", "text")) for _, s in pairs)
    return [
        (f"held-out r, responsive voxels, {when}", r_ours, r_dense),
        (f"held-out skill of the film, {when}", skill_ours, skill_dense),
    ]


if __name__ == "__main__":
    main()
