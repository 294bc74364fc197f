"""The sessions of giblet's runs on this node, in whatever backend holds them.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

from typing import Dict

from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.plain_process import PlainProcess
from giblet_tui.agent.screen import Screen
from giblet_tui.agent.session_backend import SessionBackend
from giblet_tui.agent.slurm import Slurm
from giblet_tui.agent.tmux import Tmux

BACKENDS: Dict[str, SessionBackend] = {backend.kind: backend for backend in (Tmux(), Screen(), PlainProcess(), Slurm())}
"""Every kind of session, in the order in which `auto` prefers them."""


def backend_of(kind: str) -> SessionBackend:
    """Return the backend of that name. Raises AgentRefusal if there is none."""
    if kind not in BACKENDS:
        raise AgentRefusal(f"{kind[:60]!r} is no kind of session.", f"There are: {', '.join(BACKENDS)}", 2)
    return BACKENDS[kind]


def starts_later(kind: str) -> bool:
    """Return True if a scheduler decides when a run with such a session starts."""
    return kind in BACKENDS and BACKENDS[kind].starts_later


def check_installed(kind: str) -> None:
    """Raise AgentRefusal if the program that would hold the session is not installed, or cannot work here."""
    if backend_of(kind).program() is None:
        raise AgentRefusal(f"{kind} is not installed on this node.", "Use --session auto, or have it installed.", 5)
    if problem := backend_of(kind).problem():
        raise AgentRefusal(
            f"{kind} cannot open a session here: {problem.rstrip('.')}.", "Use --session auto, or have it repaired.", 5
        )


def problems() -> Dict[str, str]:
    """Map each kind whose program is installed and can open no session here to the reason."""
    problem_by_kind = {kind: backend.problem() for kind, backend in BACKENDS.items() if backend.program()}
    return {kind: problem for kind, problem in problem_by_kind.items() if problem}


def check_name_free(session: str) -> None:
    """Raise AgentRefusal if a session of exactly that name is open."""
    for kind, _ in find_session(session):
        raise AgentRefusal(f"A {kind} session {session} is already open here.", "Launch again: the id is new.", 5)


def open_names() -> set[str]:
    """Return the names of all open sessions of giblet."""
    return {name for backend in BACKENDS.values() for name in backend.open_sessions()}


def find_session(session: str) -> list[tuple[str, str]]:
    """Return (kind, address) of every open session of exactly that name."""
    addresses = {kind: backend.open_sessions().get(session) for kind, backend in BACKENDS.items()}
    return [(kind, address) for kind, address in addresses.items() if address is not None]


def kill_session(session: str) -> list[str]:
    """Close every session of exactly that name. Returns the kinds of those closed."""
    matching = find_session(session)
    for kind, address in matching:
        BACKENDS[kind].kill(address)
    return [kind for kind, _ in matching]
