"""Keeps a working directory private: nobody else can change what giblet executes or trusts in it.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import stat

MODE = 0o700
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make(path: str) -> None:
    """Create a directory and its missing parents, each with mode 0700 whatever the umask is."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, MODE)
        except FileExistsError:
            continue
        os.chmod(folder, MODE)


def problem(path: str, workdir: str) -> str:
    """Return why somebody else may have changed `path`, as a sentence; empty if it is safe to execute or trust.

    Every part of the path from the working directory down must belong to this user (or root) and be writable by nobody
    else. A path outside the working directory is the user's own choice and is not checked.
    """
    given_path, path = os.path.abspath(workdir), os.path.abspath(path)
    workdir = os.path.realpath(given_path)
    if os.path.commonpath([given_path, path]) == given_path:  # a working directory may be reached through a link
        path = os.path.join(workdir, os.path.relpath(path, given_path))
    if os.path.commonpath([workdir, path]) != workdir:
        return ""
    parts = [workdir]
    for name in os.path.relpath(path, workdir).split(os.sep):
        if name != os.curdir:
            parts.append(os.path.join(parts[-1], name))
    return next(filter(None, map(_problem_of, parts)), "")


def _problem_of(path: str) -> str:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    if status.st_uid not in (os.getuid(), 0):
        return f"{path} belongs to user {status.st_uid}"
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & _WRITABLE_BY_OTHERS:
        return f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""
