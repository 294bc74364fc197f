"""Passes a server's login questions (a code, a password) to the user; nothing is stored.

Answers go from the terminal to the server: they are never written, logged or remembered. Where nobody can answer (the
dashboard's watches, a pipe, a cron job) there is no handler, and the login fails with an explanation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from giblet_tui.connection.sanitize import sanitize

Prompt = tuple[str, bool]
"""A question, and whether the answer may be seen while it is typed."""
Respond = Callable[[str, Sequence[Prompt]], list[str]]
"""(what the server says first, its questions) -> an answer to each."""

_responder: list[Respond] = []
_one_at_a_time = threading.Lock()


def set_prompt_handler(respond: Respond | None) -> None:
    """Send questions to `respond` from now on; None: nobody answers."""
    _responder[:] = [respond] if respond else []


def has_prompt_handler() -> bool:
    """Return True if somebody can answer questions."""
    return bool(_responder)


def prompt(where: str, heading: str, prompts: Sequence[Prompt]) -> list[str]:
    """Ask the user a server's questions, one server at a time, and return the answers. Requires a prompt handler.

    Args:
        where: the server that asks.
    """
    introduction = " ".join(part for part in (f"{where} asks:", sanitize(heading).strip()) if part)
    with _one_at_a_time:
        return _responder[0](introduction, [(sanitize(text), echo) for text, echo in prompts]) if prompts else []
