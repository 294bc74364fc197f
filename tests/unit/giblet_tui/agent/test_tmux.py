"""tmux's command lines and answers, the answers as tmux 3.3a gave them."""

from __future__ import annotations

import subprocess

import pytest

from giblet_tui.agent import tmux

SESSION = "gib-demo-20260101-120000-abcd"


def test_sessions_are_on_giblets_own_server_without_the_users_configuration():
    for argv in (
        tmux.start_argv(SESSION, ["/bin/sh", "/x/launch.sh"]),
        tmux.list_argv(),
        tmux.kill_argv("=x"),
        tmux.Tmux().attach_argv("=x"),
    ):
        assert argv[:5] == ["tmux", "-L", "giblet", "-f", "/dev/null"]


def test_a_session_is_opened_detached_and_runs_its_command_without_a_shell():
    argv = tmux.start_argv(SESSION, ["/bin/sh", "/x/a b/launch.sh"])
    assert argv[5:7] == ["new-session", "-d"]
    assert argv[argv.index("-s") + 1] == SESSION
    assert argv[argv.index("--") + 1 :] == ["/bin/sh", "/x/a b/launch.sh"]


def test_a_session_is_addressed_exactly():
    session_list = f"{SESSION}\n{SESSION}0\nwork\n"
    addresses = tmux.parse_list(session_list)
    assert addresses == {SESSION: f"={SESSION}", f"{SESSION}0": f"={SESSION}0", "work": "=work"}
    assert tmux.kill_argv(addresses[SESSION])[5:] == ["kill-session", "-t", f"={SESSION}"]


def test_no_server_is_no_session():
    assert tmux.parse_list("") == {}


def test_attaching_only_reads_unless_asked():
    assert tmux.Tmux().attach_argv("=x")[5:] == ["attach-session", "-r", "-t", "=x"]
    assert tmux.Tmux().attach_argv("=x", write=True)[5:] == ["attach-session", "-t", "=x"]


@pytest.mark.parametrize(
    ("code", "message", "is_usable"),
    [
        (0, "", True),
        (1, "no server running on /tmp/tmux-0/giblet", True),
        (1, "error connecting to /tmp/tmux-0/giblet (No such file or directory)", True),
        (1, "server exited unexpectedly", True),
        (1, "error connecting to /tmp/tmux-0/giblet (Permission denied)", False),
        (1, "couldn't create directory /scratch/tmux-1001 (Permission denied)", False),
        (1, "tmux: need UTF-8 locale (LC_CTYPE) but have ANSI_X3.4-1968", False),
        (127, "tmux: libevent.so.7: cannot open shared object file: No such file or directory", False),
        (139, "", False),
    ],
)
def test_a_tmux_that_cannot_work_is_told_from_one_without_sessions(code, message, is_usable):
    problem = tmux.parse_problem(subprocess.CompletedProcess([], code, "", message))
    assert problem == ("" if is_usable else message or f"it ended with code {code}")
    assert tmux.parse_problem(None) == "it cannot be run, or gives no answer within 10 s"
