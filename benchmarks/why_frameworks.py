"""Diagnosis of logs in the layouts of training frameworks, through the command line. Part of `why.py`.

The first answer of `giblet why LOG` is compared with the acceptable ones. A healthy log is accused if any cause has
more than 50 % confidence. Exit code 2 where a person could judge counts as silent. A log counts as unread if it is
called healthy although fewer than MIN_READ epochs or blocks of steps were read.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typer.testing import CliRunner

from giblet_train.diagnosis.log_parser import read_log
from giblet_train.schema.records import EpochMetric
from giblet_tui.cli.parser import program
from tests.collection.frameworks import BATCHES, HEALTHY, UNKNOWN, Log

ACCUSED = 0.5
MIN_READ = 5
BEGINNINGS = (0.2, 0.4, 0.6, 0.8)
N_SEEDS = 3
FOLDERS = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME")

Outcome = Literal["right", "wrong cause", "called healthy", "accused", "silent", "unread", "error"]
OUTCOMES: dict[Outcome, str] = {
    "right": "right",
    "wrong cause": "faulty, another cause first",
    "called healthy": "faulty, called healthy",
    "accused": "healthy, accused",
    "silent": "not judged, although it can be",
    "unread": "called healthy after reading almost nothing",
    "error": "ended in an error",
}


@dataclass(frozen=True)
class Verdict:
    """What `giblet why` answered about a log."""

    log: Log
    seed: int
    answer: str
    outcome: Outcome

    def __str__(self) -> str:
        """Describe a failure."""
        answer = "healthy, hardly read," if self.outcome == "unread" else self.answer
        return f"{self.log.name}: {answer} instead of {' or '.join(sorted(self.log.answers))}"


def judge(log: Log, seed: int, folder: Path) -> Verdict:
    """Write a log, run `giblet why` on it and compare the answers."""
    return _judge(log, seed, log.save(folder, seed))


def judge_beginning(log: Log, share: float, folder: Path) -> Verdict:
    """Judge the first part of a log, as it is while the training still runs."""
    path = log.save(folder)
    text = path.read_bytes()
    path.write_bytes(text[: int(share * len(text)) // 4 * 4])
    return _judge(log, 0, path)


def _judge(log: Log, seed: int, path: Path) -> Verdict:
    result = CliRunner().invoke(program, ["why", str(path), "--json"])
    if result.exit_code not in (0, 1, 2) or (result.exception and not isinstance(result.exception, SystemExit)):
        return Verdict(log, seed, repr(result.exception), "error")
    causes = json.loads(result.stdout)["causes"]
    likely = [cause["cause"] for cause in causes if log.faulty or cause["confidence"] > ACCUSED]
    answer = likely[0] if likely else UNKNOWN if result.exit_code == 2 else HEALTHY
    return Verdict(log, seed, answer, _outcome(log, answer, path))


def _outcome(log: Log, answer: str, path: Path) -> Outcome:
    if answer == HEALTHY and not log.faulty and _epochs_read(path) < MIN_READ:
        return "unread"
    if answer in log.answers:
        return "right"
    if answer == UNKNOWN:
        return "silent"
    if answer == HEALTHY:
        return "called healthy" if log.faulty else "unread"
    return "wrong cause" if log.faulty else "accused"


def _epochs_read(path: Path) -> int:
    log = read_log(path)
    n_rewards = sum(row.reward is not None for row in log.log.balanced_rows)
    return n_rewards or sum(isinstance(metric, EpochMetric) for metric in log.metrics)


@contextmanager
def own_folders() -> Iterator[Path]:
    """Let giblet read and write its settings in a temporary folder, and yield another one for logs."""
    before = {name: os.environ.get(name) for name in FOLDERS}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {name: f"{temporary}/{name.lower()}" for name in FOLDERS}
        logs = Path(temporary) / "logs"
        logs.mkdir()
        try:
            yield logs
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def n_logs() -> int:
    """Return the number of cases of all batches."""
    return sum(map(len, BATCHES.values()))


def verdicts(batch: str, n_seeds: int = 1) -> list[Verdict]:
    """Judge every log of a batch, each with the numbers of several seeds; seed 0 is the one that was tried first."""
    with own_folders() as folder:
        return [judge(log, seed, folder) for log in BATCHES[batch] for seed in range(n_seeds)]


def accused_early(batch: str, shares: Sequence[float] = BEGINNINGS) -> list[Verdict]:
    """Return the accusations of healthy logs at some shares of their length."""
    with own_folders() as folder:
        judged = [
            judge_beginning(log, share, folder)
            for log in BATCHES[batch]
            if not log.faulty
            for share in shares
            if share >= log.clear_from
        ]
    return [v for v in judged if v.outcome in ("accused", "error")]


def page(n_seeds: int = N_SEEDS) -> str:
    """Return the table and the failures as Markdown."""
    lines = [
        f"| batch | logs | {' | '.join(OUTCOMES.values())} | healthy, accused before its end |",
        f"| --- | ---: |{' ---: |' * (len(OUTCOMES) + 1)}",
    ]
    failures: list[str] = []
    for batch in BATCHES:
        judged = verdicts(batch, n_seeds)
        print(batch, file=sys.stderr)
        counts = [sum(v.outcome == outcome for v in judged) for outcome in OUTCOMES]
        early = accused_early(batch)
        lines.append(f"| {batch} | {len(judged)} | {' | '.join(map(str, counts))} | {len(early)} |")
        for log in BATCHES[batch]:
            wrong = [v for v in judged if v.log is log and v.outcome != "right"]
            if wrong:
                failures.append(f"- {batch}: {wrong[0]} ({len(wrong)} of {n_seeds})")
        failures += [f"- {batch}, before its end: {v}" for v in early]
    return "\n".join([*lines, "", "Failures:", "", *(failures or ["- none"])])
