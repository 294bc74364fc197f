"""Tables are cut at their delimiter, not at commas of decimals and text."""

import numpy as np
import pandas as pd
import pytest

from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.readers.delimiter import find_delimiter
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.runs_table import read_runs_table
from giblet_train.data.readers.volumes import nonzero_voxels, stream

VALUES = np.random.default_rng(0).normal(size=(12, 3)).round(3).astype(np.float32)


def rows(volumes):
    return np.concatenate([chunk for _, chunk in stream(volumes, nonzero_voxels(volumes))])


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("header", [None, ["V1", "A1", "M1"], ["V1, left", "A1, left", "M1, left"]])
def test_decimal_commas_of_parcels_are_no_delimiters(tmp_path, separator, header):
    pd.DataFrame(VALUES, columns=header).to_csv(
        tmp_path / "a.csv", sep=separator, decimal=",", index=False, header=header is not None
    )
    volumes = read_header(tmp_path / "a.csv", 1.5)
    np.testing.assert_array_equal(rows(volumes), VALUES)
    assert volumes.geometry.names == tuple(header or ("parcel 1", "parcel 2", "parcel 3"))


@pytest.mark.parametrize(
    ("lines", "segments"),
    [
        (["0.5\t1.2\tWell, no, yes, ok", "1.2\t2.2\tfoo"], [(0.5, 1.2, "Well, no, yes, ok"), (1.2, 2.2, "foo")]),
        (["0,5\t1,2\tHallo, du", "1,2\t2,2\tda"], [(0.5, 1.2, "Hallo, du"), (1.2, 2.2, "da")]),
        (["0,5;1,2;Hallo, du, da", "1,2;2,2;da"], [(0.5, 1.2, "Hallo, du, da"), (1.2, 2.2, "da")]),
        (["0.5,1.2,a dog; a cat", "1.2,2.2,a cow; a hen"], [(0.5, 1.2, "a dog; a cat"), (1.2, 2.2, "a cow; a hen")]),
    ],
)
def test_commas_and_semicolons_in_text_are_no_delimiters(tmp_path, lines, segments):
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    assert [(s.start_s, s.end_s, s.detail) for s in read_annotations(tmp_path / "a.csv", 1.5).segments] == segments


def test_a_header_with_more_commas_than_semicolons_is_cut_at_semicolons():
    assert find_delimiter(["start;end;text, kind, speaker", "0,5;1,2;a"]) == ";"


def test_commas_in_names_of_files_are_no_delimiters(tmp_path):
    (tmp_path / "a,b,c.nii").touch()
    for separator in "\t;":
        text = f"subject{separator}bold\n1{separator}a,b,c.nii\n"
        assert read_runs_table(tmp_path / "runs.tsv", tmp_path, [], text)[0].bold == tmp_path / "a,b,c.nii"
