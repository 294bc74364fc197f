"""Makes text from a node safe to show: it cannot move a cursor, set a clipboard or hide a letter.

Control characters (C0, DEL, C1), marks that reorder or hide text, tags and lone surrogates become visible `\\xNN`,
`\\uNNNN` or `\\UNNNNNNNN`. Colour codes, which logs are full of, are dropped; a tab becomes spaces. Markup stays: sinks
show it literally.
"""

from __future__ import annotations

import json
import re
from typing import Any

_UNSAFE = re.compile(
    "\x1b\\[[0-9;:]*m|\t|"
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_PLAIN_JSON = re.compile(rb"[\x20-\x5b\x5d-\x7e]*")


def sanitize(text: str) -> str:
    """Return the text on one line, without anything that acts on a terminal."""
    return _UNSAFE.sub(_visible, text)


def sanitize_table(text: str) -> str:
    """Sanitise the cells of a table; the tabs between them and the ends of lines stay."""
    return "\n".join("\t".join(map(sanitize, line.split("\t"))) for line in text.split("\n"))


def sanitize_value(value: Any) -> Any:
    """Sanitise every string in a value, including keys."""
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, dict):
        return {sanitize(str(k)): sanitize_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [sanitize_value(v) for v in value]
    return value


def sanitize_json(data: bytes) -> bytes:
    """Sanitise all strings of a JSON text. Other text is returned unchanged, for its decoder to reject."""
    data = data.strip()
    if _PLAIN_JSON.fullmatch(data):
        return data
    try:
        return json.dumps(sanitize_value(json.loads(data)), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return data


def sanitize_line(line: str) -> str:
    """Sanitise a line of a log and drop what a carriage return overwrote, as a terminal would."""
    return sanitize(line.rstrip("\r\n").rpartition("\r")[2])


def _visible(match: re.Match[str]) -> str:
    text = match[0]
    if len(text) > 1:
        return ""
    if text == "\t":
        return "    "
    code = ord(text)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
