"""Named feature spaces from the configuration to the evaluation: files, extractors and models, some reconstructed."""

import sys

import numpy as np
import pytest

from giblet_train.components.build import TrainingSetup
from giblet_train.data.store.store import build_store, open_store
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.schema.errors import DataError
from giblet_train.training.load_split import load_split
from tests.engine_study import ALONE
from tests.made_study import made_config
from tests.pretrained_models import needs_transformers, write_model
from tests.table_study import DATA, FILM_TRS, TR_S, write_study

SPLIT = {"gap_trs": 8, "n_folds": 4, "validation_trs": 12, "fold": 1}
MODEL = {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 40, "video_height": 18, "video_width": 32}
EXTRACTOR = """
import numpy as np

def minutes(timeline):
    return (timeline.start_s + timeline.tr_s * np.arange(timeline.n_trs))[:, None] / 60.0
"""


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("spaces") / "study")
    random = np.random.default_rng(0)
    for name, n_trs in FILM_TRS.items():
        np.savez(folder / f"{name}_two.npz", one=np.ones(3), two=np.ones(3))
        np.save(folder / f"{name}_layers.npy", random.standard_normal((2 * round(n_trs * TR_S), 3, 4)))
    np.savez(folder / "both.npz", **{name: random.standard_normal((n, 5)) for name, n in FILM_TRS.items()})
    return folder


@pytest.fixture
def labs_package(tmp_path, monkeypatch):
    (tmp_path / "lab_clock.py").write_text(EXTRACTOR)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("lab_clock", None)


def config(features, **data):
    return made_config(
        data={"data_dir": "study", **DATA, "features": features, **data}, split=SPLIT, model=MODEL, threads=1
    )


def stored(folder, features, **data):
    return open_store(build_store(config(features, **data), folder, folder.parent, quiet))


def test_spaces_come_from_a_file_per_stimulus_a_dataset_per_stimulus_and_a_function(folder, labs_package):
    features = {
        "wav": {"file": "{stimulus}_layers.npy", "rows_per_s": 2.0, "layer": 1},
        "llm": {"file": "both.npz::{stimulus}"},
        "clock": {"extractor": "lab_clock:minutes"},
    }
    study = stored(folder, features)
    assert list(study.features) == ["video", "audio", "text", "clock", "llm", "wav"]
    for name, rows in (("a", slice(0, 150)), ("b", slice(150, 280))):
        layers = np.load(folder / f"{name}_layers.npy")[:, 1]
        np.testing.assert_allclose(
            study.features["wav"][rows], layers.reshape(FILM_TRS[name], 3, 4).mean(axis=1), atol=1e-6
        )
        np.testing.assert_allclose(study.features["llm"][rows], np.load(folder / "both.npz")[name], atol=1e-6)
    assert study.features["clock"][[0, 149, 150], 0] == pytest.approx([0.0, 149 * TR_S / 60, 0.0])


def test_other_spaces_leave_those_of_giblet_as_they_are(folder):
    plain, more = stored(folder, {}), stored(folder, {"llm": {"file": "both.npz::{stimulus}"}})
    for modality in ("video", "audio", "text"):
        np.testing.assert_array_equal(plain.features[modality], more.features[modality])


def test_a_stimulus_may_lack_a_space_and_bring_its_own(folder):
    stimuli = {
        "a": DATA["stimuli"]["a"] | {"features": {"llm": None}},
        "b": DATA["stimuli"]["b"] | {"features": {"audio": {"file": "b_layers.npy", "rows_per_s": 2.0, "layer": 0}}},
    }
    with pytest.raises(DataError, match="b has audio features of shape"):
        stored(folder, {"llm": {"file": "both.npz::{stimulus}"}}, stimuli=stimuli)
    stimuli["b"].pop("features")
    study = stored(folder, {"llm": {"file": "both.npz::{stimulus}"}}, stimuli=stimuli)
    assert study.shown["llm"].tolist() == [False] * 150 + [True] * 130


def test_only_the_chosen_spaces_are_used(folder):
    study = stored(folder, {"llm": {"file": "both.npz::{stimulus}"}}, spaces=["llm", "audio"])
    assert list(study.features) == ["audio", "llm"]
    assert not study.has_pictures


@pytest.mark.parametrize(
    ("weights", "components"),
    [
        ({}, ["fmri", "video", "audio", "text"]),
        ({"llm": 1.0}, ["fmri", "video", "audio", "text", "llm"]),
    ],
)
def test_a_space_is_reconstructed_if_it_has_a_weight(folder, weights, components):
    features = {"llm": {"file": "both.npz::{stimulus}", "weight": weights.get("llm")}}
    data = load_split(config(features), folder.parent, quiet)
    assert list(data.inputs) == ["video", "audio", "text", "llm"]
    assert list(data.targets) == components[1:]
    setup = TrainingSetup.build(config(features), data, ALONE)
    evaluator = Evaluator.of(setup, data)
    assert evaluator.initial_loss(setup.train_step.model) == pytest.approx(dict.fromkeys(components, 1.0), abs=2e-3)
    setup.train_step.step(0, {})
    assert list(evaluator.evaluation(setup.train_step.model, lambda: None)["skill"]) == components


def test_nothing_needs_to_be_reconstructed(folder):
    data = load_split(config({"llm": {"file": "both.npz::{stimulus}"}}, spaces=["llm"]), folder.parent, quiet)
    setup = TrainingSetup.build(config({"llm": {"file": "both.npz::{stimulus}"}}, spaces=["llm"]), data, ALONE)
    evaluator = Evaluator.of(setup, data)
    assert list(evaluator.initial_loss(setup.train_step.model)) == ["fmri"]
    assert setup.train_step.step(0, {}).loss.keys() == {"fmri"}
    assert list(evaluator.evaluation(setup.train_step.model, lambda: None)["skill"]) == ["fmri"]


def test_a_constant_space_is_switched_off_with_a_note(folder):
    for name, n_trs in FILM_TRS.items():
        np.save(folder / f"{name}_flat.npy", np.full((n_trs, 2), 3.0))
    data = load_split(config({"flat": {"file": "{stimulus}_flat.npy", "weight": 1.0}}), folder.parent, quiet)
    assert "flat" not in data.inputs and "flat" not in data.targets
    assert any("flat never changes" in note and "switched off" in note for note in data.notes)


@needs_transformers
def test_a_pretrained_model_runs_once_per_stimulus(folder):
    write_model(folder / "vit", "vit")
    study = stored(folder, {"vit": {"model": "vit"}})
    assert study.features["vit"].shape == (280, 16)
    assert len(list((folder.parent / "features").glob("*.npy"))) == 2
    again = stored(folder, {"vit": {"model": "vit"}}, drop_first_trs=10)
    assert again.key != study.key
    assert len(list((folder.parent / "features").glob("*.npy"))) == 2


def test_a_stimulus_may_be_known_by_its_features_alone(folder):
    features = {"llm": {"file": "both.npz::{stimulus}"}}
    study = stored(folder, features, stimuli={"a": {}, "b": {}})
    assert list(study.features) == ["llm"] and study.scan_lengths_trs == (150, 130)
    features["llm"]["rows_per_s"] = 0.3
    with pytest.raises(
        DataError, match=r"The llm features of a last 500\.0 s; row 2 of the table of runs shows 225"
    ) as error:
        stored(folder, features, stimuli={"a": {}, "b": {}})
    assert "rows_per_s: 0.6667 would fit" in error.value.remedy
    table = (folder / "runs.tsv").read_text().splitlines()
    lines = [f"{table[0]}\tduration_s", *(f"{line}\t195" for line in table[1:])]
    study = stored(folder, features, stimuli={"a": {}, "b": {}}, runs="\n".join(lines) + "\n")
    assert study.scan_lengths_trs == (130, 130)


def test_an_extractor_may_find_nothing_in_a_stimulus(folder, tmp_path, monkeypatch):
    (tmp_path / "lab_some.py").write_text(
        "import numpy as np\n\ndef extract(timeline):\n"
        "    return np.arange(130.0)[:, None] if timeline.n_trs == 130 else None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = stored(folder, {"mine": {"extractor": "lab_some:extract"}})
    assert study.shown["mine"].tolist() == [False] * 150 + [True] * 130


def test_an_extractor_that_ends_the_program_is_refused(folder, tmp_path, monkeypatch):
    (tmp_path / "lab_exit.py").write_text("def extract(timeline):\n    raise SystemExit('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="the extractor 'lab_exit:extract' failed: SystemExit: no licence"):
        stored(folder, {"mine": {"extractor": "lab_exit:extract"}})


@needs_transformers
def test_a_model_of_text_without_its_tokenizer_is_refused(folder):
    write_model(folder / "gpt2", "gpt2")
    for path in (folder / "gpt2").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        stored(folder, {"gpt2": {"model": "gpt2"}})


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"file": "{stimulus}_layers.npy", "rows_per_s": 2.0}, "a_layers.npy has 3 layers"),
        ({"file": "{stimulus}_layers.npy", "rows_per_s": 2.0, "layer": 3}, "has no layer 3; it has 3"),
        ({"file": "both.npz::{stimulus}", "layer": 0}, "has no layers"),
        ({"file": "{stimulus}_two.npz"}, "holds 2 datasets"),
        ({"file": "both.npz::c{stimulus}"}, "has no dataset 'ca'"),
        ({"file": "{stimulus}.csv"}, "is no .npy, .npz, .h5, .hdf5, .hf5, .hdf file"),
        ({"file": "{stimulus}_none.npy"}, "2 files are missing"),
        ({"extractor": "no_such_lab:clock"}, "cannot be imported"),
        ({"extractor": "json:clock"}, "json has no function 'clock'"),
        ({"model": "lab/not-here"}, "is not in the Hugging Face cache"),
        ({"file": "both.npz::{stimulus}", "rows_per_s": 0.1}, "the stimulus lasts"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_its_key(folder, source, sentence):
    with pytest.raises(DataError, match=sentence) as error:
        stored(folder, {"mine": source})
    assert error.value.remedy
