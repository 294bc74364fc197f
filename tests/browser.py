"""A headless Chromium that opens pages without a network and reports what a reader would stumble over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 60.0
PIECE_BYTES = 1 << 16
FAULTS = """(() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth - window.innerWidth;
  if (wide > 0) faults.push(`the page is ${wide} pixels too wide`);
  for (const image of document.querySelectorAll('img'))
    if (!image.alt) faults.push('an img has no alt text');
    else if (image.getClientRects().length && !image.naturalWidth) faults.push(`${image.alt}: the picture is broken`);
  for (const drawing of document.querySelectorAll('svg'))
    if (!drawing.getAttribute('aria-label')) faults.push('an svg has no aria-label');
  for (const player of document.querySelectorAll('video, audio')) {
    if (!player.getAttribute('aria-label')) faults.push('a player has no aria-label');
    if (player.error) faults.push(`a player cannot play: ${player.error.message}`);
  }
  for (const node of document.querySelectorAll('[src], [href]')) {
    const target = node.getAttribute('src') || node.getAttribute('href');
    if (!target.startsWith('data:') && !target.startsWith('#')) faults.push(`another file is needed: ${target}`);
  }
  return faults;
})()"""


SITE_PAGE = """(() => {
  const faults = [];
  for (const image of document.querySelectorAll('img'))
    if (!image.alt) faults.push(`${image.src}: no alt text`);
    else if (!image.complete || !image.naturalWidth) faults.push(`${image.src}: the picture is broken`);
  const links = [...document.querySelectorAll('a[href]')].map(a => a.href).filter(h => h.startsWith(location.origin));
  const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
  return {faults, links: [...new Set(links)], ids};
})()"""


@dataclass
class Browser:
    """One browser, spoken to by the DevTools protocol over pipes."""

    requests: Any
    responses: Any
    n: int = 0
    session: str | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    buffer: bytes = b""
    """Received bytes that are no whole message yet."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; other messages are kept."""
        self.n += 1
        request = {"id": self.n, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.requests.write(json.dumps(request).encode() + b"\0")
        self.requests.flush()
        while True:
            message = self.receive()
            if message.get("id") == self.n:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.messages.append(message)

    def receive(self) -> dict[str, Any]:
        parts = [self.buffer]
        while b"\0" not in parts[-1]:
            parts.append(self.responses.read1(PIECE_BYTES))
            assert parts[-1], "the browser ended"
        text, _, self.buffer = b"".join(parts).partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def faults(self, page: Path, width: int, *, dark: bool = False) -> list[str]:
        """Open a page at a width and return what is wrong with it, with errors of the console."""
        self._open(page.as_uri(), width, dark=dark)
        faults: list[str] = self._evaluate(FAULTS)
        return [*faults, *self._console_faults()]

    def site_page(self, url: str) -> tuple[list[str], list[str], list[str]]:
        """Open a page of a site; return its faults, the links to the same server, and the ids of its elements.

        Faults are broken pictures, errors of the console, and resources that the server does not have.
        """
        self._open(url, 1400)
        page = self._evaluate(SITE_PAGE)
        return [*page["faults"], *self._console_faults()], page["links"], page["ids"]

    def _open(self, url: str, width: int, *, dark: bool = False) -> None:
        """Load an address in the one tab: each new tab starts a process, which takes longer than most pages."""
        if self.session is None:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        self.messages = []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + LIMIT_S
        while not any(m.get("method") == "Page.loadEventFired" for m in self.messages):
            assert time.monotonic() < deadline, "the page did not load"
            self.messages.append(self.receive())

    def _evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def _console_faults(self) -> list[str]:
        """Return errors of the console, exceptions, and what the server refused, since the page was opened."""
        faults = []
        for message in self.messages:
            if message.get("method") == "Network.responseReceived":
                response = message["params"]["response"]
                if response["status"] >= 400:
                    faults.append(f"{response['url']}: status {response['status']}")
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                faults.append(message["params"]["entry"]["text"])
            if message.get("method") == "Runtime.exceptionThrown":
                faults.append(message["params"]["exceptionDetails"]["text"])
        return faults


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with its profile in `folder`; skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (make debian, as root; or apt-get install chromium).")
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
    process = subprocess.Popen(
        ["bash", "-c", command, program, *options, f"--user-data-dir={folder}"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    with open(ours_out, "wb") as requests, open(ours_in, "rb") as responses:
        chromium = Browser(requests, responses)
        try:
            yield chromium
        finally:
            chromium.session = None
            chromium.call("Browser.close")
            process.wait(LIMIT_S)
