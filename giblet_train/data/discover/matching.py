"""Find which stimulus a group of runs follows, and from which second of the scan on.

A linear model of the response is learned from the other groups and predicts the response to each stimulus; the group
follows the one whose prediction it matches at some lag. With a single group, its response is compared with the stimuli
directly. R rows of a group, U TRs of a stimulus, F features, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.discover.groups import Group
from giblet_train.data.statistics.alignment import Curve, agreement, following, leading_responses, response_weights

CERTAIN_SDS = 6.0
"""Height at which a stimulus is taken whatever the files are called."""
CLEAR_SDS = 8.0
"""Height at which one that most of the scan or most of itself lacks is taken instead of what is stated."""
COMPLETE = 0.8
"""Part of a stimulus, or of the scan if that is shorter, that an unexpected stimulus must leave in common."""
CONFIRMED_SDS = 4.0
"""Height that confirms the stimulus after which a run is named, at the time at which it is expected."""
ROUNDS = 3
SHORTEST_JUDGED_S = 40.0
"""A response to a shorter clip is too weak for its absence to mean anything."""
FEWEST_ROWS = 60
"""Rows of other groups from which a model is learned."""
SHARED_SCAN = 0.3
"""Fraction of a stimulus that a better one may overlap."""

Series = NDArray[np.float64]


@dataclass(frozen=True)
class Hit:
    """A stimulus that a group follows."""

    stimulus: str
    onset_trs: int
    """Row of the group at which the stimulus is at its second 0; negative if it began before."""
    height: float
    """Standard deviations above other lags; 0 if it was not measured."""
    is_measured: bool
    """True if the response shows it, False if only names and lengths do."""


@dataclass(frozen=True)
class Expectation:
    """What names, lengths and tables of events say about a group."""

    hits: tuple[Hit, ...]
    """Expected stimuli; empty if nothing is known."""
    onsets_trs: tuple[int, ...]
    """Rows at which a stimulus plausibly begins."""
    is_stated: bool = False
    """True if a table of events states the first onset."""


def match(
    groups: Sequence[Group], expected: Sequence[Expectation], stimuli: Mapping[str, Series], tr_s: float
) -> list[tuple[Hit, ...]]:
    """Return the stimuli that each group follows, in order of onset; empty for a group that follows none."""
    hits = [_match_stimuli(group, e, stimuli, tr_s) or e.hits for group, e in zip(groups, expected, strict=True)]
    for _ in range(ROUNDS):
        before = hits
        hits = [_match_model(n, groups, e, before, stimuli, tr_s) for n, e in enumerate(expected)]
        if hits == before:
            break
    return hits


def _match_stimuli(group: Group, expected: Expectation, stimuli: Mapping[str, Series], tr_s: float) -> tuple[Hit, ...]:
    """Compare a group with the stimuli themselves; () without an answer."""
    response = leading_responses(group.mean_RV, tr_s)
    curves = {name: following(response, series) for name, series in stimuli.items()}
    return _select_hits(group, expected, curves, stimuli, tr_s)


def _match_model(
    own: int,
    groups: Sequence[Group],
    expected: Expectation,
    hits: Sequence[tuple[Hit, ...]],
    stimuli: Mapping[str, Series],
    tr_s: float,
) -> tuple[Hit, ...]:
    """Compare a group with the responses that a model of the other groups predicts; keep its hits without an answer."""
    others = [(groups[n], hits[n]) for n in range(len(groups)) if n != own and hits[n]]
    weights_FV = _fit_weights(others, stimuli)
    if weights_FV is None:
        return hits[own]
    curves = {name: agreement(groups[own].mean_RV, series @ weights_FV) for name, series in stimuli.items()}
    return _select_hits(groups[own], expected, curves, stimuli, tr_s) or hits[own]


def _fit_weights(
    groups: Sequence[tuple[Group, tuple[Hit, ...]]], stimuli: Mapping[str, Series]
) -> NDArray[np.float64] | None:
    """Return the weights (F, V) with which the groups follow their stimuli; None with too few rows."""
    inputs, responses = [], []
    for group, hits in groups:
        for hit in (hit for hit in hits if hit.stimulus in stimuli):
            series = stimuli[hit.stimulus]
            first = max(hit.onset_trs, group.first_row)
            stop = min(hit.onset_trs + len(series), group.first_row + len(group.mean_RV))
            if stop > first:
                inputs.append(series[first - hit.onset_trs : stop - hit.onset_trs])
                responses.append(group.mean_RV[first - group.first_row : stop - group.first_row])
    if sum(map(len, inputs)) < FEWEST_ROWS:
        return None
    return response_weights(np.concatenate(inputs), np.concatenate(responses))


def _select_hits(
    group: Group, expected: Expectation, curves: Mapping[str, Curve], stimuli: Mapping[str, Series], tr_s: float
) -> tuple[Hit, ...]:
    """Return the stimuli that stand out, those that are expected with less evidence.

    Expected clips too short to be judged stay where they are stated, between those that stand out.
    """
    hits = []
    for name, curve in curves.items():
        peak = curve.peak(tr_s)
        hits.append(Hit(name, peak.lag_trs + group.first_row, peak.height, True))
    stimuli_of_names = {hit.stimulus for hit in expected.hits}
    certain = [
        hit
        for hit in hits
        if hit.height > CERTAIN_SDS
        and (
            not stimuli_of_names
            or hit.stimulus in stimuli_of_names
            or hit.height > CLEAR_SDS
            or _is_complete(hit, group, stimuli)
        )
    ]
    more_hits = [
        hit
        for hit in hits
        if hit not in certain
        and hit.stimulus in stimuli_of_names
        and hit.height > CONFIRMED_SDS
        and any(abs(hit.onset_trs - onset) <= 2 for onset in expected.onsets_trs)
    ]
    measured_hits = _without_overlaps([*certain, *more_hits], stimuli)
    if expected.is_stated:
        stated_hits = [hit for hit in measured_hits if hit.stimulus in stimuli_of_names]
        measured_hits = tuple(
            hit
            for hit in measured_hits
            if hit in stated_hits or not any(_overlap_trs(hit, other, stimuli) for other in stated_hits)
        )
    if not measured_hits:
        return ()
    short_hits = [
        hit
        for hit in expected.hits
        if hit.stimulus in stimuli
        and len(stimuli[hit.stimulus]) * tr_s < SHORTEST_JUDGED_S
        and all(not _overlap_trs(hit, other, stimuli) for other in measured_hits)
    ]
    return tuple(sorted([*measured_hits, *short_hits], key=lambda h: h.onset_trs))


def _is_complete(hit: Hit, group: Group, stimuli: Mapping[str, Series]) -> bool:
    """Return True if a scan shows most of a stimulus, or a stimulus lasts for most of a scan."""
    n_trs, stop = len(stimuli[hit.stimulus]), group.first_row + len(group.mean_RV)
    common_trs = min(hit.onset_trs + n_trs, stop) - max(hit.onset_trs, group.first_row)
    return common_trs >= COMPLETE * min(n_trs, len(group.mean_RV))


def _overlap_trs(hit: Hit, other: Hit, stimuli: Mapping[str, Series]) -> int:
    stop, other_stop = (h.onset_trs + len(stimuli[h.stimulus]) for h in (hit, other))
    return max(0, min(stop, other_stop) - max(hit.onset_trs, other.onset_trs))


def _without_overlaps(hits: Sequence[Hit], stimuli: Mapping[str, Series]) -> tuple[Hit, ...]:
    """Return the best hits that do not overlap in time."""
    accepted_hits: list[Hit] = []
    for hit in sorted(hits, key=lambda h: -h.height):
        most_trs = SHARED_SCAN * len(stimuli[hit.stimulus])
        if all(_overlap_trs(hit, other, stimuli) <= most_trs for other in accepted_hits):
            accepted_hits.append(hit)
    return tuple(sorted(accepted_hits, key=lambda h: h.onset_trs))
