"""The program giblet sends to a node: it observes there, answers one request, and ends.

Standard library only, Python >= 3.8: nothing is installed on a node to watch it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

Emit = Callable[[Dict[str, Any]], None]
Operation = Callable[[Dict[str, Any], Emit], Dict[str, Any]]


class AgentRefusal(Exception):
    """What was asked cannot be done here: a sentence for a person, how to mend it, and giblet's exit code."""

    def __init__(self, sentence: str, remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.exit_code = exit_code


OPERATIONS: Dict[str, Operation] = {}
