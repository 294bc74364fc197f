"""Runs one engine command on the node and waits for it: stderr is streamed as events, stdout is returned.

Part of the agent: standard library only, Python >= 3.8. The command ends with its client.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import threading
from typing import IO, Any

from giblet_tui.agent import private_dirs
from giblet_tui.agent.main import INPUT, AgentRefusal, Emit, Operation, check_private, home_path

_PR_SET_PDEATHSIG = 1
MOST_PRINTED_BYTES = 8 * 1024 * 1024


def engine_command(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run `python -m giblet_train ARGV` and return its exit code and its standard output.

    Each line of standard error becomes an event {say}.

    arguments: python, an interpreter that has the engine; workdir, where it runs; argv; stdin, a text. Raises
    AgentRefusal if the command cannot be started or prints too much.
    """
    INPUT.end_without_client()
    workdir = home_path(arguments["workdir"])
    python = home_path(arguments["python"])
    private_dirs.make(workdir)
    check_private(python, workdir)
    process = subprocess.Popen(
        [python, "-m", "giblet_train", *arguments["argv"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=workdir,
        preexec_fn=_end_with_the_agent,
    )
    assert process.stdin and process.stdout and process.stderr
    output_lines: list[bytes] = []
    reader = threading.Thread(target=_read, args=(process.stdout, output_lines), daemon=True)
    reader.start()
    threading.Thread(target=_give, args=(process.stdin, arguments["stdin"].encode()), daemon=True).start()
    for line in process.stderr:
        emit({"say": line.decode("utf-8", "replace").rstrip("\n")})
    reader.join()
    code = process.wait()
    if sum(map(len, output_lines)) > MOST_PRINTED_BYTES:
        raise AgentRefusal(f"The engine printed more than {MOST_PRINTED_BYTES >> 20} MiB.")
    return {"code": code, "printed": b"".join(output_lines).decode("utf-8", "replace")}


def _end_with_the_agent() -> None:
    """Have the kernel end this process when the agent ends, for whatever reason."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _read(file: IO[bytes], output_lines: list[bytes]) -> None:
    size = 0
    for piece in iter(lambda: file.read(65536), b""):
        size += len(piece)
        if size <= 2 * MOST_PRINTED_BYTES:
            output_lines.append(piece)


def _give(file: IO[bytes], data: bytes) -> None:
    try:
        with file:
            file.write(data)
    except BrokenPipeError:
        pass


OPERATIONS: dict[str, Operation] = {"engine_command": engine_command}
