"""Sessions that a person opened by hand: on tmux's default server, or in screen; found, recognised and closed exactly.

Every process that was started in such a session bears its mark in its environment: screen sets STY to `PID.name`, tmux
sets TMUX to `socket,server's pid,number`. It survives double forks and a parent's death, as a process tree does not.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from giblet_tui.agent import layout, screen, tmux
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.run_command import answer

_LIMIT_S = 10.0


class UserSession(NamedTuple):
    """A session. address means it and no other; mark is the variable that its processes have."""

    kind: str
    name: str
    address: str
    mark: str


def listed() -> list[UserSession]:
    """This user's sessions, without giblet's own."""
    found = [UserSession("screen", n, a, f"STY={a}") for n, a in screen.parse_addresses(_output(screen.list_argv()))]
    for name, address, variable in tmux.parse_by_hand(_output(tmux.list_by_hand_argv())):
        found.append(UserSession("tmux", name, address, f"TMUX={variable}"))
    return [each for each in found if not each.name.startswith(layout.SESSION_PREFIX)]


def find(wanted: str) -> UserSession:
    """The session of that name, or of that address (`4242.train`). Raises AgentRefusal naming what there is."""
    if wanted.startswith(layout.SESSION_PREFIX):
        raise AgentRefusal(f"{wanted[:60]} is giblet's own session.", "`giblet ps -a` lists its run.", 2)
    present = listed()
    fitting = [each for each in present if wanted in (each.name, each.address)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{each.address if each.kind == 'screen' else each.name} ({each.kind})" for each in present)
    if fitting:
        raise AgentRefusal(f"{len(fitting)} sessions are called {wanted[:60]}.", f"Name one in full: {there}", 2)
    raise AgentRefusal(
        f"No screen or tmux session that you started there by hand is called {wanted[:60]!r}.",
        f"There are: {there}" if there else "There is none at all; giblet's own need no adopting: giblet ps",
        2,
    )


def close(record: dict[str, Any]) -> list[str]:
    """Close the session that an adopted run's record names, if it is still that one; what held it."""
    for each in listed():
        if each.mark == record.get("mark"):
            argv = screen.end_argv(each.address) if each.kind == "screen" else tmux.end_by_hand_argv(each.address)
            _output(argv)
            return [each.kind]
    return []


def _output(argv: list[str]) -> str:
    """What a multiplexer prints, asked from outside any session; nothing where it has none to tell of."""
    done = answer(argv, _LIMIT_S, {key: value for key, value in os.environ.items() if key not in ("TMUX", "STY")})
    return done.stdout if done else ""
