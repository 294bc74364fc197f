"""Send an alert to ntfy, a Slack webhook, a mail address or a command. Standard library only.

A failure is never raised: the alert is in alerts.jsonl in any case, and the run must not suffer from it.
"""

from __future__ import annotations

import json
import smtplib
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from giblet_train.schema.notify_target import NotifyTarget
from giblet_train.schema.records import Alert

Say = Callable[[str], None]

_NTFY_PRIORITY = {"info": 2, "warning": 4, "error": 5}
"""https://docs.ntfy.sh/publish/#message-priority"""


def send(target: NotifyTarget, run_id: str, alert: Alert, report: Say, limit_s: float) -> None:
    """Send one alert.

    Args:
        report: receives a warning if it cannot be delivered; the secret part of a URL is not in it.
        limit_s: seconds for each step of the delivery.
    """
    try:
        if target.kind == "command":
            _run(target.address, message_of(run_id, alert), limit_s)
        elif target.kind == "mail":
            _mail(target, run_id, alert, limit_s)
        else:
            _post(*_request(target, run_id, alert), limit_s)
    except subprocess.TimeoutExpired:
        report(f"warning: {target.name} did not end within {limit_s:g} s.")
    except subprocess.CalledProcessError as error:
        report(f"warning: {target.name} ended with code {error.returncode}.")
    except urllib.error.HTTPError as error:
        report(f"warning: {target.name} refused the alert: {error.code} {error.reason}.")
    except (OSError, smtplib.SMTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        report(f"warning: {target.name} did not receive the alert: {reason}.")


def message_of(run_id: str, alert: Alert) -> dict[str, Any]:
    """Return the JSON object that a command receives: the run's id and every field of the alert."""
    return {"run_id": run_id, **msgspec.to_builtins(alert)}


def title_of(run_id: str, alert: Alert) -> str:
    """Return the title of a message."""
    return f"{run_id}: {alert.name} {'cleared' if alert.state == 'cleared' else alert.level}"


def text_of(alert: Alert) -> str:
    """Return the message without its title: what was observed and what to do."""
    return "\n".join(part for part in (alert.sentence, alert.action) if part)


def _request(target: NotifyTarget, run_id: str, alert: Alert) -> tuple[str, Mapping[str, Any]]:
    """Return the URL and the JSON object of a POST request."""
    title, text = title_of(run_id, alert), text_of(alert)
    if target.kind == "slack":
        return target.address, {"text": f"*{title}*\n{text}"}
    url = urlsplit(target.address)
    folder, _, topic = url.path.rstrip("/").rpartition("/")
    message = {"topic": topic, "title": title, "message": text, "priority": _NTFY_PRIORITY[alert.level]}
    return urlunsplit((url.scheme, url.netloc, f"{folder}/", "", "")), message


def _post(url: str, message: Mapping[str, Any], limit_s: float) -> None:
    body = json.dumps(message).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=limit_s) as response:
        response.read()


def _mail(target: NotifyTarget, run_id: str, alert: Alert, limit_s: float) -> None:
    message = EmailMessage()
    message["Subject"] = title_of(run_id, alert)
    message["From"] = message["To"] = target.address
    message.set_content(text_of(alert))
    host, _, port = target.server.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=limit_s) as server:
        server.send_message(message)


def _run(command: str, message: Mapping[str, Any], limit_s: float) -> None:
    subprocess.run(["/bin/sh", "-c", command], input=msgspec.json.encode(message), timeout=limit_s, check=True)
