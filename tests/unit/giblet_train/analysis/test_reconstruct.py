"""The film rebuilt into files: pictures, sound and words of a run on the synthetic study."""

import dataclasses
import json
import wave

import av
import numpy as np
import pytest

from giblet_train.analysis.load_run import load_run
from giblet_train.analysis.reconstruct import format_reconstruction, picture_rows, reconstruct, retrieved
from giblet_train.data.stimulus import griffin_lim
from giblet_train.data.stimulus.frame_pca import fit_frame_pca
from giblet_train.training import process
from tests import engine_study
from tests.unit.giblet_train.training.test_trainer import run_dir_of

N_MELS = 2
COMPONENTS = slice(16, 20)
QUIET = lambda sentence, fraction=0.0: None  # noqa: E731


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engine_study.WIDTHS, "audio", 15 * N_MELS)
        run_dir = run_dir_of(tmp_path_factory.mktemp("work"), num_epochs=1, warmup_steps=2, model={"n_mels": N_MELS})
        assert process.train(run_dir.path, film_study) == 0
        yield load_run(run_dir.path, "best", film_study, QUIET)


def film_study(*_):
    data = engine_study.split_data()
    frames = np.random.default_rng(1).integers(0, 256, (300, 2, 4, 6, 3), dtype=np.uint8)
    labels = tuple(f"scene {tr // 7}" if tr % 3 else "" for tr in range(300))
    study = dataclasses.replace(data.study, frames_TKHWC=frames, text_labels=labels)
    pca = fit_frame_pca(frames, data.split.train, 4)
    return dataclasses.replace(data, study=study, frame_pca=pca, pca_columns=COMPONENTS)


def test_it_writes_what_can_be_seen_heard_and_read(run, tmp_path, monkeypatch):
    monkeypatch.setattr(griffin_lim, "N_ROUNDS", 1)  # how good the sound is, test_griffinlim asks
    monkeypatch.setattr(griffin_lim, "N_SPREADS", 1)
    out = tmp_path
    record = reconstruct(run, out, QUIET)
    lines = format_reconstruction(json.loads(json.dumps(record)))
    assert (
        f"of {record['n_annotations']} annotations the true one has median rank" in " ".join(lines)
        and lines[-1] == record["credit"]
    )
    with av.open(str(out / "frames.png")) as picture:
        frame = next(picture.decode(video=0))
    assert (frame.height, frame.width) == (4 * (4 * 3 + 4), 12 * (6 * 3 + 4))
    assert record["frames"]["rows"] == ["film", "its components", "from predicted brains", "from measured brains"]
    assert set(record["sounds"]) == {"film", "predicted", "measured"}
    for file in record["sounds"].values():
        with wave.open(str(out / file)) as sound:
            assert sound.getnframes() == 46 * 24000
    page = (out / "index.html").read_text()
    assert record["credit"] in page and "scene 41" in page and "sound_measured.wav" in page


def test_a_perfect_brain_gives_back_the_components_and_the_words(run):
    data = run.data
    video_TF = data.targets["video"].copy()
    video_TF[:, COMPONENTS] = data.frame_pca.scores(data.study.frames_TKHWC)
    trs, rows = picture_rows(data, {"perfect": {"video": video_TF[data.split.test]}})
    assert trs[0] == 254 and trs[-1] == 299 and len(trs) == 12
    np.testing.assert_array_equal(rows["from perfect brains"], rows["its components"])
    assert np.abs(rows["film"].astype(int) - rows["its components"].astype(int)).mean() > 1

    labels = np.array(data.study.text_labels)
    said_TF = np.array([data.targets["text"][labels == label].mean(axis=0) for label in labels], np.float32)
    words = retrieved(data, {"perfect": said_TF[data.split.test], "silent": 0 * said_TF[data.split.test]})
    assert words and all(w.rank["perfect"] == 1 and w.nearest["perfect"] == w.said for w in words)
    assert all(w.said for w in words), "TRs without an annotation are passed over"
