"""The measured suite in small; `make test-cluster` takes the full counts."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cluster import CountingProxy, cuts
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode


def test_a_verb_takes_one_login(tensor01: LoopbackNode, laptop: Laptop) -> None:
    relay = CountingProxy(tensor01, "counted")
    laptop.name_nodes(f"counted:\n  workdir: {laptop.folder}/work\n")
    for words in ("ps counted", "doctor counted", "stop --stale counted"):
        before = tensor01.logged("Accepted publickey"), relay.turns
        laptop.giblet(*words.split())
        assert tensor01.logged("Accepted publickey") == before[0] + 1, words
        assert relay.turns > before[1]
    relay.close()


def test_cuts_lose_and_double_nothing(tensor02: LoopbackNode, tmp_path: Path) -> None:
    figures = cuts(tensor02, tmp_path, faults=2)
    assert (figures.lost, figures.doubled, len(figures.fresh_s)) == (0, 0, 2)
    assert figures.written > 20
