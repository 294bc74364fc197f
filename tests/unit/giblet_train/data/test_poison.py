"""The study poisoned on purpose: each of the lab's data mistakes is planted in the files, and found by its own name.

No fault may accuse anything else, and the healthy study nothing at all.
"""

import json
import shutil

import nibabel
import numpy as np
import pytest

from giblet_train.analysis.rehearse_training import diagnose
from giblet_train.data.checks.report import check_report
from giblet_train.data.checks.run_checks import check_study
from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.readers.lab_workbook import write_annotations
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.store.prepare import DataRequest
from giblet_train.training.load_split import load_split
from tests.made_study import made_config
from tests.poison_study import DATA, SCANS_TRS, TR_S, film_features, segments, write_film, write_study


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("poison") / "study")


@pytest.fixture
def copy(healthy, tmp_path):
    """Return a copy of the healthy study to spoil."""
    shutil.copytree(healthy, tmp_path / "study")
    return tmp_path / "study"


def look(folder, **data):
    features = DATA["features"] | data.pop("features", {})
    config = made_config(data={**DATA, **data, "features": features}, split={"gap_trs": 8})
    return check_study(DataRequest(config, folder.parent), lambda *_: None)


def accused(folder, **data):
    """Return (finding, subject) of all that is no mere information."""
    report = look(folder, **data)
    assert all(f.action for f in report.findings if f.severity == "error")
    return {(f.finding, f.subject) for f in report.findings if f.severity != "info"}


def rewrite(path, change):
    image = nibabel.load(path)
    values, affine, header = change(np.asarray(image.dataobj), image.affine.copy(), image.header.copy())
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(values, affine, header), path)


def save(folder, name, array):
    np.save(folder / name, array)
    return {"file": name}


def raw_fmri(folder):
    return accused(folder, normalize_fmri=False)


def bytes_as_video(folder):
    pictures = film_features(folder)["video"][:, :6]
    return accused(folder, features={"video": save(folder, "video.npy", 255 * np.abs(pictures).clip(0, 1))})


def codes_as_floats(folder):
    codes = np.random.default_rng(0).integers(0, 1024, (sum(SCANS_TRS), 32)).astype(np.float32)
    return accused(folder, features={"audio": save(folder, "codes.npy", codes)})


def hrf_reversed(folder):
    """Blur features towards the past: the kernel is applied to the reversed film."""
    scans = {m: np.split(x.astype(float), [SCANS_TRS[0]]) for m, x in film_features(folder).items()}
    early = {m: [convolve_causal(part[::-1], glover(TR_S))[::-1] for part in parts] for m, parts in scans.items()}
    return accused(folder, features={m: save(folder, f"{m}.npy", np.concatenate(x)) for m, x in early.items()})


def film_stretched(folder):
    """Show 25 frames a second as 24."""
    write_film(folder / "film.mkv", speed=24 / 25)
    return accused(folder)


def annotations_of_the_other_scan(folder):
    border_s = SCANS_TRS[0] * TR_S
    rows = read_annotations(folder / "annotations.xlsx", TR_S, SCANS_TRS).segments
    second = [r for r in rows if r.start_s >= border_s]
    segments = [type(r)(r.start_s - border_s, r.end_s - border_s, r.detail) for r in second]
    write_annotations(folder / "annotations.xlsx", segments, TR_S, SCANS_TRS[:1])
    return accused(folder)


def subject_shifted(folder):
    rewrite(folder / "bold" / "sub-02.nii.gz", lambda values, *rest: (np.roll(values, 3, axis=3), *rest))
    return accused(folder)


def duplicate_rows(folder):
    write_annotations(folder / "annotations.xlsx", [s for s in segments() for _ in range(2)], TR_S, SCANS_TRS)
    return accused(folder)


def tr_in_milliseconds(folder):
    def change(values, affine, header):
        header["pixdim"][4] = 1500.0
        return values, affine, header

    rewrite(folder / "bold" / "sub-03.nii.gz", change)
    return accused(folder)


def no_tr(folder):
    def change(values, affine, header):
        header["pixdim"][4] = 0.0
        return values, affine, header

    rewrite(folder / "bold" / "sub-02.nii.gz", change)
    return accused(folder)


def another_tr(folder):
    def change(values, affine, header):
        header["pixdim"][4] = 2.0
        return values, affine, header

    rewrite(folder / "bold" / "sub-02.nii.gz", change)
    return accused(folder)


def another_place(folder):
    shift = np.diag([0.0, 0, 0, 0])
    shift[:3, 3] = 6.0
    rewrite(folder / "bold" / "sub-02.nii.gz", lambda values, affine, header: (values, affine + shift, header))
    return accused(folder)


def two_volumes_short(folder):
    rewrite(folder / "bold" / "sub-02.nii.gz", lambda values, *rest: (values[..., :-2], *rest))
    return accused(folder)


def not_a_number(folder):
    def change(values, affine, header):
        header.set_data_dtype(np.float32)
        values = values.astype(np.float32)
        values[3, 3, 3, 31] = np.nan
        return values, affine, header

    rewrite(folder / "bold" / "sub-02.nii.gz", change)
    return accused(folder)


def spike(folder):
    def change(values, *rest):
        values = values.copy()
        values[..., 40] = (values[..., 40] * 1.5).astype(values.dtype)
        return values, *rest

    rewrite(folder / "bold" / "sub-02.nii.gz", change)
    return accused(folder)


def copied_subject(folder):
    shutil.copyfile(folder / "bold" / "sub-01.nii.gz", folder / "bold" / "sub-03.nii.gz")
    return accused(folder)


def another_grid(folder):
    rewrite(folder / "bold" / "sub-01.nii.gz", lambda values, *rest: (values[:-1], *rest))
    return accused(folder)


def truncated(folder):
    path = folder / "bold" / "sub-04.nii.gz"
    path.write_bytes(path.read_bytes()[:-9000])
    return accused(folder)


def dummy_scans(folder):
    """Add four volumes of zeros at the start of every file, as scanners write them."""

    def change(values, *rest):
        values[..., :4] = 0
        return values, *rest

    for path in sorted((folder / "bold").iterdir()):
        rewrite(path, change)
    return accused(folder)


def bright_start(folder):
    """Add two volumes before the steady state."""

    def change(values, *rest):
        values[..., :2] = (values[..., :2] * 1.7).astype(values.dtype)
        return values, *rest

    for path in sorted((folder / "bold").iterdir()):
        rewrite(path, change)
    return accused(folder)


def unmasked(folder):
    """Fill all that is outside the brain with the scanner's noise."""
    rng = np.random.default_rng(0)

    def change(values, *rest):
        noise = np.abs(rng.normal(0.0, 0.03 * values.max(), values.shape)) + 1.0
        return np.where(values == 0, noise, values).astype(values.dtype), *rest

    for path in sorted((folder / "bold").iterdir()):
        rewrite(path, change)
    return accused(folder)


def missing_value_as_a_number(folder):
    pictures = film_features(folder)["video"].copy()
    pictures[40, 3] = 1e9
    return accused(folder, features={"video": save(folder, "video.npy", pictures)})


def sidecar_of_another_tr(folder):
    (folder / "bold" / "sub-02.json").write_text('{"RepetitionTime": 2.0}')
    return accused(folder)


FAULTS = {
    raw_fmri: {("fmri_not_normalised", ""), ("first_loss_not_one", "")},
    bytes_as_video: {("video_in_bytes", "")},
    codes_as_floats: {("codes_as_numbers", "")},
    hrf_reversed: {("lag_implausible", "")},
    film_stretched: {("stimulus_stretched", "")},
    annotations_of_the_other_scan: {("annotations_missing", ""), ("annotations_misplaced", "")},
    subject_shifted: {("subject_shifted", "sub-02")},
    duplicate_rows: {("duplicate_annotations", "")},
    tr_in_milliseconds: {("tr_in_milliseconds", "sub-03")},
    another_grid: {("other_grid", "sub-01")},
    truncated: {("truncated_file", "sub-04")},
    no_tr: {("tr_missing", "sub-02")},
    another_tr: {("tr_conflict", "sub-02")},
    another_place: {("other_grid", "sub-02")},
    two_volumes_short: {("other_length", "sub-02")},
    not_a_number: {("not_numbers", "sub-02")},
    spike: {("spikes", "sub-02")},
    copied_subject: {("subjects_alike", "sub-03")},
    dummy_scans: {("not_steady", f"sub-{n:02d}") for n in range(1, 5)},
    bright_start: {("not_steady", f"sub-{n:02d}") for n in range(1, 5)},
    unmasked: {("outside_brain", "")},
    missing_value_as_a_number: {("feature_outliers", "")},
    sidecar_of_another_tr: {("tr_conflict", "sub-02")},
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_by_its_name_and_nothing_else_is_accused(copy, plant):
    assert plant(copy) == FAULTS[plant]


def test_a_healthy_study_is_not_accused(healthy):
    report = look(healthy)
    assert {f.finding for f in report.findings} <= {"units_differ"}
    assert set(report.components) == {"fmri", "video", "audio", "text"}
    assert [row.who for row in report.lags] == ["average", "sub-01", "sub-02", "sub-03", "sub-04", "scan 1", "scan 2"]
    assert {row.whole.lag_trs for row in report.lags} <= {3, 4}


def test_a_film_that_was_running_already_is_placed_by_auto_and_reported(copy):
    for path in (copy / "bold").iterdir():
        rewrite(path, lambda values, *rest: (values[..., 6:], *rest))
    scans = (SCANS_TRS[0] - 6, SCANS_TRS[1])
    lines = [f"{s.start_s},{s.end_s},{s.detail},," for s in segments()]
    (copy / "rows.csv").write_text("\n".join(["start_s,end_s,detail,names_all,location", *lines]))
    report = look(copy, annotations="rows.csv", scan_lengths_trs=list(scans), stimulus_offset_s="auto")
    assert report.study.stimulus_offset_s == 9.0
    assert "data.stimulus_offset_s: auto found 9 s (6 TRs)" in " ".join(f.sentence for f in report.findings)
    assert report.lags[0].whole.lag_trs == 3
    assert not report.failed


def test_the_report_is_text_or_json(copy):
    rewrite(copy / "bold" / "sub-02.nii.gz", lambda values, *rest: (values[1:], *rest))
    request = DataRequest(made_config(data=DATA, split={"gap_trs": 8}), copy.parent)
    is_failed, text = check_report(request, lambda *_: None, as_json=False)
    assert is_failed
    assert "✖ other_grid: sub-02" in text
    assert text.endswith("1 error, 0 warnings.")
    _, encoded = check_report(request, lambda *_: None, as_json=True)
    value = json.loads(encoded)
    assert (value["schema"], value["ok"]) == (1, False)
    assert value["findings"][0]["finding"] == "other_grid"
    assert set(value["findings"][0]) == {"finding", "severity", "subject", "sentence", "evidence", "action"}


def diagnosed(folder, **changes):
    data = {**DATA, **changes.pop("data", {})}
    small = {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 40}
    config = made_config(data=data, split={"gap_trs": 8}, model=small, threads=1, **changes)
    is_failed, text = diagnose(DataRequest(config, folder.parent), load_split, 12, lambda *_: None, as_json=True)
    return is_failed, json.loads(text)


def test_the_network_begins_at_one_on_healthy_data_and_every_loss_falls(healthy):
    is_failed, value = diagnosed(healthy)
    assert not is_failed, value["findings"]
    parts = value["model"]["components"]
    assert {c: p["first"] for c, p in parts.items()} == pytest.approx(dict.fromkeys(parts, 1.0), abs=0.05)
    assert all(p["last"] < p["start"] <= p["first"] + 1e-3 for p in parts.values())
    assert sum(p["gradient_share"] for p in parts.values()) == pytest.approx(1.0)
    raw = {c: p["mean_square"] for c, p in parts.items()}
    assert raw["fmri"] > 0.99 * sum(raw.values())
    # What this study's files hold: means of 900 to 3600 in four subjects.
    assert raw["fmri"] == pytest.approx(np.mean([(900.0 * s) ** 2 for s in (1, 2, 3, 4)]), rel=0.05)


def test_the_network_names_the_labs_three_problems(healthy):
    """Raw fMRI, a warm-up that takes half of the run, and a loss that one component has to itself."""
    raw = {"data": {"normalize_fmri": False}, "losses": {"scale": "none"}}
    is_failed, value = diagnosed(healthy, warmup_epochs=10, **raw)
    assert is_failed
    findings = {f["finding"] for f in value["findings"] if f["severity"] != "info"}
    assert {"fmri_not_normalised", "first_loss", "component_dominates", "late_base_rate"} <= findings
