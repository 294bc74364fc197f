"""Alerts to ntfy, Slack and mail, received by real local servers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from giblet_train.monitoring.notify import send
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.notify_target import parse_target, parse_targets
from giblet_train.schema.records import Alert

ALERT = Alert(
    seq=3, at=0.0, step=40, name="diverging", level="error", state="raised",
    sentence="The training loss is 2.1× its best.", action="Lower the learning rate.",
)  # fmt: skip


class WebServer(ThreadingHTTPServer):
    """Records the POST requests of a web hook; answers 404 below /gone."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, json.loads(body)))
        self.send_response(404 if self.path.startswith("/gone") else 200)
        self.end_headers()

    def log_message(self, *values: object) -> None:
        """Print nothing."""


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.shutdown()
    server.server_close()


def warnings_of(target: str, limit_s: float = 5.0) -> list[str]:
    """Send the alert to a target and return the warnings."""
    warnings: list[str] = []
    send(parse_target(target), "demo-20261129-101500-3f2a", ALERT, warnings.append, limit_s)
    return warnings


def test_ntfy_receives_topic_title_message_and_priority(web: WebServer) -> None:
    assert warnings_of(f"ntfy:{web.url}/lab/alerts-of-me") == []
    path, message = web.requests[0]
    assert path == "/lab/" and message["topic"] == "alerts-of-me" and message["priority"] == 5
    assert message["title"] == "demo-20261129-101500-3f2a: diverging error"
    assert message["message"] == "The training loss is 2.1× its best.\nLower the learning rate."


def test_slack_receives_one_text(web: WebServer) -> None:
    assert warnings_of(f"slack:{web.url}/services/T0/B0/secret") == []
    [(path, message)] = web.requests
    assert path == "/services/T0/B0/secret" and list(message) == ["text"]
    assert message["text"].startswith("*demo-20261129-101500-3f2a: diverging error*\n")


def test_a_mail_is_delivered() -> None:
    controller_module = pytest.importorskip("aiosmtpd.controller", reason="a development dependency")
    handlers = pytest.importorskip("aiosmtpd.handlers")

    class Inbox(handlers.Message):  # type: ignore[name-defined,misc]
        mails: ClassVar[list[Any]] = []

        def handle_message(self, message: Any) -> None:
            self.mails.append(message)

    with socket.socket() as probe:  # the controller calls the port that it was given, so 0 does not work
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = controller_module.Controller(Inbox(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        assert warnings_of(f"mailto:me@lab.example?server=127.0.0.1:{port}") == []
    finally:
        controller.stop()
    [mail] = Inbox.mails
    assert mail["To"] == "me@lab.example" and mail["Subject"].endswith("diverging error")
    assert "Lower the learning rate." in mail.get_payload(decode=True).decode()


def test_what_cannot_be_delivered_is_a_warning_without_the_secret(web: WebServer) -> None:
    [refusal] = warnings_of(f"slack:{web.url}/gone/secret-token")
    assert "refused the alert: 404" in refusal and "secret-token" not in refusal
    [unreachable] = warnings_of("ntfy:http://127.0.0.1:1/topic")
    assert "did not receive the alert" in unreachable
    [no_mail] = warnings_of("mailto:me@lab.example?server=127.0.0.1:1")
    assert "did not receive the alert" in no_mail


@pytest.mark.parametrize(
    "target", ["ntfy:ntfy.sh/topic", "slack:https://hooks.slack.com", "mailto:me", "ntfy:ftp://a/b"]
)
def test_a_wrong_target_is_refused_before_the_run(target: str) -> None:
    with pytest.raises(ConfigError, match=r"watch\.notify"):
        parse_targets((target,))


def test_a_list_names_several_targets_and_everything_else_is_a_command() -> None:
    targets = parse_targets(("ntfy:https://ntfy.sh/x", "mailto:a@b.org", "cat >> alerts"))
    assert [target.kind for target in targets] == ["ntfy", "mail", "command"]
    assert targets[1].server == "localhost:25"
    assert parse_targets(None) == []
