"""Read logs that are tables or JSON documents: metrics.csv, results.csv, CSVLogger files, trainer_state.json."""

from __future__ import annotations

import csv
import json
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from giblet_train.diagnosis.log_reader.end_patterns import is_message_of_program
from giblet_train.diagnosis.log_reader.key_names import quantity_of, words_of
from giblet_train.diagnosis.log_reader.metric_names import is_metric
from giblet_train.diagnosis.log_reader.number_format import parse_number, uses_decimal_comma
from giblet_train.diagnosis.log_reader.reader import LogReader
from giblet_train.diagnosis.log_reader.screen_table import is_no_name, names_losses

SEPARATORS = ",;\t"
MAX_CELLS = 2000


def separator_of(header: str) -> str:
    """Return the separator of a table of metrics, judged by its header; empty if the line is not such a header."""
    for separator in SEPARATORS:
        names = [name.strip().strip("\"'") for name in header.strip().split(separator)]
        if (
            2 <= len(names) <= MAX_CELLS
            and all(map(_is_name, names))
            and (names_losses(names) or _names_metrics(names))
        ):
            return separator
    return ""


def read_table(lines: Iterable[str], reader: LogReader) -> None:
    """Read a table whose first line names its columns. A repeated header is skipped, as after a resumed training."""
    rows = iter(lines)
    header = next(rows, "")
    separator = separator_of(header)
    names = [name.strip().strip("\"'") for name in next(csv.reader([header], delimiter=separator))]
    decimal_comma_possible = separator != ","
    n_before, short_row = 0, ""
    for line in rows:
        cells = next(csv.reader([line], delimiter=separator), [])
        if not _is_row(line, cells, names):
            reader.feed(line)
            continue
        if short_row:
            n_before = 0  # rows differ in length: none is known to be cut off
        is_short, short_row = len(cells) < n_before, ""
        if is_short:
            short_row = line
            continue
        n_before = len(cells)
        record = {name: cell.strip() for name, cell in zip(names, cells) if cell.strip() and cell.strip() != name}
        if decimal_comma_possible and uses_decimal_comma(record.values()):
            reader.learn_comma(" ".join(record.values()))
        if record:
            reader.feed_record(_with_whole_epoch(record))
    if short_row:
        reader.note_cut_row(short_row)


def read_json_history(document: Any, reader: LogReader) -> bool:
    """Read a JSON document that holds a history of records, such as trainer_state.json. Return False if it does not."""
    history = _history(document)
    if history is None:
        return False
    for record in history:
        reader.feed_record(record)
    if isinstance(document, dict) and isinstance(document.get("max_steps"), int):
        reader.table.n_steps = max(0, document["max_steps"])
    return True


def load_json(text: str) -> Optional[Any]:
    """Return a text as JSON; None if it is not one document."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _history(document: Any) -> Optional[List[Dict[str, Any]]]:
    if isinstance(document, dict) and isinstance(document.get("log_history"), list):
        document = document["log_history"]
    elif isinstance(document, dict):
        return list(_columns(document)) or None
    if isinstance(document, list) and document and all(isinstance(record, dict) for record in document):
        return document
    return None


def _columns(document: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Yield the epochs of a dict of columns, such as {"loss": [1.2, 1.1], "val_loss": [1.4, 1.3]} (Keras history)."""
    columns = {name: item for name, item in document.items() if isinstance(item, list) and _is_loss(name)}
    length = max((len(column) for column in columns.values()), default=0)
    for epoch in range(length):
        record: Dict[str, Any] = {name: column[epoch] for name, column in columns.items() if epoch < len(column)}
        yield {"epoch": epoch, **record}


def _with_whole_epoch(record: Dict[str, str]) -> Dict[str, str]:
    """Write an epoch such as `3.0`, which a table with gaps contains, as `3`."""
    rows: List[Tuple[str, str]] = []
    for name, cell in record.items():
        if words_of(name)[-1:] == ("epoch",) and cell.endswith(".0"):
            rows.append((name, cell[:-2]))
    return {**record, **dict(rows)}


def _is_row(line: str, cells: Sequence[str], names: Sequence[str]) -> bool:
    """Return False for a line that another program printed between or below the rows of a table."""
    numbers = [parse_number(cell.strip()) is not None for cell in cells]
    if not numbers or len(cells) > len(names):
        return False
    is_whole = len(cells) == len(names) and (any(numbers) or list(map(str.strip, cells)) == list(names))
    begins = numbers[0] or (not cells[0].strip() and any(numbers))
    return (is_whole and not is_message_of_program(line)) or (begins and len(cells) > 1)


def _is_name(name: str) -> bool:
    is_short = any(map(str.isalpha, name)) and len(name) < 100
    return is_short and not any(mark in name for mark in "=:|{}") and not is_no_name(name)


def _names_metrics(names: Sequence[str]) -> bool:
    """Return True for columns of a counter and of metrics, such as `epoch,train_acc,val_acc`."""
    return words_of(names[0])[-1:] in (("epoch",), ("step",)) and any(map(is_metric, names))


def _is_loss(name: str) -> bool:
    quantity = quantity_of(name)
    return quantity is not None and quantity.kind == "loss"
