"""What ends a copy: a file that cannot be written here, or the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli import attach
from giblet_tui.inventory.nodes import Node
from tests import fleets


def copy_that_ends_with(error: OSError, monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(attach.pulling, "record_files", fail)
    node = Node(name="tensor01", host="tensor01")
    list(attach._copies(None, node, fleets.run(), target, ()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(28, "No space left on device"), "No space left on device"), (OSError("odd answer"), "odd answer")],
)
def test_a_file_that_cannot_be_written_is_a_sentence(
    error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refusal:
        copy_that_ends_with(error, monkeypatch, tmp_path)
    assert refusal.value.message == f"{tmp_path} cannot be written: {reason}."


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), TimeoutError()])
def test_the_network_is_not_called_a_file(error: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        copy_that_ends_with(error, monkeypatch, tmp_path)
