"""Charts of a run's report: measured and predicted responses, subjects, learning curves, balance of the losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.held_out_maps import HeldOutMaps
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.metrics import pearson
from giblet_train.pages.charts import WIDE, Line, bars, line_chart
from giblet_train.pages.page import figure, paragraph
from giblet_train.pages.scores import decimal
from giblet_train.schema.records import AnyMetric, EpochMetric, StepMetric

MOST_POINTS = 200
"""Points of a curve over steps."""
MOST_SERIES = 3
"""Regions whose responses are drawn."""
MOST_SUBJECTS = 40
FMRI = "fmri"
"""Name of the loss of the brain."""


def responses(data: PreparedSplit, maps: HeldOutMaps, has_regions: bool) -> str:
    """Draw measured and predicted responses of what is predicted best, over film time.

    has_regions: True if the series are means of the regions of an atlas, False if they are of single voxels.
    """
    r = {name: float(pearson(maps.predicted[name], maps.measured[name])) for name in maps.measured}
    rows = np.asarray(data.split.test)
    # The time of the film rises only if one film is shown once and without a break.
    clock = "film time, s" if len(data.study.spans) <= 1 else "time in the study, s"
    ends = np.flatnonzero(np.diff(rows) > 1) + 1
    film_s = np.insert(rows * data.study.tr_s + data.study.stimulus_offset_s, ends, np.nan).tolist()
    charts = ""
    for name in sorted(r, key=lambda n: -r[n] if math.isfinite(r[n]) else math.inf)[:MOST_SERIES]:
        lines = [
            Line("measured", film_s, _with_gaps(maps.measured[name], ends), 0, 5),
            Line("predicted", film_s, _with_gaps(maps.predicted[name], ends), 1, 4),
        ]
        title = f"Measured and predicted response of {name}"
        chart = line_chart(title, lines, clock, "response, sd", width=WIDE)
        wide = f'<div class="scroll" tabindex="0"><div class="wide">{chart}</div></div>'
        charts += figure(wide, "", heading=f"{name}: r = {decimal(r[name])}")
    noun = data.study.geometry.noun
    unit = f"in standard deviations of a {noun.one}, in held-out TRs"
    if has_regions:
        note = (
            f"Mean over the {noun.many} of a region and over subjects, {unit}; the {min(MOST_SERIES, len(r))} that are "
            f"predicted best of {len(r)}. Averages have less noise than single {noun.many}, so their r is higher."
        )
    else:
        note = (
            f"Mean over subjects, {unit}; the {min(MOST_SERIES, len(r))} {noun.many} with the highest held-out r of "
            "all, which is therefore higher than it would be on another film. data.atlas shows regions instead."
        )
    return paragraph(note, "soft") + charts + paragraph("Source: series.tsv next to this page", "source")


def subjects(data: PreparedSplit, maps: HeldOutMaps) -> str:
    """Draw held-out r of each subject, mean of responsive voxels."""
    responsive_V = data.responsive_V if data.responsive_V.any() else np.ones(data.n_voxels, bool)
    rows = [(subject, float(r_V[responsive_V].mean()), None) for subject, r_V in maps.r.items()][:MOST_SUBJECTS]
    values = [value for _, value, _ in rows]
    noun = data.study.geometry.noun
    chart = bars("Held-out r of each subject", rows, f"held-out r, mean of responsive {noun.many}", "")
    count = f"; the first {MOST_SUBJECTS} of {len(maps.r)}" if len(maps.r) > MOST_SUBJECTS else ""
    caption = f"Held-out r of each subject, {decimal(min(values))} to {decimal(max(values))}{count}."
    return figure(f'<div class="narrow">{chart}</div>', caption, "sub-*_r maps next to this page")


def curves(metrics: Sequence[AnyMetric]) -> str:
    """Draw loss by epoch of each part, and r on the validation block."""
    epochs = [m for m in metrics if isinstance(m, EpochMetric)]
    if not epochs:
        return ""
    x = [float(e.epoch) for e in epochs]
    charts = []
    for part in epochs[0].train.loss:
        train = [_value(e.train.loss.get(part)) for e in epochs]
        validation = [_value(e.validation.loss.get(part)) if e.validation else math.nan for e in epochs]
        lines = [Line("training", x, train, 0, 5), Line("validation", x, validation, 1, 4)]
        chart = line_chart(f"Loss of {_name(part)} by epoch", lines, "epoch", "loss")
        charts.append(figure(chart, "", heading=f"Loss of {_name(part)}"))
    r = [_value(e.fmri_r) for e in epochs]
    if any(math.isfinite(value) for value in r):
        chart = line_chart("Validation r by epoch", [Line("validation", x, r, 1, 4)], "epoch", "r")
        charts.append(figure(chart, "", heading="r of the brain on the validation block"))
    note = paragraph("A loss of 1 is that of the best constant. Source: metrics.jsonl of the run", "soft")
    return note + f'<div class="columns">{"".join(charts)}</div>'


def balance(metrics: Sequence[AnyMetric]) -> str:
    """Draw the share of each loss in the total and, where it was measured, in the gradient."""
    steps = [m for m in metrics if isinstance(m, StepMetric)]
    if not steps:
        return ""
    names = list(steps[-1].share)
    measured = [s for s in steps if s.gradient_share]
    total = _shares(_thinned(steps), names, [s.share for s in _thinned(steps)])
    gradient = _shares(_thinned(measured), names, [s.gradient_share or {} for s in _thinned(measured)])
    chart = line_chart("Share of each loss in the total by step", total, "step", "share", zero=True)
    charts = figure(chart, "", "metrics.jsonl", heading="Share of each weighted loss in the total")
    second = line_chart("Share of each loss in the gradient by step", gradient, "step", "share", zero=True)
    if second:
        charts += figure(second, "", "metrics.jsonl", heading="Share of each loss in the gradient")
    return f'<div class="columns">{charts}</div>'


def _shares(
    steps: Sequence[StepMetric], names: Sequence[str], shares: Sequence[Mapping[str, float | None]]
) -> list[Line]:
    x = [float(s.step) for s in steps]
    return [Line(_name(p), x, [_value(share.get(p)) for share in shares], n % 4, n) for n, p in enumerate(names)]


def _thinned(steps: Sequence[StepMetric]) -> Sequence[StepMetric]:
    return steps[:: max(1, len(steps) // MOST_POINTS)]


def _with_gaps(values_T: NDArray[np.floating[Any]], ends: NDArray[np.intp]) -> list[float]:
    """Return values with a NaN inserted before each position of `ends`, which interrupts their line."""
    return [float(value) for value in np.insert(np.asarray(values_T, float), ends, np.nan)]


def _name(part: str) -> str:
    return "fMRI" if part == FMRI else part


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)
