"""The table of runs and the rows that it leads to."""

from pathlib import Path

import pandas as pd
import pytest

from giblet_train.data.readers.row_plan import plan_rows
from giblet_train.data.readers.runs_table import Presentation, RunEntry, format_runs_table, read_runs_table
from giblet_train.schema.errors import DataError

TR_S = 1.5
FILMS_S = {"a": 60.0, "b": 45.0}


def run(subject, *shown, name="1"):
    """Return a run of 40 volumes; shown: (stimulus, onset_s, start_s, duration_s)."""
    presentations = tuple(Presentation(*item) for item in shown)
    return RunEntry(f"sub-{subject}", Path(f"{subject}_{name}.nii.gz"), run=name, presentations=presentations)


def plan(*runs, n_trs=40, **options):
    return plan_rows(runs, {str(r.bold): n_trs for r in runs}, FILMS_S, TR_S, **options)


def seconds_of(rows, subject):
    """Return (stimulus, second, volume) of each volume of a subject, by its rows."""
    second_by_row = {}
    for span in rows.spans:
        second_by_row |= {span.first + n: (span.stimulus, span.start_s + n * TR_S) for n in range(span.n_trs)}
    return [
        (*second_by_row[piece.first_row + n], piece.run.run, piece.first_volume + n)
        for piece in rows.pieces[f"sub-{subject}"]
        for n in range(piece.n_trs)
    ]


def test_one_run_each_is_one_block():
    rows = plan(run("1", ("a", 0.0)), run("2", ("a", 0.0)))
    assert rows.block_lengths_trs == (40,)
    assert [(s.stimulus, s.first, s.n_trs, s.start_s) for s in rows.spans] == [("a", 0, 40, 0.0)]
    assert seconds_of(rows, "1") == [("a", 1.5 * n, "1", n) for n in range(40)]


def test_a_fixation_before_each_run_moves_each_by_itself():
    """8 TRs of fixation in both runs: the defect of one offset for all runs."""
    rows = plan(run("1", ("a", 12.0), name="1"), run("1", ("b", 12.0), name="2"))
    assert rows.block_lengths_trs == (32, 30)
    assert ("b", 45.0 - 1.5 * 3, "2", 8 + 27) in seconds_of(rows, "1")
    assert seconds_of(rows, "1")[0] == ("a", 0.0, "1", 8)


def test_subjects_cropped_differently_share_the_rows_of_the_same_seconds():
    rows = plan(run("1", ("a", 0.0)), run("2", ("a", -9.0)))
    assert rows.block_lengths_trs == (40,)
    assert [(p.first_volume, p.n_trs, p.first_row) for p in rows.pieces["sub-2"]] == [(0, 34, 6)]
    assert seconds_of(rows, "2")[0] == ("a", 9.0, "1", 0)


@pytest.mark.parametrize(("onset_s", "n_blocks", "is_noted"), [(3.0, 1, False), (3.3, 1, True), (3.6, 2, False)])
def test_clocks_are_shared_up_to_a_quarter_of_a_tr(onset_s, n_blocks, is_noted):
    rows = plan(run("1", ("a", 0.0)), run("2", ("a", onset_s)))
    assert len(rows.block_lengths_trs) == n_blocks
    assert any("rounded" in note for note in rows.notes) == is_noted


def test_clips_with_rest_between_them_are_one_block_with_empty_rows():
    rows = plan(*(run(s, ("a", 6.0, 10.0, 15.0), ("b", 30.0, 0.0, 12.0)) for s in "12"))
    assert rows.block_lengths_trs == (24,)
    assert [(s.stimulus, s.first, s.n_trs, s.start_s) for s in rows.spans] == [("a", 0, 10, 10.0), ("b", 16, 8, 0.0)]
    assert seconds_of(rows, "2")[10] == ("b", 0.0, "1", 20)


def test_subjects_with_different_films_and_missing_runs_keep_their_data():
    rows = plan(
        run("1", ("a", 0.0), name="1"), run("1", ("b", 0.0), name="2"), run("2", ("b", 0.0)), run("3", ("a", 0.0))
    )
    assert rows.block_names == ("a", "b")
    assert {s: [(p.first_row, p.n_trs) for p in pieces] for s, pieces in rows.pieces.items()} == {
        "sub-1": [(0, 40), (40, 30)],
        "sub-2": [(40, 30)],
        "sub-3": [(0, 40)],
    }


def test_a_repeat_has_rows_of_its_own_with_the_same_seconds():
    rows = plan(run("1", ("a", 0.0), name="1"), run("1", ("a", 0.0), name="2"), run("2", ("a", 0.0)))
    assert rows.block_lengths_trs == (40, 40)
    assert [s.start_s for s in rows.spans] == [0.0, 0.0]
    assert [p.first_row for p in rows.pieces["sub-2"]] == [0]


def test_parts_of_one_film_with_an_overlap_are_two_blocks_whoever_lacks_the_first():
    parts = (("a", 0.0, 0.0, 33.0), ("a", 0.0, 27.0, 33.0))
    rows = plan(
        run("2", parts[1], name="2"), run("1", parts[0], name="1"), run("1", parts[1], name="2"), run("3", parts[0])
    )
    assert sorted(rows.block_lengths_trs) == [22, 22]
    assert [p.first_row for p in rows.pieces["sub-2"]] == [
        p.first_row for p in rows.pieces["sub-1"] if p.run.run == "2"
    ]
    assert seconds_of(rows, "2")[0][:2] == ("a", 27.0)


def test_dropped_volumes_leave_the_clock_of_the_others():
    rows = plan(run("1", ("a", 0.0)), drop=4)
    assert seconds_of(rows, "1")[0] == ("a", 6.0, "1", 4)


def test_runs_without_stimulus_and_stimuli_without_viewers_are_noted():
    rows = plan(run("1", ("a", 0.0), name="1"), run("1", name="2"))
    assert rows.notes == ("sub-1 run-2 has no stimulus; it is not used.", "Nobody saw b.")


@pytest.mark.parametrize(
    ("presentations", "sentence"),
    [
        ([("a", 0.0, 61.0)], "lasts 60.0 s and cannot start at 61 s"),
        ([("a", 0.0, 30.0, 40.0)], "reach beyond the end of a at 60.0 s"),
        ([("a", 70.0)], "covers no volume of the scan, which lasts 60 s"),
        ([("a", 0.0, 0.0, 30.0), ("b", 21.0)], "before the presentation before it ends at 30 s"),
    ],
)
def test_impossible_presentations_are_refused_with_their_row(presentations, sentence):
    entry = run("1", *((*item, *(0.0, None)[len(item) - 2 :], 7) for item in presentations))
    with pytest.raises(DataError, match=sentence) as error:
        plan(entry)
    assert "row 7 of the table of runs" in str(error.value)


def write(folder, *rows, header="subject\tbold\tstimulus\tscan_onset_s"):
    path = folder / "runs.tsv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_is_read_and_written_back(tmp_path):
    (tmp_path / "x.nii.gz").touch()
    (tmp_path / "y.nii.gz").touch()
    path = write(tmp_path, "sid01\tx.nii.gz\ta\t3", "sid01\tx.nii.gz\tb\t40.5", "02\ty.nii.gz\t.\tn/a")
    runs = read_runs_table(path, tmp_path, ["a", "b"])
    assert [(r.subject, [(p.stimulus, p.onset_s, p.row) for p in r.presentations]) for r in runs] == [
        ("sub-sid01", [("a", 3.0, 2), ("b", 40.5, 3)]),
        ("sub-02", []),
    ]
    (tmp_path / "again.tsv").write_text(format_runs_table(runs, tmp_path))
    assert read_runs_table(tmp_path / "again.tsv", tmp_path, ["a", "b"]) == runs


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["1\tx.nii.gz\tc\t0"], r"row 2: stimulus 'c' is unknown"),
        (["1\tx.nii.gz\ta\tsoon"], r"row 2: scan_onset_s is 'soon', which is not a number"),
        (["1\t\ta\t0"], "row 2 has no bold"),
        (["1\tx.nii.gz\ta\t0", "1\tx.nii.gz\ta\t0"], "row 3 repeats row 2"),
        (["1\tx.nii.gz\ta\t0", "2\tx.nii.gz\ta\t0"], "row 3: x.nii.gz is already a run of sub-1, in row 2"),
        (["1\tp.nii.gz\ta\t0", "2\tq.nii.gz\ta\t0"], "2 files do not exist: row 2: .*p.nii.gz; row 3: .*q.nii.gz"),
        (["1\tx.nii.gz\ta\tnan"], r"row 2: scan_onset_s is 'nan', which is not a number"),
        (["1\tx.nii.gz\ta\t0\t9"], "row 2 has 5 cells, the header 4"),
        (["1\tx.nii.gz\ta\t0", "01\ty.nii.gz\ta\t0"], "row 3: the subject is 01, and 1 in row 2"),
        (['1\t"x.nii.gz\ta\t0', "2\tx.nii.gz\ta\t0"], "row 2: a quotation mark is not closed"),
        (["1\tx.nii.gz\ta\t0", '2\tx.nii.gz\ta\t"0'], "row 3: a quotation mark is not closed"),
        ([], "has no run"),
    ],
)
def test_bad_tables_are_refused_with_their_row(tmp_path, rows, sentence):
    (tmp_path / "x.nii.gz").touch()
    with pytest.raises(DataError, match=sentence):
        read_runs_table(write(tmp_path, *rows), tmp_path, ["a", "b"])


def test_quotation_marks_around_a_cell_are_no_part_of_it(tmp_path):
    (tmp_path / "x, y.nii.gz").touch()
    path = write(tmp_path, '1,"x, y.nii.gz"', '2,"x, ""y"".nii.gz"', header="subject,bold")
    (tmp_path / 'x, "y".nii.gz').touch()
    expected = pd.read_csv(path)["bold"].tolist()
    assert [run.bold.name for run in read_runs_table(path, tmp_path, [])] == expected


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_of_a_spreadsheet_keeps_its_times_to_a_microsecond(tmp_path, monkeypatch, separator):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.nii.gz").touch()
    path = write(tmp_path, "1\t~/x.nii.gz\ta\t12345.678901", header="subject\tbold\tstimulus\tscan_onset_s")
    path.write_text(path.read_text().replace("\t", separator).replace("\n", "\r\n"), encoding="utf-8-sig")
    runs = read_runs_table(path, tmp_path / "elsewhere", ["a"])
    assert runs[0].bold == tmp_path / "x.nii.gz" and runs[0].presentations[0].onset_s == 12345.678901
    assert "12345.678901" in format_runs_table(runs, tmp_path)


def test_missing_and_unknown_columns_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no column bold; 'bolt' is unknown, did you mean \"bold\""):
        read_runs_table(write(tmp_path, "1\tx", header="subject\tbolt"), tmp_path, ["a"])
