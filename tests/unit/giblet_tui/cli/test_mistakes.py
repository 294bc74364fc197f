"""Mistakes in files, variables and words: one sentence, a remedy, the documented exit code, and JSON where asked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "home", "HOME": "user"}
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIBLET_")}
    return own | {key: str(tmp_path / folder) for key, folder in folders.items()}


def giblet(line: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return giblet_server().run(shlex.split(line), env, cwd, 60)


def shell(line: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


def check_refusal(result: subprocess.CompletedProcess[str], sentence: str, code: int = 2) -> None:
    assert result.returncode == code, result.stderr
    first, *remedy = result.stderr.splitlines()
    assert sentence in result.stderr, result.stderr
    assert first.startswith("giblet: ") and remedy and all(line.startswith("  ") for line in remedy), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: &x 1\nnum_epochs: *x\n", "line 2, column 13: aliases (*name) are not accepted.\n  Write the value out."),
        ("num_epochs: 3\nnum_epochs: 4\n", "appears twice.\n  Leave out one of them."),
        ("losses:\n\tscale: variance\n", "line 2, column 1: a tab begins the line"),
        ("extends: demo\n---\nextends: demo\n", "line 2, column 1: a second document begins"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']', but got the end of the text."),
        ("a: b: c\n", "line 1, column 5: a colon and a blank stand where no key can be; text with these needs quotes."),
        ("a:\n  - b\n c: 1\n", "line 3, column 2: the indentation of this line fits no line above it."),
        ('note: "x\n', "a quotation mark is not closed."),
        ("note: @x\n", "line 1, column 7: the character '@' needs quotes."),
        ("note: !!python/name:os.system x\n", "tags (!name) are not accepted"),
        ("note: a\0b\n", "is not readable as YAML: unacceptable character #x0000"),
        ("num_epochs: 99999999999999999999999\n", '"num_epochs": 1e+23 is too large for a whole number.'),
        ("num_epochs: 3.5\n", "expected a whole number, got one with decimals."),
        ("extends: nosuch\n", 'extends "nosuch", which does not exist.\n'),
        ("extends: x\n", "x.yaml extends itself by way of x.yaml.\n"),
        ("3: 4\n", 'line 1: unknown key "3".'),
        ("num_epochs:3\n", "does not consist of `key: value` lines.\n  Write a blank behind each colon"),
        ("x" * 300_000, "x.yaml is longer than 256 KiB."),
    ],
)
def test_a_faulty_configuration_is_described_with_its_place(
    content: str, sentence: str, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(content)
    result = giblet("config check ./x.yaml", settings, tmp_path)
    assert result.returncode == 2 and sentence in result.stderr, result.stderr
    assert result.stderr.startswith("giblet: ")


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfextends: demo\n", b"extends: demo\r\nnum_epochs: 30\r\n", b"extends: demo\rname: a\r"]
)
def test_marks_and_line_ends_of_other_systems_are_read(
    content: bytes, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    result = giblet("config check ./x.yaml", settings, tmp_path)
    assert (result.returncode, result.stdout) == (0, "ok ./x.yaml\n"), result.stderr


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("config check ''", "The name of the configuration is empty."),
        ("launch local '' --dry-run", "The name of the configuration is empty."),
        ("config check ./loop.yaml", "./loop.yaml is a link to loop.yaml, which leads to no file."),
        ("config check ./gone.yaml", "./gone.yaml is a link to nowhere.yaml, which leads to no file."),
        ("why /dev/zero", "/dev/zero is a device, not a log."),
        ("why ./pipe", "pipe cannot be read: a named pipe, not a file."),
        ("config check ./pipe", "pipe cannot be read: a named pipe or socket, not a file."),
        ("config migrate /dev/zero", "/dev/zero is longer than 256 KiB."),
        ("stop x --grace nan", "--grace nan is not a number."),
        ("wait x --timeout NaN", "--timeout nan is not a number."),
        ("launch local demo --time tomorrow --dry-run", "--time tomorrow is no time limit."),
        ("launch local demo --ensemble 99999999 --dry-run", "99999999 must be from 1 to 100."),
        ("node add x --host 'a;b'", "Expected the name or address of a host"),
        ("config nope", 'There is no command "nope".'),
    ],
)
def test_a_mistake_in_the_words_is_a_sentence_with_a_remedy(
    line: str, sentence: str, settings: dict[str, str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "gone.yaml").symlink_to("nowhere.yaml")
    result = giblet(line, settings, tmp_path)
    if "node add" in line:
        assert result.returncode == 2 and sentence in result.stderr and "{0,254}" not in result.stderr
    else:
        check_refusal(result, sentence)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("GIBLET_NODES", "~nobody-here/nodes.yaml", "no such home folder: GIBLET_NODES=~nobody-here/nodes.yaml"),
        ("GIBLET_HOME", "~nobody-here", "no such home folder: GIBLET_HOME=~nobody-here"),
        ("XDG_CACHE_HOME", "~nobody-here", "no such home folder: XDG_CACHE_HOME=~nobody-here"),
        ("GIBLET_NODES", "loop.yaml", "loop.yaml cannot be read: Too many levels of symbolic links."),
        ("GIBLET_NODES", "/dev/zero", "/dev/zero is longer than 256 KiB."),
        ("GIBLET_NODES", "noname.yaml", "a node has no name before its colon."),
        ("GIBLET_NODES", "key.yaml", 'unknown key "a.hots", did you mean "host"?\n  Keys: host, transport'),
    ],
)
def test_a_mistake_in_a_variable_is_a_sentence_with_a_remedy(
    variable: str, value: str, sentence: str, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "noname.yaml").write_text("null: {host: x}\n")
    (tmp_path / "key.yaml").write_text("a: {hots: x}\n")
    check_refusal(giblet("ps --cached", settings | {variable: value}, tmp_path), sentence)


def test_a_relative_home_of_giblet_is_below_the_current_folder(settings: dict[str, str], tmp_path: Path) -> None:
    listing = giblet("node ls --json", settings | {"GIBLET_HOME": "here"}, tmp_path)
    assert json.loads(listing.stdout)["nodes"][0]["workdir"] == str(tmp_path / "here"), listing.stderr


def test_one_faulty_configuration_does_not_hide_the_others(settings: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "good.yaml").write_text("extends: demo\n")
    (folder / "bad.yaml").write_text("a: [\n")
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    result = giblet("config ls --json", settings, tmp_path)
    assert {"good", "demo"} <= {row["name"] for row in json.loads(result.stdout)["configs"]}
    assert result.returncode == 2 and all(f"configs/{name}.yaml" in result.stderr for name in ("bad", "gone", "folder"))


@pytest.mark.parametrize("content", ["", "stages: 3\n", "- a\n", "stages:\n\t- a\n"])
def test_a_faulty_ladder_is_described_without_names_of_types(
    content: str, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ladder.yaml").write_text(content)
    result = giblet("ladder", settings, tmp_path)
    check_refusal(result, "configs/ladder.yaml")
    assert "`array`" not in result.stderr and "$" not in result.stderr and "Object" not in result.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("status nosuch --json", 2),
        ("ps --json --frob", 2),
        ("launch local nosuch --json", 2),
        ("launch --json", 2),
        ("why none.log --json", 2),
        ("config show demo --set num_epochs=-1 --json", 2),
        ("stop nosuch --json", 2),
        ("node check nowhere --json", 2),
        ("data check local demo --html /none/a.html --json", 2),
        ("lanch --json", 2),
    ],
)
def test_with_json_a_failure_is_an_object_too(line: str, code: int, settings: dict[str, str], tmp_path: Path) -> None:
    result = giblet(line, settings, tmp_path)
    error = json.loads(result.stdout)["error"]
    assert result.returncode == error["exit_code"] == code
    assert error["message"] in result.stderr.replace("\n  ", " ") or error["message"] in result.stderr


def test_without_json_stdout_stays_empty_and_words_of_a_command_are_not_options(
    settings: dict[str, str], tmp_path: Path
) -> None:
    assert giblet("status nosuch", settings, tmp_path).stdout == ""
    assert giblet("launch nowhere -- train --json", settings, tmp_path).stdout == ""


def test_a_removed_current_folder_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    line = f"mkdir gone && cd gone && rmdir ../gone && {GIBLET} launch local -- true"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60
    )
    check_refusal(result, "The current folder was removed.")


def test_a_configuration_may_come_from_a_pipe(settings: dict[str, str], tmp_path: Path) -> None:
    line = f"echo 'extends: demo' | {GIBLET} config check /dev/stdin"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, "ok /dev/stdin\n"), result.stderr
