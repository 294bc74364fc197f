"""The verbs about runs, on run directories of this machine: what they print, and the exit codes scripts rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.schema.records import Adoption, Exit, Heartbeat, encode
from giblet_tui.monitor.snapshots import RunSnapshot
from tests import fleets, rundirs
from tests.cluster.nodes import wait_until
from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")
HOSTILE = "\x1b]52;c;ZXZpbA==\x07[bold]note\x1b[2J\u202e"
Giblet = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "work", "HOME": "user"}
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIBLET_")}
    return own | {key: str(tmp_path / folder) for key, folder in folders.items()}


@pytest.fixture
def giblet(environment: dict[str, str], tmp_path: Path) -> Giblet:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return giblet_server().run(words, environment, tmp_path, 60)

    return run


def now(run: RunSnapshot) -> RunSnapshot:
    """Return the recorded run as if it had been launched a minute ago and had just made a step."""
    assert run.heartbeat is not None
    heartbeat: Heartbeat = replace(run.heartbeat, at=time.time())
    return replace(run, run=replace(run.run, launched_at=time.time() - 60), heartbeat=heartbeat)


def test_ps_shows_living_and_lately_ended_runs(giblet: Giblet, tmp_path: Path) -> None:
    rundirs.write(tmp_path / "work", now(fleets.run(suffix="11fe", steps=40)), alive=True)
    old_run = replace(
        fleets.run("pilot", steps=40), run=replace(fleets.run("pilot").run, launched_at=time.time() - 1e6)
    )
    rundirs.write(tmp_path / "work", old_run, code=1)
    text = giblet("ps").stdout
    assert "● running" in text and "pilot" not in text and "\x1b" not in text
    assert "pilot" in giblet("ps", "-a").stdout
    value = json.loads(giblet("ps", "-a", "--json").stdout)
    states = {run["name"]: run["state"] for run in value["runs"]}
    assert states == {"demo": "running", "pilot": "failed"}
    assert json.loads(giblet("ps", "-a", "--json", "--cached").stdout)["runs"] == value["runs"]


def test_wait_returns_the_result_of_ended_runs_and_gives_up_at_its_deadline(giblet: Giblet, tmp_path: Path) -> None:
    rundirs.write(tmp_path / "work", fleets.run("broken", nan_from=70, suffix="bad0"), code=1)
    wait = giblet("wait", "broken")
    assert wait.returncode == 1 and wait.stdout.splitlines()[-1] == "verdict: FAIL"
    rundirs.write(tmp_path / "work", now(fleets.run("well", suffix="11fe", steps=40)), alive=True)
    late = giblet("wait", "well", "broken", "--timeout", "1")
    assert late.returncode == 124 and "has not ended in time" in late.stderr


def test_status_and_verdict_speak_by_their_exit_codes(giblet: Giblet, tmp_path: Path) -> None:
    rundirs.write(tmp_path / "work", now(fleets.run("well", suffix="11fe")), alive=True)
    rundirs.write(tmp_path / "work", fleets.run("broken", nan_from=70, suffix="bad0"), code=1)
    assert giblet("status", "well").returncode == 0
    assert giblet("verdict", "well").returncode == 0
    status = giblet("status", "broken")
    assert status.returncode == 1 and status.stdout.startswith("✖ failed  broken-")
    verdict = giblet("verdict", "broken", "--json")
    assert (verdict.returncode, json.loads(verdict.stdout)["verdict"]) == (1, "fail")
    assert giblet("verdict", "broken").stdout.splitlines()[-1] == "verdict: FAIL"


def test_watching_a_status_reports_what_is_new_in_plain_lines(environment: dict[str, str], tmp_path: Path) -> None:
    run = now(fleets.run("demo", steps=40))
    folder = rundirs.write(tmp_path / "work", run, alive=True)
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        watching = subprocess.Popen(
            [GIBLET, "status", "demo", "--watch"], env=environment, stdout=stdout, stderr=stderr
        )
    wait_until(lambda: "● running" in out.read_text() and "next:" in err.read_text())
    before = err.read_text()
    with folder.metrics.open("ab") as metrics:
        metrics.write(encode(fleets.run("demo", steps=60).epochs[-1]) + b"\n")
    wait_until(lambda: "epoch 3 train total" in err.read_text())
    assert (
        "\x1b" not in err.read_text()
        and "\r" not in err.read_text()
        and "epoch 2" not in err.read_text()[len(before) :]
    )
    watching.send_signal(signal.SIGINT)
    assert watching.wait(120) == 130


def test_an_ambiguous_run_lists_the_candidates(giblet: Giblet, tmp_path: Path) -> None:
    for suffix in ("aaaa", "bbbb"):
        rundirs.write(tmp_path / "work", fleets.run(suffix=suffix))
    result = giblet("status", "demo")
    assert result.returncode == 2
    assert "2 runs begin with 'demo'" in result.stderr and result.stderr.count("demo-20270115-080000-") == 2


def test_text_of_a_run_cannot_act_on_the_terminal(giblet: Giblet, tmp_path: Path) -> None:
    run = fleets.run(log=[HOSTILE])
    run = replace(run, run=replace(run.run, note=HOSTILE, launched_by=HOSTILE))
    rundirs.write(tmp_path / "work", run)
    for words in ("ps -a", "status @last", "logs @last", "verdict @last"):
        result = giblet(*words.split())
        assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout + result.stderr)
    assert "[bold]note" in giblet("status", "@last").stdout


def test_logs_show_so_many_lines_of_the_end(giblet: Giblet, tmp_path: Path) -> None:
    lines = [f"line {i} {'x' * 50}" for i in range(3000)]
    folder = rundirs.write(tmp_path / "work", fleets.run(log=lines))
    assert giblet("logs", "@last", "-n", "3").stdout.splitlines() == lines[-3:]
    assert giblet("logs", "@last", "-n", "2000").stdout.splitlines() == lines[-2000:]
    value = json.loads(giblet("logs", "@last", "-n", "1", "--json").stdout)
    assert value == {
        "schema": 1, "run_id": folder.run_id, "node": "local", "offset": folder.log.stat().st_size, "lines": [lines[-1]]
    }  # fmt: skip


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (1, 1)])
def test_following_a_log_ends_with_the_runs_result(giblet: Giblet, tmp_path: Path, code: int, exit_code: int) -> None:
    rundirs.write(tmp_path / "work", fleets.run(log=["first", "last"]), code=code)
    result = giblet("logs", "@last", "-f")
    assert (result.returncode, result.stdout) == (exit_code, "first\nlast\n")


def test_logs_of_a_run_over_several_nodes_are_distinguished(
    giblet: Giblet, environment: dict[str, str], tmp_path: Path
) -> None:
    whole = now(fleets.run(log=["first"]))
    whole = replace(whole, run=replace(whole.run, nodes=("local", "other")))
    first = rundirs.write(tmp_path / "work", whole, alive=True)
    part = replace(whole, run=replace(whole.run, node_rank=1), heartbeat=None, log_tail=("[default0]:theirs",))
    other = rundirs.write(tmp_path / "second", part, alive=True)
    (tmp_path / "config" / "giblet").mkdir(parents=True)
    nodes = f"other:\n  transport: local\n  workdir: {tmp_path}/second\ngone:\n  host: 127.0.0.1\n"
    (tmp_path / "config" / "giblet" / "nodes.yaml").write_text(nodes)
    run_id = whole.run.run_id
    assert giblet("ps", "local").returncode == 0
    assert giblet("logs", run_id).stdout == "[local]:first\n[other]:[default0]:theirs\n"
    assert giblet("logs", run_id, "--node", "other").stdout == "[default0]:theirs\n"
    refusal = giblet("logs", run_id, "--node", "gone")
    assert (refusal.returncode, refusal.stdout) == (2, "") and "It runs on local, other" in refusal.stderr

    out = tmp_path / "out"
    with out.open("w") as file:
        logs = subprocess.Popen([GIBLET, "logs", run_id, "-f"], env=environment, stdout=file, stderr=-1, text=True)
    wait_until(lambda: out.read_text().count("\n") == 2)
    for folder, line in ((other, "more of theirs\n"), (first, "more\n")):
        with folder.log.open("a") as log:
            log.write(line)
    wait_until(lambda: out.read_text().count("\n") == 4)
    for folder in (first, other):
        folder.exit.write_bytes(encode(Exit(run_id=run_id, ended_at=time.time(), code=1)))
    _, output = logs.communicate(timeout=120)
    assert logs.returncode == 1 and output.endswith(f"{run_id} failed: ended with code 1; see `giblet logs`\n")
    assert sorted(out.read_text().splitlines()[2:]) == ["[local]:more", "[other]:more of theirs"]


def test_ctrl_c_ends_the_looking_and_not_the_run(environment: dict[str, str], tmp_path: Path) -> None:
    folder = rundirs.write(tmp_path / "work", now(fleets.run(log=["first"])), alive=True)
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        logs = subprocess.Popen([GIBLET, "logs", "demo", "-f"], env=environment, stdout=out, stderr=err)
    wait_until(lambda: (tmp_path / "out").read_text() == "first\n")
    with folder.log.open("a") as log:
        log.write("second\n")
    wait_until(lambda: (tmp_path / "out").read_text() == "first\nsecond\n")
    logs.send_signal(signal.SIGINT)
    assert logs.wait(120) == 130
    assert f"giblet stop {folder.run_id}" in (tmp_path / "err").read_text()
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_stale_runs_are_listed_with_the_reason_and_ended_when_agreed(giblet: Giblet, tmp_path: Path) -> None:
    assert "Nothing is stale." in giblet("stop", "--stale").stderr
    folder = rundirs.write(tmp_path / "work", fleets.run(), code=None)
    result = giblet("stop", "--stale", "local")
    assert result.returncode == 5
    assert f"{folder.run_id} on local, launched by ada: its supervisor is gone" in result.stderr
    assert not folder.exit.exists()
    stop = giblet("stop", "--stale", "--yes")
    assert stop.returncode == 0
    assert folder.exit.exists()
    assert "Nothing is stale." in giblet("stop", "--stale").stderr


def test_a_production_run_is_not_stopped_by_a_slip(giblet: Giblet, tmp_path: Path) -> None:
    run = fleets.run(config=fleets.demo_config("demo", stage="production"))
    folder = rundirs.write(tmp_path / "work", now(run), alive=True)
    refusal = giblet("stop", "@last")
    assert refusal.returncode == 5
    assert "production run; nothing was stopped" in refusal.stderr
    assert not folder.stop.exists()


def test_what_a_run_has_is_pulled_whole(giblet: Giblet, tmp_path: Path) -> None:
    folder = rundirs.write(tmp_path / "work", fleets.run())
    result = giblet("pull", "@last")
    assert result.returncode == 0
    copy_path = tmp_path / folder.run_id
    for name in ("run.json", "config.yaml", "metrics.jsonl", "train.log", "exit.json"):
        assert (copy_path / name).read_bytes() == (folder.path / name).read_bytes()
    assert not (copy_path / "alerts.jsonl").exists()
    assert giblet("pull", "@last", "--best").returncode == 2


def test_an_adopted_run_is_not_accused_of_a_bad_configuration(giblet: Giblet, tmp_path: Path) -> None:
    adoption = Adoption(address="s", mark="STY=1.s", at=0.0, by="ada")
    run = fleets.run("by_hand")
    rundirs.write(tmp_path / "work", replace(run, run=replace(run.run, adopted=adoption), config=None))
    for words in ("verdict by_hand", "promote by_hand cluster --dry-run"):
        result = giblet(*words.split())
        assert result.returncode == 2 and "adopted" in result.stderr and "cannot be read" not in result.stderr
    assert "Adopted as `by_hand` on" in giblet("report", "by_hand").stdout


def test_a_log_since_a_time_begins_behind_the_epoch_before_it(giblet: Giblet, tmp_path: Path) -> None:
    run = fleets.run(suffix="51ce", steps=80)
    shift = time.time() - run.epochs[1].at - 3600  # two epochs ended over an hour ago, the others later
    epochs = tuple(replace(e, at=e.at + shift + (7200 if e.epoch > 2 else 0)) for e in run.epochs)
    lines = tuple(f"Epoch {e.epoch}/20 | Train Loss: 1.0" for e in epochs)
    rundirs.write(tmp_path / "work", replace(run, epochs=epochs, log_tail=("begin", *lines)))
    since = giblet("logs", run.run.run_id, "--since", "30m")
    assert since.stdout.splitlines() == list(lines[2:]), since.stderr
    assert giblet("logs", run.run.run_id, "--since", "2030-01-01").stdout == ""
    assert giblet("logs", run.run.run_id, "--since", "9d").stdout.splitlines()[0] == "begin"
    refusal = giblet("logs", run.run.run_id, "--since", "yesterday")
    assert refusal.returncode == 2 and "neither a duration nor a day" in refusal.stderr


def test_a_log_without_epochs_has_no_times(giblet: Giblet, tmp_path: Path) -> None:
    run = now(replace(fleets.run(suffix="51cf", steps=1), epochs=()))
    rundirs.write(tmp_path / "work", run)
    refusal = giblet("logs", run.run.run_id, "--since", "10s")
    assert refusal.returncode == 2 and "has recorded no epoch" in refusal.stderr
