"""Simulated subjects: what drives them is found again in their files, and nothing else is."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from nilearn.masking import apply_mask

from giblet_train.data.simulation import group as cohorts
from giblet_train.data.simulation.ground_truth import GROUPS, feature_names
from giblet_train.data.simulation.regions import COARSE, REGIONS, ellipsoid_brain
from giblet_train.data.simulation.scanner import GAIN_RANGE, draw_subject

SCANS = (120, 100)
TR_S = 1.5


def draw(seed=0):
    rng = np.random.default_rng(7)
    features = {group: rng.normal(size=(sum(SCANS), len(feature_names()[group]))) for group in GROUPS}
    return cohorts.draw_cohort(seed, COARSE, *ellipsoid_brain(COARSE), features, SCANS, TR_S)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a cohort of five, their files, subjects and truth."""
    folder, group = tmp_path_factory.mktemp("bold"), draw()
    paths = [folder / f"sub-{n:02d}.nii.gz" for n in range(1, 6)]
    results = [group.scan_subject(path, n) for n, path in enumerate(paths, 1)]
    return group, paths, results


def brain_series(group, path):
    mask = nibabel.Nifti1Image(group.scanner.brain_XYZ.astype(np.uint8), COARSE.affine)
    bold = apply_mask(str(path), mask, dtype="f8")
    for start, length in ((0, SCANS[0]), (SCANS[0], SCANS[1])):
        scan = bold[start : start + length]
        bold[start : start + length] = (scan - scan.mean(axis=0)) / scan.std(axis=0)
    return bold


def test_the_file_is_what_a_scanner_would_have_written(study):
    group, paths, _ = study
    image = nibabel.load(paths[0])
    assert image.shape == (*COARSE.shape, sum(SCANS))
    assert image.get_data_dtype() == np.int16
    assert image.header.get_zooms() == (12.0, 12.0, 12.0, 1.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(image.affine, COARSE.affine)
    raw = np.asarray(image.dataobj)
    assert raw.min() == 0
    assert (raw[group.scanner.brain_XYZ] > 0).all()
    outside = ~(group.scanner.brain_XYZ | group.scanner.rim_XYZ)
    assert not raw[outside].any()


def test_units_differ_between_subjects_and_pass_ten_thousand(study):
    tops = [np.asarray(nibabel.load(path).dataobj).max() for path in study[1]]
    assert max(tops) > 10_000
    assert max(tops) / min(tops) > 4.0


def test_coverage_of_the_rim_differs_between_subjects(study):
    empty = [np.asarray(nibabel.load(path).dataobj).any(axis=3).sum() for path in study[1]]
    assert len(set(empty)) > 1


def test_tsnr_is_in_the_range_of_real_data(study):
    group, paths, results = study
    for path, (subject, _) in zip(paths, results, strict=True):
        raw = np.asarray(nibabel.load(path).dataobj)[group.scanner.brain_XYZ].T[:, group.region_of_V == 0]
        observed = np.median(raw.mean(axis=0) / raw.std(axis=0))
        assert observed == pytest.approx(subject.tsnr, rel=0.1)


def test_subjects_agree_where_they_respond_and_not_where_they_do_not(study):
    group, paths, _ = study
    z_STV = np.stack([brain_series(group, path) for path in paths])
    pairs = [(z_STV[a] * z_STV[b]).mean(axis=0) for a in range(5) for b in range(a)]
    isc_V = np.mean(pairs, axis=0)
    assert abs(isc_V[group.region_of_V == 0].mean()) < 0.015
    for number, region in enumerate(REGIONS, 1):
        assert 0.12 < isc_V[group.region_of_V == number].mean() < 0.32, region.name


def test_the_truth_file_explains_the_response(study):
    """Features, weights and HRF of the truth, put together here, correlate with the file as the noise allows."""
    group, paths, results = study
    subject, truth = results[2]
    weights_FR = truth["sub-03_weights_audio_FR"].astype(float)
    kernel = cohorts.hrf.double_gamma(subject.hrf_peak_s, TR_S)
    scans = np.split(group.features_TF["audio"], [SCANS[0]])
    response_TR = np.concatenate([cohorts.hrf.convolve_causal(scan, kernel) for scan in scans]) @ weights_FR
    auditory = [region.name for region in REGIONS].index("auditory") + 1
    responsive = group.region_of_V[group.region_of_V > 0] == auditory
    observed = brain_series(group, paths[2])[:, group.region_of_V == auditory]
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(observed.T, response_TR[:, responsive].T, strict=True)]
    assert np.mean(r) > 0.4


def test_same_seed_same_bytes_whoever_else_takes_part(tmp_path, study):
    draw().scan_subject(tmp_path / "again.nii.gz", 3)
    assert (tmp_path / "again.nii.gz").read_bytes() == study[1][2].read_bytes()
    draw(seed=1).scan_subject(tmp_path / "other.nii.gz", 3)
    assert gzip.decompress((tmp_path / "other.nii.gz").read_bytes()) != gzip.decompress(study[1][2].read_bytes())


def test_gains_of_few_subjects_span_their_range():
    gains = [draw_subject(np.random.default_rng(n), n).gain for n in range(1, 18)]
    assert max(gains[:5]) / min(gains[:5]) > 5.0
    assert GAIN_RANGE[0] <= min(gains)
    assert max(gains) == GAIN_RANGE[1]
    assert np.median(gains) == pytest.approx(2.5, rel=0.15)


def test_the_truth_names_every_region_feature_and_subject(study):
    simulated_group, _, results = study
    truth = simulated_group.described_truth([subject for subject, _ in results])
    assert [region["name"] for region in truth["regions"]] == [region.name for region in REGIONS]
    assert [subject["number"] for subject in truth["subjects"]] == [1, 2, 3, 4, 5]
    group_truth = simulated_group.shared_truth()
    for group, names in truth["features"].items():
        assert group_truth[f"features_{group}_TF"].shape == (sum(SCANS), len(names))
        assert group_truth[f"weights_{group}_FR"].shape == (len(names), (simulated_group.region_XYZ > 0).sum())
