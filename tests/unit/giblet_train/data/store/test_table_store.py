"""A study with a table of runs, from its files to training: different films, crops, missing runs, text labels."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.components.build import TrainingSetup
from giblet_train.data.checks.run_checks import check_study
from giblet_train.data.readers.runs_table import read_runs_table
from giblet_train.data.readers.study_files import find_sources
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.show import show_table
from giblet_train.data.store.store import build_store, open_store
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.schema.errors import DataError
from giblet_train.training.load_split import load_split
from tests.engine_study import ALONE
from tests.made_study import made_config
from tests.table_study import DATA, FILM_TRS, FIXATION_TRS, RUNS, STIMULI, TR_S, write_study

SPLIT = {"gap_trs": 8, "n_folds": 4, "validation_trs": 12}
MODEL = {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 40, "video_height": 18, "video_width": 32}


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("table") / "study")


def config(data=None, split=None, **changes):
    return made_config(
        data={"data_dir": "study", **DATA, **(data or {})},
        split=SPLIT | (split or {}),
        model=MODEL,
        threads=1,
        **changes,
    )


@pytest.fixture(scope="module")
def study(folder):
    return open_store(build_store(config(), folder, folder.parent, quiet))


def test_rows_are_those_of_the_films(study):
    assert study.block_names == ("a", "b")
    assert study.scan_lengths_trs == (FILM_TRS["a"], FILM_TRS["b"])
    assert study.subjects == ("sub-01", "sub-02", "sub-pixar4", "sub-sid03")
    rows = {s: int(study.present_T(s).sum()) for s in study.subjects}
    assert rows == {"sub-01": 280, "sub-02": 272, "sub-pixar4": 130, "sub-sid03": 130}


def test_a_row_is_at_a_second_of_its_own_film(study):
    assert study.shown_at(0) == ("a", 0.0)
    assert study.shown_at(FILM_TRS["a"] + 10) == ("b", 10 * TR_S)
    assert study.part(FILM_TRS["a"], study.n_trs).shown_at(4) == ("b", 4 * TR_S)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run[:2])))
def test_each_row_holds_the_volume_that_showed_its_second(folder, study, run):
    subject, film, onset, cut = run
    volumes = np.asarray(nibabel.load(folder / "bold" / f"{subject}_{film}.nii.gz").dataobj)
    span = next(s for s in study.spans if s.stimulus == film)
    bold_TV = study.bold[f"sub-{subject}"][:] + study.reference[f"sub-{subject}"]
    for second_s in (15.0, 60.0, 90.0):
        row = span.first + round((second_s - span.start_s) / TR_S)
        volume = round(second_s / TR_S) + onset
        if not study.present_T(f"sub-{subject}")[row]:
            assert volume >= volumes.shape[3] - cut or volume < 0
            continue
        np.testing.assert_allclose(bold_TV[row], volumes[..., volume].ravel(), atol=0.1)


def test_features_are_those_of_each_films_own_seconds(folder, study):
    alone = open_store(build_store(config({"subjects": ["pixar4"]}), folder, folder.parent, quiet))
    assert alone.block_names == ("b",)
    for modality in ("video", "audio"):
        np.testing.assert_array_equal(study.features[modality][FILM_TRS["a"] :], alone.features[modality])


def test_a_split_by_stimulus_leaves_one_film_out(folder):
    data = load_split(config(split={"kind": "stimuli", "fold": 1}), folder.parent, quiet)
    assert data.split.test.tolist() == list(range(150, 280))
    assert data.split.train.max() < 150
    assert "sub-pixar4" not in data.subjects
    assert any("sub-pixar4 has 0 training TRs" in note for note in data.notes)


def test_z_scores_and_correlations_use_the_rows_that_each_subject_has(folder):
    data = load_split(config(split={"fold": 1}), folder.parent, quiet)
    for subject in data.subjects:
        own = data.rows_of(subject, data.split.train)
        bold_TV = data.bold[subject]
        assert not bold_TV[~data.present[subject]].any()
        assert np.abs(bold_TV[own].mean(axis=0)).max() < 0.3
    pairs, weights = [], []
    for a, b in [("sub-01", "sub-02"), ("sub-01", "sub-sid03"), ("sub-02", "sub-pixar4"), ("sub-01", "sub-pixar4"),
                 ("sub-02", "sub-sid03")]:  # fmt: skip
        common_trs = [t for t in data.split.train if data.present[a][t] and data.present[b][t]]
        pairs.append((data.bold[a][common_trs] * data.bold[b][common_trs]).sum(axis=0))
        weights.append(len(common_trs))
    np.testing.assert_allclose(data.isc_V, np.sum(pairs, axis=0) / np.sum(weights), atol=1e-4)
    driven_V = data.voxels_V < data.study.n_voxels // 2
    assert data.isc_V[driven_V].mean() > 0.3
    assert abs(data.isc_V[~driven_V].mean()) < 0.1


def test_it_trains_and_is_evaluated(folder):
    data = load_split(config(split={"fold": 1}), folder.parent, quiet)
    setup = TrainingSetup.build(config(split={"fold": 1}), data, ALONE)
    assert setup.compression.kind == "per_subject"
    evaluator = Evaluator.of(setup, data)
    first = evaluator.initial_loss(setup.train_step.model)
    assert first == pytest.approx(dict.fromkeys(first, 1.0), abs=2e-3)
    for step in range(3):
        setup.train_step.step(step, {})
    figures = evaluator.evaluation(setup.train_step.model, lambda: None)["encoding"]
    assert figures["r_responsive"] > 0.2
    assert abs(figures["r_null"]) < 0.15
    assert figures["isc_test"] > 0.2


def test_it_trains_where_one_subject_lacks_the_film_that_is_left_out(folder):
    """All share the training film, so that a basis for all of them could be fitted, but not the test film."""
    settings = config(
        {"subjects": ["01", "pixar4"]}, {"kind": "stimuli", "fold": 0}, num_epochs=2, steps_per_epoch=2, batch_size=2
    )
    data = load_split(settings, folder.parent, quiet)
    assert all(data.present[s][data.split.train].all() for s in data.subjects)
    assert not data.present["sub-pixar4"][data.split.test].any()
    setup = TrainingSetup.build(settings, data, ALONE)
    assert setup.compression.kind == "per_subject"
    setup.train_step.step(0, {})
    figures = Evaluator.of(setup, data).evaluation(setup.train_step.model, lambda: None)["encoding"]
    assert np.isfinite(figures["r_responsive"])


def test_the_check_accepts_it(folder):
    findings = check_study(DataRequest(config(), folder.parent), quiet).findings
    assert {f.finding for f in findings} <= {"units_differ", "converted", "lag_no_answer"}


@pytest.mark.parametrize(
    ("subject", "film", "onset", "finding"),
    [("02", "a", 0, "sub-02"), ("pixar4", "b", 14, "sub-pixar4")],
    ids=["a crop that is not stated", "a late run"],
)
def test_the_check_names_a_run_with_a_wrong_onset(folder, tmp_path, subject, film, onset, finding):
    """One run of one subject has an onset that its brain contradicts; nobody else is accused."""
    for path in folder.iterdir():
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / path.name).symlink_to(path)
    (tmp_path / "study" / "runs.tsv").unlink()
    text = (folder / "runs.tsv").read_text().splitlines()
    lines = [f"{line.rsplit(chr(9), 1)[0]}\t{onset * TR_S}" if f"/{subject}_{film}" in line else line for line in text]
    (tmp_path / "study" / "runs.tsv").write_text("\n".join(lines))
    findings = check_study(DataRequest(config(), tmp_path), quiet).findings
    assert {f.subject for f in findings if f.severity == "error"} == {finding}


def test_all_missing_files_are_named_at_once(folder):
    stimuli = {**STIMULI, "a": {"video": "no.mp4", "annotations": "none.csv"}}
    with pytest.raises(DataError, match=r"2 files are missing\. .*no\.mp4.*none\.csv"):
        find_sources(config({"stimuli": stimuli}), folder)


def test_show_prints_a_table_that_reads_back_as_the_same_runs(folder, tmp_path):
    text = show_table(DataRequest(config(), folder.parent), quiet)
    assert "# rows 0 to 149: a, 3 of 4 subjects" in text
    (tmp_path / "again.tsv").write_text(text)
    runs = read_runs_table(tmp_path / "again.tsv", folder, list(STIMULI))
    original = {r.bold.name: r for r in read_runs_table(folder / "runs.tsv", folder, list(STIMULI))}
    assert len(runs) == len(original)
    for run in runs:
        presentations = original[run.bold.name].presentations
        assert [(p.stimulus, p.onset_s, p.start_s) for p in run.presentations] == [
            (p.stimulus, p.onset_s, p.start_s) for p in presentations
        ]


def test_show_gives_the_same_facts_as_json(folder):
    facts = json.loads(show_table(DataRequest(config(), folder.parent), quiet, as_json=True))
    assert facts["rows"][0]["name"] == "a" and len(facts["rows"][0]["subjects"]) == 3
    assert (facts["rows"][0]["first"], facts["rows"][0]["last"]) == (0, 149)
    assert facts["stimuli"]["a"]["video"].endswith("a.mp4")
    original = read_runs_table(folder / "runs.tsv", folder, list(STIMULI))
    assert {Path(run["bold"]).name for run in facts["runs"]} == {run.bold.name for run in original}


def test_the_short_form_expands_to_a_table_with_the_same_rows(folder, tmp_path):
    """One film, two subjects, the film 6 TRs after the scan: as keys, and as the table that `data show` prints."""
    short = {"video": "b.mp4", "annotations": "b.csv", "bold": "bold/{subject}_b.nii.gz", "subjects": ["01", "02"]}
    short |= {"data_dir": "study", "stimulus_offset_s": -FIXATION_TRS * TR_S}
    by_keys = made_config(data=short, split=SPLIT, model=MODEL)
    text = show_table(DataRequest(by_keys, folder.parent), quiet)
    (folder / "short.tsv").write_text(text)
    stimuli = {"film": STIMULI["b"]}
    by_table = made_config(
        data={"data_dir": "study", "runs": "short.tsv", "stimuli": stimuli}, split=SPLIT, model=MODEL
    )
    short_form, table_form = (open_store(build_store(c, folder, folder.parent, quiet)) for c in (by_keys, by_table))
    assert short_form.scan_lengths_trs == table_form.scan_lengths_trs
    for modality in ("video", "audio", "text"):
        np.testing.assert_array_equal(short_form.features[modality], table_form.features[modality])
    for subject in ("sub-01", "sub-02"):
        raw, again = (s.bold[subject][:] + s.reference[subject] for s in (short_form, table_form))
        np.testing.assert_allclose(raw, again, atol=0.3)


def test_dropped_volumes_of_the_short_form_leave_the_clock(folder):
    short = {"video": "b.mp4", "annotations": "b.csv", "bold": "bold/{subject}_b.nii.gz", "subjects": ["pixar4"]}
    whole, cut = (
        open_store(build_store(made_config(data=short | d, split=SPLIT, model=MODEL), folder, folder.parent, quiet))
        for d in ({}, {"drop_first_trs": 4})
    )
    assert cut.n_trs == whole.n_trs - 4
    np.testing.assert_allclose(cut.features["audio"], whole.features["audio"][4:], atol=1e-3)
    raw, rest = (s.bold["sub-pixar4"] + s.reference["sub-pixar4"] for s in (whole, cut))
    np.testing.assert_allclose(rest, raw[4:], atol=0.3)


def test_dropped_volumes_leave_the_clock(folder, study):
    short_study = open_store(build_store(config({"drop_first_trs": 10}), folder, folder.parent, quiet))
    first = short_study.present_T("sub-pixar4").argmax()
    assert short_study.spans[1].start_s + (first - short_study.spans[1].first) * TR_S == 15.0
    own = short_study.bold["sub-pixar4"][first] + short_study.reference["sub-pixar4"]
    whole = study.bold["sub-pixar4"][160] + study.reference["sub-pixar4"]
    np.testing.assert_allclose(own, whole, atol=0.1)
    assert FIXATION_TRS < 10
