"""The data check as one HTML page: the findings and what to do, the tables, and pictures; it needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate
from pathlib import Path

from giblet_train.data.checks.figures import carpet, light_and_brain, line_plot, mean_slices, png
from giblet_train.data.checks.findings import count_severities, format_number
from giblet_train.data.checks.run_checks import DataReport
from giblet_train.data.statistics.lag import LagEstimate
from giblet_train.data.study import Study
from giblet_train.schema.errors import DataError
from giblet_train.schema.run_dir import replace_file

LAG_MEANING = (
    "A response comes some 3 to 6 s after what caused it, in every third of the scan. A lag that grows from third to "
    "third shows a stretched film; one that is wrong but the same, a film that began at another time."
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number, th + th { text-align: right; font-variant-numeric: tabular-nums; }
.error { color: #b3261e; } .warning { color: #8a5a00; } .info { color: #555; }
figure { margin: 0 0 1.2rem; } figcaption { color: #555; margin-bottom: .2rem; } b { font-weight: 600; }
img { image-rendering: pixelated; display: block; height: 9rem; } img.carpet { width: 100%; }
svg { width: 100%; } svg text { font: 13px system-ui, sans-serif; } .border { stroke: #aaa; stroke-dasharray: 4; }
"""


def write_page(report: DataReport, path: Path) -> None:
    """Write the page of a report. Raises DataError where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, page(report).encode())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.", "Choose another --html.") from None


def page(report: DataReport) -> str:
    """Return the page as HTML."""
    parts = [f"<h1>Data check: {count_severities(report.findings)}</h1>", *_findings(report), *_tables(report)]
    if report.study is not None:
        parts += _pictures(report.study)
    head = f'<meta charset="utf-8"><title>Data check</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _findings(report: DataReport) -> list[str]:
    if not report.findings:
        return ["<p>Nothing was found.</p>"]
    rows = []
    for finding in report.findings:
        sentence = f"<b>{escape(finding.finding)}</b> {escape(finding.full_sentence)}"
        action = f"<br>{escape(finding.action)}" if finding.action else ""
        rows.append(f'<tr><td class="{finding.severity}">{finding.severity}</td><td>{sentence}{action}</td></tr>')
    return ["<h2>Findings</h2><table>", *rows, "</table>"]


def _tables(report: DataReport) -> list[str]:
    parts = []
    if report.files:
        files = [(subject, f.mean, f.sd, f.low, f.high) for subject, f in report.files.items()]
        parts += ["<h2>Files</h2>", *_table(("", "mean", "sd", "lowest", "highest"), files)]
    if report.components:
        facts = report.components.items()
        scales = [(name, f.raw_mean, f.raw_sd, f.mean, f.sd, f.expected_first_loss) for name, f in facts]
        columns = ("", "raw mean", "raw sd", "mean", "sd", "first loss")
        parts += ["<h2>Scales before and after normalisation</h2>", *_table(columns, scales)]
    if report.lags:
        lags = [
            (row.who, *(_lag(lag) for lag in (row.whole, *row.thirds)), "" if row.agrees else "the thirds disagree")
            for row in report.lags
        ]
        thirds = ("", "whole", "third 1", "third 2", "third 3", "")
        parts += ["<h2>TRs by which the brain follows the film</h2>", *_table(thirds, lags)]
        parts.append(f"<p>{LAG_MEANING}</p>")
    return parts


def _table(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> list[str]:
    lines = ["<table><tr>", *(f"<th>{escape(cell)}</th>" for cell in header), "</tr>"]
    for first, *numbers in rows:
        cells = "".join(f'<td class="number">{_shown(number)}</td>' for number in numbers)
        lines.append(f"<tr><td>{escape(str(first))}</td>{cells}</tr>")
    return [*lines, "</table>"]


def _shown(cell: str | float | None) -> str:
    return escape(cell) if isinstance(cell, str) else format_number(cell)


def _lag(lag: LagEstimate) -> str:
    return f"{lag.lag_trs:+d}" if lag.is_significant else "no answer"


def _pictures(study: Study) -> list[str]:
    parts = _light(study) if study.has_pictures else []
    parts.append(
        "<h2>Brains and voxels over time</h2><p>Mean images with the edge of the voxels that all subjects have; below "
        "each, voxels from top to bottom and TRs from left to right, black 2.5 sd below the voxel's mean, white "
        "2.5 above.</p>"
    )
    for subject in study.subjects:
        brain = f'<img class="brain" alt="mean image" src="{png(mean_slices(study, subject))}">'
        voxels = f'<img class="carpet" alt="carpet" src="{png(carpet(study, subject))}">'
        parts.append(_figure(brain + voxels, f"<b>{escape(subject)}</b>"))
    return parts


def _light(study: Study) -> list[str]:
    light_T, brain_T, r = light_and_brain(study)
    borders = list(accumulate(study.scan_lengths_trs))[:-1]
    plot = line_plot((light_T, brain_T), ("luminance, through Glover's response", "the voxels that follow it"), borders)
    return [
        "<h2>The film's light and the brain</h2>",
        _figure(plot, f"Voxels were chosen in the first half; in the second they follow with r = {r:.2f}."),
    ]


def _figure(content: str, caption: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{content}</figure>"
