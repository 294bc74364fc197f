"""Nothing that a node says can act on a terminal."""

from __future__ import annotations

import json
import random
import re
import unicodedata

import pytest

from giblet_tui.connection.sanitize import sanitize, sanitize_json, sanitize_line, sanitize_value

PAYLOADS = [
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b[2J\x1b[H",
    "\x1bP$q\x1b\\",
    "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\x7f\x08\x08\x08",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "a\u200bb\ufeffc",
    "\u2028line\u2029",
    "\U000e0041\U000e007f",
    "\ud800\udfff",
    "\x00\x01\x1f",
    "\r\nfake line",
    "\x1bc",
    "\x0e\x0f",
]
DANGEROUS = {"Cc", "Cs", "Zl", "Zp"}
REORDERING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize("payload", PAYLOADS, ids=[repr(p) for p in PAYLOADS])
def test_payloads_are_disarmed(payload: str) -> None:
    assert harmless(sanitize(f"before {payload} after"))
    assert sanitize(f"before {payload} after").startswith("before ")


def test_every_character() -> None:
    for code in range(0x110000):
        assert harmless(sanitize(chr(code))), hex(code)


def test_random_strings() -> None:
    draw = random.Random(11)
    alphabet = [chr(c) for c in (*range(0xA0), *range(0x2000, 0x2070), 0xD800, 0xFEFF, 0xE0001)]
    for _ in range(20_000):
        assert harmless(sanitize("".join(draw.choices(alphabet, k=draw.randrange(40)))))


def test_what_is_harmless_stays() -> None:
    text = "loss 0.93 ± 0.02 → naïve Δ 语 [bold] [@click=app.quit]x[/] é 🧠"
    assert sanitize(text) == text


def test_colours_vanish_and_tabs_are_spaces() -> None:
    assert sanitize("\x1b[1;31mred\x1b[0m\tend") == "red    end"
    assert sanitize("\x1b[\x1b[31m31m") == "\\x1b[31m", "what removing makes is not a code again"


def test_a_progress_bar_keeps_what_is_seen() -> None:
    assert sanitize_line("10%\r50%\r100%\r\n") == "100%"


def test_json_is_disarmed_inside_its_strings() -> None:
    dirty = json.dumps({"a\x1b": ["\u202e", {"b": "\x9b1m"}], "n": 1.5, "none": None}).encode()
    clean = json.loads(sanitize_json(dirty))
    assert clean == {"a\\x1b": ["\\u202e", {"b": "\\x9b1m"}], "n": 1.5, "none": None}
    assert sanitize_json(b'{"seq":1}\n') == b'{"seq":1}'
    for not_json in (b"{", b"\xff\xfe", b"[" * 100_000, b"\\"):
        assert sanitize_json(not_json) == not_json
    assert sanitize_value(("\x1b", 1)) == ["\\x1b", 1]


def harmless(text: str) -> bool:
    return not any(unicodedata.category(c) in DANGEROUS or c in REORDERING for c in text) and not re.search(
        "[\u00ad\u180e\u200b-\u200f\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]", text
    )
