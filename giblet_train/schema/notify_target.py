"""Targets of `watch.notify`: an ntfy topic, a Slack webhook, a mail address, or a command on the node. Pure."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from giblet_train.schema.errors import ConfigError

FORMS = "ntfy:https://HOST/TOPIC, slack:https://WEBHOOK, mailto:YOU@LAB.ORG?server=HOST:PORT, or a command"
_ADDRESS = r"[^@\s<>\"',;]+@[^@\s<>\"',;]+"


class NotifyTarget(NamedTuple):
    """Where alerts go."""

    kind: Literal["ntfy", "slack", "mail", "command"]
    address: str
    """URL, mail address or command line."""
    server: str = ""
    """Mail: `host:port` of the server."""

    @property
    def name(self) -> str:
        """Return the target for messages, without the secret part of a URL."""
        if self.kind in ("ntfy", "slack"):
            return f"{self.kind} at {urlsplit(self.address).hostname}"
        return f"mail to {self.address}" if self.kind == "mail" else "the command of watch.notify"


def parse_target(text: str) -> NotifyTarget:
    """Return the target that a value of `watch.notify` names. Raises ConfigError for a URL or address of a wrong form.

    A text without one of the three prefixes is a command.
    """
    kind, _, rest = text.partition(":")
    if kind in ("ntfy", "slack"):
        url = urlsplit(rest)
        if url.scheme not in ("http", "https") or not url.hostname or len(url.path) < 2:
            raise ConfigError(f"watch.notify {kind}: {rest!r} is no URL with a path.", f"Forms: {FORMS}")
        return NotifyTarget("ntfy" if kind == "ntfy" else "slack", rest)
    if kind == "mailto":
        address, _, query = rest.partition("?")
        if not re.fullmatch(_ADDRESS, unquote(address)):
            raise ConfigError(f"watch.notify mailto: {address!r} is no mail address.", f"Forms: {FORMS}")
        server = parse_qs(query).get("server", ["localhost:25"])[0]
        return NotifyTarget("mail", unquote(address), server if ":" in server else f"{server}:25")
    return NotifyTarget("command", text)


def parse_targets(value: str | tuple[str, ...] | None) -> list[NotifyTarget]:
    """Return every target of `watch.notify`. Raises ConfigError."""
    texts = (value,) if isinstance(value, str) else value or ()
    return [parse_target(text) for text in texts if text.strip()]
