"""The cache holds no truth: whatever lies there, it is read or it is as if it were not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_tui.monitor import cache
from tests import fleets


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_nothing_is_kept_yet() -> None:
    assert cache.load().nodes == ()


def test_what_is_kept_comes_back() -> None:
    for node in fleets.several().nodes:
        cache.save(node)
    snapshot = cache.load()
    assert {node.node for node in snapshot.nodes} == {node.node for node in fleets.several().nodes}
    for before in fleets.several().nodes:
        (after,) = (node for node in snapshot.nodes if node.node == before.node)
        assert after.observed_at == before.observed_at and after.facts == before.facts
        assert [run.run for run in after.runs] == [run.run for run in before.runs]
        assert [run.config for run in after.runs] == [run.config for run in before.runs]
        assert all(len(run.steps) <= cache.MAX_STEPS for run in after.runs)
        for cached_run, original_run in zip(after.runs, before.runs, strict=True):
            assert cached_run.steps[-1:] == original_run.steps[-1:]
            assert {step.seq for step in cached_run.steps} <= {step.seq for step in original_run.steps}
    assert cache.folder().stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in cache.folder().iterdir()} == {0o600}


def test_damage_is_as_if_it_were_not_there() -> None:
    good, *_ = fleets.several().nodes
    cache.save(good)
    (cache.folder() / "damaged.json").write_bytes(b'{"node": "x", "link"')
    (cache.folder() / "later.json").write_bytes(b'{"node": 3}')
    assert [node.node for node in cache.load().nodes] == [good.node]


def test_a_full_or_closed_disk_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.save(fleets.several().nodes[0])
    assert cache.load().nodes == ()
