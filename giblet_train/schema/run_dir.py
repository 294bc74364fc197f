"""Paths in a run directory, atomic replacement of its small files, and run ids.

`<workdir>/runs/<run_id>/` on the node is the only durable state of a run, and the only thing that the engine and the
application share. Each file has one writer; `records` defines their content.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import msgspec

from giblet_train.schema.config import NAME_PATTERN, Config
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Record, decode, encode
from giblet_train.schema.records import Run as RunRecord

RUN_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}-\d{8}-\d{6}-[0-9a-f]{4}$"


LONGEST_NAME = 40


def new_run_id(name: str, now: float | None = None) -> str:
    """Return `<config name>-<yyyymmdd-hhmmss>-<4 hex>`. Its tail has a fixed width, so no id is a prefix of another."""
    import secrets  # for new runs only

    name_from(name, strict=True)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{name}-{stamp}-{secrets.token_hex(2)}"


def name_from(text: str, *, strict: bool = False) -> str:
    """Return a name for runs made from any text, such as the name of a script or a session.

    strict: the text is the name itself. Raises ConfigError if it cannot name a run.
    """
    bare = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:LONGEST_NAME]
    name = text if strict else bare or "unnamed"
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"{name!r} cannot name a run.", "Use at most 40 of a-z, 0-9, _ and -, starting with a letter or digit."
        )
    return name


def session_name(run_id: str) -> str:
    """Return the name of the tmux or screen session of a run."""
    return f"gib-{run_id}"


def config_name(run_id: str) -> str:
    """Return the name of the configuration from a run id."""
    return run_id[: -len("-yyyymmdd-hhmmss-hhhh")]


class RunDir(msgspec.Struct, frozen=True):
    """Paths in one run directory. Using a path neither creates nor reads anything."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def workdir(self) -> Path | None:
        """Return the working directory, as in `<workdir>/runs/<run>`; None for a copy that was pulled elsewhere."""
        return self.path.parent.parent if self.path.parent.name == "runs" else None

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def alerts(self) -> Path:
        return self.path / "alerts.jsonl"

    @property
    def answers(self) -> Path:
        return self.path / "answers.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def ranks(self) -> Path:
        return self.path / "ranks"

    @property
    def supervisor(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def cause(self) -> Path:
        return self.path / "cause.json"

    @property
    def stop(self) -> Path:
        return self.path / "stop"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def brain(self) -> Path:
        return self.path / "brain.json"

    @property
    def report(self) -> Path:
        """Return the folder with the report of a finished run."""
        return self.path / "report"

    def read_config(self) -> Config:
        """Return the resolved configuration. Raises ConfigError."""
        from giblet_train.schema.config_loader import read_resolved  # `giblet ps` reads no configuration

        return read_resolved(self.config)

    def read_run(self) -> RunRecord:
        """Return run.json. Raises ConfigError if there is none, DataError if it cannot be decoded."""
        try:
            return decode(self.run.read_bytes(), RunRecord)
        except OSError as error:
            raise ConfigError(
                f"{self.path} is not a run directory: run.json: {error.strerror}.",
                "Runs are stored in <workdir>/runs/; `giblet ps -a` lists them.",
            ) from None


def replace_file(path: Path, data: bytes, *, sync: bool = False, private: bool = False) -> None:
    """Replace a file so that a reader sees either all of the old or all of the new bytes.

    Args:
        path: the file.
        data: its new content.
        sync: also survive a power cut, by fsync of file and directory.
        private: readable for this user alone (mode 0600).

    Raises OSError; the old file then stays. So does what is no regular file: a device, a pipe or a socket.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "It is a device, a pipe or a socket", str(path))
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if sync:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_record(path: Path, record: Record, *, sync: bool = False) -> None:
    """Replace a small file by a record."""
    replace_file(path, encode(record) + b"\n", sync=sync)
