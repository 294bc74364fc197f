"""`giblet why`: exit codes, and the whole log of a run, which is scanned on its node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_tui.monitor.snapshots import RunSnapshot
from tests import fleets, rundirs
from tests.collection.log_ends import KILLED_BY_SHELL, OOM, epochs, stacks, traceback
from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")
Why = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def why(tmp_path: Path) -> Why:
    folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "work", "HOME": "user"}
    own_environment = {k: v for k, v in os.environ.items() if not k.startswith("GIBLET_")}
    environment = own_environment | {key: str(tmp_path / folder) for key, folder in folders.items()}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return giblet_server().run(["why", *words], environment, tmp_path, 60)

    return run


def on_gpu(run: RunSnapshot) -> RunSnapshot:
    """Return the run as if it had used a GPU."""
    assert run.plan_record is not None
    return replace(run, plan_record=replace(run.plan_record, device="cuda"))


def test_an_error_is_found_however_much_the_other_ranks_print_after_it(why: Why, tmp_path: Path) -> None:
    log = [*epochs(1, 3), *traceback(OOM, "[rank3]: "), *stacks(30_000)]
    folder = rundirs.write(tmp_path / "work", on_gpu(fleets.run("demo", log=log, state="failed")), code=1)
    for subject in ("demo", str(folder.path)):
        answer = why(subject, "--json")
        first = json.loads(answer.stdout)["causes"][0]
        assert (answer.returncode, first["cause"]) == (1, "oom_gpu") and first["sentence"].startswith("The GPU ran out")
        assert "Only the last lines" not in answer.stderr


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("well.log", "\n".join(epochs(1, 20)), 0),
        ("dead.log", "\n".join([*epochs(1, 20), KILLED_BY_SHELL]), 1),
        ("empty.log", "", 2),
        ("noise.log", "Loading dataset\nBuilding model\n", 2),
        ("unread.log", "Epoch 1: 0.5123 0.6123\nEpoch 2: 0.4123 0.5123\n", 2),
        ("partly.log", "\n".join([*epochs(1, 20), "Epoch 21/50 | Train Loss: 0x1f"]), 2),
        ("metrics.csv", "epoch,loss,val_loss\n0,2.0,2.1\n1,1.5,1.6\n2,1.2,1.3\n", 0),
    ],
)
def test_the_exit_code_states_what_could_be_concluded(
    why: Why, tmp_path: Path, name: str, text: str, code: int
) -> None:
    (tmp_path / name).write_text(text)
    answer = why(name)
    assert answer.returncode == code, answer.stdout + answer.stderr
    assert ("Nothing is wrong" in answer.stdout) == (code == 0)


def test_a_line_that_cannot_be_read_is_shown(why: Why, tmp_path: Path) -> None:
    (tmp_path / "partly.log").write_text("\n".join([*epochs(1, 20), "Epoch 21/50 | Train Loss: 0x1f\x1b]0;t\x07"]))
    answer = why("partly.log")
    assert "Line 21 could not be read: Epoch 21/50 | Train Loss: 0x1f" in answer.stdout and "\x1b" not in answer.stdout
