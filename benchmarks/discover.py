"""Plant faults into each of the eight layouts, and see what `giblet data discover` names: docs/benchmarks/discover.md.

    python -m benchmarks.discover build/discover            all layouts, some five minutes on two cores
    python -m benchmarks.discover build/discover hbn nndb   these

A fault must be named with its subject, and nothing else may be accused: no warning and no error about another file.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.demo_runs import report_progress
from giblet_train.data.discover.proposal import Proposal, discover
from giblet_train.data.readers.array_file import hdf5_package
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.data.simulation.generated_film import SMALL, generated_film, generated_sound
from giblet_train.data.simulation.layout_study import simulate_layout
from giblet_train.data.simulation.study_layouts import LAYOUTS, MadeRun, StudyLayout
from tests.studies import copied, cut, exchange, move_annotations

Series = NDArray[Any]
Findings = AbstractSet[tuple[str, str]]
LATE_TRS, CROPPED_TRS, LOST_TRS, LATE_TEXT_S = 8, 6, 20, 12.0
NEAR_S = 2.0
"""An onset that is neither 0 nor stated is measured to this precision, or to a TR."""

HEAD = """\
# Faults planted into eight layouts

Made by `make bench-discover`: `python -m giblet_train simulate` with `--layout` writes a small study with simulated
brains in the layout of a public data set, and `giblet data discover` describes it. "Right": every row of the proposed
table is the true one. Then one fault at a time is planted into a copy. It must be named with its subject; "also
reported" are warnings and errors about anything else.
"""


@dataclass(frozen=True)
class Planted:
    """Findings that a planted fault must cause."""

    expected: Findings
    """Finding and subject."""
    companions: Findings = frozenset()
    """Findings that may come in addition."""


class NotPossibleError(Exception):
    """A fault that this layout cannot have."""


@dataclass(frozen=True)
class Copy:
    """A copy of a study to spoil."""

    folder: Path
    layout: StudyLayout

    def path(self, run: MadeRun) -> Path:
        """Return the path of a scan."""
        return self.folder / run.bold

    def shown(self) -> list[MadeRun]:
        """Return the runs that show something."""
        return [run for run in self.layout.runs if run.presentations]

    def own_runs(self, least: int) -> list[MadeRun]:
        """Return the runs of the first subject who has at least so many."""
        counts = Counter(run.subject for run in self.layout.runs)
        for run in self.shown():
            if counts[run.subject] >= least:
                return [other for other in self.shown() if other.subject == run.subject]
        raise NotPossibleError

    def usual_run(self) -> MadeRun:
        """Return a run without a crop that at least two other subjects have."""
        for run in self.shown():
            alike = [r for r in self.shown() if _name(r) == _name(run)]
            if len(alike) > 2 and run.n_trs == max(r.n_trs for r in alike):
                return run
        raise NotPossibleError


def _name(run: MadeRun) -> tuple[str, str, str]:
    return run.session, run.task, run.run


def change(path: Path, edit: Callable[[Series], Series]) -> None:
    """Replace the values of a scan, time first."""
    file, dataset = split_dataset(path)
    if dataset:
        own = file.with_name("own.h5")
        shutil.copyfile(file, own)
        own.replace(file)
        with hdf5_package(file).File(file, "a") as stream:
            values = edit(stream[dataset][:])
            del stream[dataset]
            stream[dataset] = values
        return
    image: Any = nibabel.load(file)
    values = np.asarray(image.dataobj)
    file.unlink()
    if isinstance(image, nibabel.Cifti2Image):
        values = edit(values)
        axis = nibabel.cifti2.SeriesAxis(0, image.header.get_axis(0).step, len(values))
        nibabel.save(nibabel.Cifti2Image(values, (axis, image.header.get_axis(1))), file)
        return
    values = np.moveaxis(edit(np.moveaxis(values, -1, 0)), 0, -1)
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), file)


def values_of(path: Path) -> Series:
    """Return the values of a scan, time first."""
    values: list[Series] = []

    def keep(series: Series) -> Series:
        values.append(series)
        return series

    change(path, keep)
    return values[0]


def swap(first: Path, second: Path) -> None:
    """Exchange the values of two scans, which may be in one file."""
    if not split_dataset(first)[1]:
        exchange(first, second)
        return
    values = values_of(first), values_of(second)
    change(first, lambda _: values[1])
    change(second, lambda _: values[0])


def two_runs_of_one_subject(copy: Copy) -> Planted:
    first, *others = copy.own_runs(2)
    second = next(r for r in others if r.presentations[0].stimulus != first.presentations[0].stimulus)
    swap(copy.path(first), copy.path(second))
    return Planted({("run_swapped", f"sub-{first.subject}")})


def two_subjects_in_one_run(copy: Copy) -> Planted:
    first = copy.own_runs(2)[0]
    others = {r.subject for r in copy.layout.runs if _name(r) != _name(first)}
    second = next(
        r
        for r in copy.shown()
        if _name(r) == _name(first) and r.subject != first.subject and r.subject in others and r.n_trs == first.n_trs
    )
    swap(copy.path(first), copy.path(second))
    return Planted({("subject_swapped", f"sub-{run.subject}") for run in (first, second)})


def a_scan_of_another_film(copy: Copy) -> Planted:
    first = copy.shown()[0]
    if copy.layout.name != "nndb":
        raise NotPossibleError
    second = next(r for r in copy.shown() if r.presentations[0].stimulus != first.presentations[0].stimulus)
    swap(copy.path(first), copy.path(second))
    return Planted({("run_mislabelled", f"sub-{run.subject}") for run in (first, second)})


def started_late(copy: Copy) -> Planted:
    run = copy.usual_run()
    change(copy.path(run), lambda x: np.concatenate([x[: -LATE_TRS - 1 : -1], x[:-LATE_TRS]]))
    return Planted({("late_run", f"sub-{run.subject}")})


def cut_at_the_beginning(copy: Copy) -> Planted:
    run = copy.usual_run()
    change(copy.path(run), lambda x: x[CROPPED_TRS:])
    return Planted({("cropped_start", f"sub-{run.subject}")})


def all_cut_at_the_beginning(copy: Copy) -> Planted:
    usual = copy.usual_run()
    first = usual.presentations[0]
    cut_trs = round(first.onset_s / copy.layout.tr_s) + CROPPED_TRS
    for run in copy.shown():
        if _name(run) == _name(usual):
            change(copy.path(run), lambda x: x[cut_trs:])
    return Planted({("stimulus_earlier", "")}, {("events_shifted", "")})


def cut_at_the_end(copy: Copy) -> Planted:
    run = copy.usual_run()
    last = run.presentations[-1]
    seconds = next(s.seconds for s in copy.layout.stimuli if s.name == last.stimulus)
    after_trs = run.n_trs - round((last.onset_s + seconds) / copy.layout.tr_s)
    n_lost = max(0, after_trs) + min(LOST_TRS, run.n_trs // 3)
    change(copy.path(run), lambda x: x[:-n_lost])
    return Planted({("cropped_end", f"sub-{run.subject}")})


def a_copy_of_another_subject(copy: Copy) -> Planted:
    run = copy.own_runs(2)[0] if copy.layout.name != "nndb" else copy.usual_run()
    other = next(r for r in copy.shown() if _name(r) == _name(run) and r.subject != run.subject)
    values = values_of(copy.path(run))
    change(copy.path(other), lambda _: values)
    return Planted({("duplicate", f"sub-{other.subject}")})


def exchanged_films(copy: Copy) -> Planted:
    files = [copy.folder / s.file for s in copy.layout.stimuli]
    exchange(files[0], files[1])
    return Planted({("stimulus_swapped", "")})


def another_film(copy: Copy) -> Planted:
    stimulus = copy.layout.stimuli[0]
    path = copy.folder / stimulus.file
    path.unlink()
    if stimulus.kind == "sound":
        generated_sound(path, stimulus.seconds, 987)
    else:
        generated_film(path, stimulus.seconds, 987, form=SMALL)
    return Planted({("stimulus_foreign", "")})


def late_annotations(copy: Copy) -> Planted:
    layout = copy.layout
    if layout.workbook is not None:
        lengths = [round(s.seconds / layout.tr_s) for s in layout.stimuli]
        move_annotations(copy.folder / layout.workbook, LATE_TEXT_S, lengths)
    else:
        text = next((s.annotations for s in layout.stimuli if s.annotations and s.kind != "sound"), None)
        if text is None:
            raise NotPossibleError
        move_annotations(copy.folder / text, LATE_TEXT_S)
    return Planted({("annotations_shifted", "")})


def a_truncated_file(copy: Copy) -> Planted:
    run = copy.usual_run()
    if split_dataset(copy.path(run))[1]:
        raise NotPossibleError
    cut(copy.path(run))
    return Planted({("unreadable_file", f"sub-{run.subject}")})


def a_wrong_tr(copy: Copy) -> Planted:
    run = copy.usual_run()
    if copy.layout.series != "nifti":
        raise NotPossibleError
    path = copy.path(run)
    image: Any = nibabel.load(path)
    values, affine, header = np.asarray(image.dataobj), image.affine, image.header.copy()
    header.set_zooms((*header.get_zooms()[:3], 2 * copy.layout.tr_s))
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(values, affine, header), path)
    return Planted({("wrong_tr", f"sub-{run.subject}")})


def a_transposed_array(copy: Copy) -> Planted:
    run = copy.usual_run()
    if copy.layout.series != "parcels":
        raise NotPossibleError
    change(copy.path(run), lambda x: x[: x.shape[1]].T)
    return Planted({("unreadable_file", f"sub-{run.subject}")})


def exchanged_axes(copy: Copy) -> Planted:
    run = copy.own_runs(2)[0]
    if copy.layout.series != "nifti":
        raise NotPossibleError
    change(copy.path(run), lambda x: np.swapaxes(x, 1, 3))
    kind = "run_alone" if copy.layout.name == "studyforrest" else "run_unlike"
    return Planted({(kind, f"sub-{run.subject}")}, {("other_brain", f"sub-{run.subject}")})


def a_missing_run(copy: Copy) -> Planted:
    run = copy.own_runs(2)[0]
    if split_dataset(copy.path(run))[1]:
        raise NotPossibleError
    copy.path(run).unlink()
    return Planted({("missing_run", f"sub-{run.subject}")})


FAULTS: Mapping[str, Callable[[Copy], Planted]] = {
    "two runs of one subject exchanged": two_runs_of_one_subject,
    "two subjects exchanged in one run": two_subjects_in_one_run,
    "scans of two films exchanged": a_scan_of_another_film,
    f"a run started {LATE_TRS} TRs late": started_late,
    f"a run without its first {CROPPED_TRS} TRs": cut_at_the_beginning,
    f"all runs of a name without the first {CROPPED_TRS} TRs of the film": all_cut_at_the_beginning,
    "a run that ends 20 TRs early (12 of 36)": cut_at_the_end,
    "a copy of another subject": a_copy_of_another_subject,
    "two films exchanged": exchanged_films,
    "another film under the name of one": another_film,
    f"annotations {LATE_TEXT_S:g} s late": late_annotations,
    "a truncated file": a_truncated_file,
    "a header with twice the TR": a_wrong_tr,
    "an array stored transposed": a_transposed_array,
    "axes of a scan exchanged": exchanged_axes,
    "a missing run": a_missing_run,
}


def silent(sentence: str, share: float) -> None:
    """Report no progress."""


def named(proposal: Proposal, severities: Sequence[str] = ("info", "warning", "error")) -> Findings:
    """Return finding and subject of what a proposal says."""
    return {(f.finding, f.subject) for f in proposal.findings if f.severity in severities}


def is_right(proposal: Proposal, truth: Mapping[str, Any], study: Path) -> bool:
    """Return True if every run is proposed with its subject, its stimuli and their onsets."""
    file_of = {name: s["file"] for name, s in truth["stimuli"].items()}
    proposed_of = {s.name: s.file.path.relative_to(study).as_posix() for s in proposal.stimuli}
    runs = {run.bold.relative_to(study).as_posix(): run for run in proposal.runs}
    if set(runs) != {run["bold"] for run in truth["runs"]} or proposal.tr_s != truth["tr_s"]:
        return False
    for run in truth["runs"]:
        own = runs[run["bold"]]
        if own.subject != f"sub-{run['subject']}" or len(own.presentations) != len(run["presentations"]):
            return False
        for presentation, true in zip(own.presentations, run["presentations"], strict=True):
            if proposed_of[presentation.stimulus] != file_of[true["stimulus"]]:
                return False
            if abs(presentation.onset_s - true["onset_s"]) > (
                max(NEAR_S, truth["tr_s"]) if true["onset_s"] > 0 else 1e-6
            ):
                return False
    return True


def rows_of(workdir: Path, name: str) -> list[tuple[str, str, str, str]]:
    """Return a row for the layout as it is, then one for each fault: layout, fault, what is named, what is accused."""
    folder = workdir / name
    shutil.rmtree(folder, ignore_errors=True)
    simulate_layout(folder, name)
    layout, truth = LAYOUTS[name](), json.loads((folder / "truth.json").read_text())
    healthy = discover(folder / "study", silent)
    false_findings = named(healthy, ("warning", "error"))
    right = "right" if is_right(healthy, truth, folder / "study") else "**wrong**"
    rows = [(name, "none", right, _text(false_findings))]
    for fault, plant in FAULTS.items():
        copy = workdir / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copied(folder / "study", copy)
        try:
            planted_fault = plant(Copy(copy, layout))
        except NotPossibleError:
            continue
        proposal = discover(copy, silent)
        missing_findings = planted_fault.expected - named(proposal)
        names_fault = (
            f"not {_text(missing_findings)}"
            if missing_findings
            else _text({(kind, "") for kind, _ in planted_fault.expected})
        )
        others = named(proposal, ("warning", "error")) - planted_fault.expected
        others -= planted_fault.companions
        rows.append((name, fault, f"**{names_fault}**" if missing_findings else names_fault, _text(others)))
        report_progress(" | ".join(rows[-1]))
    return rows


def _text(findings: Findings) -> str:
    return ", ".join(sorted(f"{kind} {subject}".strip() for kind, subject in findings)) or "–"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("layouts", nargs="*", default=list(LAYOUTS))
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        rows = [row for name in options.layouts for row in rows_of(options.workdir.absolute(), name)]
    faults = [row for row in rows if row[1] != "none"]
    print(HEAD)
    print(f"Layouts that are right: {sum(r[2] == 'right' for r in rows)} of {len(options.layouts)}.")
    print(f"Faults that are named: {sum('**' not in row[2] for row in faults)} of {len(faults)}.")
    print(f"Studies in which something else is reported: {sum(row[3] != '–' for row in rows)} of {len(rows)}.\n")
    print("| layout | fault | named | also reported |\n| --- | --- | --- | --- |")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
