"""The data check as one HTML page: the findings and what to do, the tables, and pictures; it needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.checks.figures import (
    bad_examples,
    brain_canvas,
    carpet,
    carpet_chart,
    frame_changes,
    light_and_brain,
    temporal_snr,
)
from giblet_train.data.checks.findings import count_severities, format_number
from giblet_train.data.checks.run_checks import DataReport
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.statistics.lag import LagEstimate
from giblet_train.data.study import Study
from giblet_train.pages.brain import Overlay, colour_bar
from giblet_train.pages.charts import WIDE, Line, line_chart
from giblet_train.pages.colours import SEQUENTIAL
from giblet_train.pages.page import figure, html_page, paragraph, table, write_page
from giblet_train.pages.png import png_uri
from giblet_train.pages.scores import decimal

MOST_CONFOUNDS = 6

FILES_MEANING = "In the units of the files, of all that is not zero. The sd is that over time, median over the brain."
SCALES_MEANING = (
    "Raw: before normalisation, in training TRs. The first loss is what a model that has learnt nothing is expected to "
    "have: 1, that of the best constant."
)
LAG_MEANING = (
    "A response comes some 4 to 6 s after what caused it, in every third of the scan. A lag that grows from third to "
    "third shows a stretched film; one that is wrong but the same, a film that began at another time."
)
TSNR_MEANING = (
    "tSNR is the mean of a voxel over its standard deviation within scans. At 3 T, preprocessed "
    "cortex has some 40 to 100; "
    "low values near sinuses and ear canals are normal, low values everywhere are not. All subjects "
    "have one colour scale. "
    "Grey lines are the edge of the voxels that all subjects have; left is on the left."
)
CARPET_MEANING = (
    "Each row is a {one}, each column a TR, black 2.5 sd below the mean of the {one}, white 2.5 above. The line above "
    "is the change from TR to TR: its peaks are motion or scanner faults."
)


def write_data_page(report: DataReport, path: Path) -> None:
    """Write the page of a report. Raises DataError where the file cannot be written."""
    write_page(page(report), path, "--html")


def page(report: DataReport) -> str:
    """Return the page as HTML."""
    sections = [("Findings", "".join(_findings(report))), *_tables(report)]
    if report.study is not None:
        sections += _pictures(report.study)
    opening = "".join(f"<b>{escape(name)}</b> {escape(value)}<br>" for name, value in report.about.items())
    return html_page(f"Data check: {count_severities(report.findings)}", sections, f"<p>{opening}</p>")


def _findings(report: DataReport) -> list[str]:
    if not report.findings:
        return ["<p>Nothing was found.</p>"]
    rows = []
    for finding in report.findings:
        sentence = f"<b>{escape(finding.finding)}</b> {escape(finding.full_sentence)}"
        action = f"<br>{escape(finding.action)}" if finding.action else ""
        rows.append(f'<tr><td class="{finding.severity}">{finding.severity}</td><td>{sentence}{action}</td></tr>')
    return ['<div class="scroll" tabindex="0"><table>', *rows, "</table></div>"]


def _tables(report: DataReport) -> list[tuple[str, str]]:
    sections = []
    if report.files:
        files = [_row(subject, f.mean, f.sd, f.low, f.high) for subject, f in report.files.items()]
        content = table(("", "mean", "sd", "lowest", "highest"), files) + paragraph(FILES_MEANING, "soft")
        sections.append(("Files", content))
    if report.components:
        facts = report.components.items()
        scales = [_row(name, f.raw_mean, f.raw_sd, f.mean, f.sd, f.expected_first_loss) for name, f in facts]
        columns = ("", "raw mean", "raw sd", "mean", "sd", "first loss")
        content = table(columns, scales) + paragraph(SCALES_MEANING, "soft")
        sections.append(("Scales before and after normalisation", content))
    if report.lags:
        lags = [
            (row.who, *(_lag(lag) for lag in (row.whole, *row.thirds)), "" if row.agrees else "the thirds disagree")
            for row in report.lags
        ]
        thirds = ("", "whole", "third 1", "third 2", "third 3", " ")
        content = table(thirds, lags, (0, 5)) + paragraph(LAG_MEANING)
        sections.append(("TRs by which the brain follows the film", content))
    return sections


def _row(name: str, *numbers: float | None) -> tuple[str, ...]:
    return (name, *(format_number(number) for number in numbers))


def _lag(lag: LagEstimate) -> str:
    return f"{lag.lag_trs:+d}" if lag.is_significant else "no answer"


def _pictures(study: Study) -> list[tuple[str, str]]:
    sections = [("The film's light and the brain", _light(study))] if study.has_pictures else []
    tsnr = {subject: temporal_snr(study, subject) for subject in study.subjects}
    high = max(1.0, *(float(np.quantile(tsnr_V, 0.98)) for tsnr_V in tsnr.values()))
    brains = paragraph(TSNR_MEANING)
    for subject, tsnr_V in tsnr.items():
        brains += _brain(study, subject, tsnr_V, high)
    sections.append(("Brains", brains))
    noun = study.geometry.noun
    carpets = paragraph(CARPET_MEANING.format(one=noun.one)) + "".join(
        _carpet(study, subject) for subject in study.subjects
    )
    sections.append((f"{noun.many.capitalize()} over time", carpets))
    examples = "".join(
        figure(f'<img class="pixels" alt="Simulated carpet. {escape(words)}" src="{png_uri(picture)}">', escape(words))
        for words, picture in bad_examples()
    )
    sections.append(("What bad data look like", f'<div class="columns">{examples}</div>'))
    return sections


def _brain(study: Study, subject: str, tsnr_V: NDArray[np.float32], high: float) -> str:
    if not isinstance(study.geometry, VolumeGrid):
        low, middle, top = np.quantile(tsnr_V, (0.05, 0.5, 0.95))
        return paragraph(
            f"{subject}: {study.geometry.description}; tSNR median {middle:.0f}, 5th to 95th percentile {low:.0f} to "
            f"{top:.0f}."
        )
    canvas = brain_canvas(study, subject)
    tsnr_XYZ = np.zeros(study.mask.shape, np.float32)
    tsnr_XYZ[study.mask] = tsnr_V
    overlay = Overlay(tsnr_XYZ, 0.0, high, positive=SEQUENTIAL)
    nothing = Overlay(tsnr_XYZ, np.inf, high)
    middle_mm = canvas.box_mm.mean(axis=0)
    slices = canvas.slices(nothing, f"Mean image of {subject}", middle_mm, n_axial=0)
    bar = colour_bar(overlay, "tSNR")
    maps = canvas.slices(overlay, f"tSNR of {subject}", middle_mm, n_axial=0) + bar
    caption = f"<b>{escape(subject)}</b>: mean image and tSNR (median {np.median(tsnr_V):.0f})."
    return figure(f'<div class="columns"><div>{slices}</div><div>{maps}</div></div>', caption)


def _carpet(study: Study, subject: str) -> str:
    borders = list(accumulate(study.scan_lengths_trs))[:-1]
    chart = carpet_chart(
        carpet(study, subject),
        f"Carpet of {subject}",
        borders,
        frame_changes(study, subject),
        study.tr_s,
        study.geometry.noun.many,
    )
    motion = _confounds(study, subject, borders)
    return figure(
        f'<div class="scroll" tabindex="0"><div class="wide">{chart}{motion}</div></div>', f"<b>{escape(subject)}</b>"
    )


def _confounds(study: Study, subject: str, borders: Sequence[int]) -> str:
    """Draw the subject's confounds, such as motion; nothing without any."""
    if subject not in study.confounds:
        return ""
    confounds_TN = np.asarray(study.confounds[subject], float)
    sd_N = confounds_TN.std(axis=0)
    scaled_TN = (confounds_TN - confounds_TN.mean(axis=0)) / np.where(sd_N > 0, sd_N, 1.0)
    x = list(range(len(scaled_TN)))
    lines = [
        Line(f"confound {n + 1}", x, scaled_TN[:, n].tolist(), n // 6, n % 6)
        for n in range(min(MOST_CONFOUNDS, scaled_TN.shape[1]))
    ]
    return line_chart(f"Confounds of {subject}", lines, "TR", "z", borders=borders, width=WIDE)


def _light(study: Study) -> str:
    light_T, brain_T, r = light_and_brain(study)
    many = study.geometry.noun.many
    borders = list(accumulate(study.scan_lengths_trs))[:-1]
    x = list(range(len(light_T)))
    lines = [Line("luminance, through Glover's response", x, light_T.tolist(), 0, 0)]
    lines.append(Line(f"the {many} that follow it", x, brain_T.tolist(), 0, 5))
    chart = line_chart(f"Film luminance and the {many} that follow it", lines, "TR", "z", borders=borders, width=WIDE)
    caption = f"{many.capitalize()} were chosen in the first half; in the second they follow with r = {decimal(r)}."
    wide = f'<div class="scroll" tabindex="0"><div class="wide">{chart}</div></div>'
    return figure(wide, escape(caption))
