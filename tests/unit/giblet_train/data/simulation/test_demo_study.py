"""The demo study from the command line: complete, repeatable, left alone when finished, refused in words."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.readers.annotations import read_annotations
from giblet_train.data.simulation.demo_study import SIZES, format_json, simulate_study
from giblet_train.data.simulation.generated_film import generated_film
from giblet_train.data.simulation.stimulus import FILM, SimulatedStimulus, prepare_stimulus
from giblet_train.data.stimulus.video import film_seconds, read_frames
from giblet_train.schema.errors import ConfigError, DataError
from tests.fork_server import engine_cli_server


def quiet(sentence, fraction):
    pass


def simulate(*arguments, **environment):
    return engine_cli_server().run(["simulate", *map(str, arguments)], {**os.environ, **environment}, Path.cwd(), 500)


@pytest.fixture(scope="module")
def tiny(tiny_study) -> tuple[Path, dict]:
    return tiny_study, json.loads((tiny_study / "study.json").read_text())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Return a film of 12 s that nobody has annotated."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    generated_film(path, 12.0, seed=3)
    return path


def test_the_folder_holds_exactly_what_study_json_says(tiny):
    out, facts = tiny
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {*facts["files"], "study.json"}
    subjects = {f"bold/sub-0{n}.nii.gz" for n in (1, 2, 3)}
    assert set(facts["files"]) == {
        *("film.mp4", "annotations.xlsx", "atlas.nii.gz", "atlas.tsv", "truth.npz", "truth.json"),
        *subjects,
    }
    for name, sha256 in facts["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256


def test_film_scans_and_annotations_cover_the_same_time(tiny):
    out, facts = tiny
    n_trs = sum(facts["scan_lengths_trs"])
    assert nibabel.load(out / "bold" / "sub-01.nii.gz").shape == (16, 19, 16, n_trs)
    assert film_seconds(out / "film.mp4") >= n_trs * facts["tr_s"]
    segments = read_annotations(out / "annotations.xlsx", facts["tr_s"], facts["scan_lengths_trs"]).segments
    assert segments[0].start_s == 0.0
    assert segments[-1].end_s >= n_trs * facts["tr_s"]
    assert all(segment.detail for segment in segments)


def test_the_truth_fits_the_volumes(tiny):
    out, facts = tiny
    truth = np.load(out / "truth.npz")
    assert truth["brain_XYZ"].sum() == facts["brain_voxels"]
    n_responsive = int((truth["region_XYZ"] > 0).sum())
    assert n_responsive == sum(facts["region_voxels"].values())
    assert 1.0 - n_responsive / facts["brain_voxels"] == pytest.approx(facts["null_share"], abs=1e-4)
    assert facts["null_share"] > 0.6
    description = json.loads((out / "truth.json").read_text())
    for group, names in description["features"].items():
        assert truth[f"features_{group}_TF"].shape == (60, len(names))
        assert truth[f"sub-03_weights_{group}_FR"].shape == (len(names), n_responsive)
        assert truth[f"features_{group}_TF"].any(), group


def test_no_path_of_this_machine_is_written(tiny):
    out, _ = tiny
    for name in ("study.json", "truth.json"):
        assert str(out.parent) not in (out / name).read_text()


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(tiny, tmp_path):
    result = simulate(tmp_path / "again", "--size", "tiny", OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2")
    assert json.loads(result.stdout) == tiny[1]
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_another_seed_gives_other_bytes_and_fewer_subjects_fewer_files(tiny, tmp_path):
    facts = simulate_study(tmp_path / "other", "tiny", seed=1, n_subjects=1)
    assert sum(name.startswith("bold/") for name in facts.files) == 1
    same = {name for name, sha256 in facts.files.items() if tiny[1]["files"][name] == sha256}
    assert same == {"atlas.nii.gz", "atlas.tsv"}


def test_a_finished_study_is_left_unchanged_and_reported(tiny):
    out, facts = tiny
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    messages = []
    facts_again = simulate_study(out, "tiny", progress=lambda sentence, fraction: messages.append(sentence))
    assert json.loads(format_json(facts_again)) == facts
    assert messages == [f"{out} holds this study already; it stays as it is."]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_study_or_other_things_in_the_folder_are_refused(tiny, tmp_path, clip):
    result = simulate(tiny[0], "--size", "tiny", "--seed", "5")
    assert result.returncode == 2
    assert "seed 0, not 5" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(ConfigError, match="another film"):
        simulate_study(tiny[0], "tiny", film=clip)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="holds other things"):
        simulate_study(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_film_that_is_missing_undescribed_or_too_short_is_refused_with_nothing_left(tmp_path, clip):
    for film, sentence in ((tmp_path / "none.mp4", "does not exist"), (clip, "has no annotations")):
        with pytest.raises(DataError, match=sentence):
            simulate_study(tmp_path / "out", "tiny", film=film)
    short_film = tmp_path / "short.mp4"
    short_film.write_bytes(clip.read_bytes())
    short_film.with_suffix(".csv").write_text("start_s,end_s,detail,names_all,location\n0,12,A disc drifts,,\n")
    with pytest.raises(DataError, match=r"lasts 12\.0 s, the scans 90\.0 s"):
        simulate_study(tmp_path / "out", "tiny", film=short_film)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.csv", "short.mp4"]


def test_without_the_package_index_a_generated_film_is_used_and_announced(tmp_path):
    showing = SimulatedStimulus((8,), 1.5, seed=0, repeated=False, generated=False)
    program = f"""
from pathlib import Path
from giblet_train.data.simulation.stimulus import SimulatedStimulus, prepare_stimulus
facts, _ = prepare_stimulus(Path({str(tmp_path)!r}), None, {showing!r}, lambda sentence, fraction: print(sentence))
print(facts.source)
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "A GENERATED FILM TAKES ITS PLACE" in result.stdout
    assert result.stdout.splitlines()[-1] == "generated"


def test_a_film_runs_again_until_the_scans_are_over(tmp_path, clip):
    film = tmp_path / "clip.mp4"
    film.write_bytes(clip.read_bytes())
    film.with_suffix(".csv").write_text(
        "start_s,end_s,detail,names_all,location\n0,5,A disc drifts,,\n5,12,A red ring rests,,\n"
    )
    (tmp_path / "study").mkdir()
    showing = SimulatedStimulus((10, 12), 1.5, seed=0, repeated=True, generated=False)
    facts, features = prepare_stimulus(tmp_path / "study", film, showing, quiet)
    assert (facts.source, facts.runs) == ("given", 3)
    once = read_frames(film, 1.5, 8, 2.0, 18, 32).astype(int)
    thrice = read_frames(tmp_path / "study" / FILM, 1.5, 22, 2.0, 18, 32).astype(int)
    for first in (0, 8):
        assert np.abs(thrice[first : first + 8] - once).mean() < 3.0
    segments = read_annotations(tmp_path / "study" / "annotations.xlsx", 1.5, (10, 12)).segments
    assert [segment.start_s for segment in segments] == [0.0, 5.0, 12.0, 17.0, 24.0, 29.0]
    np.testing.assert_allclose(features["text"][:3], features["text"][8:11], atol=1e-6)


def test_sizes_are_those_of_the_paper():
    shapes = {name: (size.grid.shape, sum(size.scan_lengths_trs), size.n_subjects) for name, size in SIZES.items()}
    assert shapes == {
        "tiny": ((16, 19, 16), 60, 3),
        "small": ((16, 19, 16), 397, 5),
        "full": ((61, 73, 61), 397, 17),
        "scale": ((61, 73, 61), 920, 17),
        "sherlock": ((16, 19, 16), 1976, 5),
    }
