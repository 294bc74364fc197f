"""Reports of `data lag` and `data check`: tables for people, or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.data.checks.clock import check_clock
from giblet_train.data.checks.findings import Finding, by_severity, count_severities, format_number
from giblet_train.data.checks.html_report import write_data_page
from giblet_train.data.checks.run_checks import DataReport, check_study
from giblet_train.data.statistics.lag import LagEstimate, LagRow, lag_table
from giblet_train.data.statistics.run_lags import run_lag_table
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.progress import ProgressCallback

SCHEMA = 1
SCANS_TITLE = "scans, in the units of the files"
COMPONENTS_TITLE = "components before and after scaling; the best constant has a loss of 1"
LAG_TITLE = "delay of the brain behind the film, in TRs; no answer: not above chance"
MARKS = {"error": "✖", "warning": "!", "info": "·"}


def lag_report(request: DataRequest, progress: ProgressCallback, *, as_json: bool = False) -> tuple[bool, str]:
    """Return True if any clock is wrong, and the table of subjects and runs with what is wrong in it; or as JSON."""
    study = open_store(build_store(request.config, request.data_dir, request.workdir, progress))
    rows = lag_table(study)
    runs = run_lag_table(study) if len(study.scan_lengths_trs) > 1 else ()
    findings = by_severity(check_clock(rows, runs, study))
    failed = any(finding.severity == "error" for finding in findings)
    if as_json:
        facts = {"schema": 1, "tr_s": study.tr_s, "failed": failed, "lags": _lags((*rows, *runs)), "findings": findings}
        return failed, msgspec.json.encode(facts).decode()
    lines = [*lag_lines((*rows, *runs)), f"A TR is {study.tr_s:g} s; 4 to 6 s are right."]
    return failed, "\n".join([*lines, *([""] if findings else []), *finding_lines(findings)])


def check_report(
    request: DataRequest, progress: ProgressCallback, *, as_json: bool, html: Path | None = None
) -> tuple[bool, str]:
    """Return True if there was an error, and the report.

    Args:
        html: Path at which the page with figures is written.
    """
    report = check_study(request, progress)
    if html is not None:
        write_data_page(report, html)
    text = msgspec.json.encode(to_json(report)).decode() if as_json else "\n".join(report_lines(report))
    return report.failed, text


def lag_lines(rows: Sequence[LagRow]) -> list[str]:
    """Format a line for each subject: the lag of the whole scan, of each third, and whether they agree."""
    lines = [LAG_TITLE, f"{'':10}{'whole':>11}{'third 1':>11}{'third 2':>11}{'third 3':>11}"]
    for row in rows:
        cells = "".join(f"{_lag(lag):>11}" for lag in (row.whole, *row.thirds))
        lines.append(f"{row.who:10}{cells}  {'' if row.agrees else 'the thirds disagree'}".rstrip())
    return lines


def _lag(lag: LagEstimate) -> str:
    return f"{lag.lag_trs:+d}" if lag.is_significant else "no answer"


def report_lines(report: DataReport, more: Sequence[str] = ()) -> list[str]:
    """Format the report for people: the tables, then `more`, then the findings with their remedies."""
    lines = [f"{name:14}{value}" for name, value in report.about.items()]
    lines += ["", SCANS_TITLE, f"{'':8}{'mean':>12}{'sd':>12}{'lowest':>12}{'highest':>12}"]
    for subject, facts in report.files.items():
        lines.append(
            f"{subject:8}{format_number(facts.mean):>12}{format_number(facts.sd):>12}{format_number(facts.low):>12}{format_number(facts.high):>12}"
        )
    if report.components:
        titles = ("raw mean", "raw sd", "mean", "sd", "1st loss", "targets")
        lines += ["", COMPONENTS_TITLE, " " * 8 + "".join(f"{title:>12}" for title in titles)]
    for component, fact in report.components.items():
        numbers = (fact.raw_mean, fact.raw_sd, fact.mean, fact.sd, fact.expected_first_loss)
        cells = "".join(f"{format_number(n):>12}" for n in numbers)
        lines.append(f"{component:8}{cells}{fact.n_targets:12}")
    if report.lags:
        lines += ["", *lag_lines(report.lags)]
    lines += [*more, "", *finding_lines(report.findings)]
    return [*lines, f"{count_severities(report.findings)}."]


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield each finding, and its remedy below it."""
    for finding in findings:
        yield f"{MARKS[finding.severity]} {finding.finding}: {finding.full_sentence}"
        if finding.action:
            yield f"    {finding.action}"


def to_json(report: DataReport) -> dict[str, Any]:
    """Return the report as `--json` prints it."""
    value: dict[str, Any] = {"schema": SCHEMA, "ok": not report.failed, "findings": report.findings}
    value["about"] = report.about
    return value | {"components": report.components, "lags": _lags(report.lags)}


def _lags(rows: Sequence[LagRow]) -> dict[str, dict[str, Any]]:
    """Return the lags of each subject, and of the mean of all, as JSON has them."""
    return {row.who: {"whole": _fields(row.whole), "thirds": [_fields(t) for t in row.thirds]} for row in rows}


def _fields(lag: LagEstimate) -> dict[str, float | bool]:
    return {"lag_trs": lag.lag_trs, "score": lag.score, "height_sds": lag.height, "answers": lag.is_significant}
