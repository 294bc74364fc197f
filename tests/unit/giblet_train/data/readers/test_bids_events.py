"""BIDS events as annotations, and a file for each run on one timeline."""

import pytest

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import read_annotations, read_runs
from giblet_train.schema.errors import DataError


def write(path, *rows):
    path.write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")
    return path


def test_onset_and_duration_become_start_and_end(tmp_path):
    header = ("onset", "duration", "trial_type", "location", "value")
    path = write(tmp_path / "e.tsv", header, (0, 4.5, "a meadow", "hill", 2), (4.5, 3, "a dog runs", "n/a", 1))
    assert read_annotations(path, 1.5).segments == (
        Segment(0.0, 4.5, "a meadow", location="hill"),
        Segment(4.5, 7.5, "a dog runs"),
    )


def test_a_column_named_detail_wins_over_the_type(tmp_path):
    path = write(tmp_path / "e.tsv", ("onset", "duration", "trial_type", "detail"), (0, 2, "shot", "a bird lands"))
    assert read_annotations(path, 1.5).segments[0].text == "a bird lands"


def test_each_runs_file_starts_with_its_scan(tmp_path):
    header = ("onset", "duration", "trial_type")
    paths = [write(tmp_path / f"{n}.tsv", header, (0, 6, f"first of {n}"), (6, 3, f"last of {n}")) for n in (1, 2)]
    segments = read_runs(paths, 1.5, (10, 12)).segments
    assert [(s.start_s, s.end_s) for s in segments] == [(0, 6), (6, 9), (15, 21), (21, 24)]
    with pytest.raises(DataError, match="2 annotation files for 3 scans"):
        read_runs(paths, 1.5, (10, 12, 9))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("onset", "trial_type"), (0, "a")], "no column for the end or the duration; it has 'onset', 'trial_type'"),
        (
            [("onset", "duration", "trial_type"), (0, "long", "a")],
            "row 2: duration is 'long', which is no number",
        ),
    ],
)
def test_other_tables_are_refused_in_words(tmp_path, rows, sentence):
    with pytest.raises(DataError, match=sentence):
        read_annotations(write(tmp_path / "e.tsv", *rows), 1.5)
