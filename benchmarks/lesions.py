"""Check that each lesion removes only its own modality: `python -m benchmarks.lesions WORKDIR`.

Simulated brain, real film. Trains the demo on every fold (about a minute each), removes the regions that the truth
file gives to one modality, and reports what of the rebuilt film is lost, beside random sets of voxels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.demo_runs import demo_run, report_progress
from giblet_train.analysis.lesions import lesion_study
from giblet_train.analysis.load_run import load_run
from giblet_train.schema.config import MODALITIES
from giblet_train.training.load_split import load_split

LESIONS = {"early_visual+higher_visual": "video", "auditory": "audio", "semantic+default_mode": "text"}
FOLDS = range(5)
PAGE = """# Lesions: what each brain region contributes to the reconstructed film

    python -m giblet_train lesion RUN_DIR                                     # every region of the demo study
    python -m giblet_train lesion RUN_DIR --region early_visual+higher_visual --mode silence
    python -m giblet_train lesion RUN_DIR --atlas parcels.nii.gz --region 17  # an atlas on the grid of the BOLD files
    python -m giblet_train lesion RUN_DIR --mask area.nii.gz --json           # any set of voxels

From a laptop, `giblet lesion RUN` has the same options and runs on the run's node ([evaluating a run](../inspect.md)).

The film of the test block is reconstructed from measured (or `--source predicted`) brains without the region's voxels,
in all subjects. With `missing`, the decoder knows which voxels are missing and uses the others; with `silence`, their
responses are set to 0. Each lesion is compared with random sets of as many voxels, as many of them responsive; p is the
share of sets that lose as much. Several regions are lesioned together as `a+b`.

## On the demo study: each lesion removes only its own modality

`make bench-lesions` (simulated brain, real film; {n_folds} folds, each a model of its own, measured brains, {n_draws}
random sets). Regions are those to which the study's truth file gives one modality. Held-out skill of the rebuilt film,
mean over folds; in brackets the mean over random sets; "own p ≤ .05" and "others p ≤ .05" count folds.

{tables}

{sentence}
"""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args()
    runs = [demo_run(arguments.workdir.resolve(), {"split.fold": fold}) for fold in FOLDS]
    loaded_runs = [load_run(run, "best", load_split, report_progress) for run in runs]
    tables, right, wrong = [], 0, 0
    for mode in ("missing", "silence"):
        studies = [
            lesion_study(
                run, run.parcels(list(LESIONS), None, None), "measured", mode, arguments.draws, report_progress
            )
            for run in loaded_runs
        ]
        tables.append(table(mode, studies))
        right += sum(hits(studies, region, (own,)) for region, own in LESIONS.items())
        wrong += sum(hits(studies, region, others(own)) for region, own in LESIONS.items())
    n_own = 2 * len(FOLDS) * len(LESIONS)
    sentence = (
        f"In {right} of {n_own} lesions the own modality lost more than 95 % of random sets do; in {wrong} of "
        f"{2 * n_own} comparisons another modality did (by chance alone: {0.05 * 2 * n_own:.0f})."
    )
    print(
        PAGE.format(n_folds=len(FOLDS), n_draws=arguments.draws, tables="\n\n".join(tables), sentence=sentence), end=""
    )


def table(mode: str, studies: list[dict[str, Any]]) -> str:
    """Format a row for each lesion as Markdown."""
    before = " | ".join(f"{np.mean([s['before'][m]['skill'] for s in studies]):+.3f}" for m in MODALITIES)
    lines = [
        f"| {mode}: skill after | {' | '.join(MODALITIES)} | own p ≤ .05 | others p ≤ .05 |",
        "|---|---|---|---|---|---|",
        f"| no lesion | {before} | | |",
    ]
    for region, own in LESIONS.items():
        cells = [cell(studies, region, m, bold=m == own) for m in MODALITIES]
        n, own_hits, other_hits = len(studies), hits(studies, region, (own,)), hits(studies, region, others(own))
        counts = f"{own_hits} of {n} | {other_hits} of {2 * n}"
        lines.append(f"| {region} | {' | '.join(cells)} | {counts} |")
    return "\n".join(lines)


def cell(studies: list[dict[str, Any]], region: str, modality: str, *, bold: bool) -> str:
    """Format the skill after the lesion, and after random sets."""
    skill_changes = [changes(s, region)[modality]["skill"] for s in studies]
    after = f"{np.mean([c['after'] for c in skill_changes]):+.3f}"
    random = np.mean([c["after"] + c["lost"] - c["random_lost"] for c in skill_changes])
    return f"{f'**{after}**' if bold else after} ({random:+.3f})"


def hits(studies: list[dict[str, Any]], region: str, modalities: tuple[str, ...]) -> int:
    """Count the studies, and the modalities of each, that lost more than with random voxel sets."""
    return sum(changes(s, region)[m]["skill"]["p"] <= 0.05 for s in studies for m in modalities)


def others(own: str) -> tuple[str, ...]:
    """Return the modalities that a lesion should spare."""
    return tuple(m for m in MODALITIES if m != own)


def changes(study: dict[str, Any], region: str) -> dict[str, Any]:
    """Return what one lesion of a study changed."""
    region_changes: dict[str, Any] = next(
        lesion["changes"] for lesion in study["lesions"] if lesion["region"] == region
    )
    return region_changes


if __name__ == "__main__":
    main()
