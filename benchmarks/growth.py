"""How cost grows with the number of training TRs: `python -m benchmarks.growth`, a page on stdout.

Each size simulates a study in memory (`learning_study`, half of the explainable variance from interactions) in a
process of its own, and measures the CPU seconds of preparing the network, of a step and of the evaluation, and memory.
`--json FILE` keeps the figures and continues from those that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import config_of_seed
from giblet_train.components import band_functions
from giblet_train.components.build import TrainingSetup
from giblet_train.components.refit import refit
from giblet_train.data.simulation.learning_study import simulate_learning_study
from giblet_train.distributed.process_group import ranks_of
from giblet_train.evaluation import baselines
from giblet_train.evaluation.evaluator import Evaluator

FORM, SHARE = "interaction", 0.5
N_SUBJECTS, N_VOXELS, N_STEPS = 2, 60, 10
SIZES = (2_600, 5_200, 10_400, 20_800, 41_600)
LARGE_TRS, LARGE_SUBJECTS, LARGE_VOXELS, MOST_GIB = 40_000, 4, 1_000, 16
"""Hours of data of several people in parcels, and the memory that they may take."""
EXACT_TRS = 1_000
"""Size at which leading axes are compared with the exact initialisation."""
PAGE = """# Cost against the number of training TRs

    make bench-growth      # this page

Simulated responses in memory ({n_subjects} subjects, {n_voxels} voxels; half of the explainable variance comes from
interactions), preset `tiny`, one thread. Above {most_dual:,} training TRs the initialisation uses leading axes of each
feature band in place of all TRs; the ridge baseline changes to leading components above {most_ridge:,}.

- **s**: CPU seconds.
- **evaluation**: with the fit of the initialisation on training and validation TRs, by which a run ends.
- **whole run**: preparation, evaluation and one epoch of the default length, estimated from {n_steps} steps.
- **exponent**: of the whole run against the previous row; 1 is proportional growth.
- **memory**: peak resident size. **r**: of the start, on 400 test TRs.

| TRs | preparation, s | evaluation, s | step, s | whole run, s | exponent | memory, GiB | r | pooled ridge | ceiling |
|---|---|---|---|---|---|---|---|---|---|
{rows}

{large_subjects} subjects × {large_voxels:,} parcels × {large_trs:,} TRs: preparation {large[prepare_s]:.0f} s,
evaluation {large[evaluate_s]:.0f} s, {large[rss_gib]:.1f} GiB at most (goal {most_gib}), r {large[r_start]:.3f}
(pooled ridge {large[r_pooled]:.3f}, ceiling {large[ceiling]:.3f}).

The initialisation of {exact_trs:,} training TRs by both ways: r {r_exact:.4f} exactly, {r_axes:.4f} by leading axes.

Measured on one thread of a shared two-core machine, {date}.
"""


def main() -> None:
    """Print the page, or with --one the figures of one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--one", nargs=2, metavar=("TRS", "WAY"), help="one size: TRs and its way, see `measure`; prints JSON"
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(int(options.one[0]), options.one[1])))
        return
    cases = [(n, "axes") for n in (*options.sizes, EXACT_TRS)] + [(EXACT_TRS, "exact"), (LARGE_TRS, "large")]
    figures: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for n, way in cases:
        name = f"{n} {way}"
        if name not in figures:
            command = [sys.executable, "-m", "benchmarks.growth", "--one", str(n), way]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            figures[name] = json.loads(result.stdout)
            if options.json:
                options.json.write_text(json.dumps(figures))
    print(page(figures, options.sizes), end="")


def measure(n_trs: int, way: str) -> dict[str, float]:
    """Return the costs and r of one size.

    way: `exact`, in the space of TRs whatever their number, `axes`, or `large`, which is `axes` for more voxels.
    """
    band_functions.MOST_DUAL_TRS = n_trs if way == "exact" else 0
    n_subjects, n_voxels = (LARGE_SUBJECTS, LARGE_VOXELS) if way == "large" else (N_SUBJECTS, N_VOXELS)
    study = simulate_learning_study(FORM, n_trs, 0, form_share=SHARE, n_voxels=n_voxels, n_subjects=n_subjects)
    config = config_of_seed(0, 2)
    with ranks_of(config) as ranks:
        began = time.process_time()
        setup = TrainingSetup.build(config, study.data, ranks)
        after_preparation_s = time.process_time()
        setup.train_step.average.model.share = 0.0
        again = refit(setup, study.data)
        evaluator = Evaluator.of(again, study.data)
        encoding = evaluator.evaluation(again.train_step.average.model, lambda: None)["encoding"]
        after_evaluation_s = time.process_time()
        for step in range(N_STEPS):
            setup.train_step.step(step, {})
        end_s = time.process_time()
    return {
        "prepare_s": after_preparation_s - began,
        "evaluate_s": after_evaluation_s - after_preparation_s,
        "step_s": (end_s - after_evaluation_s) / N_STEPS,
        "steps_per_epoch": setup.train_step.plan.steps_per_epoch,
        "rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "r_start": encoding["r_responsive"],
        "r_pooled": encoding["r_ridge_pooled"],
        "ceiling": study.ceiling(),
    }


def page(figures: Mapping[str, Mapping[str, float]], sizes: tuple[int, ...]) -> str:
    """Format the page."""
    rows = [figures[f"{n} axes"] for n in sizes]
    exponents = ["–"] + [
        f"{np.log(_run_s(after) / _run_s(before)) / np.log(m / n):.2f}"
        for (before, after), (n, m) in zip(pairwise(rows), pairwise(sizes), strict=True)
    ]
    return PAGE.format(
        n_subjects=N_SUBJECTS,
        n_voxels=N_VOXELS,
        n_steps=N_STEPS,
        most_ridge=baselines.MOST_DUAL_TRS,
        most_dual=band_functions.MOST_DUAL_TRS,
        rows="\n".join(
            f"| {n:,} | {row['prepare_s']:.1f} | {row['evaluate_s']:.1f} | {row['step_s']:.3f} | {_run_s(row):.0f} | "
            f"{exponent} | {row['rss_gib']:.2f} | {row['r_start']:.3f} | {row['r_pooled']:.3f} | {row['ceiling']:.3f} |"
            for n, row, exponent in zip(sizes, rows, exponents, strict=True)
        ),
        large=figures[f"{LARGE_TRS} large"],
        large_trs=LARGE_TRS,
        large_subjects=LARGE_SUBJECTS,
        large_voxels=LARGE_VOXELS,
        most_gib=MOST_GIB,
        exact_trs=EXACT_TRS,
        r_exact=figures[f"{EXACT_TRS} exact"]["r_start"],
        r_axes=figures[f"{EXACT_TRS} axes"]["r_start"],
        date=time.strftime("%Y-%m-%d"),
    )


def _run_s(row: Mapping[str, float]) -> float:
    return row["prepare_s"] + row["evaluate_s"] + row["steps_per_epoch"] * row["step_s"]


if __name__ == "__main__":
    main()
