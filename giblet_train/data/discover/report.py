"""Print a proposal: a table and findings for people, one JSON object, or a configuration."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from giblet_train.data.checks.findings import count_severities
from giblet_train.data.checks.report import MARKS, finding_lines
from giblet_train.data.discover.proposal import GroupSummary, Proposal
from giblet_train.data.discover.stimuli import Candidate
from giblet_train.data.readers.bids import companions
from giblet_train.data.readers.runs_table import format_runs_table
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.schema.config import NAME_PATTERN
from giblet_train.schema.config_loader import load
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.regular_file import read_regular

SCHEMA = 1
USUAL_CONFOUNDS = ("trans_*", "rot_*", "csf", "white_matter")
GAP_S = 20.0
"""Gap around held-out blocks: longer than the response to an event."""
SHORT_STUDY_TRS = 300
"""Shorter studies get fewer folds and a shorter validation block."""
CRITERIA = """\
criteria:                        # what this run must show; without criteria there is no verdict
  loss_drop: {kind: loss_drop, threshold: 0.05}
  beats_null: {kind: beats_null, threshold: 0.02, split: held-out}
  reconstruction: {kind: reconstruction_skill, threshold: 0.0, split: held-out}
"""


def report_lines(proposal: Proposal) -> list[str]:
    """Return the report for people: what was measured, the table of runs, the findings."""
    subjects = {run.subject for run in proposal.runs}
    lines = [
        f"{proposal.folder}: {len(subjects)} subjects, {len(proposal.runs)} runs, TR {proposal.tr_s:g} s.",
        "",
        f"{'runs':24}{'subjects':>9}{'TRs':>7}  {'stimulus':26}{'onset':>9}{'sds':>7}{'agreement':>11}",
    ]
    for group in proposal.groups:
        lines += _group_lines(group)
    lines += [
        "",
        "onset: second of the scan at which the stimulus begins; sds: height of the response to it above chance (- if",
        "taken from the name); agreement: height of the correlation between subjects above chance.",
        "",
        *format_runs_table(proposal.runs, proposal.folder).splitlines(),
        "",
    ]
    lines += finding_lines(proposal.findings)
    return [*lines, f"{count_severities(list(proposal.findings))}."]


def _group_lines(group: GroupSummary) -> Iterator[str]:
    agreement = f"{group.agreement:.1f}" if group.agreement else "-"
    start = f"{group.name[:23]:24}{group.n_subjects:>9}{group.n_trs:>7}  "
    if not group.hits:
        yield f"{start}{'none':26}{'-':>9}{'-':>7}{agreement:>11}"
    for hit, onset_s in zip(group.hits, group.onsets_s, strict=True):
        sds = f"{hit.height:.1f}" if hit.is_measured else "-"
        yield f"{start}{hit.stimulus[:25]:26}{onset_s:>9g}{sds:>7}{agreement:>11}"
        start = " " * len(start)


def to_json(proposal: Proposal, name: str) -> str:
    """Return the proposal as one JSON object, with its report and its configuration as text.

    Args:
        name: Name of the configuration.
    """
    value = {
        "schema": SCHEMA,
        "ok": not proposal.failed,
        "folder": str(proposal.folder),
        "tr_s": proposal.tr_s,
        "stimuli": {s.name: _files_of(s, proposal) | {"seconds": round(s.seconds, 3)} for s in proposal.stimuli},
        "runs": [
            {
                "subject": run.subject,
                "session": run.session,
                "task": run.task,
                "run": run.run,
                "bold": _relative(run.bold, proposal.folder),
                "presentations": [
                    {"stimulus": p.stimulus, "scan_onset_s": p.onset_s, "stimulus_start_s": p.start_s}
                    for p in run.presentations
                ],
            }
            for run in proposal.runs
        ],
        "findings": msgspec.to_builtins(proposal.findings),
        "report": report_lines(proposal),
        "config": to_config(proposal, name) if proposal.stimuli else None,
    }
    return json.dumps(value)


def to_config(proposal: Proposal, name: str) -> str:
    """Return a configuration that trains on the table, checked as `config check` would.

    Raises ConfigError for a bad name, DataError if no run has a stimulus.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"{name!r} cannot name a run.", "Use at most 40 of a-z, 0-9, _ and -.")
    if not proposal.stimuli:
        raise DataError("No run follows a stimulus of the folder.", "Check that films and scans belong together.")
    text = "\n".join(_config_lines(proposal, name)) + "\n"
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        load(path, folders=(Path(__file__).parents[2] / "configs",))
    return text


def _config_lines(proposal: Proposal, name: str) -> Iterator[str]:
    yield "# Proposed from the files and the brains of the study. What is unusual in it:"
    for finding in proposal.findings:
        yield f"# {MARKS[finding.severity]} {finding.full_sentence}"
    yield from ("extends: base", f"name: {name}", "stage: test", "num_epochs: 20", "", "data:")
    yield f"  data_dir: {_scalar(str(proposal.folder))}"
    yield f"  tr: {proposal.tr_s:g}"
    if proposal.trust_tr:
        yield f"  trust_tr: {proposal.trust_tr}               # some files state another TR"
    if confounds := _confounds(proposal):
        yield f"  bids: {{confounds: {confounds}}}   # regressed out, from the tables next to the scans"
    yield "  stimuli:"
    for stimulus in proposal.stimuli:
        files = _files_of(stimulus, proposal)
        pairs = ", ".join(
            f"{key}: {value if isinstance(value, int) else _scalar(value)}" for key, value in files.items()
        )
        yield f"    {_scalar(stimulus.name)}: {{{pairs}}}"
    yield "  runs: |"
    yield from (f"    {line}" for line in format_runs_table(proposal.runs, proposal.folder).splitlines())
    yield from _split_lines(proposal)
    yield from ("", CRITERIA.rstrip("\n"))


def _confounds(proposal: Proposal) -> str:
    """Return the usual confounds that the tables next to all scans have; "" if a scan has none."""
    tables = [companions(split_dataset(run.bold)[0])[1] for run in proposal.runs]
    headers = [set(_columns_of(table)) for table in tables if table is not None]
    if not headers or len(headers) < len(tables):
        return ""
    common = set.intersection(*headers)
    usual = [name for name in USUAL_CONFOUNDS if any(fnmatch(column, name) for column in common)]
    return f"[{', '.join(map(_scalar, usual))}]" if usual else ""


def _columns_of(table: Path) -> list[str]:
    try:
        return read_regular(table).decode("utf-8-sig").partition("\n")[0].strip().split("\t")
    except (OSError, UnicodeDecodeError):
        return []


def _split_lines(proposal: Proposal) -> Iterator[str]:
    n_trs = math.floor(sum(s.seconds for s in proposal.stimuli) / proposal.tr_s)
    yield from ("", "split:", f"  gap_trs: {math.ceil(GAP_S / proposal.tr_s)}")
    if n_trs < SHORT_STUDY_TRS:
        yield "  n_folds: 4                     # a short study"
    if n_trs < 2 * SHORT_STUDY_TRS:
        yield f"  validation_trs: {max(10, n_trs // 8)}"


def _files_of(stimulus: Candidate, proposal: Proposal) -> dict[str, str | int]:
    """Return the keys of a stimulus in the configuration."""
    files: dict[str, str | int] = {}
    if stimulus.film is not None:
        files["video"] = _relative(stimulus.film.path, proposal.folder)
    if stimulus.sound is not None:
        files["audio"] = _relative(stimulus.sound.path, proposal.folder)
    text = proposal.texts.get(stimulus.name)
    if text is not None:
        files["annotations"] = _relative(text.path, proposal.folder)
        if text.scan is not None:
            files["annotations_scan"] = text.scan
    return files


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _scalar(text: str) -> str:
    """Return a text as a YAML value, quoted unless it is plain and no number."""
    return text if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) else json.dumps(text, ensure_ascii=False)
