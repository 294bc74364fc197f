"""screen's command lines and answers, the answers as screen 4.9.0 gave them."""

from __future__ import annotations

import subprocess

import pytest

from giblet_tui.agent import screen

SESSION = "gib-demo-20260101-120000-abcd"
RECORDED = (
    "There are screens on:\r\n"
    f"\t9283.{SESSION}\t(11/22/26 23:47:49)\t(Detached)\n"
    f"\t9291.{SESSION}0\t(11/22/26 23:47:49)\t(Multi, attached)\n"
    "\t9292.x_1\t(11/22/26 23:47:49)\t(Dead ???)\n"
    "\t77.pts-3.tensor01\t(Attached)\n"
    "Remove dead screens with 'screen -wipe'.\r\n"
    "4 Sockets in /run/screen/S-alice.\r\n"
)


def test_a_session_is_addressed_by_pid_and_whole_name():
    assert screen.parse_list(RECORDED) == {
        SESSION: f"9283.{SESSION}",
        f"{SESSION}0": f"9291.{SESSION}0",
        "pts-3.tensor01": "77.pts-3.tensor01",
    }
    assert screen.kill_argv(f"9283.{SESSION}") == ["screen", "-S", f"9283.{SESSION}", "-X", "quit"]


def test_no_sessions():
    assert screen.parse_list("No Sockets found in /run/screen/S-alice.\r\n\r\n") == {}


def test_a_session_is_opened_detached_without_the_users_configuration():
    argv = screen.start_argv(SESSION, ["/bin/sh", "/x/a b/launch.sh"])
    assert argv[:3] == ["screen", "-c", "/dev/null"]
    assert argv[-4:] == ["-dmS", SESSION, "/bin/sh", "/x/a b/launch.sh"]


def test_attaching_shares_the_session():
    assert screen.Screen().attach_argv("1.x") == ["screen", "-x", "1.x"]


@pytest.mark.parametrize(
    ("message", "is_usable"),
    [
        ("No Sockets found in /run/screen/S-ada.\n", True),
        ("There is a screen on:\n\t7.gib-x\t(Detached)\n1 Socket in /run/screen/S-ada.\n", True),
        ("Cannot access /scratch/sockets: Permission denied\n", False),
        ("Directory /scratch/screen must have mode 700.\n", False),
        ("Cannot make directory '/run/screen': Permission denied\n", False),
    ],
)
def test_a_screen_that_cannot_work_is_told_from_one_without_sessions(message, is_usable):
    problem = screen.parse_problem(subprocess.CompletedProcess([], 1, message, ""))
    assert problem == ("" if is_usable else message.strip())
