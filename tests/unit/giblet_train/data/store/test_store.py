"""The store: whole or not there, the same for the same content, built once however many ask and whoever dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.study_files import Sources
from giblet_train.data.readers.volumes import nonzero_voxels, stream
from giblet_train.data.store import build_arrays
from giblet_train.data.store.store import build_store, open_store, store_key, store_parameters
from giblet_train.schema.config import dump
from giblet_train.schema.errors import ConfigError, DataError, PreflightRefused
from giblet_train.training import load_split
from tests.made_study import TINY_DATA as DATA
from tests.made_study import made_config

BUILD = """
import sys
from pathlib import Path
from giblet_train.schema.config_loader import read_resolved
from giblet_train.data.store.store import build_store
config, study, workdir = map(Path, sys.argv[1:4])
build_store(read_resolved(config), study, workdir, lambda sentence, _: print(sentence, flush=True))
"""


def quiet(_sentence, _share):
    pass


def config(model=None, **data):
    return made_config(data={**DATA, **data}, split={"gap_trs": 4}, model=model or {})


@pytest.fixture(scope="module")
def store(tiny_study, tmp_path_factory):
    return build_store(config(), tiny_study, tmp_path_factory.mktemp("work"), quiet)


def test_holds_what_the_files_hold(store, tiny_study):
    study = open_store(store)
    assert study.subjects == ("sub-01", "sub-02", "sub-03")
    assert study.scan_lengths_trs == (30, 30)
    assert study.frames_TKHWC.shape == (60, 3, 36, 64, 3)
    assert {m: x.shape[0] for m, x in study.features.items()} == {"video": 60, "audio": 60, "text": 60}
    assert len(study.text_labels) == 60
    volumes = {s: read_header(tiny_study / "bold" / f"{s}.nii.gz", 1.5) for s in study.subjects}
    mask = np.logical_and.reduce([nonzero_voxels(v) for v in volumes.values()])
    np.testing.assert_array_equal(study.mask, mask)
    for subject, volume in volumes.items():
        raw = np.concatenate([chunk for _, chunk in stream(volume, mask)])
        np.testing.assert_array_equal(study.reference[subject], raw[0])
        error = np.abs(study.bold[subject].astype(np.float32) + study.reference[subject] - raw)
        assert error.max() <= 2e-3 * raw.std(axis=0).max()
        assert isinstance(study.bold[subject].base, np.memmap) or isinstance(study.bold[subject], np.memmap)
        assert not study.bold[subject].flags.writeable


def test_a_split_of_it_is_ready_to_train_on(store):
    study = open_store(store)
    data = prepare_split(study, make_split(study.scan_lengths_trs, study.border_trs, config().split), config())
    for component, facts in data.facts.items():
        assert facts.expected_first_loss == pytest.approx(1.0, abs=0.05), component


def test_is_found_again_and_says_nothing_of_paths(store, tiny_study, tmp_path):
    messages = []
    assert build_store(config(), tiny_study, store.parent.parent, lambda s, _: messages.append(s)) == store
    assert not any("reading sub" in sentence and "nii" not in sentence for sentence in messages)
    shutil.copytree(tiny_study, tmp_path / "elsewhere")
    assert build_store(config(), tmp_path / "elsewhere", store.parent.parent, quiet) == store
    text = (store / "manifest.json").read_text()
    assert str(tiny_study) not in text
    assert str(tmp_path) not in text


def test_the_key_follows_content_and_parameters():
    digest = {"film": "a", "sub-01": "b"}
    sources = Sources(None, (), {})
    keys = {
        store_key(d, store_parameters(config(model, **data), sources))
        for d in (digest, {**digest, "film": "c"}, {"film": "a", "sub-02": "b"})
        for model, data in (
            ({}, {}),
            ({"n_mels": 32}, {}),
            ({"video_height": 18}, {}),
            ({}, {"fps": 4.0}),
            ({}, {"stimulus_offset_s": 1.5}),
            ({}, {"stimulus_offset_s": "auto"}),
            ({}, {"scan_lengths_trs": [60]}),
        )
    }
    assert len(keys) == 3 * 7
    other = config({"preset": "lab", "dropout": 0.5}, normalize_fmri=False, mode="cross_subject")
    assert store_key(digest, store_parameters(other, sources)) == store_key(digest, store_parameters(config(), sources))


def test_processes_that_ask_together_build_it_once(tiny_study, tmp_path):
    (tmp_path / "config.yaml").write_text(dump(config()))
    argv = [sys.executable, "-c", BUILD, tmp_path / "config.yaml", tiny_study, tmp_path / "work"]
    builders = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [builder.communicate(timeout=120)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sum("embedding the annotations of the film" in output for output in outputs) == 1
    assert len([p for p in (tmp_path / "work" / "stores").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize("moment", ["reading sub-02\n", "reading the pictures of the film"])
def test_a_killed_builder_leaves_no_store_and_the_next_one_builds(tiny_study, tmp_path, moment):
    (tmp_path / "config.yaml").write_text(dump(config()))
    argv = [sys.executable, "-c", BUILD, tmp_path / "config.yaml", tiny_study, tmp_path / "work"]
    builder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    for line in builder.stdout:
        if moment.strip() == line.strip():
            break
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait(120)
    stores = tmp_path / "work" / "stores"
    assert not [p for p in stores.glob("[0-9a-f]*") if p.is_dir()]
    path = build_store(config(), tiny_study, tmp_path / "work", quiet)
    open_store(path)
    assert [p for p in stores.iterdir() if p.is_dir()] == [path]


def test_a_failing_build_leaves_nothing(tiny_study, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    cut = study / "bold" / "sub-03.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"sub-03.nii.gz is (truncated|damaged)"):
        build_store(config(), study, tmp_path / "work", quiet)
    assert not [p for p in (tmp_path / "work" / "stores").iterdir() if p.is_dir()]


def test_a_full_disk_is_refused_before_anything_is_written(tiny_study, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(build_arrays.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(PreflightRefused, match=r"needs 0\.1 GiB"):
        build_store(config(), tiny_study, tmp_path / "work", quiet)
    assert not [p for p in (tmp_path / "work" / "stores").iterdir() if p.is_dir()]


def test_damage_and_newer_schemas_are_named(store, tmp_path):
    copy = tmp_path / store.name
    shutil.copytree(store, copy)
    (copy / "bold" / "sub-02.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"sub-02\.npy is missing or cut short"):
        open_store(copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(DataError, match="has schema 99"):
        open_store(copy)
    with pytest.raises(DataError, match="is not a store"):
        open_store(tmp_path)


def test_an_array_of_the_right_length_that_is_none_is_reported_as_damage(store, tmp_path, monkeypatch):
    copy = tmp_path / store.name
    shutil.copytree(store, copy)
    path = copy / "bold" / "sub-02.npy"
    path.write_bytes(b"X" * path.stat().st_size)
    monkeypatch.setattr(load_split, "build_store", lambda *_: copy)
    with pytest.raises(DataError, match=r"An array of the store .* is damaged"):
        load_split.load_split(config(), tmp_path, quiet)


def test_a_typed_text_width_is_checked(tiny_study, tmp_path):
    with pytest.raises(ConfigError, match="text_dim is 1024, but all-minilm-l6-v2 gives 384"):
        build_store(config({"text_dim": 1024}), tiny_study, tmp_path, quiet)


def test_a_film_shorter_than_the_scan_is_refused_unless_allowed(tiny_study, tmp_path):
    data = {**DATA, "stimulus_offset_s": 30.0, "scan_lengths_trs": None, "annotations": "words.csv"}
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    (study / "words.csv").write_text(
        "start_s,end_s,detail,names_all,location\n0,60,a walk,Ann,park\n60,90,a talk,Ben,bar\n"
    )
    with pytest.raises(DataError, match="covers 40 TRs"):
        build_store(made_config(data=data), study, tmp_path, quiet)
    usable_config = made_config(data=data, split={"gap_trs": 2, "usable_trs": 40})
    store = open_store(build_store(usable_config, study, tmp_path, quiet))
    assert store.scan_lengths_trs == (40,)
    assert store.stimulus_offset_s == 30.0
    assert "share TRs 0 to 39" in store.notes[0]
    assert store.text_labels == ("a walk; Ann; park",) * 20 + ("a talk; Ben; bar",) * 20
    assert store.border_trs == (20,)


def test_a_film_that_starts_after_the_scan_crops_the_first_trs(store, tiny_study, tmp_path):
    study, whole = (
        open_store(build_store(config(stimulus_offset_s=-6.0), tiny_study, tmp_path, quiet)),
        open_store(store),
    )
    assert study.scan_lengths_trs == (26, 30)
    assert study.stimulus_offset_s == 0.0
    for subject in study.subjects:
        np.testing.assert_array_equal(study.bold[subject], whole.bold[subject][4:])
    np.testing.assert_array_equal(study.frames_TKHWC, whole.frames_TKHWC[:56])


def test_only_chosen_subjects_are_stored(tiny_study, tmp_path):
    assert open_store(build_store(config(subjects=[2]), tiny_study, tmp_path, quiet)).subjects == ("sub-02",)


def test_opening_is_instant(store):
    began = time.process_time()
    open_store(store)
    assert time.process_time() - began < 0.5
