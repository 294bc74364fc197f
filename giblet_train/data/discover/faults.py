"""Name what is wrong or unusual in a study's files, each with its evidence and a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np

from giblet_train.data.checks.findings import Finding, Severity
from giblet_train.data.discover.expectation import is_rest
from giblet_train.data.discover.groups import AGREES_SDS, Grouping, GroupKey, agreement_with
from giblet_train.data.discover.inventory import Inventory
from giblet_train.data.discover.matching import Expectation, Hit
from giblet_train.data.discover.placement import PlacedRun
from giblet_train.data.discover.responses import Scan, Scans, is_same_tr
from giblet_train.data.discover.stimuli import Candidate
from giblet_train.schema.errors import DataError

COPY_CORRELATION = 0.95
FIRST_LOOK_VOXELS = 40
OWN_SHARE = 0.5
"""A name that more than this share of subjects have is one that the others lack."""
SHORTEST_JUDGED_RUN_S = 120.0
"""Length of runs from which the absence of a response to their stimulus means something."""
CLIP_TRS = 3
"""A clip that begins this near to a stated onset is the one that it states."""
CROP_S = 3.0
"""A run that ends this much before its stimulus is cropped; durations of films are rounded."""
TABLE_SAYS_SO = "Nothing is to be done: the table says so."


def group_name(key: GroupKey) -> str:
    """Return the name of runs of all subjects, such as `task-movie run-2`."""
    parts = (("ses", key[0]), ("task", key[1]), ("run", key[2]))
    return " ".join(f"{kind}-{value}" for kind, value in parts if value) or "the scans"


@dataclass(frozen=True)
class Copy:
    """A scan that is in the folder twice."""

    copied: Path
    """The one that is left out."""
    finding: Finding


def file_findings(
    inventory: Inventory, scans: Scans, unreadable: Sequence[tuple[Candidate, DataError]], folder: Path
) -> Iterator[Finding]:
    """Report files that cannot be read, do not fit the others, or are other versions of used ones."""
    for name, error in scans.problems:
        yield Finding(
            finding="unreadable_file",
            severity="error",
            subject=f"sub-{name.subject}",
            sentence=f"{name.text} is left out. {error.message}",
            action=error.remedy,
        )
    for problem in (*inventory.problems, *(error for _, error in unreadable)):
        yield Finding(finding="unreadable_file", severity="error", sentence=problem.message, action=problem.remedy)
    chosen_subjects = {name.subject for name in inventory.scans}
    left_out = [name for name in inventory.other_versions if name.subject not in chosen_subjects]
    versions = [name for name in inventory.other_versions if name.subject in chosen_subjects]
    if left_out:
        subjects = ", ".join(dict.fromkeys(f"sub-{name.subject}" for name in left_out))
        yield Finding(
            finding="subjects_left_out",
            severity="error",
            sentence=f"{subjects} have scans, such as {left_out[0].path.relative_to(folder)}, but none of the version "
            f"of the data that is used, such as {inventory.scans[0].path.relative_to(folder)}.",
            action="Give a folder with one version of the scans of all subjects, and the films.",
        )
    if versions:
        example = versions[0].path.relative_to(folder)
        yield Finding(
            finding="other_versions",
            severity="info",
            sentence=f"{len(versions)} scans are other versions of the same runs, such as {example}.",
            action="To use them, give a folder without the others.",
        )


def duplicates(scans: Sequence[Scan]) -> list[Copy]:
    """Return the scans that are copies of others. Of two, the one stays that looks like its subject's other scans."""
    copies: list[Copy] = []
    removed_paths: set[Path] = set()
    for first, second in combinations(scans, 2):
        if first.n_trs != second.n_trs or {first.name.path, second.name.path} & removed_paths:
            continue
        r = _correlation(first, second)
        if r <= COPY_CORRELATION:
            continue
        copy, original = (
            (first, second) if _likeness(second, scans) > _likeness(first, scans) + 0.01 else (second, first)
        )
        removed_paths.add(copy.name.path)
        sentence = (
            f"{copy.name.text} and {original.name.text} are the same scan: their voxels correlate {r:.3f}. "
            f"{copy.name.path.name} is left out."
        )
        finding = Finding(
            finding="duplicate",
            severity="error",
            subject=f"sub-{copy.name.subject}",
            sentence=sentence,
            evidence={"correlation": r},
            action="Replace the copy by the right file.",
        )
        copies.append(Copy(copy.name.path, finding))
    return copies


def _correlation(first: Scan, second: Scan) -> float:
    few = slice(None, None, max(1, first.fast_TV.shape[1] // FIRST_LOOK_VOXELS))
    if float((first.fast_TV[:, few] * second.fast_TV[:, few]).mean()) <= COPY_CORRELATION / 2:
        return 0.0
    moves_V = (first.fast_TV.any(axis=0) & second.fast_TV.any(axis=0)).astype(bool)
    return float((first.fast_TV[:, moves_V] * second.fast_TV[:, moves_V]).mean()) if moves_V.any() else 0.0


def _likeness(scan: Scan, scans: Sequence[Scan]) -> float:
    """Return how much the mean volume of a scan resembles those of its subject's other scans."""
    others = [s.mean_V for s in scans if s.name.subject == scan.name.subject and s is not scan]
    if not others or not scan.mean_V.std():
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nan_to_num([np.corrcoef(scan.mean_V, other)[0, 1] for other in others]).mean())


def tr_findings(scans: Scans, groupings: Sequence[Grouping]) -> Iterator[Finding]:
    """Report scans whose header or sidecar states another TR than most."""
    in_step = {m.scan.name.path: m.peak.height for g in groupings if g.is_coherent for m in g.group.members}
    for scan in scans.scans:
        tr_by_source = {"header": scan.header_s, "sidecar": scan.sidecar_s}
        wrong = {what: tr for what, tr in tr_by_source.items() if tr is not None and not is_same_tr(tr, scans.tr_s)}
        if not wrong:
            continue
        statement = " and ".join(f"the {what} says {tr:g} s" for what, tr in wrong.items())
        height = in_step.get(scan.name.path, 0.0)
        if is_same_tr(scan.sidecar_s, scans.tr_s):
            proof = f"The sidecar says {scans.tr_s:g} s."
        elif height > AGREES_SDS:
            proof = f"Its volumes are in step with those of the others ({height:.1f} standard deviations above chance)."
        else:
            proof = "Its volumes are not in step with those of the others."
        yield Finding(
            finding="wrong_tr",
            severity="warning",
            subject=f"sub-{scan.name.subject}",
            sentence=f"{scan.name.text}: {statement}, the TR of most scans is {scans.tr_s:g} s. {proof}",
            evidence={what: float(tr) for what, tr in wrong.items()},
            action="The configuration overrules it by data.trust_tr; correct the file, or leave the run out.",
        )


def placement_findings(
    runs: Sequence[PlacedRun],
    groupings: Sequence[Grouping],
    expected: Sequence[Expectation],
    stimuli: Sequence[Candidate],
    tr_s: float,
) -> Iterator[Finding]:
    """Report runs and groups that show something else than their names say, or nothing that is known."""
    names = {s.name: s for s in stimuli}
    for grouping, expectation in zip(groupings, expected, strict=False):
        yield from _group_findings(grouping, runs, expectation, names, tr_s)
    strangers = [p for p in runs if p.is_stranger]
    of_key = {g.key: g for g in groupings}
    homes = {id(p): _home(p, groupings, tr_s) for p in strangers}
    for run in strangers:
        own = of_key[run.scan.name.group]
        members = {id(m.scan) for m in own.group.members}
        usual_stimuli = {p.stimulus for other in runs if id(other.scan) in members for p in other.presentations}
        yield _stranger_finding(run, homes, strangers, own, usual_stimuli)


def _group_findings(
    grouping: Grouping,
    runs: Sequence[PlacedRun],
    expectation: Expectation,
    stimuli: dict[str, Candidate],
    tr_s: float,
) -> Iterator[Finding]:
    scans = {id(m.scan) for m in grouping.group.members}
    run = next(p for p in runs if id(p.scan) in scans)
    name = group_name(grouping.key)
    if not run.hits:
        severity: Severity = "info" if is_rest(grouping.key) else "warning"
        yield Finding(
            finding="no_stimulus",
            severity=severity,
            sentence=f"{name}: {len(scans)} runs follow no stimulus of the folder"
            + (", as the name says." if severity == "info" else ", and none has a similar name."),
            action="They are in the table without a stimulus, and are not trained on.",
        )
        return
    measured = {hit.stimulus for hit in run.hits if hit.is_measured}
    expected_stimuli = {hit.stimulus for hit in expectation.hits}
    if len(expectation.hits) > 1 and measured:
        yield from _clip_findings(name, run.hits, expectation.hits, stimuli)
        return
    if expected_stimuli and measured and not measured & expected_stimuli:
        followed_files, named_files = (
            ", ".join(sorted(stimuli[n].file.path.name for n in names)) for names in (measured, expected_stimuli)
        )
        yield Finding(
            finding="stimulus_swapped",
            severity="warning",
            sentence=f"{name} is named after {named_files}, but all {len(scans)} runs follow {followed_files} "
            f"({max(h.height for h in run.hits):.1f} standard deviations above chance).",
            evidence={"sds": max(h.height for h in run.hits)},
            action="Check the names of the films. The table lists what the brains follow.",
        )
    if expectation.is_stated and (moved_trs := _common_shift(run.hits, expectation.hits)):
        yield _shifted(name, moved_trs)
    if not measured:
        yield _unconfirmed(name, grouping, run.hits, runs, stimuli, tr_s)


def _clip_findings(
    name: str, hits: Sequence[Hit], expected: Sequence[Hit], stimuli: dict[str, Candidate]
) -> Iterator[Finding]:
    """Report clips of a run that are not what the table of events says at that time."""
    moved_trs = _common_shift(hits, expected)
    if moved_trs:
        yield _shifted(name, moved_trs)
        return
    for clip in expected:
        near = [hit for hit in hits if abs(hit.onset_trs - clip.onset_trs) <= CLIP_TRS]
        named_file = stimuli[clip.stimulus].file.path.name
        if any(hit.stimulus == clip.stimulus for hit in near):
            continue
        if near:
            clearest = max(near, key=lambda hit: hit.height)
            yield Finding(
                finding="stimulus_swapped",
                severity="warning",
                sentence=f"{name}: where the table of events names {named_file}, all runs follow "
                f"{stimuli[clearest.stimulus].file.path.name} ({clearest.height:.1f} standard deviations).",
                evidence={"sds": clearest.height},
                action="Check the names of the films. The table lists what the brains follow.",
            )
        else:
            yield Finding(
                finding="stimulus_foreign",
                severity="warning",
                sentence=f"{name}: where the table of events names {named_file}, the runs do not follow it, though "
                f"they follow the other clips ({median(hit.height for hit in hits):.1f} standard deviations). It "
                "is probably another film, or was shown at another time.",
                evidence={"others_sds": median(hit.height for hit in hits)},
                action="Compare the film with what was shown. The table leaves this clip out.",
            )


def _shifted(name: str, moved_trs: int) -> Finding:
    return Finding(
        finding="events_shifted",
        severity="warning",
        sentence=f"{name}: the runs follow the stimuli {abs(moved_trs)} TRs "
        f"{'later' if moved_trs > 0 else 'earlier'} than the table of events says.",
        evidence={"trs": moved_trs},
        action="Check the onsets in the table of events, and whether first volumes were deleted. The table of runs has "
        "the measured ones.",
    )


def _common_shift(hits: Sequence[Hit], expected: Sequence[Hit]) -> int:
    """Return by how many TRs clips begin later than expected if most of them do so alike, else 0."""
    shifts = [hit.onset_trs - clip.onset_trs for clip in expected for hit in hits if hit.stimulus == clip.stimulus]
    usual, count = Counter(shifts).most_common(1)[0] if shifts else (0, 0)
    alike = sum(abs(shift - usual) <= 1 for shift in shifts)
    return usual if count and abs(usual) > CLIP_TRS and 2 * alike > len(expected) else 0


def _unconfirmed(
    name: str,
    grouping: Grouping,
    hits: Sequence[Hit],
    runs: Sequence[PlacedRun],
    stimuli: dict[str, Candidate],
    tr_s: float,
) -> Finding:
    """Report a group that does not follow the stimulus after which it is named."""
    stimulus_list = ", ".join(f"{stimuli[h.stimulus].file.path.name} {stimuli[h.stimulus].seconds:.1f} s" for h in hits)
    agreement = median(m.peak.height for m in grouping.group.members) if grouping.is_coherent else 0.0
    heights = [hit.height for run in runs for hit in run.hits if hit.is_measured]
    if agreement > AGREES_SDS and heights and grouping.group.usual_trs * tr_s >= SHORTEST_JUDGED_RUN_S:
        return Finding(
            finding="stimulus_foreign",
            severity="warning",
            sentence=f"{name}: the runs agree with each other ({agreement:.1f} standard deviations above chance), and "
            f"other runs follow their stimuli ({median(heights):.1f}), but these follow the stimulus after which they "
            f"are named ({stimulus_list}) at no time. It is probably another film, or another cut of it.",
            evidence={"agreement_sds": agreement, "others_sds": median(heights)},
            action="Compare the film with what was shown, or leave these runs out.",
        )
    reason = "the responses do not confirm it"
    run_s = grouping.group.usual_trs * tr_s
    if run_s < SHORTEST_JUDGED_RUN_S:
        reason += f", but runs of {run_s:.0f} s are too short for this to count against it"
    return Finding(
        finding="unverified",
        severity="warning",
        sentence=f"{name}: the stimulus is taken from the name ({stimulus_list}); {reason}.",
        action="Check film and onset by hand, and look at `giblet data check`.",
    )


def _home(run: PlacedRun, groupings: Sequence[Grouping], tr_s: float) -> tuple[Grouping, float] | None:
    """Return the group of another name with which a run agrees best, and how much; None if with none."""
    others = [g for g in groupings if g.key != run.scan.name.group and g.is_coherent and len(g.group.members) > 1]
    heights = [(agreement_with(run.scan, g.group, tr_s).height, n) for n, g in enumerate(others)]
    best = max(heights, default=(0.0, -1))
    return (others[best[1]], best[0]) if best[0] > AGREES_SDS else None


def _stranger_finding(
    run: PlacedRun,
    homes: dict[int, tuple[Grouping, float] | None],
    strangers: Sequence[PlacedRun],
    own: Grouping,
    usual_stimuli: set[str],
) -> Finding:
    name, home = run.scan.name, homes[id(run)]
    stimulus_names = ", ".join(p.stimulus for p in run.presentations if run.hits and run.hits[0].is_measured)
    if home is not None:
        partner = next(
            (
                other
                for other in strangers
                if other.scan.name.group == home[0].key
                and (back := homes[id(other)]) is not None
                and back[0].key == name.group
                and other.scan.name.subject == name.subject
            ),
            None,
        )
        fact = f"{name.text} agrees with the runs of {group_name(home[0].key)} ({home[1]:.1f} standard deviations)"
        if partner is not None:
            return _finding(
                "run_swapped",
                run,
                f"{fact} and not with those of its own name: it is exchanged with {partner.scan.name.text}.",
                "Exchange the two files. The table lists each with what it shows.",
                home[1],
            )
        return _finding(
            "run_mislabelled",
            run,
            f"{fact} and not with those of its own name.",
            "Correct its name. The table lists it with what it shows.",
            home[1],
        )
    if stimulus_names and {p.stimulus for p in run.presentations} <= usual_stimuli:
        return _finding(
            "run_unlike",
            run,
            f"{name.text} follows {stimulus_names} as the other runs of its name do, but its voxels do not respond as "
            "theirs.",
            "Check its grid: axes in another order, left and right exchanged, or another space.",
            max(h.height for h in run.hits),
        )
    if stimulus_names:
        height = max(h.height for h in run.hits)
        return _finding(
            "run_mislabelled",
            run,
            f"{name.text} does not agree with the other runs of its name; it follows {stimulus_names} "
            f"({height:.1f} standard deviations above chance).",
            "Check its name. The table lists it with what it shows.",
            height,
        )
    return _finding(
        "run_alone",
        run,
        f"{name.text} agrees with no other run, and follows no stimulus of the folder; the "
        f"{len(own.group.members)} others of its name agree with each other.",
        "Check that it is the right file, with the right TR, axes and order in time. Leave it out otherwise.",
        0.0,
    )


def _finding(
    kind: str, run: PlacedRun, sentence: str, action: str, height: float, severity: Severity = "warning"
) -> Finding:
    return Finding(
        finding=kind,
        severity=severity,
        subject=f"sub-{run.scan.name.subject}",
        sentence=sentence,
        evidence={"sds": height} if height else {},
        action=action,
    )


def crop_findings(placed_runs: Sequence[PlacedRun], stimuli: Sequence[Candidate], tr_s: float) -> Iterator[Finding]:
    """Report runs that begin or end elsewhere in their stimulus than most, and groups that end before it does."""
    seconds = {s.name: s.seconds for s in stimuli}
    groups: dict[GroupKey, list[PlacedRun]] = {}
    for run in placed_runs:
        if run.presentations and not run.is_stranger:
            groups.setdefault(run.scan.name.group, []).append(run)
    for key, runs in groups.items():
        ends = Counter(run.scan.n_trs - run.shift_trs for run in runs)
        usual_end = ends.most_common(1)[0][0]
        for run in runs:
            yield from _start_findings(run, tr_s)
            lost_trs = usual_end - (run.scan.n_trs - run.shift_trs)
            last = run.presentations[-1]
            over_s = run.scan.n_trs * tr_s - (last.onset_s + seconds[last.stimulus])
            if lost_trs > 1 and over_s < -CROP_S:
                yield _finding(
                    "cropped_end",
                    run,
                    f"{run.scan.name.text} has {run.scan.n_trs} volumes and ends {lost_trs} TRs "
                    f"({lost_trs * tr_s:g} s) before most others: the last {-over_s:.0f} s of {last.stimulus} are "
                    "missing.",
                    TABLE_SAYS_SO,
                    run.hits[0].height,
                    "info",
                )
        usual = next((r for r in runs if r.scan.n_trs - r.shift_trs == usual_end), runs[0])
        last = usual.presentations[-1]
        first = usual.presentations[0]
        if first.onset_s - usual.shift_trs * tr_s < 0:
            before_s = usual.shift_trs * tr_s - first.onset_s
            yield Finding(
                finding="stimulus_earlier",
                severity="info",
                sentence=f"{group_name(key)}: the scans begin {before_s:g} s into {first.stimulus}.",
                evidence={"seconds": round(before_s, 3)},
                action=TABLE_SAYS_SO,
            )
        missing_s = last.onset_s - usual.shift_trs * tr_s + seconds[last.stimulus] - usual_end * tr_s
        if missing_s > CROP_S:
            yield Finding(
                finding="stimulus_longer",
                severity="info",
                sentence=f"{group_name(key)}: the scans end {missing_s:.0f} s before {last.stimulus} does.",
                evidence={"seconds": round(missing_s, 3)},
                action=TABLE_SAYS_SO,
            )


def _start_findings(run: PlacedRun, tr_s: float) -> Iterator[Finding]:
    if not run.shift_trs:
        return
    first, height = run.presentations[0], run.hits[0].height
    shift_s = abs(run.shift_trs) * tr_s
    where = f"{run.scan.name.text}: compared with the others of its name, "
    if run.shift_trs < 0:
        yield _finding(
            "cropped_start",
            run,
            f"{where}the first {-run.shift_trs} TRs ({shift_s:g} s) are missing"
            + (f"; the scan begins {-first.onset_s:g} s into {first.stimulus}." if first.onset_s < 0 else "."),
            TABLE_SAYS_SO,
            height,
            "info",
        )
        return
    yield _finding(
        "late_run",
        run,
        f"{where}{first.stimulus} begins {run.shift_trs} TRs ({shift_s:g} s) later, at second {first.onset_s:g} of the "
        "scan.",
        "Check when the stimulus was started. The table has the measured onset.",
        height,
    )


def missing_findings(runs: Sequence[PlacedRun]) -> Iterator[Finding]:
    """Report runs that most subjects have and one lacks."""
    subjects = list(dict.fromkeys(p.scan.name.subject for p in runs))
    having: dict[GroupKey, set[str]] = {}
    for run in runs:
        having.setdefault(run.scan.name.label, set()).add(run.scan.name.subject)
    for key, present in having.items():
        if len(present) <= OWN_SHARE * len(subjects):
            continue
        for subject in subjects:
            if subject not in present:
                yield Finding(
                    finding="missing_run",
                    severity="info",
                    subject=f"sub-{subject}",
                    sentence=f"sub-{subject} has no {group_name(key)}; {len(present)} of {len(subjects)} subjects "
                    "have it.",
                    action="If it was recorded, copy it into the folder. It is not needed for training.",
                )


def stimulus_findings(
    stimuli: Sequence[Candidate], used_stimuli: set[str], expected: Sequence[Expectation]
) -> Iterator[Finding]:
    """Report films and sounds that no run follows, and that no name and no table of events mentions."""
    expected_stimuli = {hit.stimulus for expectation in expected for hit in expectation.hits}
    for stimulus in stimuli:
        if stimulus.name not in used_stimuli | expected_stimuli:
            yield Finding(
                finding="unused_stimulus",
                severity="warning",
                sentence=f"No run follows {stimulus.file.path.name} ({stimulus.seconds:.0f} s), and none is named "
                "after it.",
                action="Remove it, or check that its scans are in the folder.",
            )
