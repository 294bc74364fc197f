"""The value of --since: a length of time before now, or a day."""

from __future__ import annotations

import time

from giblet_train.schema.errors import ConfigError
from giblet_tui.control.alerts import parse_duration


def moment(text: str, now: float) -> float:
    """Return the time that is `24h` or `7d` before now, or the start of a day. Raises ConfigError."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%d"))
    except (ValueError, OverflowError):
        pass
    try:
        return now - parse_duration(text)
    except ConfigError:
        raise ConfigError(f"--since {text} is neither a duration nor a day.", "Use 24h, 7d, or 2026-11-20.") from None
