"""Programs that start at once: forks of a process that has imported them. It has one thread, so that a fork is safe.

Torch takes over a second to import in every process, and giblet a quarter. A test whose subject is the process itself,
its start, its terminal or torchrun, starts it as users do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.paths import ROOT

POLL_S = 0.01
PR_SET_PDEATHSIG = 1


class ForkedProgram:
    """The processes of one program, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, server: ForkServer, pids: Sequence[int], folder: Path) -> None:
        self.pids = pids
        self._server, self._folder = server, folder
        self._codes: dict[int, int] = {}

    @property
    def returncode(self) -> int | None:
        """Return 0 if every process ended with 0, else the code of the first that did not; None if one runs."""
        if self._codes.keys() < set(self.pids):
            return None
        return next((self._codes[pid] for pid in self.pids if self._codes[pid]), 0)

    def poll(self) -> int | None:
        for pid in self.pids:
            if pid not in self._codes and (code := self._server.ask(poll=pid)) is not None:
                self._codes[pid] = code
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            if pid not in self._codes:
                os.kill(pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; return what was printed to stdout and to stderr. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise TimeoutError(f"It ran for more than {timeout:.0f} s; stderr: {self._printed('stderr')}")
            time.sleep(POLL_S)
        return self._printed("stdout"), self._printed("stderr")

    def _printed(self, stream: str) -> str:
        return (self._folder / stream).read_text(encoding="utf-8")


class ForkServer:
    """Runs a function as a program, in a fork for each call."""

    def __init__(self, entry: str, preload: Sequence[str] = ()) -> None:
        """entry: module:function, called without arguments; preload: modules that it would import later."""
        self._folder = tempfile.TemporaryDirectory()
        self._n_programs = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", entry, *preload],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def start(
        self,
        arguments: Sequence[str],
        environments: Sequence[Mapping[str, str]],
        folder: Path = ROOT,
    ) -> ForkedProgram:
        """Start one process for each environment in the folder; they print into the same files."""
        self._n_programs += 1
        output = Path(self._folder.name) / str(self._n_programs)
        output.mkdir()
        request = {"arguments": [*arguments], "folder": str(folder), "output": str(output)}
        pids = [self.ask(environment=dict(environment), **request) for environment in environments]
        return ForkedProgram(self, pids, output)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end, as `subprocess.run` does."""
        program = self.start(arguments, [environment], folder)
        stdout, stderr = program.communicate(timeout)
        assert program.returncode is not None
        return subprocess.CompletedProcess(arguments, program.returncode, stdout, stderr)

    def close(self) -> None:
        """End the server and what it still runs."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def ask(self, **request: Any) -> Any:
        """Send a request to the server and return its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def engine_server() -> ForkServer:
    """Return the server of this test worker that trains run directories of the synthetic study."""
    return ForkServer("tests.engine_worker:main")


@cache
def engine_cli_server() -> ForkServer:
    """Return the server of this test worker that runs `python -m giblet_train`."""
    commands = importlib.import_module("giblet_train.cli.commands").COMMANDS.values()
    return ForkServer("giblet_train.cli:main", [f"giblet_train.cli.{command.module}" for command in commands])


@cache
def giblet_server() -> ForkServer:
    """Return the server of this test worker that runs `giblet`."""
    return ForkServer("tests.forked_giblet:main")


def _serve(entry: str) -> None:
    """Answer requests until pytest has ended, however it ends; then end the programs and what they have started."""
    module, _, function = entry.partition(":")
    codes: dict[int, int | None] = {}
    # Control-C reaches every process of a terminal, and whoever interrupts pytest may end its process group. The
    # server has to outlive both for as long as it takes to end its programs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _answer_requests(getattr(importlib.import_module(module), function), codes)
    except BrokenPipeError:
        pass  # nobody reads the answer
    finally:
        for pid in (pid for pid, code in codes.items() if code is None):
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # it had not become a program yet
                os.killpg(pid, signal.SIGKILL)


def _answer_requests(main: Callable[[], object], codes: dict[int, int | None]) -> None:
    """Start and poll programs until stdin ends. A fork leaves by the end of the program it runs."""
    gc.freeze()  # a collection in a fork would copy the memory that it looks at
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid = request["poll"]
            if codes[pid] is None and (status := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(status[1])
            answer = codes[pid]
        else:
            assert len(os.listdir("/proc/self/task")) == 1, "a fork of several threads may wait for ever"
            answer = os.fork()
            if answer == 0:
                _become(**request)
                _run_and_leave(main)
            codes[answer] = None
        print(json.dumps(answer), flush=True)


def _run_and_leave(main: Callable[[], object]) -> NoReturn:
    """Run the program and end the process as the interpreter would, but without taking every module apart."""
    code: object = None
    try:
        code = main()
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _become(arguments: list[str], environment: dict[str, str], folder: str, output: str) -> None:
    """Turn a fork into a program that was just started, with files in place of the server's pipes.

    It leads a session of its own, by which the server finds what it has started, and dies with the server.
    """
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = arguments
    for number, path, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, f"{output}/stdout", os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        (2, f"{output}/stderr", os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        descriptor = os.open(path, mode, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 (it stays open as long as the program)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    _serve(sys.argv[1])
