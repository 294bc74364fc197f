"""The agent as a program: on the oldest Python it promises, over this machine's own transport."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from giblet_train.schema.errors import GibletError
from giblet_tui.agent import main
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.connection import agent_protocol
from giblet_tui.connection.agent_bundle import (
    AGENT_COMMAND,
    AGENT_MODULES,
    LOG_READER,
    OPERATION_MODULES,
    agent_sources,
    full_name,
)
from giblet_tui.connection.agent_protocol import AgentSession
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import Done, NodeProbe, WatchEvent
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from tests.cluster.nodes import wait_until

OLDEST = (3, 8)


def local(workdir: Path, **values: Any) -> Node:
    return Node(name="local", host="localhost", transport="local", workdir=str(workdir), **values)


@pytest.mark.parametrize("name", AGENT_MODULES)
def test_it_is_standard_library_of_the_oldest_python(name: str) -> None:
    tree = ast.parse(agent_sources()[full_name(name)], feature_version=OLDEST)
    modules = {
        module
        for node in ast.walk(tree)
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    for module in modules:
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or module.startswith(("giblet_tui.agent", LOG_READER)), module
    loaded_before = AGENT_MODULES[: AGENT_MODULES.index(name)]
    for module in modules:
        if module.startswith("giblet_tui.agent."):
            assert module.rpartition(".")[2] in loaded_before, f"{name} is listed before {module}"
        if module.startswith(f"{LOG_READER}."):
            assert module in loaded_before, f"{name} is listed before {module}"


def test_every_operation_is_found_in_its_module() -> None:
    operations = {
        operation: name
        for name in AGENT_MODULES
        for operation in getattr(import_module(full_name(name)), "OPERATIONS", {})
    }
    assert operations == OPERATION_MODULES


def reached(name: str) -> set[str]:
    """Return the modules of the agent that importing one of them imports."""
    names, rest = set(), [full_name(name)]
    while rest:
        module = rest.pop()
        if module in names or module not in agent_sources():
            continue
        names.add(module)
        for node in ast.parse(agent_sources()[module]).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                rest += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_only_the_modules_of_an_operation_are_compiled(tmp_path: Path) -> None:
    """The readers of logs take as long to compile as all the rest; only what reads a log needs them."""
    readers = {operation for operation, name in OPERATION_MODULES.items() if LOG_READER in " ".join(reached(name))}
    assert readers == {"log_end", "adopt"}
    sources = {**agent_sources(), **dict.fromkeys((name for name in agent_sources() if LOG_READER in name), "1 / 0")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_protocol, "packed_sources", lambda: zlib.compress(json.dumps(sources).encode()))
        with connect(local(tmp_path)) as connection:
            connection.call("observe", {"workdir": str(tmp_path)}, Done)


def test_it_runs_on_the_oldest_python_there_is(tmp_path: Path) -> None:
    older_pythons = [path for minor in (8, 9, 10) for path in interpreters(minor)]
    if not older_pythons:
        pytest.skip("no Python 3.8, 3.9 or 3.10 on this machine")
    with connect(local(tmp_path, python=older_pythons[0])) as connection:
        assert connection.call("probe", {"workdir": str(tmp_path)}, NodeProbe).python.startswith("3.")
        connection.call("observe", {"workdir": str(tmp_path)}, Done)


def test_the_command_has_nothing_a_shell_would_touch() -> None:
    script = AGENT_COMMAND.removeprefix("exec /bin/sh -c '").removesuffix("'")
    assert "'" not in script and "!" not in script and "\n" not in script and "\\" not in script


def test_output_of_an_operation_s_children_is_no_message(tmp_path: Path) -> None:
    program = (
        "import os, subprocess; from giblet_tui.agent import main as agent\n"
        "def noisy(arguments, emit):\n"
        "    print('{\"result\": 1}', flush=True); os.write(2, b'noise'); subprocess.run(['echo', 'noise'])\n"
        "    emit({'n': 1}); return {'n': 2}\n"
        "agent.main('TOKEN', {'noisy': noisy}, {'operation': 'noisy', 'arguments': {}})\n"
    )
    result = subprocess.run([sys.executable, "-c", program], input=b"", capture_output=True, check=True)
    assert result.stdout == b'\nTOKEN\n{"event":{"n":1}}\n{"result":{"n":2}}\n'
    assert result.stderr == b""


def test_a_file_arrives_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new folder" / "file"
    monkeypatch.setattr(main.INPUT, "file", io.BytesIO(b"short"))
    arguments = {"path": str(target), "size": 10, "sha256": "0" * 64, "executable": False}
    with pytest.raises(AgentRefusal, match="damaged or cut off"):
        main.receive(arguments, lambda event: None)
    assert os.listdir(target.parent) == []
    with connect(local(tmp_path)) as connection:
        connection.put(b"old", str(target))
        connection.put(b"new" * 100_000, str(target))
        assert target.read_bytes() == b"new" * 100_000
        assert b"".join(connection.get(str(target), offset=299_990)) == b"wnewnewnew"
        with pytest.raises(GibletError, match=r"File exists|Not a directory"):
            connection.put(b"x", str(target / "below"))


@pytest.mark.parametrize("path", ["relative", "../up", "", "~other/x", "a\0b", "/a\0b"])
def test_paths_are_absolute(path: str) -> None:
    with pytest.raises(AgentRefusal, match="not an absolute path"):
        main.home_path(path)


def test_home_is_the_node_s() -> None:
    assert main.home_path("~/giblet") == str(Path.home() / "giblet")
    assert main.home_path("/data/~") == "/data/~"


def test_a_reader_ends_when_nobody_listens(tmp_path: Path) -> None:
    """Its client closes; and, where the client vanished without closing, after a silence."""
    program = (
        "import time; from giblet_tui.agent import main as agent\n"
        "agent.SILENCE_LIMIT_S = {limit}; agent._take_over_streams(); agent.INPUT.end_without_client()\n"
        "time.sleep(600)\n"
    )
    closing_client = subprocess.Popen([sys.executable, "-c", program.format(limit=600)], stdin=subprocess.PIPE)
    assert closing_client.stdin is not None
    closing_client.stdin.close()
    assert closing_client.wait(120) == 0
    silent = subprocess.Popen([sys.executable, "-c", program.format(limit=0.2)], stdin=subprocess.PIPE)
    assert silent.wait(120) == 0


def test_a_stream_that_is_left_ends_its_agent(tmp_path: Path) -> None:
    """Other children of this process, such as a session's sshd, are none of its business."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        others = children()
        with connect(local(tmp_path)) as connection:
            events = connection.stream("watch", {"workdir": str(tmp_path), "interval_s": 0.1}, WatchEvent)
            assert next(events).tick is not None
            agents = children() - others
            assert agents
            events.close()  # type: ignore[attr-defined]
            wait_until(lambda: not agents & children(), what="the end of the agent")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


class Scripted:
    """A pipe whose other end says what a test gives it."""

    def __init__(self, *pieces: bytes | None) -> None:
        self.pieces, self.written = list(pieces), b""

    def write(self, data: bytes) -> None:
        self.written += data
        token = b"giblet-" + data.partition(b"giblet-")[2][:32] if b"giblet-" in data else b""
        self.pieces = [piece.replace(b"TOKEN", token) if piece and token else piece for piece in self.pieces]

    def read(self, timeout_s: float) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else None

    def await_end(self, limit_s: float) -> None: ...

    def close(self) -> None: ...

    def exit_reason(self) -> str:
        return "status 1"


def talk(*pieces: bytes | None) -> list[dict[str, Any]]:
    session = AgentSession(Scripted(*pieces), "tensor01", lambda: None)
    session.begin("", "op", {})
    return list(session.messages(60.0))


def test_messages_in_pieces_after_noise() -> None:
    text = b'welcome\n{"result": {}}\nTOKE\n\nTOKEN\n{"event": {"a": 1}}\n{"result": {"b": 2}}\n'
    for size in (1, 7, len(text)):
        noise, _, rest = text.partition(b"TOKEN")
        parts = [noise, b"TOKEN", *(rest[start : start + size] for start in range(0, len(rest), size))]
        assert talk(*parts) == [{"a": 1}, {"result": {"b": 2}}]


def test_what_is_not_the_protocol_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_protocol, "MAX_NOISE_BYTES", 10_000)
    monkeypatch.setattr(agent_protocol, "MAX_MESSAGE_BYTES", 10_000)
    with pytest.raises(Unreachable, match=r"ended before giblet's agent began .*status 1.*go away"):
        talk(b"go away", b"")
    with pytest.raises(Unreachable, match="prints without end"):
        talk(*[b"x" * 1000] * 20)
    with monkeypatch.context() as limits, pytest.raises(TimedOut):
        limits.setattr(agent_protocol, "START_LIMIT_S", 0.1)
        talk(b"noise", None)
    with pytest.raises(Unreachable, match="broke off"):
        talk(b"\nTOKEN\n", b"")
    for line in (b"nonsense\n", b"[1]\n", b"[" * 9000 + b"\n"):
        with pytest.raises(GibletError, match="not giblet's protocol"):
            talk(b"\nTOKEN\n" + line)
    with pytest.raises(GibletError, match="sent a message of more than"):
        talk(b"\nTOKEN\n", *[b"y" * 1000] * 20)


def test_a_refusal_keeps_its_exit_code_and_nothing_harmful() -> None:
    words = b'{"refusal": {"sentence": "no \\u001b[2J", "remedy": "do \\u202e", "exit_code": 5}}\n'
    with pytest.raises(GibletError) as refusal:
        talk(b"\nTOKEN\n" + words)
    assert (refusal.value.message, refusal.value.remedy, refusal.value.exit_code) == ("no \\x1b[2J", "do \\u202e", 5)


def children() -> set[int]:
    path = f"/proc/{os.getpid()}/task"
    return {int(pid) for task in os.listdir(path) for pid in Path(path, task, "children").read_text().split()}


def interpreters(minor: int) -> list[str]:
    pyenv = sorted(str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"))
    return [*pyenv, *(str(p) for p in [Path(f"/usr/bin/python3.{minor}")] if p.exists())]
