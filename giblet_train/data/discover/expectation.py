"""What names, lengths and tables of events say about which stimulus a run shows, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

from giblet_train.data.discover.groups import Group, GroupKey
from giblet_train.data.discover.inventory import Timing
from giblet_train.data.discover.matching import Expectation, Hit
from giblet_train.data.discover.names import GENERIC, entities_of_run, stem, tokens
from giblet_train.data.discover.responses import Scan
from giblet_train.data.discover.stimuli import Candidate
from giblet_train.data.readers.bids import natural

SHARED_WORD, SHARED_GENERIC, SHARED_NUMBER, CONTAINED, SAME_RANK = 3.0, 0.5, 1.0, 4.0, 2.0
LEAST_SCORE = 1.5
SHORTEST_PART = 0.5
"""Part of a film after which it may be shown again."""
SAME_LENGTH = 0.03
"""Largest relative difference of a run and a stimulus of the same length."""
REST = frozenset(["rest", "resting", "restingstate", "fixation", "eyesopen", "eyesclosed"])


@dataclass(frozen=True)
class EventPresentation:
    """A stimulus and its time, as a table of events says."""

    stimulus: str
    onset_s: float
    timing: Timing


def expectations(
    groups: Sequence[Group], stimuli: Sequence[Candidate], timings: Sequence[Timing], tr_s: float
) -> list[Expectation]:
    """Return what is known about each group without looking at its responses."""
    stimuli_by_group = named_stimuli([group.key for group in groups], stimuli)
    seconds = {s.name: s.seconds for s in stimuli}
    parts = _consecutive_parts(groups, stimuli_by_group, stimuli, tr_s)
    result = []
    for group in groups:
        events = shown_by_events(group.key, [m.scan.name.path for m in group.members], stimuli, timings)
        if any(s.stimulus for s in events):
            hits = tuple(Hit(s.stimulus, round(s.onset_s / tr_s), 0.0, False) for s in events)
            result.append(Expectation(hits, tuple(hit.onset_trs for hit in hits), is_stated=True))
            continue
        if group.key in parts:
            result.append(Expectation((parts[group.key],), (parts[group.key].onset_trs,)))
            continue
        name = stimuli_by_group.get(group.key) or _only(group.key, groups, stimuli, tr_s)
        if not name:
            result.append(Expectation((), ()))
            continue
        onsets_s = [*(s.onset_s for s in events), *likely_onsets_s(group.usual_trs * tr_s, seconds[name])]
        onsets_trs = tuple(dict.fromkeys(round(onset_s / tr_s) for onset_s in onsets_s))
        result.append(Expectation((Hit(name, onsets_trs[0], 0.0, False),), onsets_trs, is_stated=bool(events)))
    return result


def _consecutive_parts(
    groups: Sequence[Group], stimuli_by_group: Mapping[GroupKey, str], stimuli: Sequence[Candidate], tr_s: float
) -> dict[GroupKey, Hit]:
    """Return the part of a stimulus that each run shows, for runs that are together as long as it is.

    Such are the runs of one task that is named after one film, and those of a folder with a single film.
    """
    lengths_trs = {group.key: group.usual_trs for group in groups if not is_rest(group.key)}
    only = stimuli[0].name if len(stimuli) == 1 else ""
    result: dict[GroupKey, Hit] = {}
    for stimulus in stimuli:
        keys = [key for key in lengths_trs if stimuli_by_group.get(key, only) == stimulus.name]
        total_s = sum(lengths_trs[key] for key in keys) * tr_s
        if len(keys) < 2 or abs(total_s - stimulus.seconds) > SAME_LENGTH * stimulus.seconds:
            continue
        starts_trs = accumulate((lengths_trs[key] for key in keys), initial=0)
        result |= {key: Hit(stimulus.name, -start, 0.0, False) for key, start in zip(keys, starts_trs, strict=False)}
    return result


def _only(key: GroupKey, groups: Sequence[Group], stimuli: Sequence[Candidate], tr_s: float) -> str:
    """Return the only stimulus for the only runs that may show one, or that are as long, else nothing."""
    if len(stimuli) != 1:
        return ""
    lengths_s = {group.key: group.usual_trs * tr_s for group in groups if not is_rest(group.key)}
    fitting = [k for k, s in lengths_s.items() if abs(s - stimuli[0].seconds) <= SAME_LENGTH * stimuli[0].seconds]
    return stimuli[0].name if set(lengths_s) == {key} or fitting == [key] else ""


def likely_onsets_s(run_s: float, stimulus_s: float) -> tuple[float, ...]:
    """Return the seconds at which a stimulus often begins: at once, to end with the scan, or in its middle."""
    spare_s = round(run_s - stimulus_s, 3)
    return (0.0, spare_s, spare_s / 2) if spare_s > 0 else (0.0,)


def is_rest(key: GroupKey) -> bool:
    """Return True if the name of a run says that it shows nothing."""
    return bool(REST & set(tokens(key[1])))


def named_stimuli(keys: Sequence[GroupKey], stimuli: Sequence[Candidate]) -> dict[GroupKey, str]:
    """Return the stimulus whose name fits that of each group best, for groups where one clearly does.

    A stimulus whose name fits another group better does not belong to this one: its own is missing.
    """
    unique = [key for key in dict.fromkeys(keys) if not is_rest(key)]
    ranks = _ranks(unique, stimuli)
    scores = {
        (key, s.name): _score(key, s) + (SAME_RANK if ranks.get(key) == s.name else 0.0)
        for key in unique
        for s in stimuli
    }
    stimuli_by_group: dict[GroupKey, str] = {}
    for key in unique:
        own = sorted((scores[key, s.name], s.name) for s in stimuli)
        if own and own[-1][0] >= LEAST_SCORE and (len(own) == 1 or own[-1][0] > own[-2][0]):
            best = own[-1][1]
            if own[-1][0] == max(scores[other, best] for other in unique):
                stimuli_by_group[key] = best
    return stimuli_by_group


def _ranks(keys: Sequence[GroupKey], stimuli: Sequence[Candidate]) -> dict[GroupKey, str]:
    """Return the stimulus of the same rank for each run, if a task has as many runs as there are numbered stimuli."""
    tasks: dict[str, list[GroupKey]] = {}
    for key in keys:
        tasks.setdefault(_words_of(key[1]), []).append(key)
    series: dict[str, list[Candidate]] = {}
    for stimulus in stimuli:
        series.setdefault(_words_of(stimulus.name), []).append(stimulus)
    long_series = [members for members in series.values() if len(members) > 1]
    result: dict[GroupKey, str] = {}
    for members in tasks.values():
        fitting = [films for films in long_series if len(films) == len(members)]
        of_task = set(tokens(members[0][1])) - GENERIC
        named = [films for films in fitting if of_task and of_task <= set(tokens(films[0].name))]
        fitting = named or fitting
        if len(members) > 1 and len(fitting) == 1:
            runs = sorted(members, key=lambda k: (natural(k[0]), _number_of(k[1]), natural(k[2])))
            films = sorted(fitting[0], key=lambda s: _number_of(s.name))
            result |= {run: film.name for run, film in zip(runs, films, strict=True)}
    return result


def _words_of(text: str) -> str:
    return " ".join(token for token in tokens(text) if not token.isdigit())


def _number_of(text: str) -> tuple[int, ...]:
    return tuple(int(token) for token in tokens(text) if token.isdigit())


def _score(key: GroupKey, stimulus: Candidate) -> float:
    own, other = set(tokens(" ".join(key))), set(tokens(stimulus.name))
    common_tokens = {token for token in own & other if not token.isdigit()}
    score = SHARED_WORD * len(common_tokens - GENERIC) + SHARED_GENERIC * len(common_tokens & GENERIC)
    score += SHARED_NUMBER * len({token for token in own & other if token.isdigit()})
    task, name = "".join(tokens(key[1])), "".join(tokens(stimulus.name))
    if task and task not in GENERIC and len(task) > 2 and (task in name or name in task):
        score += CONTAINED
    return score


def shown_by_events(
    key: GroupKey, scans: Sequence[Path], stimuli: Sequence[Candidate], timings: Sequence[Timing]
) -> list[EventPresentation]:
    """Return what the tables of events say about a group: those next to its scans, or those named like it."""
    own_tables = [t for t in timings if any(_belongs(t.path, scan) for scan in scans)]
    own_tables.sort(key=lambda t: -len(entities_of_run(t.path)))
    rows = own_tables or [t for t in timings if _is_about(t.path, key)]
    first = [t for t in rows if t.path == rows[0].path] if rows else []
    events = [EventPresentation(_stimulus_named(t.stimulus, stimuli), t.onset_s, t) for t in first]
    return [] if _are_within_film(events, stimuli) else events


def with_orders(scans: Sequence[Scan], stimuli: Sequence[Candidate], timings: Sequence[Timing]) -> list[Scan]:
    """Return the scans; those of one name whose tables of events state other orders of stimuli get another name.

    Counterbalanced clips would otherwise all be placed as in the first subject.
    """
    order_by_scan = {
        id(scan): tuple(e.stimulus for e in shown_by_events(scan.name.label, [scan.name.path], stimuli, timings))
        for scan in scans
    }
    orders_by_label: dict[GroupKey, list[tuple[str, ...]]] = {}
    for scan in scans:
        orders = orders_by_label.setdefault(scan.name.label, [])
        if order_by_scan[id(scan)] not in orders:
            orders.append(order_by_scan[id(scan)])
    return [
        replace(scan, name=replace(scan.name, order=f"order {orders.index(order_by_scan[id(scan)]) + 1}"))
        if len(orders := orders_by_label[scan.name.label]) > 1
        else scan
        for scan in scans
    ]


def _belongs(table: Path, scan: Path) -> bool:
    """Return True if a table of events is that of a scan, or one that it inherits, in whatever tree each of them is."""
    own, of_scan = entities_of_run(table), entities_of_run(scan)
    return bool(own) and own.items() <= of_scan.items() and ("sub" not in own or own == of_scan)


def _are_within_film(events: Sequence[EventPresentation], stimuli: Sequence[Candidate]) -> bool:
    """Return True if the rows of a table name one film again before it can have ended: they are scenes of it."""
    seconds = {s.name: s.seconds for s in stimuli}
    times = sorted((e.onset_s, e.stimulus) for e in events if e.stimulus)
    return any(
        later == earlier and later_s < earlier_s + SHORTEST_PART * seconds[earlier]
        for (earlier_s, earlier), (later_s, later) in pairwise(times)
    )


def _is_about(path: Path, key: GroupKey) -> bool:
    words = set(tokens(stem(path).removesuffix("_events"))) - GENERIC
    own = set(tokens(" ".join(key)))
    return bool(words) and words <= own


def _stimulus_named(text: str, stimuli: Sequence[Candidate]) -> str:
    name = Path(text).name
    exact = [s.name for s in stimuli if name and name == s.file.path.name]
    alike = [s.name for s in stimuli if text and stem(Path(name)) in (s.name, stem(s.file.path))]
    return next(iter([*exact, *alike]), "")


def texts_of_stimuli(texts: Sequence[Path], stimuli: Sequence[Candidate], folder: Path) -> Mapping[Path, str]:
    """Return the stimulus that each table of annotations is named after; tables that fit none are left out."""
    common = set.intersection(*(set(tokens(s.name)) for s in stimuli)) if len(stimuli) > 1 else set()
    assignment: dict[Path, str] = {}
    for path in texts:
        alike = [s.name for s in stimuli if stem(s.file.path) == path.stem]
        words = set(tokens(" ".join(path.relative_to(folder).with_suffix("").parts)))
        scores = sorted((len(words & (set(tokens(s.name)) - common)), s.name) for s in stimuli)
        if alike:
            assignment[path] = alike[0]
        elif len(stimuli) == 1 or (scores and scores[-1][0] > max(0, scores[-2][0])):
            assignment[path] = scores[-1][1]
    return assignment
