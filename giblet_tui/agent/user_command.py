"""Prepares a command of the user's on the node: finds its program and its directory, unpacks what was sent with it.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, Callable

from giblet_tui.agent import layout
from giblet_tui.agent.main import AgentRefusal, Emit, home_path

ARCHIVE_KEPT_S = 3600.0
"""An archive that no start has unpacked for so long belongs to a start that never came."""


def check(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Check that a command could start here. Returns {program, cwd}, as full paths.

    arguments: program, the first word of the command; script, a file that it is to run, or empty; cwd, a directory on
    the node, or empty for one that is sent; path, the PATH of the command, or empty for that of the login. Raises
    AgentRefusal.
    """
    cwd = directory(str(arguments["cwd"])) if arguments["cwd"] else ""
    script = str(arguments["script"])
    if script and not os.path.isfile(os.path.join(cwd, script)):
        where = f" in {arguments['cwd']}" if cwd and not os.path.isabs(script) else ""
        remedy = "Write its full path: only a shell replaces ~." if script.startswith("~") else "Check the path."
        raise AgentRefusal(f"There is no file {script}{where} on this node; nothing was started.", remedy, 5)
    program = str(arguments["program"])
    is_sent = not cwd and "/" in program and not os.path.isabs(program)
    return {"program": program if is_sent else find_program(program, cwd, str(arguments["path"])), "cwd": cwd}


def directory(path: str) -> str:
    """Return a directory's real path. Raises AgentRefusal if there is none."""
    full = os.path.realpath(home_path(path))
    if not os.path.isdir(full):
        raise AgentRefusal(
            f"{path} is not a directory on this node, so the command cannot start in it.",
            "Name another with --cwd. Without --cwd, the git repository that you are in is sent.",
            5,
        )
    if not os.access(full, os.R_OK | os.X_OK):
        raise AgentRefusal(f"{path} cannot be entered by you on this node.", "Name another directory with --cwd.", 5)
    return full


def find_program(program: str, cwd: str, path: str) -> str:
    """Return the full path of a program. Raises AgentRefusal if it does not exist or cannot be executed."""
    if "/" not in program:
        full_path = shutil.which(program, path=path or None)
        if full_path is None:
            raise AgentRefusal(
                f"There is no program {program!r} on this node's PATH ({path or os.environ.get('PATH', '')}).",
                "Name it by its full path, or set the PATH: --env PATH=/opt/conda/bin:/usr/bin:/bin. A shell's"
                " function or alias needs a shell: -- bash -lc 'conda activate brain && python train.py'",
                5,
            )
        return os.path.abspath(full_path)
    full = os.path.join(cwd, os.path.expanduser(program))
    if not os.path.isfile(full):
        raise AgentRefusal(f"There is no program {program} on this node.", "Check the path; nothing was started.", 5)
    if os.statvfs(full).f_flag & os.ST_NOEXEC:
        raise AgentRefusal(
            f"{program} is on a file system mounted noexec.",
            "Name its interpreter first (sh, python3), or move it elsewhere.",
            5,
        )
    if not os.access(full, os.X_OK):
        raise AgentRefusal(
            f"{program} may not be executed on this node.",
            f"Make it executable (chmod +x {program}), or name its interpreter first.",
            5,
        )
    return full


def prepare(aside: Path, target: Path, record: dict[str, Any], archive: str, environment: dict[str, str]) -> None:
    """Unpack what was sent into the new run directory, and complete the command in the run's record.

    Args:
        aside: the run directory that is being written; it will be renamed to `target`.
        record: run.json; gets the full path of the program, and of the directory.
        archive: a tar file on the node, or empty if nothing was sent.
        environment: the command's variables; PATH is added, because a session has its server's.

    Raises AgentRefusal for a program that does not exist.
    """
    command = record["command"]
    words = [str(word) for word in record["argv"]]
    (aside / layout.WORK).mkdir(mode=0o700)
    if archive:
        unpack(home_path(archive), aside)
    environment.setdefault("PATH", os.environ.get("PATH", os.defpath))
    if command["cwd"].startswith(("/", "~")):
        cwd = now = directory(command["cwd"])
    else:
        relative = os.path.normpath(os.path.join(layout.WORK, command["cwd"]))
        cwd, now = str(target / relative), str(aside / relative)
    os.makedirs(now, mode=0o700, exist_ok=True)
    program = words[0]
    if program.startswith(f"{target}/"):  # a file that was pushed
        program = f"{aside}/{program[len(str(target)) + 1 :]}"
    program = find_program(program, now, environment["PATH"])
    if program.startswith(f"{aside}/"):
        program = f"{target}/{program[len(str(aside)) + 1 :]}"
    record["argv"] = [program, *words[1:]]
    record["command"] = dict(command, cwd=cwd)


def unpack(archive: str, folder: Path) -> None:
    """Unpack an archive that giblet made. Raises AgentRefusal for a member outside of `folder`."""
    everything: Callable[[Any, str], Any] = lambda member, path: member  # noqa: E731 - links may lead to data elsewhere
    with tarfile.open(archive) as tar:
        tar.extraction_filter = staticmethod(everything)
        members = tar.getmembers()
        for member in members:
            is_plain = member.isreg() or member.isdir() or member.issym()
            if not is_plain or member.name.startswith("/") or ".." in member.name.split("/"):
                raise AgentRefusal(f"{member.name[:80]!r} may not be in what is sent.", "Nothing was started.", 2)
        # Links last: nothing is then written through one.
        for member in sorted(members, key=lambda member: member.issym()):
            tar.extract(member, str(folder))


def clear_archives(workdir: Path, used_archive: str = "") -> None:
    """Remove the archive that a start has unpacked, and those of starts that never came."""
    for path in (workdir / layout.SOURCES).glob("*"):
        try:
            if str(path) == used_archive or time.time() - path.stat().st_mtime > ARCHIVE_KEPT_S:
                path.unlink()
        except OSError:
            continue


OPERATIONS = {"check_command": check}
