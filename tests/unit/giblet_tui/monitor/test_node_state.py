"""The agent's events folded into snapshots: pure, so every case is a few lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from giblet_train.schema.config import Config, DataConfig, StimulusConfig, diff, dump
from giblet_train.schema.records import Alert, EventMetric, encode
from giblet_tui.agent.main import Emit
from giblet_tui.agent.watch_runs import RunPoller, observe
from giblet_tui.connection.protocol import WatchEvent, decode
from giblet_tui.monitor.node_state import LOG_LINES, NodeState, apply_event, to_snapshot
from giblet_tui.reporting.tables import as_yaml
from tests.liveruns import append, beat, end, make_run, step_line, supervise

OTHER_BOOT = "00000000-0000-0000-0000-000000000000"


class Looker:
    """An agent's rounds over a working directory, folded as a client does, through JSON."""

    def __init__(self, workdir: Path, node: str = "tensor01", **arguments: Any) -> None:
        self.rounds = RunPoller({"workdir": str(workdir), **arguments})
        self.state = NodeState(node)
        self.n_events = 0

    def look(self, heard_at: float = 1000.0, **facts: Any) -> NodeState:
        self.rounds.poll(self.take)
        self.take({"tick": {**self.rounds.tick(), "facts": facts}}, heard_at)
        return self.state

    def take(self, event: dict[str, Any], heard_at: float = 1000.0) -> None:
        self.n_events += 1
        self.state = apply_event(self.state, decode(json.loads(json.dumps(event)), WatchEvent), heard_at)


def test_news_is_reported_once(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    looker = Looker(tmp_path)
    append(run_dir.metrics, step_line(0))
    looker.look()
    n_events = looker.n_events
    looker.look()
    assert looker.n_events == n_events + 1, "a tick alone"
    append(run_dir.metrics, step_line(1)[:30])
    looker.look()
    append(run_dir.metrics, step_line(1)[30:] + step_line(2))
    beat(run_dir, step=2)
    (run,) = to_snapshot(looker.look()).runs
    assert [step.step for step in run.steps] == [0, 1, 2]
    assert run.heartbeat is not None and run.heartbeat.step == 2
    assert (run.metrics_offset, run.malformed_lines) == (run_dir.metrics.stat().st_size, 0)


def test_damaged_lines_are_counted_and_the_rest_kept(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    bad = [
        b"{",
        b"\xff\xfe",
        b'{"kind":"step"}',
        b'{"kind":"step","seq":"x"}',
        b"[" * 50_000,
        b"9" * 5000,
        b'"text"',
        b"null",
        b'{"kind":"step","seq":1e999}',
        b"\x00" * 100,
    ]
    unknown = b'{"kind":"of a later giblet","seq":1,"step":1,"epoch":1,"at":1}'
    lines = [line for number in range(50) for line in (step_line(number), bad[number % 10] + b"\n")]
    append(run_dir.metrics, b"".join(lines) + unknown + b"\n\n")
    append(run_dir.metrics, b"x" * 3_000_000 + b"\n" + step_line(50))
    (run,) = to_snapshot(Looker(tmp_path).look()).runs
    assert [step.step for step in run.steps] == list(range(51))
    assert run.malformed_lines == 51


def test_every_text_is_disarmed(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    evil = "\x1b]52;c;x\x07\u202e[@click=app.quit]"
    event = EventMetric(seq=0, step=0, epoch=1, at=0.0, name=evil, level="error", sentence=evil, facts={evil: [evil]})
    append(run_dir.metrics, encode(event) + b"\n")
    alert = Alert(seq=0, at=0.0, step=0, name=evil, level="error", state="raised", sentence=evil, evidence={"k": evil})
    append(run_dir.alerts, encode(alert) + b"\n")
    append(run_dir.log, f"{evil}\n10%\r99%\n".encode() + b"caf\xe9\n")
    beat(run_dir, phase=evil)
    run_dir.config.write_text(dump(Config(name="demo", note=evil)))
    run_dir.run.write_text(run_dir.run.read_text().replace("tester@laptop", json.dumps(evil)[1:-1]))
    snapshot = to_snapshot(Looker(tmp_path).look(hostname=evil, sessions=[evil], gpus=[gpu(name=evil)]))
    text = repr(snapshot)
    (run,) = snapshot.runs
    assert "\\\\x1b]52" in text and "\\x1b]" not in text.replace("\\\\x1b", "") and "\u202e" not in text
    safe = "\\x1b]52;c;x\\x07\\u202e[@click=app.quit]"
    assert (run.events[0].sentence, run.events[0].facts, run.alerts[0].evidence) == (safe, {safe: [safe]}, {"k": safe})
    assert run.log_tail == (safe, "99%", "caf�")
    assert run.config is not None and run.config.note == safe
    assert (run.run.launched_by, snapshot.facts.hostname, snapshot.facts.gpus[0].name) == (safe, safe, safe)


def test_a_file_started_again_replaces_what_was_read(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    looker = Looker(tmp_path)
    append(run_dir.metrics, step_line(0) + step_line(1))
    append(run_dir.log, b"old\n")
    looker.look()
    run_dir.metrics.unlink()
    run_dir.log.unlink()
    append(run_dir.metrics, step_line(7))
    append(run_dir.log, b"new\n")
    (run,) = to_snapshot(looker.look()).runs
    assert ([step.step for step in run.steps], run.log_tail[-1]) == ([7], "new")
    assert run.log_tail[:-1] == ("(the log was cut short or replaced here: lines may be missing)",)


def test_a_new_reader_continues_where_the_last_stopped(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    append(run_dir.metrics, step_line(0))
    first = Looker(tmp_path)
    marks = msgspec.to_builtins(first.look().marks)
    append(run_dir.metrics, step_line(1))
    second = Looker(tmp_path, marks=marks)
    second.state = first.state
    (run,) = to_snapshot(second.look()).runs
    assert [step.step for step in run.steps] == [0, 1]


def test_the_log_keeps_its_end(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    append(run_dir.log, b"".join(b"line %d\n" % n for n in range(2000)))
    (run,) = to_snapshot(Looker(tmp_path).look()).runs
    assert len(run.log_tail) == LOG_LINES and run.log_tail[-1] == "line 1999"


def test_old_runs_are_reported_in_brief_and_then_cost_nothing(tmp_path: Path) -> None:
    for number in range(30):
        run_dir = make_run(tmp_path, f"old{number}", "tensor01", launched_at=1_700_000_000.0 + number)
        append(run_dir.metrics, step_line(0))
        beat(run_dir, "finished")
        end(run_dir)
    live = make_run(tmp_path, "live", "tensor01")
    append(live.metrics, step_line(0))
    looker = Looker(tmp_path, n_full=5)
    runs = to_snapshot(looker.look()).runs
    assert runs[0].run.name == "live" and [run.run.name for run in runs[1:4]] == ["old29", "old28", "old27"]
    assert sum(bool(run.steps) for run in runs) == 6 and all(run.exit for run in runs[1:])
    assert [run.config is not None for run in runs].count(True) == 6
    assert {run.health.state for run in runs[1:]} == {"finished"}
    n_events = looker.n_events
    for _ in range(3):
        looker.look()
    assert looker.n_events == n_events + 3


def test_a_run_that_went_away_is_gone(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    looker = Looker(tmp_path)
    assert len(to_snapshot(looker.look()).runs) == 1
    run_dir.path.rename(tmp_path / "elsewhere")
    assert to_snapshot(looker.look()).runs == ()
    (tmp_path / "runs" / "demo-20260101-000000-abcd").mkdir()
    (tmp_path / "runs" / "notes").mkdir()
    assert to_snapshot(looker.look()).runs == (), "a directory without run.json is no run"


@pytest.mark.parametrize("skew_s", [0.0, 3 * 86400.0, -3 * 86400.0, -7200.0])
def test_ages_are_by_the_node_s_clock(tmp_path: Path, skew_s: float) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    looker = Looker(tmp_path)
    looker.look()
    now = looker.state.now
    assert now is not None
    beat(run_dir, at=now - 3)
    snapshot = to_snapshot(looker.look(heard_at=now + skew_s))
    assert snapshot.facts.clock_skew_s == pytest.approx(-skew_s, abs=5)
    assert snapshot.runs[0].health.state == "running"


def test_health_by_process_boot_and_machine(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    beat(run_dir)
    looker = Looker(tmp_path)
    assert health(looker) == "running"
    supervise(run_dir, 2**22 - 3)
    assert health(looker) == "died", "no such process"
    supervise(run_dir, 1, boot=OTHER_BOOT)
    (run,) = to_snapshot(looker.look()).runs
    assert (run.health.state, run.health.reason) == ("died", "rebooted")
    run_dir.run.write_text(json.dumps({**json.loads(run_dir.run.read_text()), "hostname": "tensor01"}))
    elsewhere = Looker(tmp_path, node="tensor02")
    (run,) = to_snapshot(elsewhere.look()).runs
    assert (run.health.state, run.run.node) == ("running", "tensor01"), "another machine mounts this home"


def test_a_run_here_has_our_name_for_the_node(tmp_path: Path) -> None:
    make_run(tmp_path, node="what-a-colleague-calls-it")
    (run,) = to_snapshot(Looker(tmp_path, node="tensor01").look()).runs
    assert run.run.node == "tensor01"


def test_an_unheard_node_s_live_runs_are_unknown(tmp_path: Path) -> None:
    live, ended_run = make_run(tmp_path, "live", "tensor01"), make_run(tmp_path, "ended", "tensor01")
    beat(live)
    beat(ended_run, "finished")
    end(ended_run)
    state = Looker(tmp_path).look()
    snapshot = to_snapshot(state, "lost", "The connection is lost.", elapsed_s=240.0)
    states = {run.run.name: run.health for run in snapshot.runs}
    assert (states["live"].state, states["live"].sentence) == ("unknown", "not heard for 4m 00s")
    assert states["ended"].state == "finished"
    assert (snapshot.link, snapshot.link_sentence) == ("lost", "The connection is lost.")


def test_a_run_of_a_newer_giblet_says_so(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    run_dir.run.write_text(run_dir.run.read_text().replace('"schema":1', '"schema":99'))
    (run,) = to_snapshot(Looker(tmp_path).look()).runs
    assert run.run.run_id == run_dir.run_id
    assert run.health.state == "unknown" and "schema 99" in run.health.sentence


def test_one_complete_look(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    append(run_dir.metrics, b"".join(step_line(number) for number in range(5000)))
    state = NodeState("tensor01")

    def take(event: dict[str, Any]) -> None:
        nonlocal state
        state = apply_event(state, decode(event, WatchEvent), 0.0)

    emit: Emit = take
    assert observe({"workdir": str(tmp_path)}, emit) == {}
    snapshot = to_snapshot(state)
    assert len(snapshot.runs[0].steps) == 5000
    assert snapshot.facts.n_cpus > 0 and snapshot.facts.disk_free_gib > 0


def health(looker: Looker) -> str:
    return to_snapshot(looker.look()).runs[0].health.state


def gpu(**values: Any) -> dict[str, Any]:
    facts = {"index": 0, "uuid": "GPU-1", "name": "x", "memory_used_gib": 0.5, "memory_total_gib": 1.0}
    return {**facts, "processes": [{"pid": 1, "memory_gib": 0.25, "user": "alice"}], **values}


def test_a_table_of_runs_in_a_configuration_is_read_as_it_was_launched(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, node="tensor01")
    stimuli = {"film": StimulusConfig(video="film.mp4")}
    table = "subject\tbold\tstimulus\n01\tsub-01.nii.gz\tfilm\n"
    config = Config(name="demo", data=DataConfig(runs=table, stimuli=stimuli))
    run_dir.config.write_text(dump(config))
    (run,) = to_snapshot(Looker(tmp_path).look()).runs
    assert run.config is not None and diff(config, run.config) == {}
    hostile = dump(config).replace("film.mp4", "f\\x1b]0;x\\x07").replace("sub-01", "sub\\x1b[2J")
    run_dir.config.write_text(hostile)
    (run,) = to_snapshot(Looker(tmp_path).look()).runs
    assert run.config is not None and "\x1b" not in dump(run.config)
    assert as_yaml(run.config.data.runs) == "a table of 2 lines"
