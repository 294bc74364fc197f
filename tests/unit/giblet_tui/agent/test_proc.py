"""What /proc says about processes, and who they belong to."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from giblet_tui.agent import host_info, proc
from giblet_tui.inventory.user import current_user


def test_a_process_has_words_and_an_age() -> None:
    words = [sys.executable, "-S", "-c", "import time; time.sleep(60)", ""]
    process = subprocess.Popen(words)
    try:
        deadline = time.monotonic() + 10.0
        while proc.command_line(process.pid) != words and time.monotonic() < deadline:
            time.sleep(0.01)
        assert proc.command_line(process.pid) == words
        age_s = proc.age_s(process.pid)
        assert age_s is not None and -0.1 < age_s < 10.0
        assert not proc.hangs_in_kernel(process.pid)
    finally:
        process.kill()
        process.wait()
    assert proc.command_line(process.pid) == [] and proc.age_s(process.pid) is None


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, or while the directory service is down."""

    def no_name(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(proc.pwd, "getpwuid", no_name)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert current_user().startswith(f"user {os.getuid()}@")
    assert host_info.probe({"workdir": "/tmp"}, lambda event: None)["user"] == f"user {os.getuid()}"
