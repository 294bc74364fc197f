"""Changes that a program asked for and a person has not decided on yet: files on this machine, decided on once each."""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import Literal

import msgspec

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.run_dir import replace_file

VALID_S = 600.0
"""Later the person may not remember what it was about."""
MAX_WAITING = 20

Decision = Literal["waiting", "confirmed", "refused"]


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A command of giblet that a program wants a person to run."""

    request_id: str
    words: tuple[str, ...]
    """Its words after `giblet`."""
    reason: str
    """The program's own words."""
    client: str
    """Name that the program gave itself."""
    asked_at: float
    decision: Decision = "waiting"
    exit_code: int | None = None
    """Of the command, once it has ended."""

    def state(self, now: float) -> str:
        """Return what became of the request, as a sentence."""
        if self.decision == "refused":
            return "A person refused it."
        if self.decision == "confirmed":
            how = "is running" if self.exit_code is None else f"ended with exit code {self.exit_code}"
            return f"A person confirmed it; the command {how}."
        if self.has_expired(now):
            return "Nobody confirmed it in time; ask again if it is still needed."
        return f"Waiting for a person, who runs in a terminal: giblet confirm {self.request_id}"

    def has_expired(self, now: float) -> bool:
        """Return True if it can no longer be decided on."""
        return not 0 <= now - self.asked_at <= VALID_S


def folder() -> Path:
    """Return `giblet/requests` under `$XDG_STATE_HOME` (~/.local/state)."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "giblet" / "requests"


def ask(words: tuple[str, ...], reason: str, client: str) -> ChangeRequest:
    """Store a new request. Raises ConfigError if too many wait."""
    now = time.time()
    if len(waiting(now)) >= MAX_WAITING:
        raise ConfigError(f"{MAX_WAITING} requests wait for a person already.", "Decide on them: giblet confirm")
    request = ChangeRequest(request_id=secrets.token_hex(4), words=words, reason=reason, client=client, asked_at=now)
    save(request)
    return request


def save(request: ChangeRequest) -> None:
    """Write a request, readable by this user only."""
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private()
    replace_file(_path(request.request_id), msgspec.json.encode(request), private=True)


def find(request_id: str) -> ChangeRequest:
    """Return a request. Raises ConfigError if there is none of that id, or if others can write requests."""
    _check_private()
    if re.fullmatch(r"[0-9a-f]{8}", request_id):
        try:
            return msgspec.json.decode(_path(request_id).read_bytes(), type=ChangeRequest)
        except (OSError, msgspec.DecodeError):
            pass
    raise ConfigError(f"There is no request {request_id[:40]!r}.", "List those that wait: giblet confirm")


def _check_private() -> None:
    """Raise ConfigError if another user could write a request in this one's name."""
    try:
        status = folder().stat()
    except FileNotFoundError:
        return
    if status.st_uid != os.getuid():
        raise ConfigError(
            f"{folder()} belongs to another user, so a request in it may be theirs.",
            "Set XDG_STATE_HOME to a folder of your own.",
        )
    if status.st_mode & 0o022:
        raise ConfigError(
            f"{folder()} can be written by others, so a request in it may be theirs.",
            f"Remove others' write permission, and delete what you do not know: chmod go-w {folder()}",
        )


def waiting(now: float) -> list[ChangeRequest]:
    """Return the requests that can be decided on, oldest first; remove those of yesterday and before."""
    _check_private()
    requests = []
    for path in folder().glob("*.json"):
        try:
            request = find(path.stem)
        except ConfigError:
            continue
        if now - request.asked_at > 86_400:
            path.unlink(missing_ok=True)
            _mark(path.stem).unlink(missing_ok=True)
        elif request.decision == "waiting" and not request.has_expired(now):
            requests.append(request)
    return sorted(requests, key=lambda request: request.asked_at)


def decide(request: ChangeRequest, decision: Decision) -> ChangeRequest:
    """Record a decision, once. Raises ConfigError if another terminal was faster, or if the request has expired."""
    now = time.time()
    if request.has_expired(now):
        raise ConfigError(f"{request.request_id} cannot be confirmed.", request.state(now))
    try:
        os.close(os.open(_mark(request.request_id), os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        sentence = f"{request.request_id} was decided on already."
        raise ConfigError(sentence, "List those that wait: giblet confirm") from None
    decided_request = msgspec.structs.replace(request, decision=decision)
    save(decided_request)
    return decided_request


def _mark(request_id: str) -> Path:
    """Return the file whose existence says that a request was decided on."""
    return folder() / f"{request_id}.decided"


def _path(request_id: str) -> Path:
    return folder() / f"{request_id}.json"
