"""The result of one check of a node."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one check."""

    name: str
    well: bool
    """True if nothing has to be done."""
    sentence: str
    remedy: str = ""
    """What to do if it is not well."""
    needed: bool = False
    """True if a launch fails without it."""
    known: bool = True
    """False if the check could not be made; it is then neither good nor bad."""

    @property
    def mark(self) -> str:
        """Return ✔ for well, ? for not known, ! for to be fixed some time, ✖ if a launch fails."""
        if not self.known:
            return "?"
        return "✔" if self.well else "✖" if self.needed else "!"
