"""Annotations in every form in which labs keep them are read at the same seconds."""

from __future__ import annotations

import csv
import json
from datetime import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xlsxwriter

from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.stimulus.features import labels_at
from giblet_train.schema.errors import DataError

WORDS = tuple((2.0 + 2.3 * n, 0.4, f"word{n}") for n in range(30))
TR_S = 1.5


def stamp(second: float, separator: str = ".", hours: bool = True) -> str:
    milliseconds = round(1000 * second)
    minutes, rest = divmod(milliseconds, 60_000)
    clock = f"{minutes:02d}:{rest // 1000:02d}{separator}{rest % 1000:03d}"
    return f"00:{clock}" if hours else clock


def table(head: str, separator: str, row: str) -> str:
    cells = [{"a": t, "b": t + d, "d": d, "w": w, "A": stamp(t), "B": stamp(t + d, hours=False)} for t, d, w in WORDS]
    return "\n".join([head, *(row.format(**c, ms=round(1000 * c["a"]), me=round(1000 * c["b"])) for c in cells), ""])


def praat(short: bool) -> str:
    intervals = [(0.0, WORDS[0][0], ""), *((t, t + d, w) for t, d, w in WORDS)]
    if short:
        rows = "".join(f'{a}\n{b}\n"{w}"\n' for a, b, w in intervals)
        head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n99\n<exists>\n2\n'
        return f'{head}"IntervalTier"\n"phones"\n0\n99\n1\n0\n99\n"p"\n"IntervalTier"\n"words"\n0\n99\n31\n{rows}'
    rows = "".join(
        f'        intervals [{n}]:\n            xmin = {a} \n            xmax = {b} \n            text = "{w}" \n'
        for n, (a, b, w) in enumerate(intervals, 1)
    )
    tier = '    item [1]:\n        class = "IntervalTier" \n        name = "words" \n        xmin = 0 \n'
    return f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = 99 \nitem []:\n{tier}{rows}'


def elan() -> str:
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="a{n}" TIME_VALUE="{round(1000 * t)}"/>'
        f'<TIME_SLOT TIME_SLOT_ID="b{n}" TIME_VALUE="{round(1000 * (t + d))}"/>'
        for n, (t, d, _) in enumerate(WORDS)
    )
    rows = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a{n}" TIME_SLOT_REF2="b{n}">'
        f"<ANNOTATION_VALUE>{w}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for n, (_, _, w) in enumerate(WORDS)
    )
    tiers = f'<TIER TIER_ID="notes"/><TIER TIER_ID="x">{rows}</TIER>'
    return f'<?xml version="1.0"?><D><TIME_ORDER>{slots}</TIME_ORDER>{tiers}</D>'


def cues(separator: str) -> str:
    return "".join(
        f"{n}\n{stamp(t, separator)} --> {stamp(t + d, separator)} align:start\n<i>{w}</i>{{\\an8}}\n\n"
        for n, (t, d, w) in enumerate(WORDS, 1)
    )


def spoken(key: str) -> list[dict[str, object]]:
    return [{key: f" {w}", "start": t, "end": t + d} for t, d, w in WORDS]


def lists_per_tr() -> str:
    pairs = [WORDS[n : n + 2] for n in range(0, len(WORDS), 2)]
    rows = ["\t".join(str([word[place] for word in pair]) for place in (2, 0, 1)) for pair in pairs]
    return "\n".join(["words_per_tr\tonsets_per_tr\tdurations_per_tr", "[]\t[]\t[]", *rows, ""])


FORMS: dict[str, tuple[str, str]] = {
    "aligned.csv": (table("word,word,onset,offset", ",", "{w},{w},{a},{b}"), "utf-8"),
    "no_header.csv": ("\n".join(f"{w},{w},{t},{t + d}" for t, d, w in WORDS), "utf-8"),
    "audacity.txt": ("\n".join(f"{t}\t{t + d}\t{w}" for t, d, w in WORDS), "utf-8"),
    "german.csv": (table("Start;End;Text", ";", "{a};{b};{w}").replace(".", ","), "utf-8-sig"),
    "plain.csv": (table("start,end,text", ",", "{a},{b},{w}"), "utf-8"),
    "clock.csv": (table("start_s,end_s,detail", ",", "{A},{B},{w}"), "utf-8"),
    "excel_text.csv": (table("start_s\tend_s\tdetail", "\t", "{a}\t{b}\t{w}"), "utf-16"),
    "mac.csv": (table("start_s,end_s,detail", ",", "{a},{b},{w}").replace("\n", "\r"), "utf-8"),
    "events.tsv": (table("onset\tduration\ttrial_type\toffset", "\t", "{a}\t{d}\t{w}\tn/a"), "utf-8"),
    "events.csv": (table("onset,duration,trial_type", ",", "{a},{d},{w}"), "utf-8"),
    "elan_seconds.tsv": (
        table("Begin Time - ss.msec\tEnd Time - ss.msec\tDuration - ss.msec\twords", "\t", "{a}\t{b}\t{d}\t{w}"),
        "utf-8",
    ),
    "elan_ms.tsv": (table("Begin Time - msec\tEnd Time - msec\twords", "\t", "{ms}\t{me}\t{w}"), "utf-8"),
    "words.srt": (cues(",").replace("\n", "\r\n"), "utf-8-sig"),
    "words.vtt": ("WEBVTT\n\nNOTE nothing\n\n" + cues("."), "utf-8"),
    "long.TextGrid": (praat(short=False), "utf-16"),
    "short.TextGrid": (praat(short=True), "utf-8"),
    "words.eaf": (elan(), "utf-8"),
    "recogniser.json": (
        json.dumps({"segments": [{"text": "all", "start": 0, "end": 99, "words": spoken("word")}]}),
        "utf-8",
    ),
    "aligner.json": (json.dumps({"words": [*spoken("word"), {"word": "lost"}]}), "utf-8"),
    "sentences.json": (json.dumps(spoken("text")), "utf-8"),
    "per_tr.tsv": (lists_per_tr(), "utf-8"),
}


@pytest.mark.parametrize("name", FORMS)
def test_words_are_at_their_seconds(name: str, tmp_path: Path) -> None:
    text, encoding = FORMS[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    segments = read_annotations(tmp_path / name, TR_S).segments
    assert [s.detail for s in segments] == [w for _, _, w in WORDS]
    np.testing.assert_allclose([s.start_s for s in segments], [t for t, _, _ in WORDS], atol=1e-3)
    np.testing.assert_allclose([s.end_s for s in segments], [t + d for t, d, _ in WORDS], atol=1e-3)


@pytest.mark.parametrize("kind", ["german", "title", "times", "gaps"])
def test_workbooks_of_other_labs_are_read(kind: str, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        sheet, clock = book.add_worksheet("Tabelle1"), book.add_format({"num_format": "hh:mm:ss.000"})
        first = 2 if kind == "title" else 0
        if first:
            sheet.write(0, 0, "Annotations of the film, second rater")
        sheet.write_row(first, 0, ["Start (s)", "End (s)", "Description"])
        for n, (t, d, w) in enumerate(WORDS, first + 1):
            row = 2 * n if kind == "gaps" else n
            cells: list[object] = [t, t + d]
            if kind == "german":
                cells = [f"{second:.2f}".replace(".", ",") for second in (t, t + d)]
            for column, cell in enumerate(cells):
                if kind == "times":
                    sheet.write_number(row, column, float(str(cell)) / 86400, clock)
                else:
                    sheet.write(row, column, cell)
            sheet.write(row, 2, w)
    segments = read_annotations(tmp_path / "a.xlsx", TR_S).segments
    assert [s.detail for s in segments] == [w for _, _, w in WORDS]
    np.testing.assert_allclose([s.start_s for s in segments], [t for t, _, _ in WORDS], atol=2e-3)


def test_a_time_of_day_counts_from_midnight(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        sheet, clock = book.add_worksheet(), book.add_format({"num_format": "hh:mm:ss"})
        sheet.write_row(0, 0, ["start", "end", "text"])
        for n, second in enumerate((62, 125), 1):
            sheet.write_datetime(n, 0, time(0, second // 60, second % 60), clock)
            sheet.write_datetime(n, 1, time(0, second // 60, second % 60 + 1), clock)
            sheet.write(n, 2, "a shot")
    assert [s.start_s for s in read_annotations(tmp_path / "a.xlsx", TR_S).segments] == pytest.approx(
        [62, 125], abs=0.01
    )


def test_rows_may_be_in_any_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(WORDS))
    rows = [f"{WORDS[n][0]},{WORDS[n][0] + 3.0},{WORDS[n][2]}" for n in order]
    (tmp_path / "a.csv").write_text("\n".join(["start_s,end_s,detail", *rows]))
    segments = read_annotations(tmp_path / "a.csv", TR_S, (100,))
    assert [s.detail for s in segments.segments] == [w for _, _, w in WORDS]
    assert "were not in order of time" in segments.notes[0]


def test_a_table_without_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,label\n2.0,a\n")
    with pytest.raises(DataError, match="no column for the start, the end or the duration; it has 'time', 'label'"):
        read_annotations(tmp_path / "a.csv", TR_S)


@pytest.mark.parametrize("onsets", [["1,234", "1,240"], ["2.5", "1,234"], ["1,5", "2.5", "1,234"]])
def test_a_comma_that_may_separate_thousands_is_refused_with_its_row(tmp_path: Path, onsets: list[str]) -> None:
    pd.DataFrame({"onset": onsets, "duration": 2, "text": "a"}).to_csv(tmp_path / "a.csv", index=False)
    row = onsets.index("1,234") + 2
    with pytest.raises(DataError, match=f"row {row}: onset is '1,234', which may be 1.234 or 1234") as error:
        read_annotations(tmp_path / "a.csv", TR_S)
    assert "nothing between thousands" in error.value.remedy


@pytest.mark.parametrize(("separator", "onsets"), [(";", [1.234, 1.24]), ("\t", [1.234, 12.345]), (",", [0.5, 1.234])])
def test_decimal_commas_are_read_where_they_can_be_nothing_else(
    tmp_path: Path, separator: str, onsets: list[float]
) -> None:
    frame = pd.DataFrame({"onset": onsets, "duration": 2, "text": ["1,000 dogs", "b"]})
    frame.to_csv(tmp_path / "a.csv", sep=separator, decimal=",", index=False)
    segments = read_annotations(tmp_path / "a.csv", TR_S).segments
    assert [s.start_s for s in segments] == pd.read_csv(tmp_path / "a.csv", sep=separator, decimal=",")[
        "onset"
    ].tolist()


QUOTES = ['"I think', 'so," he said', '"No"', "then"]


def test_an_open_quotation_mark_between_tabs_hides_no_row(tmp_path: Path) -> None:
    rows = ["onset\tduration\ttrial_type", *(f"{n}.5\t0.5\t{words}" for n, words in enumerate(QUOTES))]
    (tmp_path / "a.tsv").write_text("\n".join(rows) + "\n")
    segments = read_annotations(tmp_path / "a.tsv", TR_S).segments
    events = pd.read_csv(tmp_path / "a.tsv", sep="\t", quoting=csv.QUOTE_NONE)
    assert [s.start_s for s in segments] == events["onset"].tolist()
    assert [s.detail for s in segments] == [QUOTES[0], QUOTES[1], "No", QUOTES[3]]


@pytest.mark.parametrize("words", [['"I think', "so"], ['"I think', 'so," he said'], ['"I think', 'so"']])
def test_an_open_quotation_mark_between_commas_is_refused_with_its_row(tmp_path: Path, words: list[str]) -> None:
    rows = ["onset,duration,text", *(f"{n},0.5,{word}" for n, word in enumerate(["first", *words, "last"]))]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="row 3: a quotation mark is not closed"):
        read_annotations(tmp_path / "a.csv", TR_S)


def test_lines_within_quotation_marks_are_one_text(tmp_path: Path) -> None:
    texts = ["a dog,\nand 5, 6, 7", 'she says: "no,\n\nnever"', "end"]
    frame = pd.DataFrame({"onset": [0.5, 1.5, 2.5], "duration": 1, "text": texts})
    for name, separator in (("a.csv", ","), ("b.csv", ";"), ("c.tsv", "\t")):
        frame.to_csv(tmp_path / name, sep=separator, index=False)
        segments = read_annotations(tmp_path / name, TR_S).segments
        assert [s.detail for s in segments] == [" ".join(text.split()) for text in texts]


def test_a_short_word_is_the_label_of_its_tr(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(FORMS["plain.csv"][0])
    labels = labels_at(read_annotations(tmp_path / "a.csv", TR_S).segments, 0.0, 50, TR_S)
    inside = [(int(t // TR_S), w) for t, d, w in WORDS if (t + d) // TR_S == t // TR_S]
    assert len(inside) > 20 and all(labels[tr] == w for tr, w in inside)


def test_subtitles_in_the_windows_encoding_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes("1\n00:00:01,000 --> 00:00:02,000\nGrüße\n\n".encode("cp1252"))
    assert [s.detail for s in read_annotations(tmp_path / "a.srt", TR_S).segments] == ["Grüße"]


@pytest.mark.parametrize("content", [b"\x00\x9f\x01 film", b"\x81\x8d text"])
def test_what_is_no_text_in_any_encoding_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(content)
    with pytest.raises(DataError, match="is not a workbook, table"):
        read_annotations(tmp_path / "a.srt", TR_S)
