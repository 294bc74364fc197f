"""What the parts of the dashboard tell one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from textual.message import Message

from giblet_train.diagnosis.criteria import Verdict
from giblet_tui.monitor.snapshots import NodeSnapshot

Level = Literal["information", "warning", "error"]


class NodeObserved(Message):
    """A node was seen anew. Posted from the source's threads; a newer one of the same node takes its place."""

    def __init__(self, snapshot: NodeSnapshot, verdicts: Mapping[str, Verdict]) -> None:
        super().__init__()
        self.snapshot = snapshot
        self.verdicts = verdicts

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
    """The user confirmed, in the dialog, that a run shall stop."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id


class ActionReported(Message):
    """What a key has caused has something to say. subject: the run, or what is being launched."""

    def __init__(self, subject: str, sentence: str, level: Level = "information") -> None:
        super().__init__()
        self.subject = subject
        self.sentence = sentence
        self.level = level
