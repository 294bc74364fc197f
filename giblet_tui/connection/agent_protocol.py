"""One exchange with an agent: sends its program and a request, receives its messages. Contains no network code."""

from __future__ import annotations

import json
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Protocol

import msgspec

from giblet_train.schema.errors import GibletError
from giblet_tui.connection.agent_bundle import OPERATION_MODULES, agent_sources, full_name
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.errors import ProtocolError, TimedOut, Unreachable

START_LIMIT_S = 60.0
"""How long a node may take from the command to the agent's first word: a shell's start-up files and an interpreter."""

SILENCE_S = 2.0
"""After so long without a message the link itself is asked whether it lives."""

END_LIMIT_S = 2.0
"""An agent that has answered ends at once."""

SIGN_OF_LIFE_S = 5.0
_READ_BY_OTHERS = re.compile(r"invalid literal for int|command not found: \d+|: \d+: (command )?not found")
"""What is left of giblet's program when something else has read of it: Python misses its length, or a shell runs it."""
_NO_PYTHON = re.compile(r"exec: \S*: *(not found|No such file|cannot execute|Permission denied)|env: .*python")
_STARTUP_FILE = re.compile(
    r"[/.]\w*(rc|profile|(?<!no)login|logout|zshenv|environment|module\w*|activate|config\.fish)\b"
)
"""Names of files that shells read at a login, and of what such files usually call."""
MAX_NOISE_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# Old syntax, so that an old interpreter can say that it is too old.
_LOADER = r"""
import json, sys, zlib
token = "{token}"
if sys.version_info < (3, 8):
    version = sys.version.split()[0]
    words = dict(sentence="Python %s on the node is too old for giblet." % version, exit_code=5,
                 remedy="It needs 3.8 or newer: name one as `python:` of this node in nodes.yaml.")
    sys.stdout.write("\n" + token + "\n" + json.dumps(dict(refusal=words)) + "\n")
    sys.stdout.flush()
    sys.exit(0)
from importlib import import_module
from importlib.machinery import ModuleSpec
sources = json.loads(zlib.decompress(s.read(int(s.readline()))).decode("ascii"))
request = json.loads(s.read(int(s.readline())).decode("ascii"))
packages = set(name[:i] for name in sources for i in range(len(name)) if name[i] == ".")


class Agent(object):
    def find_spec(self, name, path=None, target=None):
        if name in sources or name in packages:
            return ModuleSpec(name, self, is_package=name in packages)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        exec(compile(sources.get(name, ""), name, "exec"), module.__dict__)


sys.meta_path.insert(0, Agent())
operations = import_module(request.pop("module")).OPERATIONS
import_module("giblet_tui.agent.main").main(token, operations, request)
"""


@cache
def packed_sources() -> bytes:
    """Return the modules of the agent as they are sent."""
    return zlib.compress(json.dumps(agent_sources()).encode("ascii"), 6)


class Pipe(Protocol):
    """A command running on the node, as its client holds it."""

    def write(self, data: bytes) -> None:
        """Send to its standard input. Raises Unreachable."""

    def read(self, timeout_s: float) -> bytes | None:
        """Return bytes from standard output; b"" at its end, None if nothing came in time. Raises Unreachable."""

    def await_end(self, limit_s: float) -> None:
        """Wait for the command to end by itself."""

    def close(self) -> None:
        """Release it; idempotent."""

    def exit_reason(self) -> str:
        """Describe how the command ended, with its standard error."""


class AgentSession:
    """A request and its answer over a pipe. check_link raises Unreachable when the other end no longer answers."""

    def __init__(self, pipe: Pipe, node_name: str, check_link: Callable[[], None]) -> None:
        self._pipe = pipe
        self._node = node_name
        self._check_link = check_link
        self._buffer = bytearray()
        self._spoke_at = time.monotonic()

    def begin(self, interpreter: str, operation: str, arguments: Mapping[str, Any]) -> None:
        """Send the agent and the request, and wait for its first word. interpreter: a path, or empty."""
        token = f"giblet-{secrets.token_hex(16)}"
        loader = _LOADER.replace("{token}", token).encode()
        module = full_name(OPERATION_MODULES.get(operation, "main"))  # which answers that there is no such operation
        request = json.dumps(
            {"module": module, "operation": operation, "arguments": arguments}, default=msgspec.to_builtins
        ).encode("ascii")
        head = interpreter.replace("\n", " ").encode() + b"\n"
        self._pipe.write(head + b"".join(b"%d\n" % len(part) + part for part in (loader, packed_sources(), request)))
        self._await_token(b"\n" + token.encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send the bytes that an operation reads after its request."""
        self._pipe.write(data)

    def messages(self, timeout_s: float | None) -> Iterator[dict[str, Any]]:
        """Yield events, and last the operation's result as {"result": ...}.

        Raises TimedOut, Unreachable, and the node's own refusal as a GibletError with its exit code.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            message = self._next_message(deadline)
            if "event" in message:
                yield message["event"]
            elif "result" in message:
                self._pipe.await_end(END_LIMIT_S)
                yield message
                return
            elif "refusal" in message:
                self._pipe.await_end(END_LIMIT_S)
                raise refusal(message["refusal"])
            else:
                raise GibletError(
                    f"giblet's agent failed on {self._node}: {sanitize(str(message.get('crash')))}",
                    "This is a fault in giblet; please report it with the line above.",
                )

    def close(self) -> None:
        """Release the pipe: an agent that only reads ends by itself."""
        self._pipe.close()

    def _next_message(self, deadline: float | None) -> dict[str, Any]:
        while (end := self._buffer.find(b"\n")) < 0:
            self._receive(deadline, "an answer")
            if len(self._buffer) > MAX_MESSAGE_BYTES:
                raise GibletError(f"{self._node} sent a message of more than {MAX_MESSAGE_BYTES >> 20} MiB.")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ProtocolError(f"{self._node} answered something that is not giblet's protocol.")
        return message

    def _await_token(self, token: bytes) -> None:
        """Skip what the login shell printed before the agent started."""
        deadline = time.monotonic() + START_LIMIT_S
        while (at := self._buffer.find(token)) < 0:
            if len(self._buffer) > MAX_NOISE_BYTES:
                raise Unreachable(
                    f"The login shell of {self._node} prints without end before a command runs.",
                    "Make its start-up files (~/.bashrc and the like) silent in shells that are not interactive.",
                )
            if b'token = "' + token.strip() in self._buffer:  # our own program, repeated
                raise self._input_taken()
            self._receive(deadline, "giblet's agent", starting=True)
        del self._buffer[: at + len(token)]

    def _receive(self, deadline: float | None, what: str, starting: bool = False) -> None:
        silent_since = time.monotonic()
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise self._too_late(what, starting)
            self._show_life(now)
            piece = self._pipe.read(min(SILENCE_S, SILENCE_S if deadline is None else deadline - now))
            if piece:
                self._buffer += piece
                return
            if piece == b"":
                raise self._ended(starting)
            if time.monotonic() - silent_since >= SILENCE_S:
                self._check_link()

    def _too_late(self, what: str, starting: bool) -> TimedOut:
        if starting:
            return TimedOut(
                f"The login shell of {self._node} took more than {START_LIMIT_S:.0f} s before giblet's agent began.",
                "See how long this takes: time ssh NODE true. Start-up files (~/.bashrc and the like) that load "
                "modules or environments should return at once where no person types; else look at the node's load.",
            )
        return TimedOut(f"{self._node} did not give {what} in time.", "Look at its load, then try again.")

    def _show_life(self, now: float) -> None:
        """Send a byte now and then: readers on the node end when they hear nothing for long."""
        if now - self._spoke_at >= SIGN_OF_LIFE_S:
            self._spoke_at = now
            self._pipe.write(b"\n")

    def _input_taken(self) -> Unreachable:
        return Unreachable(
            f"Something on {self._node} reads the standard input that belongs to giblet's agent.",
            "Usually a start-up file of the login shell: `exec zsh`, `read`, or a program that reads. Let it return"
            " at once where no person types (bash, as its first line: case $- in *i*) ;; *) return ;; esac). Then"
            " this prints ok: echo ok | ssh NODE cat",
        )

    def _ended(self, starting: bool) -> GibletError:
        output = sanitize(bytes(self._buffer[-200:]).decode("utf-8", "replace")).strip()
        exit_reason = sanitize(self._pipe.exit_reason())
        if not starting:
            return Unreachable(
                f"The connection to {self._node} broke off{exit_reason and f' ({exit_reason})'}.", "Try again."
            )
        is_startup_file = _STARTUP_FILE.search(f"{exit_reason} {output}")
        if _READ_BY_OTHERS.search(exit_reason):
            return self._input_taken()
        if _NO_PYTHON.search(exit_reason) or ("not found" in exit_reason and not is_startup_file):
            return Unreachable(
                f"There is no python3 on {self._node}: {exit_reason}.",
                "Install Python 3.8 or newer there, or name one as `python:` of this node in nodes.yaml.",
            )
        if "nknown option: -I" in exit_reason:
            return Unreachable(
                f"`python:` of {self._node} is Python 2, or no Python: {exit_reason}.",
                "Name a Python 3.8 or newer as `python:` of this node in nodes.yaml.",
            )
        if is_startup_file:
            return Unreachable(
                f"A start-up file of the login shell ends on {self._node} before giblet starts: {exit_reason}.",
                "Let the file return at once where no person types (bash, as its first line: "
                "case $- in *i*) ;; *) return ;; esac). Then this prints ok: ssh NODE 'echo ok'",
            )
        details = "; ".join(part for part in (exit_reason, output and f"it printed: {output}") if part)
        return Unreachable(
            f"The login shell of {self._node} ended before giblet's agent began{details and f' ({details})'}.",
            "See what this prints: ssh NODE 'echo ok'. If it prints no ok, either a start-up file (~/.bashrc and the"
            " like) ends shells in which no person types, or the server allows this account or key no commands:"
            " maintenance, no login shell, a key for one purpose. Then ask its administrator.",
        )


def refusal(words: Mapping[str, Any]) -> GibletError:
    """Convert an agent's refusal into a GibletError with its exit code; its text is sanitised."""
    error = GibletError(sanitize(str(words["sentence"])), sanitize(str(words["remedy"])))
    error.exit_code = int(words["exit_code"])
    return error
