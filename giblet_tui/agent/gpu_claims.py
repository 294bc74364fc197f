"""Claim GPUs for the whole machine: files with kernel locks in a directory that all users share.

A claim is one small file of a live run. Its owner holds an exclusive `flock` on it; the kernel drops the lock with the
last process that has the file open, so a killed run claims nothing. A claim counts if three things hold: the file is
locked, one of the processes that it names lives (pid, start time and boot agree), and that process belongs to the
file's owner. Anybody can write files here, so nothing in them is trusted beyond that: other kinds of files are not
opened, large ones not read.

No daemon and no root are needed. Two starts that choose the same GPU at once both publish and then look, so at least
one of them sees the other and withdraws.

Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from giblet_tui.agent import layout
from giblet_tui.agent.proc import boot_id, start_ticks, user_name

DIRECTORY_VARIABLE = "GIBLET_GPU_CLAIMS"
"""Names another directory, for tests and for machines whose users share neither of the usual ones."""
SHARED_DIRECTORIES = ("/dev/shm", "/tmp")
PREFIX = "giblet-claim-"
MAX_BYTES = 16 * 1024
MAX_FILES_PER_USER = 256
"""More files of one user are not read: that user fills the directory."""
_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{1,80}")


class GpuClaim:
    """A claim that this process holds, until it is released or the process and all that inherit `fd` have ended."""

    def __init__(self, path: str, fd: int, record: dict[str, Any]) -> None:
        self.path, self.fd, self.record = path, fd, record

    def add_process(self, pid: int) -> None:
        """Name a further process whose life keeps the claim, for one that inherits `fd`."""
        self.record["processes"].append([pid, start_ticks(pid)])
        data = _encode(self.record)
        os.pwrite(self.fd, data, 0)
        os.ftruncate(self.fd, len(data))

    def close(self) -> None:
        """Close our descriptor; processes that inherited it keep the claim."""
        os.close(self.fd)

    def release(self) -> None:
        """Withdraw the claim."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        os.close(self.fd)


def claim(run_id: str, uuids: Sequence[str]) -> GpuClaim:
    """Publish a claim of this process. Raises OSError where no shared directory can be written.

    The file appears locked and complete under its name, so no reader sees half of it.
    """
    folder = directory()
    _remove_own_remains(folder)
    path = os.path.join(folder, "%s%d-%s" % (PREFIX, os.getuid(), secrets.token_hex(8)))
    aside = os.path.join(folder, ".%s.new" % os.path.basename(path))
    fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    record = {
        "run_id": run_id,
        "gpus": list(uuids),
        "processes": [[os.getpid(), start_ticks(os.getpid())]],
        "boot_id": boot_id(),
        "claimed_at": time.time(),
    }
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, _encode(record))
        os.fchmod(fd, 0o644)
        os.rename(aside, path)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    return GpuClaim(path, fd, record)


def conflicting(own: GpuClaim, spared_runs: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the other live claims of the GPUs of a claim, without those of the spared runs."""
    uuids, file = set(own.record["gpus"]), _identity(os.fstat(own.fd))
    return [
        other
        for other in live_claims()
        if other["file"] != file and other["run_id"] not in spared_runs and uuids & set(other["gpus"])
    ]


def live_claims() -> list[dict[str, Any]]:
    """Return {file, run_id, user, uid, gpus, pid, claimed_at} of each claim that counts, the oldest first.

    `file` is its device and inode: anybody can give a file further names, which neither hide claims nor count again.
    """
    try:
        folder = directory()
        names = sorted(name for name in os.listdir(folder) if name.startswith(PREFIX))
    except OSError:
        return []
    n_files: dict[int, int] = {}
    files: set[tuple[int, int]] = set()
    claims: list[dict[str, Any]] = []
    for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if _identity(status) in files:
                continue
            files.add(_identity(status))
            owner = status.st_uid
            n_files[owner] = n_files.get(owner, 0) + 1
            if n_files[owner] <= MAX_FILES_PER_USER:
                claims += _read(path)
    return sorted(claims, key=lambda entry: (entry["claimed_at"], entry["run_id"]))


def directory() -> str:
    """Return the shared directory. Raises OSError where there is none.

    It must be writable and sticky, so that nobody can remove or replace another user's files, or ours alone.
    """
    for folder in (os.environ.get(DIRECTORY_VARIABLE), *SHARED_DIRECTORIES):
        with contextlib.suppress(OSError):
            status = os.stat(folder) if folder else None
            if folder and status and stat.S_ISDIR(status.st_mode) and os.access(folder, os.W_OK | os.X_OK):
                is_private = status.st_uid == os.getuid() and not status.st_mode & 0o022
                if status.st_mode & stat.S_ISVTX or is_private:
                    return folder
    folders = " or ".join(SHARED_DIRECTORIES)
    raise OSError(errno.EACCES, "no sticky directory that we can write, for GPU claims", folders)


def _read(path: str) -> Iterator[dict[str, Any]]:
    """Yield the claim in a file if it counts."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES and _locked(fd):
                entry = _checked(json.loads(os.read(fd, MAX_BYTES).decode("ascii")), status.st_uid)
                yield dict(entry, file=_identity(status))
        finally:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _checked(record: dict[str, Any], uid: int) -> dict[str, Any]:
    """Return the claim for others to see. Raises ValueError, KeyError or TypeError for one that does not count."""
    uuids = [uuid for uuid in record["gpus"][:64] if _UUID.fullmatch(uuid)]
    if not layout.is_run_id(record["run_id"]) or not uuids:
        raise ValueError("not a claim of a run")
    living = [int(pid) for pid, ticks in record["processes"][:64] if _is_alive(int(pid), ticks, record, uid)]
    if not living:
        raise ValueError("nobody who lives holds it")
    return {
        "run_id": record["run_id"],
        "user": user_name(uid),
        "uid": uid,
        "gpus": uuids,
        "pid": living[0],
        "claimed_at": float(record["claimed_at"]),
    }


def _is_alive(pid: int, ticks: Any, record: dict[str, Any], uid: int) -> bool:
    if record["boot_id"] != boot_id():
        return False
    if start_ticks(1) is None:  # other users' processes are hidden (hidepid): the lock alone must do
        return True
    return start_ticks(pid) == ticks and os.stat("/proc/%d" % pid).st_uid == uid


def _locked(fd: int) -> bool:
    """Return True if somebody holds the file's exclusive lock. Asking takes nothing from its holder."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _remove_own_remains(folder: str) -> None:
    """Remove this user's claims that nobody holds any more."""
    for name in os.listdir(folder):
        if name.startswith("%s%d-" % (PREFIX, os.getuid())):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if os.fstat(fd).st_uid == os.getuid() and not _locked(fd):
                        os.unlink(path)
                finally:
                    os.close(fd)


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode("ascii")
