"""A finding about a study: what is wrong, how bad, in whom, by what evidence, and what to do."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "info"]
ROUNDING = 1e-6
WHOLE = 1e7
ORDER: tuple[Severity, ...] = ("error", "warning", "info")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found. subject: "" when it concerns the whole study."""

    finding: str
    severity: Severity
    subject: str = ""
    sentence: str
    evidence: dict[str, float | int | str | list[float] | list[int]] = {}
    action: str = ""

    @property
    def told(self) -> str:
        """The sentence, its subject named."""
        named = not self.subject or self.subject in self.sentence
        return self.sentence if named else f"{self.subject}: {self.sentence}"


def counted(findings: list[Finding]) -> str:
    """`1 error, 2 warnings`."""
    numbers = [(name, sum(f.severity == name for f in findings)) for name in ORDER[:2]]
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in numbers)


def shown(number: float | None) -> str:
    """A number of a table in four digits or whole; what is only rounding is 0, what is not known a dash."""
    if number is None:
        return "-"
    if 1e3 <= abs(number) < WHOLE:
        return f"{number:.0f}"
    return "0" if abs(number) < ROUNDING else f"{number:.4g}"


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Errors first; otherwise in the order in which they were found."""
    return sorted(findings, key=lambda f: ORDER.index(f.severity))
