"""A finding about a study: what is wrong, how bad, in whom, by what evidence, and what to do."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "info"]
ROUNDING = 1e-6
WHOLE = 1e7
ORDER: tuple[Severity, ...] = ("error", "warning", "info")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of a check."""

    finding: str
    severity: Severity
    subject: str = ""
    """Label of the subject, "" if the finding concerns the whole study."""
    sentence: str
    evidence: dict[str, float | int | str | list[float] | list[int]] = {}
    """Measured figures behind the finding."""
    action: str = ""
    """Remedy."""

    @property
    def full_sentence(self) -> str:
        """Return the sentence, prefixed with the subject."""
        named = not self.subject or self.subject in self.sentence
        return self.sentence if named else f"{self.subject}: {self.sentence}"


def count_severities(findings: list[Finding]) -> str:
    """Count findings by severity: `1 error, 2 warnings`."""
    numbers = [(name, sum(f.severity == name for f in findings)) for name in ORDER[:2]]
    return ", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in numbers)


def format_number(number: float | None) -> str:
    """Format a number of a table with four digits or as an integer; rounding error becomes 0, None a dash."""
    if number is None:
        return "-"
    if 1e3 <= abs(number) < WHOLE:
        return f"{number:.0f}"
    return "0" if abs(number) < ROUNDING else f"{number:.4g}"


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Sort findings: errors first, otherwise in the order in which they were found."""
    return sorted(findings, key=lambda f: ORDER.index(f.severity))
