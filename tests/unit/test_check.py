"""The data check on studies poisoned on purpose: each fault is found, named, and nothing is found in a healthy one."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import nibabel
import numpy as np
import pytest

from giblet_train.data.annotations import Segment, read_annotations
from giblet_train.data.check import check
from giblet_train.data.check_clock import check_lag, check_subjects
from giblet_train.data.check_files import check_files, file_facts
from giblet_train.data.check_study import check_annotations, check_features, check_scales
from giblet_train.data.dataset import prepare_split
from giblet_train.data.hrf import glover
from giblet_train.data.lag import lag_table
from giblet_train.data.prepared import Request
from giblet_train.data.report import check_report
from giblet_train.data.splits import make_split
from giblet_train.data.stimulus import labels_at
from giblet_train.data.timeline import Timeline
from giblet_train.data.workbook import write_annotations
from tests.made_study import TINY_DATA as DATA
from tests.made_study import made_config, made_study, made_volumes, write_nifti

STUDY = made_study(scan_lengths_trs=(150, 150), n_subjects=4, shape=(6, 6, 6), lag_trs=3)


def quiet(_sentence, _share):
    pass


def named(findings):
    return {f.finding for f in findings if f.severity != "info"}


def clock(study):
    return named([*check_lag(lag_table(study), study), *check_subjects(study)])


def rewrite(path, change):
    """Change a NIfTI file in place; change(values, header) returns values and affine, or None to keep the affine."""
    image = nibabel.load(path)
    header, values = image.header.copy(), np.asarray(image.dataobj)
    values, affine = change(values, header)
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(values, image.affine if affine is None else affine, header), path)


def milliseconds(values, header):
    header["pixdim"][4] = 1500.0
    header.set_xyzt_units("mm", "msec")
    return values, None


def no_tr(values, header):
    header["pixdim"][4] = 0.0
    return values, None


def other_tr(values, header):
    header["pixdim"][4] = 2.0
    return values, None


def moved(values, header):
    affine = header.get_best_affine().copy()
    affine[:3, 3] += 6.0
    return values, affine


def shorter(values, _header):
    return values[..., :-2], None


def not_a_number(values, header):
    header.set_data_dtype(np.float32)
    values = values.astype(np.float32)
    values[8, 9, 8, 31] = np.nan
    return values, None


def spike(values, _header):
    values = values.copy()
    values[..., 40] = (values[..., 40] * 1.5).astype(values.dtype)
    return values, None


@pytest.fixture
def poisoned(tiny_study, tmp_path):
    """A copy of the tiny study, and what the check says of it."""
    folder = tmp_path / "study"
    shutil.copytree(tiny_study, folder)

    def look(**data):
        config = made_config(data={**DATA, "data_dir": "study", **data}, split={"gap_trs": 4})
        return check(Request(config, tmp_path), quiet)

    return folder, look


def test_a_healthy_study_has_no_error(poisoned):
    report = poisoned[1]()
    assert not report.failed, report.findings
    assert set(report.components) == {"fmri", "video", "audio", "text"}
    assert [row.who for row in report.lags] == ["average", "sub-01", "sub-02", "sub-03"]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (milliseconds, "tr_in_milliseconds"),
        (no_tr, "tr_missing"),
        (other_tr, "unreadable_file"),
        (moved, "other_grid"),
        (shorter, "other_length"),
        (not_a_number, "not_numbers"),
        (spike, "spikes"),
    ],
)
def test_a_fault_in_one_file_is_found_in_that_subject(poisoned, change, finding):
    folder, look = poisoned
    rewrite(folder / "bold" / "sub-02.nii.gz", change)
    found = [f for f in look().findings if f.finding == finding]
    assert [f.subject for f in found] == ["sub-02"]
    assert found[0].action


def test_a_truncated_file_is_found_and_the_others_are_still_checked(poisoned):
    folder, look = poisoned
    path = folder / "bold" / "sub-03.nii.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    report = look()
    assert ("truncated_file", "sub-03") in {(f.finding, f.subject) for f in report.findings}
    assert [row.who for row in report.lags] == ["average", "sub-01", "sub-02"]


def test_raw_fmri_is_found(poisoned):
    report = poisoned[1](normalize_fmri=False)
    assert {"fmri_not_normalised", "first_loss_not_one"} <= named(report.findings)


def test_duplicate_rows_are_found(poisoned):
    folder, look = poisoned
    rows = read_annotations(folder / "annotations.xlsx", 1.5, (30, 30)).segments
    write_annotations(folder / "annotations.xlsx", [row for row in rows for _ in range(2)], 1.5, (30, 30))
    assert "duplicate_annotations" in named(look().findings)


def test_the_report_is_text_or_json(poisoned, tmp_path):
    folder, _ = poisoned
    rewrite(folder / "bold" / "sub-02.nii.gz", moved)
    config = made_config(data={**DATA, "data_dir": "study"}, split={"gap_trs": 4})
    failed, text = check_report(Request(config, tmp_path), quiet, as_json=False)
    assert failed
    assert "✖ other_grid: sub-02" in text
    assert "1 errors" in text
    _, encoded = check_report(Request(config, tmp_path), quiet, as_json=True)
    findings = json.loads(encoded)["findings"]
    assert findings[0]["finding"] == "other_grid"
    assert set(findings[0]) == {"finding", "severity", "subject", "sentence", "evidence", "action"}


def test_the_clocks_of_a_healthy_study_agree():
    assert clock(STUDY) == set()


def test_a_stretched_stimulus_is_found():
    for speed in (0.93, 0.97, 1.03):
        places = np.arange(STUDY.n_trs) * speed
        stretched = {
            m: np.stack([np.interp(places, np.arange(STUDY.n_trs), column) for column in x.T], axis=1)
            for m, x in STUDY.features.items()
        }
        assert "stimulus_stretched" in clock(replace(STUDY, features=stretched)), speed


def test_a_reversed_response_is_found():
    kernel = glover(STUDY.tr_s)[:13]

    def backwards(features):
        padded = np.concatenate([features, np.zeros((len(kernel), features.shape[1]))])
        return sum(w * padded[lag : lag + len(features)] for lag, w in enumerate(kernel))

    reversed_features = {m: backwards(x) for m, x in STUDY.features.items()}
    assert "lag_implausible" in clock(replace(STUDY, features=reversed_features))
    early = {s: np.roll(y, -6, axis=0) for s, y in STUDY.bold.items()}
    assert "lag_implausible" in clock(replace(STUDY, bold=early))


def test_shifted_fmri_is_found():
    early = {s: np.roll(y, -3, axis=0) for s, y in STUDY.bold.items()}
    assert clock(replace(STUDY, bold=early)) == {"lag_pre_shifted"}


@pytest.mark.parametrize("shift", [-3, 3])
def test_a_shifted_subject_is_found(shift):
    bold = {**STUDY.bold, "sub-02": np.roll(STUDY.bold["sub-02"], shift, axis=0)}
    found = check_subjects(replace(STUDY, bold=bold))
    assert [(f.finding, f.subject, f.evidence["shift_trs"]) for f in found] == [("subject_shifted", "sub-02", shift)]


def test_a_copied_subject_is_found():
    found = check_subjects(replace(STUDY, bold={**STUDY.bold, "sub-03": STUDY.bold["sub-01"]}))
    assert ("subjects_alike", "sub-03") in {(f.finding, f.subject) for f in found}


def test_bytes_and_codes_are_found():
    random = np.random.default_rng(0)
    assert check_features(STUDY) == []
    video = (STUDY.features["video"] * 40 + 128).clip(0, 255)
    assert named(check_features(replace(STUDY, features={**STUDY.features, "video": video}))) == {"video_in_bytes"}
    codes = random.integers(0, 1024, (STUDY.n_trs, 8)).astype(np.float32)
    assert named(check_features(replace(STUDY, features={**STUDY.features, "audio": codes}))) == {"codes_as_numbers"}


def test_scales_are_right_when_normalised():
    config = made_config(split={"fold": 1})
    split = make_split(STUDY.scan_lengths_trs, STUDY.border_trs, config.split)
    assert check_scales(dict(prepare_split(STUDY, split, config).facts), config) == []


def film_of_shots(seed=0):
    """A study whose pictures change at random cuts, and the segments between them."""
    random = np.random.default_rng(seed)
    cuts = np.unique(random.integers(1, STUDY.n_trs * 2, 110))
    shot = np.searchsorted(cuts, np.arange(STUDY.n_trs * 2), side="right")
    looks = random.integers(0, 256, (len(cuts) + 1, 6, 8, 3), dtype=np.uint8)
    frames = looks[shot].reshape(STUDY.n_trs, 2, 6, 8, 3)
    edges_s = np.r_[0, cuts, STUDY.n_trs * 2] * 0.75
    segments = [Segment(float(a), float(b), f"shot {n}") for n, (a, b) in enumerate(pairwise(edges_s))]
    return replace(STUDY, frames_TKHWC=frames), segments


def annotated(study, segments):
    timeline = Timeline(1.5, study.scan_lengths_trs)
    return named(check_annotations(replace(study, text_labels=labels_at(segments, timeline)), segments, timeline))


def test_annotations_that_change_with_the_picture_are_fine():
    assert annotated(*film_of_shots()) == set()


def test_annotations_of_scan_two_on_scan_one_are_found():
    study, segments = film_of_shots()
    second = [replace(s, start_s=s.start_s - 225, end_s=s.end_s - 225) for s in segments if s.start_s >= 225]
    first = [s for s in segments if s.end_s <= 225]
    assert {"annotations_misplaced", "annotations_missing"} <= annotated(study, second)
    assert {"annotations_overlap", "annotations_missing"} <= annotated(study, [*first, *second])


def test_file_facts_are_numpys(tmp_path):
    values = made_volumes(n_trs=30)
    headers, facts, findings = check_files({"sub-01": (write_nifti(tmp_path / "a.nii.gz", values),)}, 1.5, quiet)
    inside = values[values.any(axis=3)].astype(float)
    assert findings == []
    assert facts["sub-01"].mean == pytest.approx(inside.mean())
    assert facts["sub-01"].sd == pytest.approx(np.median(inside.std(axis=1)))
    assert (facts["sub-01"].low, facts["sub-01"].high) == (inside.min(), inside.max())
    np.testing.assert_allclose(file_facts(headers["sub-01"]).global_T, inside.mean(axis=0))
