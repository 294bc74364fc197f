"""Open log files of any kind: plain or compressed, UTF-8 or UTF-16, tables, event files, folders of per-rank logs."""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import itertools
import os
import re
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, cast

from giblet_train.diagnosis.log_reader import end_patterns, tables, tensorboard
from giblet_train.diagnosis.log_reader.end_scan import ErrorLine
from giblet_train.diagnosis.log_reader.reader import LogReader, TrainingLog

CONTINUED = 0.5
"""Part of a log after which the log that continues it begins: a resume repeats the epochs since a checkpoint."""
MAX_JSON = 256 * 1024 * 1024
_START = 64 * 1024
_PIECE = 1024 * 1024
_LOG_NAME = re.compile(
    r"(?:\.(?:log|txt|out|err|jsonl|csv)(?:\.\d+)?(?:\.gz)?|^std(?:out|err)|^nohup\.out|tfevents.*|^output\.log)$", re.I
)
_RANK_IN_PATH = re.compile(r"(?:^|[/_.-])(?:rank|local_rank|worker|gpu|proc)?[_-]?(\d{1,4})(?:[/_.-]|$)", re.IGNORECASE)
_ATTEMPT = re.compile(r"(?:^|.*/)attempt_\d+(?=/)")
_STREAM = re.compile(r"(?:[-_.]?(?:std)?(?:out|err))?(?:\.(?:log|txt|out|err))*$", re.IGNORECASE)
_METRIC_FILES = ("trainer_state.json", "metrics.csv", "results.csv", "progress.csv", "log.txt")
WANDB_LOG = Path("files/output.log")


def read_file(path: Path) -> TrainingLog:
    """Read one log. Raises OSError, and EOFError or zlib.error for a damaged compressed file."""
    reader = LogReader()
    with _opened(path) as file:
        _read(file, reader)
    return reader.result()


def read_folder(path: Path) -> Optional[TrainingLog]:
    """Read a folder as one training. Return None if it holds no log.

    It may hold per-rank logs, the logs of several starts that resumed each other, or an offline wandb run. The epochs
    of a start come from the file that shows most of them. Errors of all files of the last start count, the earliest
    timestamp first; those of earlier starts are past.
    """
    logs = {file: read_file(file) for file in log_files(path)}
    if not logs:
        return None
    starts = _starts(path, logs)
    last = starts[-1]
    by_rank = [(rank_of(file.relative_to(path)), logs[file]) for file in last]
    if len(starts) == 1:
        return merge(by_rank)
    whole = read_in_turn([_main_file(start, logs) for start in starts])
    others = [(rank, logs[file]) for (rank, _), file in zip(by_rank, last) if file != _main_file(last, logs)]
    return merge([(None, whole), *others])._replace(n_logs=len(starts))


def read_in_turn(paths: List[Path]) -> TrainingLog:
    """Read logs of successive starts of one training, in their order."""
    reader = LogReader()
    for path in paths:
        with _opened(path) as file:
            _read(file, reader)
        reader.flush()
    return reader.result()


def _starts(folder: Path, logs: Dict[Path, TrainingLog]) -> List[List[Path]]:
    """Return the files of each start, in the order of training; all files as one start if they are not successive.

    Starts are successive if each begins at a later epoch than the one before, as when a training is resumed. Files
    without epochs belong to the start with their name, else to the last one.
    """
    groups: Dict[str, List[Path]] = {}
    for file in logs:
        groups.setdefault(_start_name(file.relative_to(folder)), []).append(file)
    spans = {name: logs[_main_file(files, logs)].span for name, files in groups.items()}
    order = sorted((name for name in groups if spans[name]), key=lambda name: spans[name] or (0.0, 0.0))
    if len({logs[_main_file(groups[name], logs)].is_blocks for name in order}) != 1 or not _is_chain(
        [span for name in order for span in [spans[name]] if span]
    ):
        return [list(logs)]
    unknown = [file for name, files in groups.items() if not spans[name] for file in files]
    starts = [groups[name] for name in order]
    return [*starts[:-1], [*starts[-1], *unknown]]


def _is_chain(spans: List[Tuple[float, float]]) -> bool:
    """Return True if each span continues the one before: it begins in its last part or after it, and ends later."""
    return len(spans) > 1 and all(
        later[0] > earlier[0] + (earlier[1] - earlier[0]) * CONTINUED and later[1] > earlier[1]
        for earlier, later in zip(spans, spans[1:])
    )


def _start_name(path: Path) -> str:
    """Return what the files of one start have in common: an attempt of torchrun, or a name without its ending."""
    attempt = _ATTEMPT.search(path.as_posix())
    return attempt[0] if attempt else _STREAM.sub("", path.as_posix())


def _main_file(files: List[Path], logs: Dict[Path, TrainingLog]) -> Path:
    """Return the file of a start that shows most epochs."""
    return max(files, key=lambda file: len(logs[file].rows))


def log_files(path: Path) -> List[Path]:
    """Return the logs in a folder and its subfolders, in order of their names."""
    if (path / WANDB_LOG).is_file():
        return [path / WANDB_LOG]
    metric_files = [path / name for name in _METRIC_FILES if (path / name).is_file()]
    logs = [file for file in sorted(path.glob("**/*")) if file.is_file() and _LOG_NAME.search(file.name)]
    return list(dict.fromkeys([*metric_files, *logs]))[:4096]


def is_log_name(name: str) -> bool:
    """Return True if a file of this name may be a log of a training."""
    return name in _METRIC_FILES or _LOG_NAME.search(name) is not None


def rank_of(path: Path) -> Optional[int]:
    """Return the rank that a path names, such as `3/stderr.log` or `rank_3.log`; None if it names none."""
    numbers = _RANK_IN_PATH.findall(path.as_posix())
    return int(numbers[-1]) if numbers else None


def merge(logs: List[Tuple[Optional[int], TrainingLog]]) -> TrainingLog:
    """Combine the logs of several ranks into one training."""
    main = max(logs, key=lambda item: len(item[1].rows))[1]
    ends = [(rank, log.end) for rank, log in logs]
    errors = [
        error._replace(rank=error.rank if error.rank is not None else rank)
        for rank, end in ends
        for error in end.errors
    ]
    timed_out = sorted({rank for _, end in ends for rank in end.timed_out_ranks})
    # A rank that raised an exception, and reported no timeout, cannot have joined the operation that timed out.
    errors.sort(
        key=lambda error: (
            bool(error.at or not timed_out or not _is_own_exception(error, timed_out)),
            not error.at,
            error.at,
        )
    )
    causes: Dict[str, ErrorLine] = {}
    for rank, end in sorted(ends, key=lambda item: min((e.at for e in item[1].errors if e.at), default="~")):
        for cause, line in end.causes.items():
            causes.setdefault(cause, line._replace(rank=line.rank if line.rank is not None else rank))
    missing = set(range(max(timed_out) + 1 if timed_out else 0)) | {r for r, _ in ends if r is not None and timed_out}
    missing -= set(timed_out)
    end = main.end._replace(
        causes=causes,
        errors=tuple(errors),
        echoes=tuple(error for _, end in ends for error in end.echoes),
        failed=next((end.failed for _, end in ends if end.failed is not None), None),
        timed_out_ranks=tuple(timed_out),
        missing_ranks=tuple(sorted(missing)) if timed_out else main.end.missing_ranks,
        statement=next((end.statement for _, end in ends if end.statement), ""),
        statement_line=next((end.statement_line for _, end in ends if end.statement), ""),
        killed=next((end.killed for _, end in ends if end.killed), ""),
        complaint=next((end.complaint for _, end in ends if end.complaint is not None), None),
    )
    collapse = main.collapse or next((log.collapse for _, log in logs if log.collapse), None)
    return main._replace(end=end, collapse=collapse, n_lines=sum(log.n_lines for _, log in logs))


def _is_own_exception(error: ErrorLine, timed_out: List[int]) -> bool:
    """Return True for an exception of a rank that reported no timeout of a collective operation."""
    is_exception = end_patterns.EXCEPTION.match(error.text) is not None
    return is_exception and error.rank not in timed_out and end_patterns.cause_of(error.text) != "collective_timeout"


def decoded_lines(file: io.BufferedReader) -> Iterator[str]:
    """Yield the lines of a text in UTF-8 or UTF-16, without a byte order mark. Lines are cut at 64 KiB."""
    decoder = codecs.getincrementaldecoder(_encoding(file.peek(4)[:4]))(errors="replace")
    rest = ""
    for piece in iter(lambda: file.read(_PIECE), b""):
        *lines, rest = re.split(r"\r\n|\n|\r", rest + decoder.decode(piece))
        yield from (line[:_START] for line in lines)
        rest = rest[-_START:]
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def _encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) == 4 and start[1] == 0 and start[3] == 0 and start[0]:
        return "utf-16-le"
    if len(start) == 4 and start[0] == 0 and start[2] == 0 and start[1]:
        return "utf-16-be"
    return "utf-8-sig"


def _without_waiting(path: str, flags: int) -> int:
    """Open a regular file, or a pipe that the shell has opened: a named pipe without a writer blocks for ever.

    The agent carries the log reader to nodes, without `schema.regular_file`, which does the same for other files.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind) and Path(os.path.realpath(path)).exists():
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a named pipe, not a file", path)
    os.set_blocking(descriptor, True)
    return descriptor


def _opened(path: Path) -> io.BufferedReader:
    file = cast(io.BufferedReader, open(path, "rb", buffering=_START, opener=_without_waiting))  # noqa: SIM115
    if file.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _START)
    return file


def _read(file: io.BufferedReader, reader: LogReader) -> None:
    start = file.peek(_START)[:_START]
    if tensorboard.is_event_file(start):
        tensorboard.read_events(file, reader)
        return
    lines = decoded_lines(file)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    if first.lstrip()[:1] in ("{", "["):
        rest = _read_json(first, lines, reader)
    elif tables.separator_of(first):
        tables.read_table(_chain(first, lines), reader)
        return
    else:
        rest = _chain(first, lines)
    for line in rest:
        reader.feed(line)


def _read_json(first: str, lines: Iterator[str], reader: LogReader) -> Iterator[str]:
    """Read a file that is one JSON document. Return the lines that remain to be read as text."""
    document = tables.load_json(first)
    if isinstance(document, (dict, list)):
        return iter(()) if tables.read_json_history(document, reader) else _chain(first, lines)
    if not re.match(r"\s*(?:\{|\[)\s*(?:$|[{\"])", first) or first.rstrip().endswith("}"):
        return _chain(first, lines)
    parts, size = [first], 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > MAX_JSON:
            break
    document = tables.load_json("\n".join(parts))
    if document is not None and tables.read_json_history(document, reader):
        return iter(())
    return itertools.chain(parts, lines)


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
