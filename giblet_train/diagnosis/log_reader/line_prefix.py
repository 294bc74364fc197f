"""Strip what launchers and loggers put in front of a line: rank, timestamp, log level, host; and terminal escapes."""

from __future__ import annotations

import json
import re
from typing import List, NamedTuple, Optional

MAX_LINE = 4000
ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
"""Terminal escape sequences, such as colours and cursor movements."""
_ESCAPE = re.compile(ESCAPE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

_ADDRESS = re.compile(
    r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (?:/|https?://)\S*(?: HTTP/[\d.]+)?\"?"
    r"(?: \d{3}(?: (?:\d+|-)(?!\S))?(?!\S))?"
    r"|(?<!\w)[a-z][a-z0-9+.-]{1,15}://[^\s,;|\"'<>]*"
    r"|(?<![^\s\"'(=:])~?/[\w.@+-]+/[^\s,;:|\"'<>]*"
)
"""Requests of web servers with their answer, URLs, and absolute paths."""
_RANK = re.compile(
    r"\s*(?:\[rank\s?(\d+)\]:?|\[default(\d+)\]:|\[\d+,(\d+)\]<std(?:out|err)>:|\(?rank[ =](\d+)\)?\s?[:|-]"
    r"|(\d{1,4}):(?=\s|$)(?!\s*(?:learn:|[-\w.]+, [-\w.]+ avg\b)))\s?",
    re.IGNORECASE,
)
_RANK_AGAIN = re.compile(r"\s*\[rank\s?(\d+)\]:\s?", re.IGNORECASE)
"""The rank as torch prints it, after the one that a launcher prints."""
_DATE = r"(?:\d{4}[-/.]\d{2}[-/.]\d{2}|\d{2}[-/.]\d{2}[-/.]\d{4}|\d{2}/\d{2}|[A-Z][a-z]{2}\s+\d{1,2})"
_CLOCK = r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?(?: [AP]M\b)?(?:Z|[+-]\d{2}:?\d{2})?"
_TIME = re.compile(rf"\s*(?:\[({_DATE}[T ]{_CLOCK})\]|({_DATE}[T ]{_CLOCK}):?|\[({_CLOCK})\]|({_CLOCK}))\s?(?:[-|]\s)?")
_GLOG = re.compile(r"\s*\[?([IWEF])(\d{3,4} \d{2}:\d{2}:\d{2,10}\.\d+)\s+(?:\d+\s+)?[\w./-]+:\d+\]\s?")
_TENSORFLOW = re.compile(r"\s*([IWEF]) [\w./-]+\.(?:cc|cpp|cu|h|py):\d+\]\s?")
_LETTERS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
_LEVEL = re.compile(
    r"\s*[\[(|]?\s*(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\s*[\])|]?"
    r"(?:\s*:[\w.]*:(?!//)|(?:\s*[-|:])?(?=\s|$))\s?"
)
_SOURCE = re.compile(
    r"\s*(?:[a-z_]\w*(?:\.[A-Za-z_]\w*)+(?=\s+-\s)|[\w.]+:[\w.<>]+:\d+|[\w./-]+\.(?:py|cpp|cu|c|h):\d+"
    r"|\[\w[\w.]*\](?=\[[A-Z]+\] - )|\[[\w./-]+:\d+(?::[\w<>]+)?\])(?:\s*[-|:]?\s|(?=\[[A-Z]+\] - ))"
)
_HOST = re.compile(
    r"\s*(?:[\w.-]+\s+[\w./-]+\[\d+\]:|[\w-]+[-_]\d+\s+\||\(\w*\s?pid=\d+[^)]*\)|(?!slurmstepd|srun)[a-z][\w-]*\d[\w.-]*:(?=\s))\s?"
)
_RANK_IN_TEXT = re.compile(r"\[(?:PG \S+ )?rank\s?(\d+)\]|\brank[ =:](\d+)\b", re.IGNORECASE)
_MOST_PREFIXES = 6


class LogLine(NamedTuple):
    """A line without its prefixes."""

    text: str
    rank: Optional[int] = None
    at: str = ""
    """Timestamp as printed; empty without one."""
    level: str = ""
    """Log level in upper case; empty without one."""


def clean(text: str) -> str:
    """Remove terminal escapes and control characters, and cut the line to MAX_LINE characters."""
    if not text.isprintable():
        text = _CONTROL.sub("", _ESCAPE.sub("", text))
    return text[:MAX_LINE].rstrip()


_CONTAINER = re.compile(rf"({_DATE}T{_CLOCK}) std(?:out|err) [FP](?: |$)")
"""What the container runtimes of Kubernetes put in front of a line."""
_FIELDS = re.compile(r'time="?([^"\s]{1,40})"? level="?(\w{1,10})"? msg="(.*)"')
"""A line of a logger that prints names and values (logfmt)."""
_MESSAGE_NAMES = ("message", "msg", "log", "textPayload")
_LEVEL_NAMES = ("severity", "level", "levelname")
_TIME_NAMES = ("time", "timestamp", "@timestamp", "asctime")


def message_of(text: str) -> str:
    """Return the message of a logger or container, with its time and level; any other line as it is.

    They write JSON, or as Kubernetes does the time and the stream in front of each line. A record of numbers stays a
    record: its message has no digit, or other fields are fractions.
    """
    of_container = _CONTAINER.match(text)
    if of_container:
        message = message_of(text[of_container.end() :])
        has_time = not message.strip() or _TIME.match(message) is not None
        return message if has_time else f"{of_container[1]} {message}"
    of_fields = _FIELDS.match(text)
    if of_fields:
        return f"{of_fields[1]} {of_fields[2].upper()} {of_fields[3]}"
    if not text.startswith("{") or not any(f'"{name}"' in text for name in _MESSAGE_NAMES):
        return text
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return text
    message = _first_text(record, _MESSAGE_NAMES)
    has_numbers = any(isinstance(item, float) for item in record.values())
    if has_numbers or not any(map(str.isalnum, message)) or message.lstrip().startswith("{"):
        return text
    is_label = not any(map(str.isdigit, message)) and any(isinstance(item, int) for item in record.values())
    prefix = f"{_first_text(record, _TIME_NAMES)} {_first_text(record, _LEVEL_NAMES).upper()}".strip()
    return text if is_label else f"{prefix} {message}".strip()


def _first_text(record: "dict[str, object]", names: "tuple[str, ...]") -> str:
    return next((str(record[name]) for name in names if isinstance(record.get(name), str)), "")


def split_prefix(text: str) -> LogLine:
    """Split a cleaned line into its prefixes and its text."""
    if text.startswith("Epoch"):
        return LogLine(text)
    rank: Optional[int] = None
    at, level = "", ""
    for _ in range(_MOST_PREFIXES):
        length, groups = _prefix(text, bool(rank is not None), bool(at), bool(level))
        if not length:
            break
        rank = int(groups[0]) if groups[0] else rank
        at, level = groups[1] or at, groups[2] or level
        text = text[length:]
    return LogLine(text, rank, at, level)


def without_addresses(text: str) -> str:
    """Remove requests, URLs and absolute paths, whose words and numbers are no quantities."""
    return _ADDRESS.sub(" ", text) if "/" in text else text


def rank_in(line: LogLine) -> Optional[int]:
    """Return the rank of a line: from its prefix, else from its text; None if neither names one."""
    if line.rank is not None:
        return line.rank
    match = _RANK_IN_TEXT.search(line.text)
    return int(match[1] or match[2]) if match else None


def _prefix(text: str, has_rank: bool, has_time: bool, has_level: bool) -> "tuple[int, List[str]]":
    """Return the length of the first prefix, 0 if there is none, and its [rank, time, level]."""
    match = _RANK_AGAIN.match(text) if has_rank else _RANK.match(text)
    if match:
        return match.end(), [next((group for group in match.groups() if group), ""), "", ""]
    match = None if has_time else _GLOG.match(text)
    if match:
        return match.end(), ["", match[2], _LETTERS[match[1]]]
    match = None if has_time else _TIME.match(text)
    if match:
        return match.end(), ["", next(group for group in match.groups() if group), ""]
    match = None if has_level else _TENSORFLOW.match(text)
    if match:
        return match.end(), ["", "", _LETTERS[match[1]]]
    match = None if has_level else _LEVEL.match(text)
    if match:
        return match.end(), ["", "", match[1]]
    match = _SOURCE.match(text) or _HOST.match(text)
    return (match.end(), ["", "", ""]) if match else (0, ["", "", ""])
