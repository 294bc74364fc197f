"""A command of the user's as a run: what is asked for, what is sent, and what the supervisor starts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.records import Command
from giblet_train.schema.run_dir import name_from
from giblet_tui.agent import layout
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import CheckedCommand
from giblet_tui.launch import working_tree
from giblet_tui.launch.working_tree import Archive, WorkingTree

GRACE_S = 40.0
"""How long TERM gets at a stop: torchrun gives its workers 30 s of it."""
CHECK_LIMIT_S = 60.0
RESERVED = {
    layout.MARK_VARIABLE: "giblet recognises the processes of the run by it",
    "CUDA_VISIBLE_DEVICES": "it names the GPUs that the run has claimed; choose them with --gpus",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTERPRETERS = re.compile(r"(python|pypy|bash|sh|zsh|perl|ruby|Rscript|julia|node|env|uv|poetry|conda|torchrun)[\d.]*")
_SCRIPT = re.compile(r"\.(py|sh|R|jl|m|ipynb|pl)$")
_PREFIXES = re.compile(r"-.*|\w+=.*|[\d.,-]+|env|exec|nice|ionice|nohup|stdbuf|time|timeout|numactl|taskset|srun")
_CHANGES_FOLDER = re.compile(r"--ch.*|-[CD].*")
"""Options of env and srun: what follows is in another folder."""


class _Interpreter(NamedTuple):
    """Options of a family of interpreters that decide which word is its script."""

    program: re.Pattern[str]
    without_script: re.Pattern[str]
    """Options with which it runs something else, or finds its script elsewhere."""
    with_value: re.Pattern[str]
    """Options whose value is the next word. Those that are not known here hide the script: it is not checked."""
    value: re.Pattern[str]
    """Such a value."""


_FAMILIES = tuple(
    _Interpreter(*map(re.compile, patterns))
    for patterns in (
        (r"(python|pypy)[\d.]*", r"-|-(?![-WX]).*[cm].*", r"-\w*[WX]", r".*"),
        (r"bash|sh|zsh", r"-|-(?!-).*[cs].*|--(rc|init-)file.*", r"[-+]\w*[oO]", r".*"),
        (r"perl|ruby|Rscript|julia", r"-|-(?!-).*[eESCx].*|--(eval|print).*", r"-[tp]|--\w+", r"\d+"),
        (r"torchrun|deepspeed", r"-|-m.*|--mod.*|--no[-_]p.*", r"-.*", r"[\d.,:-]+"),
    )
)


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is to run on a node, as a person asked for it."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = {}
    cwd: str = ""
    """Directory on the node to start in, as it is there; empty: what is sent."""
    tree: WorkingTree | None = None
    """The git repository that is sent; None: none."""
    archive: Archive | None = None
    """What is sent; None: nothing."""
    pushed: tuple[Path, ...] = ()
    not_sent: tuple[str, ...] = ()
    """Words that name a file of this machine which git ignores, or which is outside of the repository."""
    log: str = ""
    """The file on the node whose losses are the metrics; empty: its output, or a file that it writes."""


def build_command(
    words: Sequence[str],
    *,
    here: Path,
    cwd: str | None,
    environment: Sequence[str],
    push_paths: Sequence[Path],
    with_untracked: bool,
    log: str,
    packs: bool = True,
) -> CommandRequest:
    """Return the request, with everything packed that is sent.

    Args:
        here: the directory that the user is in.
        cwd: a directory on the node; None: the git repository of `here` is sent, or nothing outside of one.
        environment: texts NAME=VALUE.
        packs: False leaves out the archive, for a request that only says what would be sent.

    Raises ConfigError for what makes no sense, PreflightRefused if too much would be sent.
    """
    if not words or not words[0]:
        raise ConfigError("There is no command after --.", "For example: giblet launch NODE -- python train.py")
    if "\0" in "".join(words):
        raise ConfigError("A command cannot contain a zero byte.")
    if cwd is not None and with_untracked:
        raise ConfigError("--untracked is for a directory that is sent; with --cwd none is.", "Leave out one of them.")
    if cwd is not None and not cwd.startswith(("/", "~/")) and cwd != "~":
        raise ConfigError(f"--cwd {cwd} is not a full path on the node.", "Start it with / or ~/.")
    names = [path.name for path in push_paths]
    for path in push_paths:
        if not path.is_file():
            reason = "it is not a file" if path.exists() else "there is no such file"
            raise ConfigError(f"--push {path}: {reason}.", "Name a file on this machine.")
        if names.count(path.name) > 1:
            raise ConfigError(f"Two files called {path.name} are to be pushed.", "Rename one of them.")
    tree = working_tree.find_working_tree(here, with_untracked=with_untracked) if cwd is None else None
    if with_untracked and tree is None:
        raise ConfigError("--untracked: this directory is in no git repository.", "Leave it out, or use --push FILE.")
    not_sent = _not_sent(words, here, tree, push_paths) if cwd is None else []
    _refuse_missing(not_sent, tree)
    return CommandRequest(
        words=tuple(words),
        not_sent=tuple(not_sent),
        environment=parse_environment(environment),
        cwd=cwd or "",
        tree=tree,
        archive=working_tree.pack(tree, push_paths) if packs else None,
        pushed=tuple(push_paths),
        log=log,
    )


def parse_environment(settings: Sequence[str]) -> dict[str, str]:
    """Parse `--env NAME=VALUE` texts. Raises ConfigError."""
    environment: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f"--env {name}: a variable is written NAME=VALUE.", "For example: --env OMP_NUM_THREADS=4"
            )
        if name in RESERVED:
            raise ConfigError(f"--env {name}: {RESERVED[name]}.", "Leave it out.")
        environment[name] = value
    return environment


def command_config(command: CommandRequest, name: str | None, *, uses_gpus: bool) -> Config:
    """Return a configuration that names the run and its device: all that planning asks of one. Raises ConfigError."""
    return Config(
        name=name_from(default_name(command.words)) if name is None else name_from(name, strict=True),
        device="auto" if uses_gpus else "cpu",
    )


def default_name(words: Sequence[str]) -> str:
    """Return a name for the run of a command: that of its script, else of its module or program."""
    parts: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        is_shell_text = re.fullmatch(r"-\w*c", before) is not None
        parts += word.split() if is_shell_text else [word]
    scripts = [part for part in parts if _SCRIPT.search(part)]
    if scripts:
        return PurePosixPath(scripts[0]).stem
    if "-m" in parts[:-1]:
        return parts[parts.index("-m") + 1]
    plain = [PurePosixPath(part).name for part in parts if part[:1] not in "-$" and "=" not in part]
    own = [part for part in plain if not _INTERPRETERS.fullmatch(part)]
    return (own or plain or ["command"])[0]


def script_of(words: Sequence[str]) -> str:
    """Return the script that an interpreter is to run; empty if there is none, or it cannot be known.

    It is the first word behind the interpreter that is no option, if it has the suffix of a script: later ones are
    arguments. A script in a container, or behind a program that giblet does not know, may be elsewhere.
    """
    start = next((n for n, word in enumerate(words) if not _PREFIXES.fullmatch(PurePosixPath(word).name)), len(words))
    program = PurePosixPath(words[start]).name if start < len(words) else ""
    family = next((family for family in _FAMILIES if family.program.fullmatch(program)), None)
    if family is None or any(_CHANGES_FOLDER.fullmatch(word) for word in words[:start]):
        return ""
    for before, word in pairwise(words[start:]):
        if family.without_script.fullmatch(word):
            return ""
        is_value = family.with_value.fullmatch(before) and family.value.fullmatch(word)
        if not is_value and not word.startswith(("-", "+")):
            return word if _SCRIPT.search(word) else ""
    return ""


def check_on_node(connection: Connection, command: CommandRequest) -> None:
    """Ask the node whether the command could start there.

    Raises PreflightRefused, or the node's refusal, if its program or directory does not exist.
    """
    program = command.words[0]
    if Path(program).absolute() in [path.absolute() for path in command.pushed]:
        program = "/bin/sh"  # the node will have it; whether it can be executed, the start checks
    elif not command.cwd and "/" in program and not program.startswith(("/", "~")):
        _check_sent(program, command)
    script = script_of(command.words)
    if Path(script).absolute() in [path.absolute() for path in command.pushed]:
        script = ""
    elif script and not command.cwd and not script.startswith(("/", "~")):
        _check_script_sent(script, command)
        script = ""
    path = command.environment.get("PATH", "")
    arguments = {"program": program, "script": script, "cwd": command.cwd, "path": path}
    connection.call("check_command", arguments, CheckedCommand, timeout_s=CHECK_LIMIT_S)


def command_record(command: CommandRequest) -> Command:
    """Return what run.json says about the command."""
    tree = command.tree
    return Command(
        words=command.words,
        cwd=command.cwd or (tree.subfolder if tree else "."),
        environment=tuple(command.environment),
        commit=tree.commit if tree else "",
        uncommitted=bool(tree and tree.patch),
        pushed=tuple(path.name for path in command.pushed),
        log=command.log,
    )


def command_argv(command: CommandRequest, run_dir: str) -> tuple[str, ...]:
    """Return the command line on the node: a word that names a pushed file becomes its path there."""
    there = {path.absolute(): f"{run_dir}/{layout.PUSHED}/{path.name}" for path in command.pushed}
    return tuple(_translated(word, there) for word in command.words)


def environment_file(command: CommandRequest, run_dir: str) -> str:
    """Return the text of environment.json."""
    own = {"GIBLET_RUN_DIR": run_dir, "GIBLET_LOG": f"{run_dir}/{layout.COMMAND_LOG}"}
    return json.dumps({**own, **command.environment})


def command_hash(command: CommandRequest) -> str:
    """Return a hash of all that decides what the command does, so that it is not started twice by mistake."""
    archive_hash = command.archive.sha256 if command.archive else ""
    identity = [command.words, dict(command.environment), command.cwd, archive_hash]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def notes(command: CommandRequest) -> list[str]:
    """Return for people where the command starts, what is sent, and which pushed files it does not name."""
    lines = working_tree.describe(command.tree) if command.tree else []
    if command.cwd:
        lines.append(f"starts in {command.cwd} as it is on the node")
    elif command.tree is None:
        lines.append(
            "starts in an empty directory, because this one is in no git repository (--cwd DIR names one on the node)"
        )
    lines += [f"{word} is not sent: git ignores it, or it is elsewhere (--push {word})" for word in command.not_sent]
    for path in command.pushed:
        if all(_translated(word, {path.absolute(): ""}) == word for word in command.words):
            lines.append(
                f"{path.name} is $GIBLET_RUN_DIR/{layout.PUSHED}/{path.name} there: no word of the command names it"
            )
    return lines


def _not_sent(words: Sequence[str], here: Path, tree: WorkingTree | None, push_paths: Sequence[Path]) -> list[str]:
    """Return the parts of a command that name a file here, by a relative path, which will not be on the node."""
    parts = dict.fromkeys(part for word in words for part in (word, word.partition("=")[2]) if part)
    own_files = set(tree.files) if tree else set()
    one_by_one = [path.absolute() for path in push_paths]
    names = []
    for part in parts:
        is_sent = tree is not None and os.path.normpath(f"{tree.subfolder}/{part}") in own_files
        with contextlib.suppress(OSError, ValueError):  # a word may be longer than any path
            if not (is_sent or part.startswith(("/", "~")) or Path(part).absolute() in one_by_one):
                names += [part] if (here / part).is_file() else []
    return names


def _refuse_missing(names: Sequence[str], tree: WorkingTree | None) -> None:
    """Raise PreflightRefused for a file that the command would not find there, unless git ignores it on purpose."""
    if tree is None and names:
        raise PreflightRefused(
            f"{names[0]} is on this machine only: this directory is in no git repository, so it is not sent.",
            f"Send it with --push {names[0]}, work in a repository (git init && git add .), or name a directory of the"
            " node with --cwd.",
        )
    untracked_files = [
        name for name in names if tree and os.path.normpath(f"{tree.subfolder}/{name}") in tree.untracked
    ]
    if untracked_files:
        raise PreflightRefused(
            f"{untracked_files[0]} is named by the command, but git does not track it, so it is not sent.",
            f"git add {untracked_files[0]}, or send it with --untracked or --push {untracked_files[0]}.",
        )


def _check_sent(program: str, command: CommandRequest) -> None:
    """Raise PreflightRefused if a program that would be sent is not among the files, or cannot be executed."""
    tree = command.tree
    if tree is None:
        raise PreflightRefused(
            f"There is no program {program}: this directory is in no git repository, so nothing is sent.",
            "Name a directory on the node with --cwd, or the program by its full path there.",
        )
    name = os.path.normpath(f"{tree.subfolder}/{program}")
    if name not in tree.files:
        remedy = "git does not track it: git add it, or send it with --untracked." if name in tree.untracked else ""
        raise PreflightRefused(f"There is no program {program} in what is sent.", remedy or "Check the path.")
    if not os.access(tree.root / name, os.X_OK):
        raise PreflightRefused(
            f"{program} may not be executed.",
            f"Make it executable (chmod +x {program}), or name its interpreter first.",
        )


def _check_script_sent(script: str, command: CommandRequest) -> None:
    """Raise PreflightRefused if a script that would be sent is not among the files, nor behind a link among them."""
    tree = command.tree
    if tree is None:
        raise PreflightRefused(
            f"There is no {script}: the command starts in an empty directory, because this one is in no git"
            " repository.",
            f"Send it with --push {PurePosixPath(script).name}, or name a directory of the node with --cwd.",
        )
    name = PurePosixPath(os.path.normpath(f"{tree.subfolder}/{script}"))
    if not {str(name), *map(str, name.parents)} & set(tree.files):
        start = tree.root.name if tree.subfolder == "." else f"{tree.root.name}/{tree.subfolder}"
        raise PreflightRefused(
            f"There is no {script} in what is sent.", f"Check the path: the command starts in {start}."
        )


def _translated(word: str, there: Mapping[Path, str]) -> str:
    """Return a word, or the part of it after `=`, as a path on the node if it names a pushed file."""
    option, _, value = word.partition("=")
    if Path(word).absolute() in there:
        return there[Path(word).absolute()]
    path = there.get(Path(value).absolute()) if value else None
    return f"{option}={path}" if path else word
