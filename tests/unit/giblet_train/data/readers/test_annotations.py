"""Annotations on one timeline: what the lab's workbook says, and what is refused."""

from dataclasses import replace

import pytest
import python_calamine
import xlsxwriter

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import check_unit, read_annotations
from giblet_train.data.readers.lab_workbook import HEADERS, SHEET, write_annotations
from giblet_train.schema.errors import DataError

TR_S = 1.5
SCANS = (4, 4)
SEGMENTS = (
    Segment(0.0, 2.5, "A rabbit wakes.", "Rabbit", "Burrow", scene="1 Dawn", music="No"),
    Segment(2.5, 6.25, "=A bird falls", "", "Branch", words_on_screen="THE END"),
    Segment(6.25, 9.0, "Three rodents laugh.", "Frank, Rinky, Gimera"),
    Segment(9.0, 12.0, "The rabbit sees them.", "Rabbit", "Meadow"),
)


def book(path, rows, header=HEADERS, sheet=SHEET):
    with xlsxwriter.Workbook(path) as file:
        page = file.add_worksheet(sheet)
        page.write_row(0, 0, header)
        for n, row in enumerate(rows, 1):
            page.write_row(n, 0, row)
    return path


def row(start_s, end_s, text, first_tr="", names="", location=""):
    return [1, start_s, end_s, first_tr, "", "", text, "", names, "", "", location]


def test_the_workbook_has_the_labs_shape(tmp_path):
    write_annotations(tmp_path / "a.xlsx", SEGMENTS, TR_S, SCANS)
    workbook = python_calamine.CalamineWorkbook.from_path(tmp_path / "a.xlsx")
    table = workbook.get_sheet_by_name("Segments").to_python()
    assert table[0] == [
        *["Segment Number", "Start Time (s) ", "End Time (s) ", "Start Time (TRs, 1.5s)", "End Time (TRs, 1.5s)"],
        *["Scene Segments", "Scene Details - A Level ", "Space-In/Outdoor", "Name - All", "Name - Focus"],
        *["Name - Speaking", "Location", "Camera Angle", "Music Presence ", "Words on Screen "],
        *[f"Arousal - Rater {n}" for n in (1, 2, 3, 4)],
        *[f"Valence - Rater {n}" for n in (1, 2, 3, 4)],
    ]
    assert len(table[0]) == 23
    assert [r[1:5] for r in table[1:]] == [[0, 2.5, 1, 2], [2.5, 6.25, 2, 5], [0.25, 3, 5, 6], [3, 6, 7, 8]]


def test_what_is_written_is_read_again_on_one_timeline(tmp_path):
    write_annotations(tmp_path / "a.xlsx", SEGMENTS, TR_S, SCANS)
    annotations = read_annotations(tmp_path / "a.xlsx", TR_S, SCANS)
    assert annotations.segments == SEGMENTS
    assert annotations.notes == ()
    assert annotations.segments[0].text == "A rabbit wakes.; Rabbit; Burrow"
    assert annotations.segments[2].text == "Three rodents laugh.; Frank, Rinky, Gimera"


def test_the_same_segments_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_annotations(tmp_path / f"{name}.xlsx", SEGMENTS, TR_S, SCANS)
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    write_annotations(tmp_path / "b.xlsx", [replace(SEGMENTS[0], detail="It sleeps.")], TR_S, SCANS)
    assert (tmp_path / "a.xlsx").read_bytes() != (tmp_path / "b.xlsx").read_bytes()


def test_seconds_that_restart_need_the_lengths_of_the_scans(tmp_path):
    path = book(tmp_path / "a.xlsx", [row(0, 3, "one", 1), row(3, 6, "two", 3), row(0, 2, "three", 5)])
    with pytest.raises(DataError, match=r"row 4: the seconds restart at 0 s, but data\.scan_lengths_trs is not given"):
        read_annotations(path, TR_S)
    assert [s.start_s for s in read_annotations(path, TR_S, SCANS).segments] == [0, 3, 6]
    with pytest.raises(DataError, match=r"its TR column puts at TR 5 \(6 s\) and data\.scan_lengths_trs at 15 s"):
        read_annotations(path, TR_S, (10, 4))
    again = book(tmp_path / "b.xlsx", [row(0, 3, "one"), row(3, 6, "two"), row(0, 2, "three"), row(2, 5, "four"),
                                       row(0, 1, "five"), row(1, 2, "six")])  # fmt: skip
    with pytest.raises(DataError, match="there are only 2 scans"):
        read_annotations(again, TR_S, SCANS)


def test_rows_out_of_order_within_a_scan_are_no_restart(tmp_path):
    path = book(tmp_path / "a.xlsx", [row(0, 3, "one", 1), row(9, 12, "three", 7), row(3, 9, "two", 3)])
    assert [s.detail for s in read_annotations(path, TR_S).segments] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("scan_lengths", "places"),
    [
        *[(None, [3]), (None, [10]), (None, [18]), (None, list(range(19, -1, -1)))],
        *[((36, 36), [3]), ((36, 36), [10]), ((36, 36), [3, 17]), ((36, 36), list(range(19, -1, -1)))],
    ],
)
def test_rows_in_any_order_are_read_at_their_own_seconds(tmp_path, scan_lengths, places):
    """20 rows over two scans of 54 s whose seconds run on; some rows are written in another place of the file."""
    in_order = [row(5.0 * n, 5.0 * n + 5, f"event {n}") for n in range(20)]
    rows = [r for n, r in enumerate(in_order) if n not in places] + [in_order[n] for n in places]
    annotations = read_annotations(book(tmp_path / "a.xlsx", rows), TR_S, scan_lengths)
    assert [(s.start_s, s.detail) for s in annotations.segments] == [(5.0 * n, f"event {n}") for n in range(20)]
    assert any("not in order of time" in note for note in annotations.notes) == (rows != in_order)


def test_a_row_out_of_order_in_the_second_scan_stays_in_it(tmp_path):
    rows = [row(0, 3, "one", 1), row(3, 6, "two", 3), row(0, 2, "three", 5), row(4, 6, "five", 7), row(2, 4, "four", 6)]
    annotations = read_annotations(book(tmp_path / "a.xlsx", rows), TR_S, SCANS)
    assert [(s.start_s, s.detail) for s in annotations.segments] == [
        *[(0, "one"), (3, "two"), (6, "three"), (8, "four"), (10, "five")]
    ]


def test_an_onset_before_the_film_is_no_restart(tmp_path):
    annotations = read_annotations(
        book(tmp_path / "a.xlsx", [row(-6, -3, "cue"), row(0, 3, "one"), row(3, 6, "two")]), TR_S
    )
    assert [s.start_s for s in annotations.segments] == [-6, 0, 3]


def test_events_and_words_without_a_duration_last_a_moment(tmp_path):
    (tmp_path / "events.tsv").write_text("onset\tduration\tword\n0.5\t0\thello\n1.2\tn/a\tworld\n2.0\t0.4\tagain\n")
    annotations = read_annotations(tmp_path / "events.tsv", TR_S)
    assert [(s.start_s, s.end_s, s.text) for s in annotations.segments] == [
        *[(0.5, 0.6, "hello"), (1.2, 1.3, "world"), (2.0, 2.4, "again")]
    ]
    assert "2 annotations have no duration" in annotations.notes[0]


def test_formulas_without_values_are_refused(tmp_path):
    with pytest.raises(DataError, match="start and end at 0 s") as error:
        read_annotations(book(tmp_path / "a.xlsx", [row(0, 0, "one"), row(0, 0, "two")]), TR_S)
    assert "formulas" in error.value.remedy


@pytest.mark.parametrize(
    ("factor", "unit"), [(1000, "milliseconds"), (24, "frames"), (1 / 86400, "times of day"), (1, None)]
)
def test_times_in_another_unit_are_refused_by_name(factor, unit):
    segments = [Segment(5.0 * n * factor, 5.0 * (n + 1) * factor, f"event {n}") for n in range(22)]
    if unit is None:
        check_unit(segments, 114.0, 100.0, "a.csv")
        check_unit(segments, 40.0, 120.0, "annotations of a second film part")
        return
    with pytest.raises(DataError, match=unit):
        check_unit(segments, 114.0, 100.0, "a.csv")


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_csv_may_be_separated_by_semicolons_or_tabs(tmp_path, separator):
    lines = ["start_s,end_s,detail", "0,1.5,A dog", "1.5,3,A cat"]
    (tmp_path / "a.csv").write_text("\n".join(lines).replace(",", separator))
    assert [s.text for s in read_annotations(tmp_path / "a.csv", TR_S).segments] == ["A dog", "A cat"]


def test_subtitles_are_read(tmp_path):
    (tmp_path / "a.srt").write_text(
        "1\r\n00:00:01,500 --> 00:00:03,000\r\n<i>Hello</i>\r\nthere\r\n\r\n"
        "2\r\n01:00:00,000 --> 01:00:01,250\r\nBye\r\n"
    )
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n00:01.500 --> 00:03.000 align:start\nHello\nthere\n\n01:00:00.000 --> 01:00:01.250\nBye\n"
    )
    for name in ("a.srt", "a.vtt"):
        annotations = read_annotations(tmp_path / name, TR_S)
        assert [(s.start_s, s.end_s, s.text) for s in annotations.segments] == [
            (1.5, 3.0, "Hello there"),
            (3600, 3601.25, "Bye"),
        ]


def test_duplicates_are_taken_once_and_counted(tmp_path):
    path = book(tmp_path / "a.xlsx", [row(0, 3, "one"), row(3, 6, "two"), row(0, 3, "one"), row(3, 6, "two"),
                                      row(3, 6, "other")])  # fmt: skip
    annotations = read_annotations(path, TR_S)
    assert [s.detail for s in annotations.segments] == ["one", "two", "other"]
    assert annotations.notes == ("2 duplicate annotations are left out.",)


def test_a_missing_column_is_named_with_those_found(tmp_path):
    path = book(tmp_path / "a.xlsx", [], header=["Start Time (s) ", "End Time (s) ", "Name - All"])
    with pytest.raises(DataError) as error:
        read_annotations(path, TR_S)
    assert "no column for the text; it has 'Start Time (s)', 'End Time (s)', 'Name - All'" in str(error)


@pytest.mark.parametrize("kind", ["lab", "fields"])
def test_a_csv_is_read_too(tmp_path, kind):
    header = {
        "lab": "Start Time (s) ,End Time (s) ,Scene Details - A Level ,Name - All,Location",
        "fields": "start_s,end_s,detail,names_all,location",
    }[kind]
    (tmp_path / "a.csv").write_text(f'\ufeff{header}\r\n0,1.5,"A dog,\nbarking",Dog,\r\n\r\n1.5,3,"It stops",,Yard\r\n')
    assert [s.text for s in read_annotations(tmp_path / "a.csv", TR_S).segments] == [
        "A dog, barking; Dog",
        "It stops; Yard",
    ]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (row("soon", 3, "one"), r"row 2: Start Time \(s\) is 'soon', which is no number"),
        (row(5, 3, "one"), "row 2: the segment ends at 3 s, before it starts at 5 s"),
    ],
)
def test_bad_times_are_refused_with_their_row(tmp_path, cells, says):
    with pytest.raises(DataError, match=says):
        read_annotations(book(tmp_path / "a.xlsx", [cells]), TR_S)


def test_files_that_are_no_annotations_are_refused_in_words(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as two_sheets:
        two_sheets.add_worksheet("Notes")
        two_sheets.add_worksheet("More")
    with pytest.raises(DataError, match='no sheet "Segments"; it has Notes, More'):
        read_annotations(tmp_path / "a.xlsx", TR_S)
    with pytest.raises(DataError, match="no annotated segment"):
        read_annotations(book(tmp_path / "b.xlsx", []), TR_S)
    (tmp_path / "c.xlsx").write_bytes(b"PK\x03\x04 not a workbook")
    with pytest.raises(DataError, match="is not a workbook"):
        read_annotations(tmp_path / "c.xlsx", TR_S)
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path / "none.xlsx", TR_S)
    with pytest.raises(DataError, match="cannot be read"):
        read_annotations(tmp_path / "none.csv", TR_S)
