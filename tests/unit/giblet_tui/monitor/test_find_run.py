"""Which run is meant: a unique beginning, the newest; and what is known of runs whose node is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.errors import NotLetIn, TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, find_run, watch
from giblet_tui.monitor.snapshots import NodeSnapshot
from tests import fleets


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "GIBLET_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("GIBLET_SSH_CONFIG", str(tmp_path / "ssh_config"))


def test_a_unique_beginning_is_enough() -> None:
    runs = fleets.several().runs()
    assert find_run.single_match(runs, "pil").run.name == "pilot"
    whole = find_run.single_match(runs, "pil").run.run_id
    assert find_run.single_match(runs, whole).run.run_id == whole


def test_the_last_is_the_newest() -> None:
    runs = fleets.several().runs()
    newest = max(runs, key=lambda run: run.run.launched_at)
    assert find_run.single_match(runs, "@last") == newest


def test_an_ambiguous_beginning_lists_the_candidates() -> None:
    runs = fleets.several().runs()
    with pytest.raises(ConfigError, match="2 runs begin with 'f'") as refusal:
        find_run.single_match(runs, "f")
    assert "flat-20270115-080000-f1a7" in refusal.value.remedy
    assert "far-20270115-080000-fa12" in refusal.value.remedy


def test_a_whole_name_is_not_the_beginning_of_another() -> None:
    names = {"toy": "a1a1", "toy2": "b2b2"}
    runs = [fleets.run(name, suffix=suffix) for name, suffix in names.items()]
    assert find_run.single_match(runs, "toy").run.name == "toy"
    again = fleets.run("toy", suffix="c3c3")
    with pytest.raises(ConfigError, match="2 runs begin with 'toy'") as refusal:
        find_run.single_match([*runs, again], "toy")
    assert "toy2" not in refusal.value.remedy


@pytest.mark.parametrize(("text", "hint"), [("pilto", "pilot"), ("pilot-20270115-080000-d1ne", "pilot-20270115-")])
def test_what_nearly_matches_is_offered(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f'did you mean "{hint}'):
        find_run.single_match(fleets.several().runs(), text)


def test_a_full_id_in_the_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIBLET_SSH_CONFIG", "/nowhere")
    run = fleets.run(node="local")
    cache.save(fleets.node("local", (run,)))
    node, run_id = find_run.locate(run.run.run_id, print)
    assert (node.name, run_id) == ("local", run.run.run_id)


def test_an_empty_name_means_no_run() -> None:
    """Every id begins with it: `giblet stop "$RUN"` with a variable that is not set would stop the only run."""
    cache.save(fleets.node("local", (fleets.run(node="local"),)))
    with pytest.raises(ConfigError, match="name of the run is empty"):
        find_run.locate("", print)


def test_a_silent_node_makes_living_runs_unknown_and_leaves_ended_ones() -> None:
    living, ended_run = fleets.run(), fleets.run("pilot", state="finished")
    node = fleets.node(runs=(living, ended_run))
    silent = find_run.unreachable_nodes(node, Unreachable("No route.", "Look at the cable."))
    assert [run.health.state for run in silent.runs] == ["unknown", "finished"]
    assert (silent.link, silent.link_sentence) == ("lost", "No route. Look at the cable.")
    assert silent.observed_at == node.observed_at
    assert find_run.unreachable_nodes(node, NotLetIn("No.")).link == "refused"


@pytest.mark.parametrize(
    ("fault", "link"),
    [
        (TimedOut("It did not give an answer in time."), "lost"),
        (GibletError("giblet's agent failed on slow."), "lost"),
        (ConfigError("The ssh config names what giblet cannot do."), "refused"),
    ],
)
def test_one_node_that_is_late_or_at_fault_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: GibletError, link: str
) -> None:
    real = watch.observe_once

    def observe_once(node: Node, *, all_users: bool = False) -> NodeSnapshot:
        if node.name == "slow":
            raise fault
        return real(node, all_users=all_users)

    monkeypatch.setattr(watch, "observe_once", observe_once)
    here = Node(name="local", host="localhost", transport="local", workdir=str(tmp_path / "work"))
    fleet = find_run.observe([here, Node(name="slow", host="slow")])
    assert [(n.node, n.link) for n in fleet.nodes] == [("local", "live"), ("slow", link)]
    assert fault.message in fleet.nodes[1].link_sentence


def test_observing_this_machine_fills_the_cache(tmp_path: Path) -> None:
    node = Node(name="local", host="localhost", transport="local", workdir=str(tmp_path / "work"))
    fleet = find_run.observe([node])
    assert [n.link for n in fleet.nodes] == ["live"]
    assert [n.node for n in cache.load().nodes] == ["local"]
    with pytest.raises(ConfigError, match="has no run"):
        find_run.fetch_run(node, "demo-20260101-000000-abcd")


def test_a_slip_in_at_last_names_it() -> None:
    with pytest.raises(ConfigError, match='did you mean "@last"'):
        find_run.single_match(fleets.healthy().runs(), "@lst")


def test_the_newest_run_of_another_laptop_is_named_with_who_launched_it() -> None:
    run = fleets.run(node="local")
    cache.save(fleets.node("local", (run,)))
    reports: list[str] = []
    assert find_run.locate("@last", reports.append)[1] == run.run.run_id
    assert reports == [f"@last is {run.run.run_id}, launched by {run.run.launched_by}."]
