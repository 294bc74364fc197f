"""Confounds: read as fMRIPrep writes them, taken out as nilearn does, by training TRs alone."""

import numpy as np
import pytest
from nilearn.signal import clean

from giblet_train.data.preprocessing.confounds import (
    ConfoundRows,
    read_confounds,
    read_run_confounds,
    without_confounds,
)
from giblet_train.schema.errors import DataError

SCANS = (40, 50)
N_TRS = sum(SCANS)


def made(seed=0):
    random = np.random.default_rng(seed)
    confounds = random.standard_normal((N_TRS, 3)) * (1e4, 1.0, 1e-3)
    bold = random.standard_normal((N_TRS, 12)) + confounds / (1e4, 1.0, 1e-3) @ random.standard_normal((3, 12)) + 100
    return bold.astype(np.float32), confounds.astype(np.float32)


def table(path, header, rows):
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def test_equals_nilearn_over_the_training_trs_of_each_scan():
    bold, confounds = made()
    train = np.r_[5:35, 45:80]
    residuals = without_confounds(bold, confounds, train, SCANS)
    for rows in (np.arange(5, 35), np.arange(45, 80)):
        reference = clean(
            bold[rows].astype(float), confounds=confounds[rows], standardize=None, detrend=False,
            standardize_confounds=True, ensure_finite=False,
        )  # fmt: skip
        ours = residuals[rows]
        np.testing.assert_allclose(ours - ours.mean(axis=0), reference - reference.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(ours.mean(axis=0), bold[rows].mean(axis=0), rtol=1e-5)


def test_rows_can_be_asked_for_in_any_way():
    bold, confounds = made()
    residuals = without_confounds(bold, confounds, np.arange(N_TRS), SCANS)
    assert residuals.shape == bold.shape
    assert len(residuals) == N_TRS
    every = residuals[:]
    np.testing.assert_array_equal(residuals[38:43], every[38:43])
    np.testing.assert_array_equal(residuals[np.array([60, 3])], every[[60, 3]])


def test_poison_outside_training_changes_no_weight():
    bold, confounds = made()
    train = np.arange(0, 60)
    spoilt_bold, spoilt_confounds = bold.copy(), confounds.copy()
    spoilt_bold[60:], spoilt_confounds[60:] = np.nan, np.nan
    first = without_confounds(bold, confounds, train, SCANS)
    second = without_confounds(spoilt_bold, spoilt_confounds, train, SCANS)
    np.testing.assert_array_equal(first.weights_CNV, second.weights_CNV)
    np.testing.assert_array_equal(first[train], second[train])


def test_a_scan_without_training_trs_takes_the_weights_of_the_others():
    random = np.random.default_rng(1)
    confounds = random.standard_normal((N_TRS, 2))
    weights = random.standard_normal((2, 6))
    bold = (confounds @ weights + np.repeat([10.0, 30.0], SCANS)[:, None]).astype(np.float32)
    residuals = without_confounds(bold, confounds, np.arange(40), SCANS)
    assert residuals[40:].std(axis=0).max() < 1e-4
    assert without_confounds(bold, confounds, np.arange(36, 90), SCANS)[:40].std(axis=0).max() < 1e-4


def test_too_many_confounds_are_refused():
    bold, _ = made()
    with pytest.raises(DataError, match="31 confounds need 93 training TRs to be regressed out; there are 90"):
        without_confounds(bold, np.random.default_rng(0).standard_normal((N_TRS, 31)), np.arange(N_TRS), SCANS)


def test_columns_by_name_and_pattern(tmp_path):
    header = ("csf", "trans_x", "trans_x_derivative1", "trans_y")
    path = table(tmp_path / "c.tsv", header, [(1, 2, "n/a", 4), (5, 6, 7, 8)])
    names, values = read_confounds(path, ["trans_?", "csf"], 2)
    assert names == ("trans_x", "trans_y", "csf")
    assert values.tolist() == [[2, 4, 1], [6, 8, 5]]
    assert read_confounds(path, ["trans_x_d*"], 2)[1].tolist() == [[7], [7]]


def test_a_column_that_some_runs_lack_is_zero_in_those(tmp_path):
    """fMRIPrep writes as many motion_outlier columns as a run has outliers."""
    none = table(tmp_path / "1.tsv", ("csf",), [(1,), (2,)])
    motion_table = table(tmp_path / "2.tsv", ("csf", "motion_outlier00"), [(3, 0), (4, 1), (5, 0)])
    runs = [ConfoundRows(none, 2, 0, 2), ConfoundRows(motion_table, 3, 0, 3)]
    values_TN = read_run_confounds(runs, ["csf", "motion_outlier*"])
    np.testing.assert_array_equal(values_TN, [[1, 0], [2, 0], [3, 0], [4, 1], [5, 0]])
    with pytest.raises(DataError, match=r"no column cosine\*"):
        read_run_confounds(runs, ["csf", "cosine*"])
    clips = [ConfoundRows(motion_table, 3, 2, 1), ConfoundRows(motion_table, 3, 0, 1), runs[0]]
    np.testing.assert_array_equal(read_run_confounds(clips, ["csf"])[:, 0], [5, 3, 1, 2])


def test_wrong_tables_are_refused_in_words(tmp_path):
    path = table(tmp_path / "c.tsv", ("csf", "rot_x"), [(1, 2), (1, "n/a"), (2, 3)])
    with pytest.raises(DataError, match=r'c\.tsv has no column csv, did you mean "csf"\?'):
        read_run_confounds([ConfoundRows(path, 3, 0, 3)], ["csv"])
    with pytest.raises(DataError, match=r"has 3 rows, its run has 4 volumes"):
        read_confounds(path, ["csf"], 4)
    with pytest.raises(DataError, match="rot_x has values that are no numbers"):
        read_confounds(path, ["csf", "rot_x"], 3)
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_confounds(tmp_path / "none.tsv", ["csf"], 3)
