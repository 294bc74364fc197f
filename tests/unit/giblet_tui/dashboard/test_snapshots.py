"""Pictures of the dashboard, compared with reviewed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard


@pytest.mark.parametrize(
    ("name", "fleet", "size", "keys"),
    [
        ("overview", fleets.healthy, (80, 24), ()),
        ("wide", fleets.several, (120, 40), ("k", "k", "k")),
        ("small", fleets.warming_up, (60, 15), ()),
        ("empty", Fleet, (80, 24), ()),
    ],
)
def test_pictures(
    name: str, fleet: Callable[[], Fleet], size: tuple[int, int], keys: tuple[str, ...], snap_compare: Any
) -> None:
    assert snap_compare(dashboard(fleet()), terminal_size=size, press=keys)
