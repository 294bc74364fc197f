"""Errors that a user can cause or meet, each with its exit code and a remedy.

    GibletError            1  the run or the verdict failed
    ├── ConfigError        2  usage, configuration or input files
    │   └── DataError      2  the study's files do not fit
    ├── PreflightRefused   5  node, disk or store refuse before anything starts
    ├── RunFailed          1  training ended with a named cause
    └── Preempted         75  ended by a signal, with all progress saved

`giblet_tui.errors` adds those of the network. Raise where the cause is known, with a remedy; catch in the command line.
"""

from __future__ import annotations

OK, FAILED, USAGE, UNREACHABLE, NOT_REACHED, REFUSED, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 124, 130
PREEMPTED = 75
"""Exit code of a trainer that was asked to end, by a signal or by another node."""


class GibletError(Exception):
    """A message for the user, and a remedy.

    Args:
        message: what is wrong, in one sentence.
        remedy: what to do next, as an imperative or a command.
    """

    exit_code = FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class ConfigError(GibletError):
    """The configuration or the command line cannot be honoured."""

    exit_code = USAGE


class DataError(ConfigError):
    """A file of the study is missing, damaged or does not fit the others."""


class PreflightRefused(GibletError):
    """Nothing was started, because it would have failed."""

    exit_code = REFUSED


class RunFailed(GibletError):
    """Training ended with a cause that it could name."""


class Preempted(GibletError):
    """A signal requested the end before there was a step to finish and to save."""

    exit_code = PREEMPTED
