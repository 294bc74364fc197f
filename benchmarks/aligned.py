"""How often film and brains that belong together are accused, and how often a mistake is named, before the first step.

    python -m benchmarks.aligned build/aligned            seeds 0 to 7, all folds; the studies are made there once

Each demo study (real film, simulated brains) is judged as it is, with noise added to every scan, and with one mistake
made in it, over the training TRs of each fold.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.demo_runs import CONFIG, report_progress
from giblet_train.data.preprocessing.film_alignment import alignment_of
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.simulation.demo_study import simulate_study
from giblet_train.data.statistics.isc import shared_response
from giblet_train.diagnosis.alignment.film import misalignment
from giblet_train.diagnosis.alignment.subjects import find_outlier_subjects
from giblet_train.schema.config_loader import load
from giblet_train.schema.records import AlignmentFacts
from giblet_train.training.load_split import load_split

Floats = NDArray[np.float32]
Change = Callable[[PreparedSplit, np.random.Generator], PreparedSplit]
SCENE_TRS = 20
"""Half a minute of film."""
LATE_TRS = 4


def split_of(workdir: Path, seed: int, fold: int) -> PreparedSplit:
    """Return a fold of the small demo study of a seed, which is made if it is not there."""
    folder = f"studies/small-{seed}"
    simulate_study(workdir / folder, "small", seed=seed)
    changes = {
        "data.simulate": None,
        "data.data_dir": folder,
        "data.bold": "bold/sub-{subject:02d}.nii.gz",
        "data.atlas": "atlas.nii.gz",
        "split.fold": fold,
    }
    return load_split(load(CONFIG, changes).config, workdir, lambda sentence, fraction: None)


def with_film(change: Callable[[Floats, Sequence[int]], Floats]) -> Change:
    """Return the film's rows changed, of all modalities alike."""

    def changed(data: PreparedSplit, random: np.random.Generator) -> PreparedSplit:
        del random
        scans = data.study.scan_lengths_trs
        return replace(data, targets={m: change(x_TF, scans) for m, x_TF in data.targets.items()})

    return changed


def another_cut(data: PreparedSplit, random: np.random.Generator) -> PreparedSplit:
    """Return the film's half minutes in another order."""
    scenes = np.array_split(np.arange(data.split.n_trs), data.split.n_trs // SCENE_TRS)
    order = np.concatenate([scenes[n] for n in random.permutation(len(scenes))])
    return replace(data, targets={m: x_TF[order] for m, x_TF in data.targets.items()})


def another_film(data: PreparedSplit, random: np.random.Generator) -> PreparedSplit:
    """Return features that vary as the film's do and together, at other times: with random phases."""
    turn_K = np.exp(2j * np.pi * random.random(data.split.n_trs // 2 + 1))

    def drawn(x_TF: Floats) -> Floats:
        turned = np.fft.irfft(np.fft.rfft(x_TF, axis=0) * turn_K[:, None], len(x_TF), axis=0)
        return np.asarray(turned, np.float32)

    return replace(data, targets={m: drawn(x_TF) for m, x_TF in data.targets.items()})


def swapped_runs(x_TF: Floats, scans: Sequence[int]) -> Floats:
    """Return the second run's film first."""
    return np.concatenate([x_TF[scans[0] :], x_TF[: scans[0]]])


def noisier(factor: float) -> Change:
    """Add slow noise to every voxel of every scan, in units of the voxel's standard deviation."""

    def changed(data: PreparedSplit, random: np.random.Generator) -> PreparedSplit:
        def noisy(bold_TV: Floats) -> Floats:
            white_TV = random.standard_normal(bold_TV.shape, np.float32)
            slow_TV = (white_TV + 0.75 * np.roll(white_TV, 1, axis=0)) / 1.25
            return np.asarray((bold_TV + factor * slow_TV) / np.sqrt(1 + factor**2), np.float32)

        return with_bold(data, {s: noisy(data.bold[s]) for s in data.subjects})

    return changed


def first_subject(change: Callable[[Floats, Sequence[int]], Floats]) -> Change:
    """Return the first subject's volumes changed."""

    def changed(data: PreparedSplit, random: np.random.Generator) -> PreparedSplit:
        del random
        bold = {s: data.bold[s] for s in data.subjects}
        first = data.subjects[0]
        return with_bold(data, {**bold, first: change(bold[first], data.study.scan_lengths_trs)})

    return changed


def with_bold(data: PreparedSplit, bold: Mapping[str, Floats]) -> PreparedSplit:
    """Return the split with other scans, and with the voxels that respond in them."""
    return replace(data, bold=bold, responsive_V=shared_response(bold, data.split.train).above_chance())


CASES: dict[str, Change] = {
    "as it is": lambda data, random: data,
    "noise of its own size": noisier(1.0),
    "twice as much noise": noisier(2.0),
    "three times as much noise": noisier(3.0),
    "film backwards": with_film(lambda x_TF, scans: x_TF[::-1]),
    "film's runs swapped": with_film(swapped_runs),
    "another cut: half minutes in another order": another_cut,
    "another film: phases drawn anew": another_film,
    "a subject 4 TRs late": first_subject(lambda bold_TV, scans: np.roll(bold_TV, LATE_TRS, axis=0)),
    "a subject's runs swapped": first_subject(swapped_runs),
    "a subject's scan backwards": first_subject(lambda bold_TV, scans: bold_TV[::-1]),
}


def verdicts(facts: AlignmentFacts | None, tr_s: float) -> list[str]:
    """Return what minute one says of it: the kinds of what is wrong, `fine` for nothing."""
    if facts is None:
        return ["not measured"]
    wrong = misalignment(facts, tr_s, 0.0)
    film = [f"film {wrong.kind}"] if wrong else []
    subjects = find_outlier_subjects(facts.subjects, tr_s)
    first, *_ = facts.subjects
    subject_verdicts = [f"subject {a.kind}" if a.subject == first else f"other subject {a.kind}" for a in subjects]
    return [*film, *subject_verdicts] or ["fine"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    options = parser.parse_args()
    verdict_counts: dict[str, Counter[str]] = {case: Counter() for case in CASES}
    n = 0
    with threadpool_limits(1):
        for seed, fold in product(options.seeds, range(5)):
            data = split_of(options.workdir, seed, fold)
            n += 1
            for i, (case, change) in enumerate(CASES.items()):
                facts = alignment_of(change(data, np.random.default_rng([seed, fold, i])))
                verdict_counts[case].update(verdicts(facts, data.study.tr_s))
            report_progress(f"seed {seed}, fold {fold}: {verdict_counts['as it is']}")
    print(f"| of {n} folds of {len(options.seeds)} studies | what is said in minute one |\n| --- | --- |")
    for case, counts in verdict_counts.items():
        print(f"| {case} | {', '.join(f'{what} {k}' for what, k in counts.most_common())} |")


if __name__ == "__main__":
    main()
