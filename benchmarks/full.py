"""What the full-size study costs: `python -m benchmarks.full WORKDIR`, a page on stdout.

Seventeen subjects on the 61×73×61 grid, 397 TRs, simulated under WORKDIR if missing (13 minutes). Prepares its store
and trains two presets on it, each in a process of its own, and reports CPU seconds, peak memory and what was learnt.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.demo_runs import CONFIG, report_progress
from giblet_train.data.store.prepare import read_data_request
from giblet_train.data.store.store import study_folder
from giblet_train.schema.config import dump
from giblet_train.schema.config_loader import load
from giblet_train.schema.run_dir import RunDir, new_run_id

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {},
    "lab": {"model.preset": "lab", "num_epochs": 8, "warmup_epochs": 2.0},
}
"""Each preset with the plan it is trained by: what has more parameters has learnt these minutes of film sooner."""
PREPARE_GIB = 3.0
TRAIN_S, TRAIN_GIB = 600.0, 6.0
PAGE = """# The full-size study: seventeen subjects

`make bench-full` (simulated brain, real film; the demo's configuration with `data.simulate: full`, one thread).
Simulating the study is not counted; training and the evaluation on the test block are.

| | CPU | peak memory (RSS) | goal |
|---|---|---|---|
| `prepare`: {n_subjects} subjects, {n_trs} TRs, {n_voxels} voxels kept, NIfTI to store | {prepare} | {goal} |
{costs}

{over}

Held-out r of responsive and of null voxels:

| | parameters | best validation at step | responsive | null | responsive, ridge initialisation |
|---|---|---|---|---|---|
{accuracies}
| ridge | | | {ridge:.3f} | | |
| ridge, subjects pooled | | | {pooled:.3f} | | |
| root of inter-subject correlation | | | {ceiling:.3f} | | |
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a process and its children, and the largest resident size of one of them."""

    cpu_s: float
    rss_gib: float

    def __str__(self) -> str:
        return f"{self.cpu_s:.0f} s | {self.rss_gib:.2f} GiB"

    def over(self, what: str, goal_s: float, goal_gib: float) -> list[str]:
        """Return a sentence for each goal that this is over."""
        goals = (("CPU", self.cpu_s, goal_s, "s"), ("memory", self.rss_gib, goal_gib, "GiB"))
        return [
            f"{what} misses its goal for {of}: {value:.4g} {unit}, {value - goal:.2g} {unit} over."
            for of, value, goal, unit in goals
            if value > goal
        ]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir.resolve()
    runs = [written(workdir, preset) for preset in PRESETS]
    config = load(CONFIG, {"data.simulate": "full"}).config
    study_folder(config, read_data_request(runs[0].path, None).data_dir, workdir, report_progress)
    shutil.rmtree(workdir / "stores", ignore_errors=True)
    prepare = measured("-m", "giblet_train", "prepare", str(runs[0].path))
    trains = [measured("-m", "giblet_train", "train", str(run.path)) for run in runs]
    print(page(prepare, trains, [records_of(run) for run in runs]), end="")


def written(workdir: Path, preset: str) -> RunDir:
    """Return a new run directory of this preset."""
    config = load(CONFIG, {"data.simulate": "full", "name": f"full-{preset}", **PRESETS[preset]}).config
    run_dir = RunDir(workdir / "runs" / new_run_id(config.name))
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config))
    return run_dir


def records_of(run_dir: RunDir) -> list[dict[str, Any]]:
    """Return all that the run recorded."""
    return [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]


def page(prepare: Cost, trains: Sequence[Cost], records: Sequence[list[dict[str, Any]]]) -> str:
    """Return the figures of all processes, and of what each run recorded."""
    data, scores = _first(records[0], "data"), _first(records[0], "evaluation")["encoding"]
    costs, accuracies = [], []
    over = prepare.over("`prepare`", math.inf, PREPARE_GIB)
    for preset, cost, of_run in zip(PRESETS, trains, records, strict=True):
        run, encoding = _first(of_run, "run"), _first(of_run, "evaluation")["encoding"]
        best = min((r for r in of_run if r["kind"] == "epoch"), key=lambda r: float(r["validation"]["total"]))
        costs.append(
            f"| `train`, preset `{preset}`, {run['total_steps']} steps | {cost} | {TRAIN_S:g} s, {TRAIN_GIB:g} GiB |"
        )
        over += cost.over(f"`{preset}`", TRAIN_S, TRAIN_GIB)
        accuracies.append(
            f"| `{preset}` | {run['n_parameters'] / 1e6:.2f} M | {best['step']} | {encoding['r_responsive']:.3f} | "
            f"{encoding['r_null']:+.3f} | {encoding['r_start']:.3f} |"
        )
    return PAGE.format(
        prepare=prepare,
        goal=f"{PREPARE_GIB:g} GiB",
        over="\n".join(over) or "All goals are met.",
        costs="\n".join(costs),
        accuracies="\n".join(accuracies),
        n_subjects=len(data["subjects"]),
        n_voxels=data["n_voxels"],
        n_trs=data["n_trs"],
        ridge=scores["r_ridge"],
        pooled=scores["r_ridge_pooled"],
        ceiling=scores["r_ceiling"],
    )


def _first(records: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(r for r in records if r["kind"] == kind)


def measured(*argv: str) -> Cost:
    """Run Python so, its output on stderr; SystemExit when it fails."""
    process = subprocess.Popen([sys.executable, *argv], stdout=sys.stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(argv)} ended with status {status}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


if __name__ == "__main__":
    main()
