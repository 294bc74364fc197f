"""Hostile names where giblet takes a name, and hostile texts through everything that prints a run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.reliability_page import Numbers, Outcome
from giblet_train.schema import config_loader
from giblet_train.schema.errors import GibletError
from giblet_train.schema.records import encode
from giblet_tui.agent import stop_run
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.cli.console import print_status, show_json
from giblet_tui.connection import ssh_config
from giblet_tui.connection.protocol import WatchEvent, receive
from giblet_tui.inventory import nodes
from giblet_tui.monitor.node_state import NodeState, apply_event, to_snapshot
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from giblet_tui.reporting import csv, formatting, json_output, markdown, why
from tests import fleets

ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
"""What acts on a terminal; a line feed ends a line of our own."""
_PIECES = (
    *("\x1b]52;c;aGFjaw==\x07", "\x1b[2J\x1b[H", "\x9b31m", "\x1bP1$r\x1b\\", "\x1b]8;;http://x\x07", "\x9d0;t\x9c"),
    *("\x1b[31m", "\r", "\n", "\t", "\b\b\b", "\x00", "\x7f", "\x0e\x0f", "\u202e", "\u2066\u2069", "\u200b", "\ud800"),
    *(
        "[bold red]",
        "[/]",
        "[@click=app.quit]",
        "[link=https://example.org]",
        "\U000e0041",
        "\ufeff",
        "汉语",
        "🧠",
        "é",
    ),
    *("loss 0.5", "epoch 1", "ERROR", "{", '"', "\\", "%s", "|", "`", "<script>"),
)
_NAME_PIECES = (
    *("$(touch canary)", "`touch canary`", ";touch canary;", "|touch canary", "&touch canary&", "#(touch canary)"),
    *("../", "/etc/passwd", "~root", "-oProxyCommand=touch canary", "--help", "-rf", "=ls", "!!", "%x", "{a,b}", "*?"),
    *("\n", "\r", "\t", "\x00", "\x1b[2J", "\u202e", "\ud800", "'", '"', "\\", " ", "a", "run1", ".", ":", "汉", "🧠"),
)
_N_AT_ONCE = 500


def hostile_names(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Use hostile texts as node, host, run and configuration names; a program called is a canary."""
    calls = folder / "calls"
    for program in ("ssh", "tmux", "screen", "touch"):
        (folder / program).write_text(f"#!/bin/sh\necho {program} >> {calls}\n")
        (folder / program).chmod(0o755)
    n_accepted = 0
    with _in_folder(folder):
        for _ in range(count):
            name = "".join(chance.choices(_NAME_PIECES, k=chance.randrange(1, 5)))
            if re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                name += "\n"
            n_accepted += sum(_accepts(use, name) for use in _uses(folder))
    n_calls = len(calls.read_text().splitlines()) if calls.exists() else 0
    has_canary = any((place / "canary").exists() for place in (folder, Path.cwd(), Path.home()))
    return {
        "uses": [len(_uses(folder)) * count],
        "accepted": [n_accepted],
        "started": [n_calls],
        "canary": [has_canary],
    }


def judge_names(numbers: Numbers) -> Outcome:
    """Check that nothing is accepted or started."""
    uses, n_accepted, n_started, canaries = (int(sum(values)) for values in numbers.values())
    sentence = f"{n_accepted} accepted of {uses:,}; {n_started} programs started"
    return sentence + ", a canary" * bool(canaries), not (n_accepted or n_started or canaries)


def _uses(folder: Path) -> tuple[Callable[[str], object], ...]:
    workdir = str(folder / "work")
    return (
        ssh_config.lookup,
        lambda name: nodes.check_name(name),
        lambda name: nodes.node_from({"host": name}, "well"),
        lambda name: stop_run.stop({"workdir": workdir, "run_id": name}, lambda event: None),
        lambda name: config_loader.from_mapping({"name": name}),
    )


def _accepts(use: Callable[[str], object], name: str) -> bool:
    try:
        use(name)
    except (GibletError, AgentRefusal):
        return False
    return True


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before, path = Path.cwd(), os.environ["PATH"]
    os.chdir(folder)
    os.environ["PATH"] = f"{folder}:{path}"
    try:
        yield
    finally:
        os.chdir(before)
        os.environ["PATH"] = path


def hostile_texts(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Put hostile texts into every field and line of a run, and read everything that prints it."""
    n_acting: Numbers = {}
    n_texts = 0
    while n_texts < count:
        texts = [
            "".join(chance.choices(_PIECES, k=chance.randrange(1, 9))) for _ in range(min(_N_AT_ONCE, count - n_texts))
        ]
        n_texts += len(texts)
        snapshot = _snapshot(texts)
        for name, output in _printed(snapshot).items():
            n_acting.setdefault(name, []).append(len(ACTING.findall(output)))
    return {name: [sum(numbers)] for name, numbers in n_acting.items()}


def judge_texts(numbers: Numbers) -> Outcome:
    """Check that no sink prints a character that acts on a terminal."""
    bad = {name: int(sum(values)) for name, values in numbers.items() if any(values)}
    sentence = f"{sum(bad.values())} in {len(numbers)} sinks ({', '.join(numbers)})"
    return (f"{sentence}: {bad}" if bad else sentence), not bad


def _snapshot(texts: list[str]) -> NodeSnapshot:
    """Return a node whose run has the texts in its records and log, as the agent's messages bring them."""
    run = json.loads(encode(fleets.run().run))
    run_id, feed = run["run_id"], iter(texts * 2)
    run |= {"note": next(feed), "launched_by": next(feed), "argv": [next(feed)], "hostname": next(feed)}
    alert = {"seq": 0, "at": 1.0, "step": 1, "name": next(feed), "level": "error", "state": "raised"}
    alert |= {"sentence": next(feed), "action": next(feed), "evidence": {next(feed): next(feed)}}
    event = {"kind": "event", "level": "info", "seq": 1, "at": 1.0, "step": 1, "epoch": 1}
    event |= {"name": next(feed), "sentence": next(feed)}
    beat = {"state": "training", "step": 1, "epoch": 1, "phase": next(feed), "at": 1.0, "pid": 1, "boot_id": "b"}
    beat |= {"start_ticks": 1, "why": next(feed)}
    cause = {"node": next(feed), "sentence": next(feed), "at": 1.0}
    files = {"run.json": run, "heartbeat.json": beat, "cause.json": cause}
    mark = {"inode": 1, "offset": 1, "head": 0}
    lines = {"alerts.jsonl": json.dumps(alert), "metrics.jsonl": json.dumps(event), "train.log": "\n".join(texts)}
    news = {
        "run_id": run_id,
        "files": {name: json.dumps(value) for name, value in files.items()},
        "appended": {name: {"text": text + "\n", "mark": mark} for name, text in lines.items()},
        "process": True, "here": True, "same_machine": True,
    }  # fmt: skip
    gpu = {"index": 0, "uuid": "GPU-0", "name": next(feed), "memory_used_gib": 1.0, "memory_total_gib": 2.0}
    facts = {"hostname": next(feed), "gpu_note": next(feed), "gpus": [{**gpu, "not_free": next(feed)}]}
    state = NodeState("tensor01")

    def take(message: WatchEvent) -> None:
        nonlocal state
        state = apply_event(state, message, 2.0)

    take_raw = receive(WatchEvent, take)
    take_raw({"run": news})
    take_raw({"tick": {"now": 2.0, "boot_id": "b", "present": [run_id], "facts": facts}})
    snapshot = to_snapshot(state)
    [only_run] = snapshot.runs
    assert only_run.heartbeat and only_run.alerts and only_run.events and only_run.cause and only_run.log_tail, (
        "a text was not read at all"
    )
    return snapshot


def _printed(snapshot: NodeSnapshot) -> dict[str, str]:
    """Map each sink to what it prints of the node."""
    fleet = Fleet(nodes=(snapshot,))
    [run] = snapshot.runs
    as_json = io.StringIO()
    with contextlib.redirect_stdout(as_json):
        show_json(json_output.fleet_json(fleet, [run], 3.0))
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages):
        print_status("\n".join(run.log_tail))
    return {
        "ps": formatting.runs_table([run], 200),
        "nodes": "\n".join([*formatting.node_lines(fleet, 3.0), *formatting.gpu_lines(fleet)]),
        "status": "\n".join(formatting.status_lines(run, 3.0)),
        "alerts": "\n".join(formatting.alert_lines(run, 3.0)),
        "logs": "\n".join(run.log_tail),
        "messages": messages.getvalue(),
        "why": "\n".join(why.why_lines(why.of_run(run))),
        "report": markdown.report(run, 3.0),
        "csv": csv.csv_text(run),
        "json": as_json.getvalue(),
        "dashboard": asyncio.run(_on_screen(fleet)),
    }


async def _on_screen(fleet: Fleet) -> str:
    from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text

    app = dashboard(fleet)
    rows: list[str] = []
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        rows += screen_text(app)
    return "\n".join(rows)
