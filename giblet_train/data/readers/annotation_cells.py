"""Read the cells of an annotation file row by row.

Workbook, CSV or TSV, subtitles, Praat's TextGrid, ELAN's eaf, and JSON of words with their times, as speech
recognisers and aligners write it.
"""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import python_calamine

from giblet_train.data.readers.delimiter import find_delimiter, is_number, split_line
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import read_regular

SHEET = "Segments"
"""Sheet of the lab's workbook; a workbook with another single sheet is read as well."""
HEADER = ["start_s", "end_s", "detail"]
CUE = re.compile(r"([\d:]+[.,]\d+)\s*-->\s*([\d:]+[.,]\d+)")
TIER = re.compile(r'(?:class = )?"IntervalTier"\s+(?:name = )?"((?:[^"]|"")*)"')
ITEM = re.compile(r'(?:class = )?"(?:IntervalTier|TextTier)"')
INTERVAL = re.compile(
    r'(?:xmin = )?(-?[\d.eE+-]+)\s+(?:xmax = )?(-?[\d.eE+-]+)\s+(?:text = )?"((?:[^"]|"")*)"', re.MULTILINE
)
WORDS = re.compile(r"words?$|transcript|speech|utterance|sentence", re.IGNORECASE)
"""Names of tiers of speech; without one the first tier is read."""
LEAST_NUMBERS = 2
LISTS = ("words_per_tr", "onsets_per_tr", "durations_per_tr")
"""Columns of transcripts with one row per TR."""
JSON_TIMES = (("start", "onset", "begin"), ("end", "offset", "stop"))
NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f\x81\x8d\x8f\x90\x9d]")
"""Bytes that text in the Windows encoding does not have."""

Cells = list[list[Any]]


class Table(NamedTuple):
    """Rows of a file, header first."""

    rows: Cells
    delimiter: str = ""
    """Sign between the cells of a table in text; empty for other files."""


def read_cells(path: Path) -> Table:
    """Return the rows of a file. Raises DataError for a file that cannot be read."""
    kind = path.suffix.lower()
    try:
        if kind in (".xlsx", ".xls", ".xlsm", ".ods"):
            return Table(_sheet(path))
        text = _text(path)
        if kind in (".csv", ".tsv", ".txt"):
            delimiter = find_delimiter(text.split("\n"))
            return Table(_with_header(_separated(path, text, delimiter)), delimiter)
        if kind in (".srt", ".vtt"):
            return Table(_subtitles(text))
        if kind == ".textgrid":
            return Table(_textgrid(text))
        if kind == ".eaf":
            return Table(_elan(text))
        if kind == ".json":
            if not (words := _json_words(json.loads(text))):
                raise ValueError("it has no words with times")
            return Table([HEADER, *words])
        return Table(_sheet(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Set data.annotations.") from None
    except (python_calamine.CalamineError, csv.Error, ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{path} is not a workbook, table (.csv, .tsv), subtitle file (.srt, .vtt), TextGrid, .eaf or .json with "
            f"words: {error}.",
            "Save it as .xlsx or as UTF-8 .csv.",
        ) from None


def has_spoken_words(path: Path) -> bool:
    """Return True for a JSON file of words or sentences with times; False also for one that cannot be read."""
    try:
        return bool(_json_words(json.loads(_text(path))))
    except (OSError, ValueError, DataError):
        return False


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8, in UTF-16 if it is marked as such, else in the Windows encoding.

    Raises UnicodeDecodeError for what is no text: bytes that text does not have.
    """
    data = read_regular(path)
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        if is_wide or NO_TEXT.search(data):
            raise
        text = data.decode("cp1252")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_words(value: Any) -> Cells:
    """Return the words with times in a JSON value, else its sentences. Words that were not aligned are left out.

    Such are the lists `words` of forced aligners, and `segments`, with `words` in each, of speech recognisers.
    """
    rows_by_key = [_json_words(part) for key in ("words", "segments") for part in [_list_in(value, key)] if part]
    if rows := max(rows_by_key, key=len, default=[]):
        return rows
    if not isinstance(value, list):
        return []
    parts = [_json_words(item) for item in value if _list_in(item, "words")]
    if any(parts):
        return [row for part in parts for row in part]
    return [row for item in value for row in _json_row(item)]


def _list_in(value: Any, key: str) -> list[Any]:
    part = value.get(key) if isinstance(value, Mapping) else None
    return part if isinstance(part, list) else []


def _json_row(item: Any) -> Iterator[list[Any]]:
    if not isinstance(item, Mapping):
        return
    text = next((item[key] for key in ("word", "text", "punctuated_word") if isinstance(item.get(key), str)), "")
    times = [next((item[key] for key in keys if isinstance(item.get(key), int | float)), None) for keys in JSON_TIMES]
    if text.strip() and None not in times:
        yield [*times, text]


def _sheet(path: Path) -> Cells:
    book = python_calamine.CalamineWorkbook.from_path(path)
    names = list(book.sheet_names)
    if SHEET not in names and len(names) != 1:
        raise DataError(f'{path} has no sheet "{SHEET}"; it has {", ".join(names)}.', f'Name the sheet "{SHEET}".')
    rows: Cells = book.get_sheet_by_name(SHEET if SHEET in names else names[0]).to_python()
    return rows


def _separated(path: Path, text: str, delimiter: str) -> Cells:
    """Return the rows of a table. Raises DataError if a quotation mark that is not closed hides rows.

    In text between tabs, where marks are rarely needed, such a mark is text.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: Cells = []
    begin = 1
    for row in reader:
        if delimiter == "\t" and any("\t" in cell for cell in row):
            return [split_line(line, delimiter) or line.split(delimiter) for line in text.split("\n")]
        rows.append(row)
        if any(_hides_row(row, place, len(rows[0]), delimiter) for place in range(len(row))):
            raise DataError(f"{path}, row {begin}: a quotation mark is not closed.", "Close or delete it.")
        begin = reader.line_num + 1
    return rows


def _hides_row(row: Sequence[str], place: int, width: int, delimiter: str) -> bool:
    """Return True if a later line of a cell could be a row: it is as wide, and has numbers where the row has."""
    numbers = [n for n in range(place) if is_number(row[n])]
    lines = [line.split(delimiter) for line in row[place].split("\n")[1:]]
    wide = [cells for cells in lines if len(cells) >= max(width, place + 1, 2)]
    return any(any(map(is_number, cells)) and all(is_number(cells[n]) for n in numbers) for cells in wide)


def _with_header(rows: Cells) -> Cells:
    """Return a table with a header; a table without a header is recognised by the two times in its first row.

    Such are the labels of Audacity (start, end, text) and aligned transcripts (word, word, onset, offset).
    """
    rows = [row for row in rows if any(str(cell).strip() for cell in row)]
    if rows and set(LISTS) <= set(rows[0]):
        return [HEADER, *_words_in_lists(rows)]
    if not rows or sum(is_number(cell) for cell in rows[0]) != LEAST_NUMBERS:
        return rows
    times = [n for n, cell in enumerate(rows[0]) if is_number(cell)]
    texts = [n for n in range(len(rows[0])) if n not in times]
    if not texts:
        return rows
    order = [*times, texts[0]]
    return [HEADER, *([row[n] if n < len(row) else "" for n in order] for row in rows)]


def _words_in_lists(rows: Cells) -> Iterator[list[Any]]:
    """Yield the words of a table with one row per TR, whose cells are lists of words, onsets and durations.

    Raises ValueError for a cell that is no list, and for lists of different lengths.
    """
    places = [rows[0].index(name) for name in LISTS]
    for row in rows[1:]:
        lists = [_list_of(row[place] if place < len(row) else "") for place in places]
        for word, onset_s, duration_s in zip(*lists, strict=True):
            yield [onset_s, onset_s + duration_s, word]


def _list_of(cell: str) -> list[Any]:
    try:
        value = ast.literal_eval(cell.strip() or "[]")
    except SyntaxError:
        value = None
    if not isinstance(value, list):
        raise ValueError(f"{cell[:40]!r} is no list")
    return value


def _subtitles(text: str) -> Cells:
    """Return the cues of SubRip or WebVTT as rows; tags such as <i> and {\\an8} are dropped."""
    rows: Cells = [HEADER]
    for cue in re.split(r"\n\s*\n", text):
        match = CUE.search(cue)
        if match:
            cue_text = cue[match.end() :].partition("\n")[2]
            rows.append([*match.groups(), re.sub(r"<[^>]*>|\{\\[^}]*\}", "", cue_text)])
    return rows


def _textgrid(text: str) -> Cells:
    """Return the intervals with text of the tier of words, else of the first tier."""
    begins = [match.start() for match in ITEM.finditer(text)]
    tiers: list[tuple[str, Cells]] = []
    for start, stop in zip(begins, [*begins[1:], len(text)], strict=True):
        head = TIER.match(text, start)
        if head is None:
            continue
        intervals = INTERVAL.findall(text[head.end() : stop])
        rows: Cells = [
            [a, b, interval_text.replace('""', '"')] for a, b, interval_text in intervals if interval_text.strip()
        ]
        tiers.append((head[1], rows))
    return [HEADER, *_spoken(tiers)]


def _elan(text: str) -> Cells:
    """Return the annotations of the tier of words, else of the first tier that has times."""
    root = ElementTree.fromstring(text)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    tiers: list[tuple[str, Cells]] = []
    for tier in root.iter("TIER"):
        rows: Cells = []
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            ends = [times.get(annotation.get(f"TIME_SLOT_REF{n}")) for n in (1, 2)]
            value = annotation.findtext("ANNOTATION_VALUE") or ""
            if value.strip() and None not in ends:
                rows.append([*(int(end or 0) / 1000.0 for end in ends), value])
        tiers.append((tier.get("TIER_ID", ""), rows))
    return [HEADER, *_spoken(tiers)]


def _spoken(tiers: Sequence[tuple[str, Cells]]) -> Cells:
    nonempty_tiers = [(name, rows) for name, rows in tiers if rows]
    return next(
        (rows for name, rows in nonempty_tiers if WORDS.search(name)), nonempty_tiers[0][1] if nonempty_tiers else []
    )
