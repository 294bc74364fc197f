"""What the engine learns on the demo study, fold by fold: `python benchmarks/learn.py WORKDIR`.

Simulated brain, real film. Trains `configs/demo.yaml` once per fold under WORKDIR (where a study and store are made if
missing), and prints held-out figures beside ridge regression's, with the CPU and wall seconds of training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from giblet_train.contract.config import dump, load
from giblet_train.contract.records import EvaluationMetric, decode_metrics
from giblet_train.contract.rundir import RunDir, new_run_id
from giblet_train.loading import load_split
from giblet_train.trainer import train

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
COLUMNS = ("r_responsive", "r_null", "r_difference_low", "r_difference_high", "r_ridge", "r_ridge_pooled", "r_ceiling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--folds", type=int, nargs="*", default=None, help="all of them if not given")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=NUMBER", help="change a number of the demo's")
    arguments = parser.parse_args()
    changes = {key: _number(value) for key, value in (item.split("=", 1) for item in arguments.set)}
    folds = arguments.folds if arguments.folds is not None else range(load(CONFIG).config.split.n_folds)
    print("fold", *(f"{c:>17}" for c in COLUMNS), " skill and skill from measured brains", "cpu_s wall_s", sep="  ")
    rows = [_fold(arguments.workdir.resolve(), fold, changes) for fold in folds]
    means = [statistics.mean(row[c] for row in rows) for c in COLUMNS]
    print("mean", *(f"{value:17.3f}" for value in means), sep="  ")


def _fold(workdir: Path, fold: int, changes: dict[str, float]) -> dict[str, Any]:
    config = load(CONFIG, changes | {"split.fold": fold}).config
    run_dir = RunDir(workdir / "runs" / new_run_id(config.name))
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config))
    load_split(config, workdir, lambda sentence, fraction: None)  # the study and its store are not training
    wall, cpu = time.perf_counter(), time.process_time()
    sys.stdout, printed = sys.stderr, sys.stdout
    train(run_dir.path, load_split)
    sys.stdout = printed
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    metrics, _ = decode_metrics(run_dir.metrics.read_bytes().splitlines())
    evaluation = next(m for m in metrics if isinstance(m, EvaluationMetric))
    skill = " ".join(f"{c} {v:+.3f}" for c, v in evaluation.skill.items() if v is not None)
    measured = " ".join(f"{c} {v['skill']:+.3f}" for c, v in evaluation.decoding["measured"].items())
    figures = (f"{evaluation.encoding[c]:17.3f}" for c in COLUMNS)
    print(f"{fold:4}", *figures, f"{skill} | {measured}", f"{cpu:.0f} {wall:.0f}", sep="  ", flush=True)
    return evaluation.encoding


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


if __name__ == "__main__":
    main()
