"""Features of pretrained models: small ones with random weights, compared with running them directly."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.model_folder import model_folder
from giblet_train.data.simulation.generated_film import SMALL, generated_film
from giblet_train.data.stimulus import pretrained
from giblet_train.data.stimulus.audio import read_samples
from giblet_train.data.stimulus.feature_cache import FeatureCache
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.stimulus.pretrained import ModelRuns, pretrained_features, spoken_words
from giblet_train.data.stimulus.video import read_frames
from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import DataError
from tests.pretrained_models import DEPTH, WIDTH, needs_transformers, write_model

pytestmark = needs_transformers

TR_S, N_TRS, SECONDS = 1.5, 8, 13.0
STORY = "the cat sat on the mat and then it ran far away"
WORDS = tuple(Segment(0.9 * n + 0.4, 0.9 * n + 0.8, word) for n, word in enumerate(STORY.split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def timeline(folder):
    film = generated_film(folder / "film.mp4", SECONDS, 3, form=SMALL).path
    return FilmTimeline(film, TR_S, N_TRS, 0.0, WORDS, film, SECONDS)


def features(folder, kind, timeline, runs=None, **source):
    path = folder / kind if (folder / kind).is_dir() else write_model(folder / kind, kind)
    return pretrained_features(
        f"data.features.{kind}", FeatureSource(model=kind, **source), path, timeline, runs or ModelRuns()
    )


def network(folder, kind):
    import transformers

    return transformers.AutoModel.from_pretrained(folder / kind).float().eval()


@pytest.mark.parametrize("kind", ["vit", "clip"])
@torch.inference_mode()
def test_pictures_are_scaled_as_the_model_states_and_averaged_over_a_tr(folder, timeline, kind):
    ours = features(folder, kind, timeline, reads="pictures", layer=1)
    frames = read_frames(timeline.film, TR_S, N_TRS, 2.0, 32, 32) / 255.0
    scaled = torch.from_numpy((frames - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).float().flatten(0, 1).permute(0, 3, 1, 2)
    model = network(folder, kind)
    states = (model.vision_model if kind == "clip" else model)(scaled, output_hidden_states=True).hidden_states[1]
    expected = states.mean(dim=1).reshape(N_TRS, 3, WIDTH).mean(dim=1)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@torch.inference_mode()
def test_a_video_model_sees_the_frames_up_to_the_end_of_each_second(folder, timeline):
    ours = features(folder, "videomae", dataclasses.replace(timeline, tr_s=1.0, n_trs=12), layer=DEPTH)
    frames = read_frames(timeline.film, 1.0, 12, 8.0, 32, 32).reshape(-1, 32, 32, 3)[4 * 8 : 6 * 8] / 255.0
    clip = torch.from_numpy((frames - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).float().permute(0, 3, 1, 2)[None]
    states = network(folder, "videomae")(clip, output_hidden_states=True).hidden_states[DEPTH]
    np.testing.assert_allclose(ours[5], states.mean(dim=1)[0], atol=1e-5)


@torch.inference_mode()
def test_sound_keeps_its_time(folder, timeline):
    ours = features(folder, "wav2vec2", timeline, layer=[1, DEPTH])
    wave = read_samples(timeline.film, 16000)
    wave = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
    states = network(folder, "wav2vec2")(wave, output_hidden_states=True).hidden_states
    tokens = torch.cat([states[1], states[DEPTH]], dim=-1)[0]
    moments_s = (np.arange(len(tokens)) + 0.5) * SECONDS / len(tokens)
    expected = np.stack([tokens[(moments_s // TR_S) == n].mean(dim=0) for n in range(N_TRS)])
    np.testing.assert_allclose(ours, expected, atol=0.05)
    assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.999


def test_sound_of_a_model_that_fills_up_to_30_seconds_is_not_stretched(folder, timeline):
    whole = features(folder, "whisper", timeline)
    later = features(folder, "whisper", dataclasses.replace(timeline, start_s=3.0, n_trs=N_TRS - 2))
    np.testing.assert_allclose(later, whole[2:], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@torch.inference_mode()
def test_a_word_is_read_after_those_before_it_and_none_after(folder, timeline, kind):
    ours = features(folder, kind, timeline, layer=DEPTH, context_words=4)
    first = [int(segment.start_s // TR_S) for segment in WORDS]
    np.testing.assert_array_equal(ours[:, -1], np.bincount(first, minlength=N_TRS))
    tr, words = 3, STORY.split()
    vocabulary = json.loads((folder / kind / "tokenizer.json").read_text())["model"]["vocab"]
    expected = []
    for n in np.flatnonzero(np.array(first) == tr):
        tokens = torch.tensor([[vocabulary[word] for word in words[max(0, n - 4) : n + 1]]])
        expected.append(network(folder, kind)(tokens, output_hidden_states=True).hidden_states[DEPTH][0, -1])
    np.testing.assert_allclose(ours[tr, :-1], torch.stack(expected).mean(dim=0), atol=1e-5)
    other_timeline = dataclasses.replace(timeline, segments=(*WORDS[:-1], Segment(WORDS[-1].start_s, 11.0, "dog")))
    np.testing.assert_allclose(
        features(folder, kind, other_timeline, layer=DEPTH, context_words=4)[:6], ours[:6], atol=1e-6
    )


def test_the_words_of_a_sentence_are_spread_over_it():
    assert spoken_words([Segment(5.0, 7.0, "b c"), Segment(1.0, 1.0, "a"), Segment(2.0, 3.0, "")]) == [
        (1.0, "a"),
        (5.0, "b"),
        (6.0, "c"),
    ]


def test_a_model_runs_once_for_the_same_content(folder, timeline, tmp_path, monkeypatch):
    runs = ModelRuns(cache=FeatureCache(tmp_path))
    first = features(folder, "vit", timeline, runs)
    later = dataclasses.replace(timeline, start_s=3.0, n_trs=N_TRS - 2)
    monkeypatch.setattr(pretrained, "load_pretrained", lambda *_: pytest.fail("the model ran again"))
    np.testing.assert_array_equal(features(folder, "vit", later, runs), first[2:])
    for change in ({"layer": 2}, {"runs": dataclasses.replace(runs, fps=4.0)}):
        with pytest.raises(pytest.fail.Exception):
            features(folder, "vit", timeline, **{"runs": runs, **change})
    [cache_file] = tmp_path.glob("*.npy")
    cache_file.write_bytes(cache_file.read_bytes()[:200])
    with pytest.raises(pytest.fail.Exception):
        features(folder, "vit", timeline, runs)


def test_a_stimulus_without_what_a_model_reads_has_no_such_features(folder, timeline):
    silent = dataclasses.replace(timeline, sound=None, segments=())
    assert features(folder, "wav2vec2", silent) is None
    assert features(folder, "gpt2", silent) is None
    assert features(folder, "vit", dataclasses.replace(timeline, film=None)) is None


def test_a_film_that_ends_before_the_scan_is_refused(folder, timeline):
    with pytest.raises(DataError, match=r"lasts 13\.0 s, but 15\.0 s are needed"):
        features(folder, "vit", dataclasses.replace(timeline, n_trs=10))


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [
        ("clip", {}, r"the model reads pictures and text"),
        ("vit", {"reads": "sound"}, r"the model reads pictures, not sound"),
        ("vit", {"layer": 3}, r"there is no layer 3; vit has 2"),
        ("clip", {"reads": "sound"}, r"the model has no part that reads sound"),
    ],
)
def test_an_impossible_request_is_refused(folder, timeline, kind, source, sentence):
    with pytest.raises(DataError, match=sentence):
        features(folder, kind, timeline, **source)


def test_weights_are_never_made_up(folder, timeline, tmp_path):
    from safetensors.torch import load_file, save_file

    path = write_model(tmp_path / "vit", "vit")
    weights = load_file(path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1" not in k}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"lacks \d+ arrays of its weights"):
        features(tmp_path, "vit", timeline)
    (path / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot load"):
        features(tmp_path, "vit", timeline)


def test_a_model_is_found_in_the_cache_or_its_download_is_named(folder, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="is not in the Hugging Face cache of this machine") as error:
        model_folder("lab/tiny", tmp_path, "data.features.tiny.model")
    assert error.value.remedy.endswith("hf download lab/tiny")
    snapshot = tmp_path / "models--lab--tiny" / "snapshots" / "0123"
    write_model(snapshot, "vit")
    (tmp_path / "models--lab--tiny" / "refs").mkdir()
    (tmp_path / "models--lab--tiny" / "refs" / "main").write_text("0123")
    assert model_folder("lab/tiny", tmp_path, "data.features.tiny.model") == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(DataError, match="no configuration or no weights") as error:
        model_folder("lab/tiny", tmp_path, "data.features.tiny.model")
    assert error.value.remedy.endswith("hf download lab/tiny")
    with pytest.raises(DataError, match="neither a folder nor the name"):
        model_folder("no such/folder/at all", tmp_path, "data.features.tiny.model")


@pytest.mark.parametrize("kind", ["ast", "clap"])
@torch.inference_mode()
def test_a_model_that_mixes_times_hears_the_seconds_up_to_each_row(folder, timeline, kind):
    ours = features(folder, kind, dataclasses.replace(timeline, tr_s=1.0, n_trs=12), reads="sound", layer=1)
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder / kind)
    rate_hz = extractor.sampling_rate
    wave = read_samples(timeline.film, rate_hz)
    clips = {5: wave[2 * rate_hz : 6 * rate_hz], 1: np.pad(wave[: 2 * rate_hz], (2 * rate_hz, 0))}
    model = network(folder, kind)
    part = model.audio_model if kind == "clap" else model
    for row, clip in clips.items():
        inputs = extractor(clip, sampling_rate=rate_hz, return_tensors="pt")
        states = part(**inputs, output_hidden_states=True).hidden_states[1]
        tokens = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
        np.testing.assert_allclose(ours[row], tokens.mean(dim=1)[0], atol=1e-4)
