"""The report of a run: written at its end, whole in one file, and free of faults in a browser."""

import json
import zlib
from base64 import b64decode
from io import BytesIO
from types import SimpleNamespace

import av
import nibabel
import numpy as np
import pytest

from giblet_train.analysis import report_hook
from giblet_train.analysis.film_clip import FilmClip, encode_clip
from giblet_train.analysis.held_out_maps import held_out_maps
from giblet_train.analysis.report_hook import ReportHook
from giblet_train.analysis.run_report import ReportParts, report_page
from giblet_train.data.checks.findings import Finding
from giblet_train.data.checks.html_report import page
from giblet_train.data.checks.run_checks import DataReport
from giblet_train.data.statistics.lag import lag_table
from giblet_train.monitoring.verdict import read_verdict
from giblet_train.pages.film import encode_sound
from giblet_train.schema.history import read_history
from giblet_train.schema.records import BrainRecord, EventMetric, decode
from giblet_train.training import process
from tests.browser import browser
from tests.engine_study import load
from tests.made_study import made_study
from tests.unit.giblet_train.analysis.test_evaluate_run import look
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    criteria = {"drop": {"kind": "loss_drop", "threshold": 0.01}, "far": {"kind": "loss_drop", "threshold": 0.9}}
    run_dir = run_dir_of(tmp_path_factory.mktemp("work"), criteria=criteria)
    assert process.train(run_dir.path, load, ReportHook()) == 0
    return run_dir


def clip():
    frames = [np.full((88, 128, 3), 40 * n, np.uint8) for n in range(6)]
    wave = np.sin(np.arange(24000) / 9).astype(np.float32)
    return FilmClip(
        mp4=encode_clip(frames, 0.25, wave, 16000),
        panels=("film", "its components", "from predicted brains", "from measured brains"),
        film_sound_mp4=encode_sound(wave, 16000),
        poster=frames[3],
        stimulus="the film",
        film_s=(61.0, 62.5),
    )


def test_a_finished_run_has_its_report(finished_run):
    report = finished_run.report
    assert {"report.html", "evaluation.json", "r.nii.gz", "q.nii.gz", "sub-01_r.nii.gz"} <= {
        p.name for p in report.iterdir()
    }
    assert {"space.nii.gz", "memory_s.nii.gz", "lost_without_video.nii.gz"} <= {p.name for p in report.iterdir()}
    shares = sum(nibabel.load(report / f"share_{m}.nii.gz").get_fdata() for m in ("video", "audio", "text"))
    space = nibabel.load(report / "space.nii.gz").get_fdata().ravel()
    assert shares == pytest.approx(1.0, abs=1e-5), "no voxel uses a nonlinear space"
    assert (space[:20] > 0).all() and (space[20:] > 0).mean() < 0.1, "the first third is driven"
    series = np.genfromtxt(report / "series.tsv", names=True)
    assert len(series) == 46 and series["film_s"][1] - series["film_s"][0] == 1.5
    text = (report / "report.html").read_text()
    figures = json.loads((report / "evaluation.json").read_text())
    assert f"r = {figures['encoding']['r_responsive']:.2f}" in text
    assert '<span class="badge fail">FAIL</span>' in text and "completed" in text
    assert "no clip" in text and "false-discovery rate" in text
    assert any(e.name == "report" for e in metrics_of(finished_run, EventMetric))


def test_the_terminal_gets_the_maps_of_the_evaluation(finished_run):
    record = decode(finished_run.brain.read_bytes(), BrainRecord)
    assert record.held_out and record.shape == (40, 1, 1) and record.step_mm == 1.5
    assert {"r", "ceiling", "space", "memory", "r:sub-01"} <= set(record.maps)
    codes = np.frombuffer(zlib.decompress(b64decode(record.maps["space"].voxels)), np.uint8)
    assert (codes[:13] >= 2).all() and (codes[14:] == 1).mean() > 0.9, "the first third of the voxels is driven"
    assert record.maps["space"].names == ("video", "audio", "text", "mixed")
    assert finished_run.brain.stat().st_size < 10_000


def trainer_at_its_end(run_dir, events, stop_requested=False):
    """Return what the hook reads of a trainer whose run has finished."""
    return SimpleNamespace(
        ranks=SimpleNamespace(is_first=True),
        setup=SimpleNamespace(shards=SimpleNamespace(sharded=False)),
        train_step=SimpleNamespace(average=SimpleNamespace(model=None)),
        logger=SimpleNamespace(log_event=lambda *event: events.append(event), heartbeat=lambda *_: None),
        stop_signals=SimpleNamespace(poll=lambda: {"stop": stop_requested}),
        **dict.fromkeys(("evaluator", "config", "data"), "any"),
        run_dir=run_dir,
    )


def test_a_report_that_fails_does_not_fail_the_run(finished_run, monkeypatch):
    def broken(*_):
        raise RuntimeError("no space for maps")

    monkeypatch.setattr(report_hook, "held_out_maps", broken)
    events = []
    ReportHook().on_finished(trainer_at_its_end(finished_run, events))
    ((name, level, sentence),) = events
    assert (name, level) == ("report", "warning") and "no space for maps" in sentence
    assert (finished_run.report / "report.html").exists(), "the earlier report stays"
    assert not finished_run.report.with_name(".report.part").exists()


def test_a_stop_request_ends_the_report_of_a_finished_run(finished_run, monkeypatch):
    monkeypatch.setattr(report_hook, "held_out_maps", lambda run: None)
    monkeypatch.setattr(report_hook, "evaluate_into", lambda run, folder, report_progress, *_: report_progress("maps"))
    events = []
    ReportHook().on_finished(trainer_at_its_end(finished_run, events, stop_requested=True))
    ((name, level, sentence),) = events
    assert (name, level) == ("report", "info") and "giblet evaluate" in sentence
    assert not finished_run.report.with_name(".report.part").exists()


def test_a_clip_plays_its_frames_and_its_sound():
    with av.open(BytesIO(clip().mp4)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        brightness = [float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    assert len(brightness) == 6 and brightness == sorted(brightness)
    assert len(clip().mp4) < 30_000


def test_pages_have_no_fault_in_a_browser_at_any_width(finished_run, tmp_path):
    run = look(finished_run.path)
    figures = json.loads((finished_run.report / "evaluation.json").read_text())
    metrics, verdict = read_history(finished_run), read_verdict(finished_run)
    modalities = ("video", "audio", "text")
    lesion = {
        "region": "a_region_with_a_long_name",
        "changes": {m: {"skill": {"lost": 0.1, "p": 0.04}} for m in modalities},
    }
    lesions = {"source": "measured", "n_draws": 20, "before": {m: {} for m in modalities}, "lesions": [lesion]}
    parts = ReportParts(run, figures, held_out_maps(run), metrics, verdict, lesions, clip())
    study = made_study(scan_lengths_trs=(100, 80))
    finding = Finding(finding="spikes", severity="warning", sentence="Jumps at <3> TRs.", action="Look & see.")
    pages = {
        "report": report_page(parts),
        "check": page(DataReport([finding], {}, {}, lag_table(study), study)),
    }
    broken_page = pages["report"].replace("</main>", '<img src="data:,"><div style="width:3000px">x</div></main>')
    with browser(tmp_path / "profile") as chromium:
        for name, text in {**pages, "broken": broken_page}.items():
            (tmp_path / f"{name}.html").write_text(text)
        for name in pages:
            for width, dark in ((390, False), (820, True), (1400, False)):
                assert chromium.faults(tmp_path / f"{name}.html", width, dark=dark) == [], f"{name} at {width} pixels"
        faults = chromium.faults(tmp_path / "broken.html", 820)
        assert any("too wide" in fault for fault in faults) and "an img has no alt text" in faults
