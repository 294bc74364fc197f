"""The program that giblet sends to a node: it answers one request and ends. Nothing is installed to run it.

Standard library only, Python >= 3.8. It writes lines of JSON to standard output, after a line with the request's
token, so that output of a login shell's start-up files is not mistaken for an answer. Bytes travel as text with
surrogate escapes, so any file arrives unchanged.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import sys
import threading
import time
from typing import IO, Any, Callable, Dict

from giblet_tui.agent import private_dirs
from giblet_tui.agent.records import open_regular

Emit = Callable[[Dict[str, Any]], None]
Operation = Callable[[Dict[str, Any], Emit], Dict[str, Any]]

SILENCE_LIMIT_S = 60.0
"""A reader that has not heard its client for so long ends itself: the client says something every few seconds."""

PIECE_BYTES = 256 * 1024


class AgentRefusal(Exception):
    """A request that cannot be done here: a sentence for the user, a remedy, and giblet's exit code."""

    def __init__(self, sentence: str, remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.exit_code = exit_code


class Output:
    """The agent's answer stream. A client that is gone is no error: work that was begun is finished without it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message, whole."""
        self.write(json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n")

    def write(self, data: bytes) -> None:
        """Write bytes, all of them."""
        with self._lock, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]


class Input:
    """Standard input after the request: a file's bytes for `receive`, signs of life for readers."""

    def __init__(self) -> None:
        self.file: IO[bytes] = io.BytesIO()

    def end_without_client(self) -> None:
        """End this process once the client closes, or has been silent for SILENCE_LIMIT_S."""
        last_input_at = [time.monotonic()]

        def listen() -> None:
            while self.file.read1(4096):  # type: ignore[attr-defined]
                last_input_at[0] = time.monotonic()
            os._exit(0)

        def watch() -> None:
            while time.monotonic() - last_input_at[0] < SILENCE_LIMIT_S:
                time.sleep(1.0)
            os._exit(0)

        for work in (listen, watch):
            threading.Thread(target=work, daemon=True).start()


INPUT = Input()


def main(token: str, operations: dict[str, Operation], request: dict[str, Any]) -> None:
    """Run the requested operation and write its messages: events, then one result, refusal or crash."""
    _complete_path()
    output = _take_over_streams()
    output.write(("\n%s\n" % token).encode("ascii"))
    output.send(_answer(operations, request, output))
    os._exit(0)  # at once: until then the server counts this session against the connection


def _complete_path() -> None:
    """Add the system's programs to a PATH that a start-up file has left without them."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if not {"/usr/bin", "/bin"} & set(folders):
        os.environ["PATH"] = os.pathsep.join([*folders, "/usr/local/bin", "/usr/bin", "/bin"])


def home_path(path: str) -> str:
    """Expand a path that is absolute or begins with ~/. Raises AgentRefusal for any other."""
    full_path = os.path.expanduser(path) if path == "~" or path.startswith("~/") else path
    if not os.path.isabs(full_path) or "\0" in full_path:
        raise AgentRefusal("%r is not an absolute path on the node." % path, "Start it with / or ~/.", 2)
    return full_path


def check_private(path: str, workdir: str) -> None:
    """Raise AgentRefusal if somebody else may have changed `path`, which is executed or trusted."""
    sentence = private_dirs.problem(path, workdir)
    if sentence:
        raise AgentRefusal(
            f"{sentence}, so others could have changed what giblet runs there.",
            "See that everything below it is yours, then close it: chmod -R go-w " + os.path.realpath(workdir),
            5,
        )


def receive(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Write the next `size` bytes of standard input to `path` if their SHA-256 matches; whole or not at all."""
    path, size = home_path(arguments["path"]), arguments["size"]
    private_dirs.make(os.path.dirname(path))
    aside = "%s.%d.part" % (path, os.getpid())
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if arguments["executable"] else 0o600)
        with open(descriptor, "wb") as file:
            digest = _copy(INPUT.file, file, size)
            file.flush()
            os.fsync(file.fileno())
        if digest != arguments["sha256"]:
            raise AgentRefusal("%s arrived damaged or cut off." % path, "Try again.")
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    return {"path": path, "bytes": size}


def read(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Send the bytes of `path` from `offset`, at most `limit`, as events {data: base64}. Returns the file's size."""
    INPUT.end_without_client()
    n_left = arguments.get("limit")
    with open(open_regular(home_path(arguments["path"])), "rb") as file:
        file.seek(arguments.get("offset", 0))
        while n_left is None or n_left > 0:
            piece = file.read(PIECE_BYTES if n_left is None else min(n_left, PIECE_BYTES))
            if not piece:
                break
            n_left = None if n_left is None else n_left - len(piece)
            emit({"data": base64.b64encode(piece).decode("ascii")})
        return {"size": os.fstat(file.fileno()).st_size}


def _answer(operations: dict[str, Operation], request: dict[str, Any], output: Output) -> dict[str, Any]:
    operation = operations.get(request["operation"])
    if operation is None:
        return {"crash": "the agent has no operation %r" % request["operation"]}
    try:
        return {"result": operation(request["arguments"], lambda event: output.send({"event": event}))}
    except AgentRefusal as refusal:
        sentence, remedy, exit_code = refusal.sentence, refusal.remedy, refusal.exit_code
    except OSError as error:
        what = ": %s" % error.filename if error.filename else ""
        sentence, remedy, exit_code = "%s%s." % (error.strerror or error, what), "", 1
    except Exception as error:  # the client must hear of any fault of ours
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = "%s:%d" % (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else "?"
        return {"crash": "%s: %s (%s)" % (type(error).__name__, error, place)}
    return {"refusal": {"sentence": sentence, "remedy": remedy, "exit_code": exit_code}}


def _take_over_streams() -> Output:
    """Reserve standard output for the protocol: nothing that an operation starts can write to it or hold it open."""
    INPUT.file = sys.stdin.buffer
    private = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(nowhere, standard)
    return Output(private)


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> str:
    digest = hashlib.sha256()
    while size > 0:
        piece = source.read(min(size, PIECE_BYTES))
        if not piece:
            break
        digest.update(piece)
        target.write(piece)
        size -= len(piece)
    return digest.hexdigest()


OPERATIONS: Dict[str, Operation] = {"receive": receive, "read": read}
