"""Pack what a command needs on the node: the git repository that one is in, as it is now, and single files.

The files that git tracks are sent as they are on the disk, which is the commit plus what has been changed since. So
neither git on the node nor a push to a server is needed. The commit and the difference are recorded.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.agent import layout

LIMIT_BYTES = 100_000_000
"""Most that is sent, unpacked. Data belong on the node."""
GIT_LIMIT_S = 60.0
_NO_ANSWER = f"it did not answer within {GIT_LIMIT_S:.0f} s"
_DIFF = (
    *("diff", "--binary", "--submodule=diff"),
    *("--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"),
)
"""A difference that `git apply` reads, whatever the user's settings are."""
SHOWN = 5


class WorkingTree(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a git repository, as they are now."""

    root: Path
    subfolder: str
    """Where in the repository one is; `.` at its top."""
    files: tuple[str, ...]
    """Paths below the root."""
    commit: str
    """Full hash; empty before the first commit."""
    patch: bytes
    """Difference of the tracked files from the commit, as `git apply` reads it."""
    untracked: tuple[str, ...]
    """Files that git neither tracks nor ignores."""
    sends_untracked: bool = False


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A compressed tar file to be sent to a node."""

    data: bytes
    sha256: str
    n_files: int
    n_bytes: int
    """Size unpacked."""

    @property
    def name(self) -> str:
        """Return its file name on the node."""
        return f"{self.sha256[:32]}.tar.gz"


def find_working_tree(folder: Path, *, with_untracked: bool) -> WorkingTree | None:
    """Return the git repository that a folder is in; None outside of one, or without git.

    Raises ConfigError if git cannot read it, PreflightRefused if its files are too large to be sent.
    """
    try:
        top = os.fsdecode(_git(folder, "rev-parse", "--show-toplevel", "--show-prefix"))
    except FileNotFoundError:
        return None
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode("utf-8", "replace").strip()
        if "not a git repository" in message or "must be run in a work tree" in message:
            return None
        raise _unreadable(folder, message) from None
    except subprocess.TimeoutExpired:
        raise _unreadable(folder, _NO_ANSWER) from None
    try:
        return _read(top, with_untracked)
    except subprocess.CalledProcessError as error:
        raise _unreadable(folder, error.stderr.decode("utf-8", "replace").strip()) from None
    except subprocess.TimeoutExpired:
        raise _unreadable(folder, _NO_ANSWER) from None


def _read(top: str, with_untracked: bool) -> WorkingTree:
    """Read a repository. top: its root and, in a second line, where one is in it. Raises CalledProcessError."""
    root, _, prefix = top.rstrip("\n").partition("\n")
    path = Path(root)
    try:
        commit = _git(path, "rev-parse", "--verify", "-q", "HEAD").decode().strip()
    except subprocess.CalledProcessError:
        commit = ""
    new_files = _split_paths(_git(path, "ls-files", "-z", "--others", "--exclude-standard"))
    git_files = _split_paths(_git(path, "ls-files", "-z", "--cached", "--recurse-submodules"))
    sent_files = dict.fromkeys([*git_files, *(new_files if with_untracked else ())])
    files = [name for name in sent_files if os.path.lexists(path / name) and not _is_folder(path / name)]
    _checked_size({name: path / name for name in files})  # before the difference, which contains large files again
    return WorkingTree(
        root=path,
        subfolder=prefix.rstrip("/") or ".",
        files=tuple(files),
        commit=commit,
        patch=_git(path, *_DIFF, "HEAD") if commit else b"",
        untracked=tuple(new_files),
        sends_untracked=with_untracked,
    )


def pack(tree: WorkingTree | None, push_paths: Sequence[Path]) -> Archive | None:
    """Pack a working tree and single files as the node unpacks them; None if there is nothing to send.

    Raises ConfigError for a file that cannot be read, PreflightRefused if they are too large.
    """
    members = [(f"{layout.WORK}/{name}", tree.root / name) for name in tree.files] if tree else []
    members += [(f"{layout.PUSHED}/{path.name}", path) for path in push_paths]
    if not members:
        return None
    patch = tree.patch if tree else b""
    n_bytes = _checked_size({name.partition("/")[2]: path for name, path in members})
    data = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=data, mode="wb", compresslevel=6, mtime=0) as gzip_file,
        tarfile.open(fileobj=gzip_file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in members:
            _add(tar, name, path)
        if patch:
            info = tarfile.TarInfo(layout.UNCOMMITTED)
            info.size, info.mode = len(patch), 0o600
            tar.addfile(info, io.BytesIO(patch))
    content = data.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    return Archive(data=content, sha256=digest, n_files=len(members), n_bytes=n_bytes)


def describe(tree: WorkingTree) -> list[str]:
    """Return for people what is sent: the commit, whether it was changed, and untracked files that are left out."""
    state = "with uncommitted changes" if tree.patch else "unchanged"
    at = f"commit {tree.commit[:12]}, {state}" if tree.commit else "no commit yet"
    lines = [f"sends {tree.root.name}: {len(tree.files)} file{'s' if len(tree.files) != 1 else ''} ({at})"]
    if tree.untracked and not tree.sends_untracked:
        names = ", ".join(map(_printable, tree.untracked[:SHOWN])) + (", …" if len(tree.untracked) > SHOWN else "")
        n_files = len(tree.untracked)
        files = f"{n_files} untracked file{'s' if n_files > 1 else ''}"
        lines.append(f"leaves out {files}: {names} (--untracked sends them)")
    return lines


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """Add a file or a link, without the owner and the time, so that the same files give the same archive."""
    try:
        info = tar.gettarinfo(str(path), name)
        if info is None or not (info.isreg() or info.issym() or info.islnk()):
            raise ConfigError(f"{path} is neither a file nor a link, so it cannot be sent.", "Leave it out of git.")
        if info.islnk():  # a second name of a file that was added before: its content is sent again
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        if info.isreg():
            with path.open("rb") as file:
                tar.addfile(info, file)
        else:
            tar.addfile(info)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Nothing was started.") from None


def _unreadable(folder: Path, message: str) -> ConfigError:
    reason = message.splitlines()[0] if message else "it failed without a message"
    return ConfigError(
        f"git cannot read {folder}: {reason}", "Repair it, or start in a directory of the node: --cwd DIR"
    )


def _checked_size(paths: Mapping[str, Path]) -> int:
    """Return the bytes of these files. Raises PreflightRefused with the largest if they are too many to be sent."""
    sizes = {name: path.lstat().st_size for name, path in paths.items()}
    n_bytes = sum(sizes.values())
    if n_bytes <= LIMIT_BYTES:
        return n_bytes
    largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
    file_list = "\n  ".join(f"{sizes[name] / 1e6:.1f} MB  {_printable(name)}" for name in largest)
    raise PreflightRefused(
        f"What would be sent has {n_bytes / 1e6:.0f} MB, more than {LIMIT_BYTES / 1e6:.0f} MB; the largest:",
        f"{file_list}\n  Data belong on the node: keep them out of git (.gitignore), "
        "or use a copy there with --cwd DIR.",
    )


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _git(folder: Path, *words: str) -> bytes:
    argv = ["git", "-C", str(folder), *words]
    return subprocess.run(argv, capture_output=True, check=True, timeout=GIT_LIMIT_S, stdin=subprocess.DEVNULL).stdout


def _split_paths(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
