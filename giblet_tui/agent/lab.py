"""Lets a Unix group, the lab, read runs on this node, and finds the working directories of its other members.

Only reading is given, and only to the group: run directories get mode 2750, so that files made in them later belong to
it too. Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import Any, NamedTuple

from giblet_tui.agent import layout
from giblet_tui.agent.main import AgentRefusal, home_path

WORKDIR_MODE = 0o710
"""Members may enter a working directory, but not list it."""
RUNS_MODE = 0o750
RUN_MODE = 0o2750
FILE_MODE = 0o640
UMASK = "027"


class Member(NamedTuple):
    """Another member of the group, and where runs of that user are."""

    user: str
    uid: int
    workdir: str


def open_workdir(workdir: str, group: str) -> None:
    """Let the group enter a working directory and list its runs.

    Raises AgentRefusal if this user is not in the group, or if a directory above is closed to it.
    """
    gid = _group(group).gr_gid
    if gid not in {os.getegid(), *os.getgroups()}:
        mine = ", ".join(sorted(filter(None, map(_group_name, os.getgroups())))) or "none"
        raise AgentRefusal(
            f"You are not in the group {group} on this node; you are in: {mine}.",
            "Correct `lab:` of this node in nodes.yaml, or ask an administrator to add you and log in again.",
            5,
        )
    above = os.path.dirname(os.path.realpath(workdir))
    while True:
        status = os.stat(above)
        if not (status.st_mode & stat.S_IXOTH or (status.st_gid == gid and status.st_mode & stat.S_IXGRP)):
            mode = stat.S_IMODE(status.st_mode)
            raise AgentRefusal(
                f"The group {group} cannot enter {above} (mode {mode:04o}), which holds your runs.",
                f"Let others enter it, which does not let them list it: chmod o+x {above}. Or name another `workdir:`.",
                5,
            )
        if above == os.sep:
            break
        above = os.path.dirname(above)
    for path, mode in ((workdir, WORKDIR_MODE), (os.path.join(workdir, layout.RUNS), RUNS_MODE)):
        os.chown(path, -1, gid)
        os.chmod(path, mode)


def share(run_dir: str, group: str) -> None:
    """Let the group read what is in a new run directory, except the variables of a command, which may hold secrets."""
    gid = _group(group).gr_gid
    os.chown(run_dir, -1, gid)
    os.chmod(run_dir, RUN_MODE)
    for entry in os.scandir(run_dir):
        if entry.is_file(follow_symlinks=False) and entry.name != layout.ENVIRONMENT:
            os.chown(entry.path, -1, gid)
            os.chmod(entry.path, FILE_MODE)


def other_members(workdir: str, group: str) -> list[Member]:
    """Return the other members of the group whose working directory is where this user's is.

    `~/giblet` is looked for in their homes, `/data/alice/giblet` as `/data/bob/giblet`.

    workdir: as nodes.yaml names it.
    """
    try:
        entry = _group(group)
    except AgentRefusal:
        return []
    me = pwd.getpwuid(os.getuid())
    users = [user for user in pwd.getpwall() if user.pw_gid == entry.gr_gid or user.pw_name in entry.gr_mem]
    names = {user.pw_name for user in users}
    for name in entry.gr_mem:  # a directory service may not list its users, but it knows each
        if name not in names:
            try:
                users.append(pwd.getpwnam(name))
            except KeyError:
                continue
    members = []
    for user in users:
        place = _place_of(user, home_path(workdir), me)
        if user.pw_uid != me.pw_uid and place:
            members.append(Member(user.pw_name, user.pw_uid, place))
    return members


def is_owned_by(run_dir: str, uid: int) -> bool:
    """Return True if a run directory is a directory of that user, not a link to something else."""
    try:
        status = os.lstat(run_dir)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _place_of(user: Any, mine: str, me: Any) -> str:
    home = me.pw_dir.rstrip("/") + "/"
    if mine.startswith(home):
        return os.path.join(user.pw_dir, mine[len(home) :])
    parts = mine.split("/")
    return "/".join(user.pw_name if part == me.pw_name else part for part in parts) if me.pw_name in parts else ""


def _group(name: str) -> Any:
    try:
        return grp.getgrnam(name)
    except KeyError:
        raise AgentRefusal(
            f"This node has no group {name!r}.", "Correct `lab:` of this node in nodes.yaml; `id` lists yours.", 5
        ) from None


def _group_name(gid: int) -> str:
    try:
        return str(grp.getgrgid(gid).gr_name)
    except KeyError:
        return ""
