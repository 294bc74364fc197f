"""How well a person is predicted of whom nothing was learnt: `python -m benchmarks.left_out WORKDIR`, a page on stdout.

Simulated brain, real film. Trains the demo once with everybody and once without each subject, about a minute each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.demo_runs import demo_run, report_progress
from giblet_train.analysis.load_run import load_run
from giblet_train.evaluation.metrics import pearson
from giblet_train.schema.records import EvaluationMetric, decode_metrics
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.load_split import load_split

SUBJECTS = range(1, 6)
COLUMNS = {
    "average subject": "r_average_subject",
    "own head": "r_own_head",
    "own head on average": "r_own_head_on_average",
    "ridge": "r_ridge",
    "other brains": "r_other_brains",
}
PAGE = """# A subject who was left out

    giblet launch NODE demo --set split.leave_out_subject=3   # nothing is learned from subject 3
    python -m giblet_train evaluate RUN_DIR                    # how well that brain is predicted

With `split.leave_out_subject`, a subject takes no part in training, mask or choice of voxels. On the test
block, with new film and a new brain, that subject is predicted

- by the **average subject**: the head that the others share; it needs only a z-score of the subject;
- by an **own head**: ridge from the trunk's latents, fitted on the subject's own training TRs;
- by an **own head on the average**: the same, fitted on what the average leaves;
- by **ridge** on the film's features and own TRs, without the model;
- by the **other brains**, measured in the same TRs: the bound for models of shared responses.

## On the demo study

`make bench-left-out` (simulated brain, real film, fold 0). Mean held-out r over responsive voxels, in brackets over
null voxels. The last column is the same person predicted by the model that was trained with everybody.

| left out | {columns} | trained with |
|{rule}|
{rows}
"""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir.resolve()
    r_of_trained = r_of_each(demo_run(workdir, {}))
    rows = [row_of(workdir, number, r_of_trained) for number in SUBJECTS]
    columns, rule = " | ".join(COLUMNS), "---|" * (len(COLUMNS) + 2)
    mean = [f"{np.mean([values[i] for _, values, _ in rows]):.3f}" for i in range(len(COLUMNS) + 1)]
    lines = [text for _, _, text in rows] + [f"| **mean** | {' | '.join(mean)} |"]
    print(PAGE.format(columns=columns, rule=rule.rstrip("|"), rows="\n".join(lines)), end="")


def r_of_each(run_dir: Path) -> dict[str, float]:
    """Return subject -> mean held-out r over responsive voxels."""
    run = load_run(run_dir, "best", load_split, report_progress)
    rows, yes = run.data.split.test, run.data.responsive_V
    predicted = run.evaluator.predicted(run.model)
    return {s: float(pearson(p_TV, run.data.bold[s][rows])[yes].mean()) for s, p_TV in predicted}


def row_of(workdir: Path, number: int, r_of_trained: dict[str, float]) -> tuple[str, list[float], str]:
    """Return a subject's figures, and their row."""
    run_dir = RunDir(demo_run(workdir, {"split.leave_out_subject": number}))
    metrics, _ = decode_metrics(run_dir.metrics.read_bytes().splitlines())
    evaluation = next(m for m in metrics if isinstance(m, EvaluationMetric))
    [(subject, scores)] = evaluation.encoding["left_out"].items()
    cells = [f"{scores[key]:.3f} ({scores[f'{key}_null']:+.3f})" for key in COLUMNS.values()]
    values = [scores[key] for key in COLUMNS.values()] + [r_of_trained[subject]]
    return subject, values, f"| {subject} | {' | '.join(cells)} | {r_of_trained[subject]:.3f} |"


if __name__ == "__main__":
    main()
