"""Messages between the parts of the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from textual.message import Message

from giblet_tui.dashboard.model.interfaces import StaleRunChoice
from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.monitor.snapshots import NodeSnapshot

Level = Literal["information", "warning", "error"]


class NodeObserved(Message):
    """A node was observed. Posted from the source's threads; a newer one of the same node replaces it."""

    def __init__(self, snapshot: NodeSnapshot, judgements: Mapping[str, Judgement]) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.judgements = judgements

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, NodeObserved) and message.snapshot.node == self.snapshot.node


class RunChosen(Message):
    """The user moved to a run."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id


class RunMarked(Message):
    """The user marked a run to be drawn behind the chosen one, or unmarked it."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id


class StopConfirmed(Message):
    """The user confirmed in the dialog that a run shall stop."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id


class StaleFound(Message):
    """Stale runs were found on the nodes."""

    def __init__(self, stale: Sequence[StaleRunChoice]) -> None:
        super().__init__()
        self.stale = stale


class ActionReported(Message):
    """An action has a result or a stage to report."""

    def __init__(self, subject: str, sentence: str, level: Level = "information") -> None:
        super().__init__()
        self.subject = subject
        """The run, or the configuration that is being launched."""
        self.sentence = sentence
        self.level = level
