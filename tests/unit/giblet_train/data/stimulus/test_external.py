"""Features that a lab brings: files on the film's clock, installed extractors by name, codes that are counted."""

import dataclasses
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.stimulus import encodec, external
from giblet_train.data.stimulus.external import external_features
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import ConfigError, DataError
from tests.made_study import TINY_DATA, made_config

FILM = FilmTimeline(None, 1.5, 20, 3.0, ())


def brought(source, file=None, modality="audio"):
    return external_features(modality, FeatureSource(**source), file, FILM)


def saved(path, array):
    np.save(path, array)
    return path


def offered(monkeypatch, function, name="lab"):
    """Register an extractor as an installed package does, without the package."""
    point = EntryPoint(name, "nowhere:extract", external.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: function)
    monkeypatch.setattr(external, "entry_points", lambda group: [point])


@pytest.mark.parametrize("rate", [2.0, 1.0, 24.0, 1 / 1.5])
def test_rows_of_a_file_are_averaged_over_the_seconds_of_a_tr(tmp_path, rate):
    random = np.random.default_rng(0)
    rows = random.standard_normal((int(40 * rate), 3)).astype(np.float32)
    fine = 240
    seconds = (np.arange(fine * 40) + 0.5) / fine
    series = rows[np.minimum((seconds * rate).astype(int), len(rows) - 1)]
    expected = series[3 * fine : 33 * fine].reshape(20, -1, 3).mean(axis=1)
    ours = brought({"file": "a.npy", "rows_per_s": rate}, saved(tmp_path / "a.npy", rows))
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_without_a_rate_a_row_is_a_tr_of_the_film(tmp_path):
    rows = np.arange(30.0)
    np.testing.assert_allclose(brought({"file": "a.npy"}, saved(tmp_path / "a.npy", rows))[:, 0], np.arange(2, 22))


def test_codes_are_counted_book_by_book(tmp_path):
    codes = np.random.default_rng(0).integers(0, 5, (75 * 40, 2))
    shares = brought({"file": "c.npy", "rows_per_s": 75.0, "codes": 5}, saved(tmp_path / "c.npy", codes))
    assert shares.shape == (20, 2 * 5)
    np.testing.assert_allclose(shares.reshape(20, 2, 5).sum(axis=2), 1.0, atol=1e-5)
    # 75 rows a second are 112.5 in a TR: an even TR's 112 moments are those of its own rows.
    in_first = codes[225 : 225 + 112]
    np.testing.assert_allclose(shares[0, :5] * 112, np.bincount(in_first[:, 0], minlength=5), atol=1.01)


def test_an_extractor_is_found_by_name_and_given_the_timeline(monkeypatch):
    timelines = []

    def extract(timeline):
        timelines.append(timeline)
        return np.full((timeline.n_trs, 4), 0.25)

    offered(monkeypatch, extract)
    np.testing.assert_array_equal(brought({"extractor": "lab"}), np.full((20, 4), 0.25, np.float32))
    assert timelines == [FILM]
    with pytest.raises(DataError, match=r"There is no extractor called 'labb', did you mean \"lab\"") as error:
        brought({"extractor": "labb"})
    assert "encodec, lab" in error.value.remedy


@pytest.mark.parametrize(
    ("values", "source", "sentence"),
    [
        (np.ones((19, 4)), {}, "shape 19 x 4; 20 TRs need"),
        (np.full((20, 4), np.nan), {}, "in 20 TRs are not finite"),
        (np.full((20, 3, 2), 7), {"codes": 5}, "run from 7 to 7; a book of 5 has 0 to 4"),
        (np.full((20, 3, 2), 0.5), {"codes": 5}, "need whole numbers"),
        (np.ones((20, 3, 2), int), {}, "shape 20 x 3 x 2"),
    ],
)
def test_what_does_not_fit_is_refused(monkeypatch, values, source, sentence):
    offered(monkeypatch, lambda _: values)
    with pytest.raises(DataError, match=sentence):
        brought({"extractor": "lab", **source})


def test_another_packages_fault_is_reported_in_a_sentence(monkeypatch):
    def broken(_):
        raise RuntimeError("no weights in /models")

    offered(monkeypatch, broken)
    with pytest.raises(DataError, match=r"'lab' failed: RuntimeError: no weights in /models"):
        brought({"extractor": "lab"})


def test_a_file_that_is_too_short_or_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has 40 rows at 2 a second, 20\.0 s of the stimulus; 33\.0 s are needed"):
        brought({"file": "a.npy", "rows_per_s": 2.0}, saved(tmp_path / "a.npy", np.ones((40, 2))))
    (tmp_path / "b.npy").write_text("no array")
    with pytest.raises(DataError, match=r"is not a readable array"):
        brought({"file": "b.npy"}, tmp_path / "b.npy")
    with pytest.raises(ConfigError, match=r"data\.features\.audio names one of extractor, file and model; here: none"):
        made_config(data={"features": {"audio": {"rows_per_s": 2.0}}})


def test_a_file_longer_than_the_film_is_refused_with_the_rate_that_fits(tmp_path):
    film = dataclasses.replace(FILM, seconds=40.0)
    rows = np.random.default_rng(0).standard_normal((80, 3))
    source = FeatureSource(file="a.npy", rows_per_s=1.0)
    with pytest.raises(DataError, match=r"80\.0 s, but the stimulus lasts 40\.0 s") as error:
        external_features("video", source, saved(tmp_path / "a.npy", rows), film)
    assert "rows_per_s: 2 would fit" in error.value.remedy
    external_features("video", FeatureSource(file="a.npy", rows_per_s=2.0), tmp_path / "a.npy", film)


@pytest.mark.parametrize("rate", [75.0, 1.5])
def test_codes_brought_as_amounts_are_refused_at_any_rate(tmp_path, rate):
    codes = np.random.default_rng(0).integers(0, 1024, (round(40 * rate), 4))
    with pytest.raises(DataError, match="look like codes") as error:
        brought({"file": "c.npy", "rows_per_s": rate}, saved(tmp_path / "c.npy", codes))
    assert error.value.finding == "codes_as_numbers"
    counts = np.cumsum(np.random.default_rng(0).integers(-2, 3, codes.shape), axis=0)
    brought({"file": "n.npy", "rows_per_s": rate}, saved(tmp_path / "n.npy", counts))


def test_a_row_that_is_not_finite_is_named(tmp_path):
    rows = np.ones((80, 2))
    rows[37, 1] = np.nan
    with pytest.raises(DataError, match=r"1 rows of a\.npy are not finite, first row 37"):
        brought({"file": "a.npy", "rows_per_s": 2.0}, saved(tmp_path / "a.npy", rows))


def test_encodec_without_its_weights_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(encodec, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="transformers, which is not installed") as error:
        brought({"extractor": "encodec", "codes": 1024})
    assert "codes.npy" in error.value.remedy


def test_a_store_keeps_what_was_brought_and_weighs_codes_by_their_variance(tiny_study, tmp_path, monkeypatch):
    codes = np.random.default_rng(0).integers(0, 6, (60, 15, 2))
    offered(monkeypatch, lambda timeline: codes[: timeline.n_trs])
    np.save(tmp_path / "jepa.npy", np.random.default_rng(1).standard_normal((180, 7)))
    for path in tiny_study.iterdir():
        (tmp_path / path.name).symlink_to(path)
    source = {"video": {"file": "jepa.npy", "rows_per_s": 2.0}, "audio": {"extractor": "lab", "codes": 6}}
    config = made_config(data={**TINY_DATA, "features": source}, split={"gap_trs": 4})
    study = open_store(build_store(config, tmp_path, tmp_path / "work", lambda *_: None))
    assert {m: x.shape[1] for m, x in study.features.items()} == {"video": 7, "audio": 12, "text": 385}
    assert study.codes == {"audio": 6}
    data = prepare_split(study, make_split(study.scan_lengths_trs, study.border_trs, config.split), config)
    variance_F = study.features["audio"][data.split.train].var(axis=0, dtype=np.float64)
    np.testing.assert_allclose(data.target_weights["audio"], 12 * variance_F / variance_F.sum(), rtol=1e-3)
    assert data.facts["audio"].expected_first_loss == pytest.approx(1.0, abs=1e-3)
    plain = made_config(data=TINY_DATA, split={"gap_trs": 4})
    assert build_store(plain, tmp_path, tmp_path / "work", lambda *_: None).name != study.key
