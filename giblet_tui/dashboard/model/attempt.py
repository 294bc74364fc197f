"""Call what is outside the dashboard, and turn every exception into a sentence: for every action of the dashboard."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from giblet_train.schema.errors import GibletError

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a call returned, or why it failed."""

    value: T | None = None
    error: str = ""
    """Sentence with its remedy; empty if the call returned."""


def attempt(call: Callable[[], T]) -> Outcome[T]:
    """Return the outcome of a call; raises nothing."""
    try:
        return Outcome(call())
    except Exception as error:
        return Outcome(error=error_sentence(error))


def error_sentence(error: Exception) -> str:
    """Return an exception as a sentence; an unexpected one with its place in the code, for a report."""
    if isinstance(error, GibletError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    detail = f": {error}" if str(error) else ""
    return f"Unexpected error{place}: {type(error).__name__}{detail}. The dashboard continues; please report this."
