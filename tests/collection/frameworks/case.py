"""A log that imitates a public report, with the answers that are right for it.

Nothing is copied from a real log: layouts follow the printing code of each framework, numbers are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

HEALTHY = "healthy"
UNKNOWN = "cannot judge"

Lines = list[str]
Write = Callable[[Random], Lines | dict[str, Lines]]


@dataclass(frozen=True)
class Log:
    """A log, or a folder of logs if `write` returns several by name.

    `answers` are the causes that are right if named first, HEALTHY, or UNKNOWN if nothing can be concluded. A person
    could not know before the share `clear_from` of the log that nothing is wrong.
    """

    name: str
    answers: frozenset[str]
    write: Write
    suffix: str = ".log"
    encoding: str = "utf-8"
    clear_from: float = 0.0

    @property
    def faulty(self) -> bool:
        """Return True if the training failed."""
        return not self.answers & {HEALTHY, UNKNOWN}

    def save(self, folder: Path, seed: int = 0) -> Path:
        """Write the log with the numbers of a seed into a folder and return its path."""
        text = self.write(Random(f"{self.name}-{seed}" if seed else self.name))
        if isinstance(text, dict):
            ranks = folder / self.name
            ranks.mkdir(exist_ok=True)
            for name, lines in text.items():
                (ranks / name).write_text("\n".join(lines) + "\n", encoding=self.encoding)
            return ranks
        path = folder / f"{self.name}{self.suffix}"
        path.write_text("\n".join(text) + "\n", encoding=self.encoding)
        return path


class Batch(list[Log]):
    """Logs that were made together, before any of them was tried."""

    def case(
        self, *answers: str, suffix: str = ".log", encoding: str = "utf-8", clear_from: float = 0.0
    ) -> Callable[[Write], Write]:
        """Return a decorator that adds a function as a log with its acceptable answers."""

        def add(write: Write) -> Write:
            self.append(Log(write.__name__, frozenset(answers), write, suffix, encoding, clear_from))
            return write

        return add
