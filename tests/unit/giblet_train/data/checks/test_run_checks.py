"""The data check on studies poisoned on purpose: each fault is found, named, and nothing is found in a healthy one."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from giblet_train.data.checks.clock import check_lag, check_runs, check_subjects
from giblet_train.data.checks.files import check_files, file_facts
from giblet_train.data.checks.study import check_annotations, check_features, check_mask, check_scales
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.row_plan import Span
from giblet_train.data.statistics.hrf import glover
from giblet_train.data.statistics.lag import lag_table, mean_response
from giblet_train.data.statistics.run_lags import run_lag_table
from giblet_train.data.stimulus.features import StimulusSource, labels_at
from tests.made_study import made_config, made_study, made_volumes, write_nifti

STUDY = made_study(scan_lengths_trs=(150, 150), n_subjects=4, shape=(6, 6, 6), lag_trs=3)
NOISE = 5.0
"""At this many times their own standard deviation, lags of runs are uncertain."""


def quiet(_sentence, _share):
    pass


def named(findings):
    return {f.finding for f in findings if f.severity != "info"}


def clock(study):
    return named([*check_lag(lag_table(study), study), *check_subjects(study)])


def test_the_clocks_of_a_healthy_study_agree():
    assert clock(STUDY) == set()


def test_a_stretched_stimulus_is_found():
    for speed in (0.93, 0.97, 1.03):
        places = np.arange(STUDY.n_trs) * speed
        slow_features = {
            m: np.stack([np.interp(places, np.arange(STUDY.n_trs), column) for column in x.T], axis=1)
            for m, x in STUDY.features.items()
        }
        assert "stimulus_stretched" in clock(replace(STUDY, features=slow_features)), speed


def noisy_runs(late_trs, noise, seed=0):
    """Return the study as one mean subject with noise added, whose second run begins late."""
    random = np.random.default_rng(seed)
    response = mean_response(STUDY)
    response = response + noise * response.std() * random.standard_normal(response.shape)
    second = np.roll(response[150:], late_trs, axis=0)
    values = np.concatenate([response[:150], second]).astype(np.float32)
    return replace(STUDY, bold={"sub-mean": values}, block_names=("run 1", "run 2"))


def run_findings(study):
    return check_runs(run_lag_table(study), study)


def test_a_run_that_is_late_is_named_certainly_or_probably():
    certain = run_findings(noisy_runs(8, 0.0))
    assert [(f.finding, f.severity, f.evidence["lag_trs"]) for f in certain] == [("run_shifted", "error", 11)]
    doubtful = [f for seed in range(8) for f in run_findings(noisy_runs(8, NOISE, seed)) if f.severity == "warning"]
    assert len(doubtful) >= 2
    assert all(f.sentence.startswith("run 2: the stimulus probably begins 1") for f in doubtful)
    assert all(abs(f.evidence["late_trs"] - 8) <= 1 and 2.5 < f.evidence["sds"] < 6 for f in doubtful)


def test_right_runs_are_not_called_late_however_noisy():
    assert [
        f for seed in range(12) for noise in (0.0, 2.0, NOISE) for f in run_findings(noisy_runs(0, noise, seed))
    ] == []


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
    findings = check_subjects(replace(STUDY, bold=bold))
    assert [(f.finding, f.subject, f.evidence["shift_trs"]) for f in findings] == [("subject_shifted", "sub-02", shift)]


def test_a_copied_subject_is_found():
    findings = check_subjects(replace(STUDY, bold={**STUDY.bold, "sub-03": STUDY.bold["sub-01"]}))
    assert ("subjects_alike", "sub-03") in {(f.finding, f.subject) for f in findings}


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
    """Return a study whose pictures change at random cuts, and the segments between them."""
    random = np.random.default_rng(seed)
    cuts = np.unique(random.integers(1, STUDY.n_trs * 2, 110))
    shot = np.searchsorted(cuts, np.arange(STUDY.n_trs * 2), side="right")
    looks = random.integers(0, 256, (len(cuts) + 1, 6, 8, 3), dtype=np.uint8)
    frames = looks[shot].reshape(STUDY.n_trs, 2, 6, 8, 3)
    edges_s = np.r_[0, cuts, STUDY.n_trs * 2] * 0.75
    segments = [Segment(float(a), float(b), f"shot {n}") for n, (a, b) in enumerate(pairwise(edges_s))]
    return replace(STUDY, frames_TKHWC=frames), segments


def annotated(study, segments):
    labels = tuple(labels_at(segments, 0.0, study.n_trs, 1.5))
    study = replace(study, text_labels=labels, spans=(Span("film", 0, study.n_trs, 0.0),))
    return named(check_annotations(study, {"film": StimulusSource(None, None, tuple(segments))}))


def test_annotations_that_change_with_the_picture_are_fine():
    assert annotated(*film_of_shots()) == set()


def test_annotations_of_scan_two_on_scan_one_are_found():
    study, segments = film_of_shots()
    second = [replace(s, start_s=s.start_s - 225, end_s=s.end_s - 225) for s in segments if s.start_s >= 225]
    first = [s for s in segments if s.end_s <= 225]
    assert {"annotations_misplaced", "annotations_missing"} <= annotated(study, second)
    assert {"annotations_overlap", "annotations_missing"} <= annotated(study, [*first, *second])


def test_voxels_outside_the_brain_are_found_where_volumes_have_their_mean():
    study = made_study(shape=(4, 5, 6))
    outside_V = np.arange(study.n_voxels) % 3 == 0
    whole_study = replace(study, reference={s: np.where(outside_V, 0.02 * x, x) for s, x in study.reference.items()})
    [finding] = check_mask(whole_study, study.mask)
    assert finding.finding == "outside_brain" and finding.severity == "warning" and "33% of the 120" in finding.sentence
    assert check_mask(study, study.mask) == []
    assert check_mask(whole_study, ~outside_V.reshape(4, 5, 6)) == [], "the mask of the split leaves them out"
    centred = {s: np.asarray(x - x.mean(), np.float32) for s, x in study.bold.items()}
    without_mean = replace(study, bold=centred, reference={s: x[0] for s, x in centred.items()})
    assert check_mask(without_mean, study.mask) == []


def test_file_facts_are_numpys(tmp_path):
    values = made_volumes(n_trs=30)
    headers, facts, findings = check_files(
        {"sub-01": (write_nifti(tmp_path / "a.nii.gz", values),)}, made_config(data={}).data, None, quiet
    )
    inside = values[values.any(axis=3)].astype(float)
    assert findings == []
    assert facts["sub-01"].mean == pytest.approx(inside.mean())
    assert facts["sub-01"].sd == pytest.approx(np.median(inside.std(axis=1)))
    assert (facts["sub-01"].low, facts["sub-01"].high) == (inside.min(), inside.max())
    np.testing.assert_allclose(file_facts(headers["sub-01"]).global_T, inside.mean(axis=0))


def test_runs_of_another_level_are_no_spike_no_drift_and_no_unsteady_start(tmp_path):
    first = made_volumes(n_trs=60)
    second = np.where(first.any(axis=3, keepdims=True), 1.2 * first[..., ::-1], 0)
    bold = {"sub-01": tuple(write_nifti(tmp_path / f"{n}.nii.gz", x) for n, x in enumerate((first, second)))}
    assert check_files(bold, made_config(data={}).data, None, quiet)[2] == []
    second[..., 30] *= 1.5
    write_nifti(tmp_path / "1.nii.gz", second)
    [finding] = check_files(bold, made_config(data={}).data, None, quiet)[2]
    assert (finding.finding, finding.evidence["trs"]) == ("spikes", [90, 91])


def test_a_mask_that_cannot_be_used_is_named_once(tmp_path):
    bold = {f"sub-{n:02d}": (write_nifti(tmp_path / f"{n}.nii.gz", made_volumes(n_trs=30)),) for n in (1, 2)}
    mask = write_nifti(tmp_path / "mask.nii.gz", np.ones((2, 2, 2), np.uint8))
    _, facts, findings = check_files(bold, made_config(data={}).data, mask, quiet)
    assert [(f.finding, f.subject) for f in findings] == [("unusable_mask", "")] and set(facts) == set(bold)
