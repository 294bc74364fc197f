"""Questions about all nodes at one moment."""

import msgspec

from giblet_train.schema.health import Health
from giblet_train.schema.records import Run
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from tests import fleets


def run(run_id: str, node: str, at: float, state: str = "running") -> RunSnapshot:
    record = Run(run_id=run_id, name="demo", node=node, session=f"gib-{run_id}", multiplexer="tmux", argv=(),
                 config_hash="", giblet_version="", launched_by="", launched_at=at)  # fmt: skip
    return RunSnapshot(run=record, health=Health(state=state, sentence=""))  # type: ignore[arg-type]


def node(name: str, *runs: RunSnapshot) -> NodeSnapshot:
    return NodeSnapshot(node=name, link="live", runs=runs)


def test_runs_come_newest_first() -> None:
    fleet = Fleet(nodes=(node("a", run("old", "a", 1.0)), node("b", run("new", "b", 2.0))))
    assert [r.run.run_id for r in fleet.runs()] == ["new", "old"]


def test_a_run_seen_by_two_nodes_of_one_home_counts_once_as_its_own_node_sees_it() -> None:
    mine, theirs = run("r", "a", 1.0, "running"), run("r", "a", 1.0, "died")
    for nodes in ((node("a", mine), node("b", theirs)), (node("b", theirs), node("a", mine))):
        assert Fleet(nodes=nodes).runs() == (mine,)


def test_a_run_known_by_another_laptops_name_for_the_node_is_not_hidden() -> None:
    fleet = Fleet(nodes=(node("tensor01", run("r", "tensor01.example.org", 1.0)),))
    assert fleet.run("r") is not None
    assert fleet.run("s") is None


def test_a_snapshot_replaces_its_node_in_place() -> None:
    fleet = Fleet(nodes=(node("a"), node("b")))
    lost_node = msgspec.structs.replace(node("a"), link="lost")
    assert [n.link for n in fleet.with_node(lost_node).nodes] == ["lost", "live"]
    assert [n.node for n in fleet.with_node(node("c")).nodes] == ["a", "b", "c"]


def test_time_left_follows_the_pace_and_is_unknown_when_nothing_moves() -> None:
    moving = fleets.run(steps=100)
    assert moving.plan is not None
    paces = [s.step_s for s in moving.steps if s.step_s is not None]
    expected = (moving.plan.total_steps - 100) * sum(paces) / len(paces)
    assert moving.eta_s is not None
    assert abs(moving.eta_s / expected - 1) < 0.5
    stalled_run = msgspec.structs.replace(moving, health=Health(state="stalled", sentence=""))
    assert stalled_run.eta_s is None
    assert fleets.run(steps=3).eta_s is None
