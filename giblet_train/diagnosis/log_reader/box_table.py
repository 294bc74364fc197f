"""Read boxes of two columns, a name and its number, as reinforcement learning prints one per iteration."""

from __future__ import annotations

import re
from typing import Dict, Optional

_ROW = re.compile(r"\s*[|│](?![^|│]*\s\d+\s*[|│])\s*([A-Za-z_][\w ./()%-]{0,60}?)\s*[|│]\s*([^|│]{0,40}?)\s*[|│]\s*$")
"""Name and value of a row. `| step 0 | loss 2.8 |` is no row of a box."""
_RULE = re.compile(r"\s*[-=+─└┘┴]{8,}\s*$")
FEWEST_ROWS = 3
_STEPS = re.compile(
    r"(?:total_?)?time_?steps(?:_total)?$|serial_timesteps$|TotalEnvInteracts$|num_env_steps$", re.IGNORECASE
)
"""Names of the counter of environment steps."""


class BoxTable:
    """Collects the rows of a box until the rule below it."""

    def __init__(self) -> None:
        self._rows: Dict[str, str] = {}
        self._section = ""

    @property
    def is_open(self) -> bool:
        """Return True if rows were read, and the rule below them was not."""
        return bool(self._rows)

    def read_row(self, text: str) -> bool:
        """Read a row of a box. Return False if the line is none."""
        match = _ROW.match(text) if text.lstrip()[:1] in ("|", "│") else None
        if match is None:
            self._rows = {} if self._rows and not _RULE.match(text) else self._rows
            return False
        name, cell = match[1], match[2]
        if not cell and name.endswith("/"):
            self._section = name
        elif cell:
            self._rows["step" if _STEPS.search(name) else f"{self._section}{name}"] = cell
        return True

    def close(self, text: str) -> Optional[Dict[str, str]]:
        """Return the rows above a rule; None if the line is no rule, or too few rows are above it."""
        if not _RULE.match(text):
            return None
        rows, self._rows, self._section = self._rows, {}, ""
        return rows if len(rows) >= FEWEST_ROWS else None
