"""What a server asks a person during a login (a code, a password), passed on to whoever can answer; nothing is kept.

Answers go from the terminal to the server: they are never written, logged or remembered. Where nobody can answer (the
dashboard's watches, a pipe, a cron job) there is no responder, and the login is refused in words.
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
    """From now on, questions go to `respond`; None: nobody answers."""
    _responder[:] = [respond] if respond else []


def has_prompt_handler() -> bool:
    """Is there anybody to ask?"""
    return bool(_responder)


def prompt(where: str, heading: str, prompts: Sequence[Prompt]) -> list[str]:
    """The answers of a person, to one server at a time. where: who asks. Call it only when someone answers."""
    said = " ".join(part for part in (f"{where} asks:", sanitize(heading).strip()) if part)
    with _one_at_a_time:
        return _responder[0](said, [(sanitize(text), echo) for text, echo in prompts]) if prompts else []
