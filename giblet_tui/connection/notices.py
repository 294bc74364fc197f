"""Passes notices about a connection to their reader: the command line prints them, the dashboard has none."""

from __future__ import annotations

from collections.abc import Callable

_handlers: list[Callable[[str], None]] = []


def set_notice_handler(handler: Callable[[str], None] | None) -> None:
    """Send notices to `handler` from now on; None: nobody reads them."""
    _handlers[:] = [handler] if handler else []


def send_notice(sentence: str) -> bool:
    """Pass a notice on. Returns False if nobody reads it."""
    for handler in _handlers:
        handler(sentence)
    return bool(_handlers)
