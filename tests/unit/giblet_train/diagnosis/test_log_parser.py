"""The lab's logs: every epoch line found among its noise, what is unknown said, the lab's own run named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse, read_log, read_plan_file
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import Adoption
from giblet_tui.reporting.why import of_path, of_run, why_json, why_lines
from tests import fleets
from tests.collection.legacy import Line, write_log

LAB_FILE = """\
learning_rate: 1.0e-4
batch_size: 2
num_epochs: 500
warmup_epochs: 10
scheduler_type: cosine
model: {use_encodec: true, n_voxels: 85810}
distributed: {enabled: true, world_size: 8, master_addr: localhost, master_port: '12355'}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return the lab's own flat run: 275,959 to 275,825 in fifteen epochs, the rate at a tenth of its base."""
    lines = [Line(275_959 - 134 * e / 14, 1e-5, 198_234.1, 0.0013) for e in range(15)]
    log = tmp_path / "training_production_20251105_091500.log"
    log.write_text(write_log(lines, 500, 2))
    return log


def test_epoch_lines_are_found_among_bars_colours_and_noise() -> None:
    lines = [Line(2.0 - 0.1 * e, 1e-4 * e, 2.1, 0.01) for e in range(1, 6)]
    for seed in range(6):
        log = parse(write_log(lines, 50, seed).split("\n"))
        assert [m.epoch for m in log.metrics] == [1, 2, 3, 4, 5]
        assert [m.train.total for m in log.metrics] == pytest.approx([line.train for line in lines])
        assert log.metrics[2].validation is not None and log.metrics[2].validation.total == pytest.approx(2.1)
        assert (log.metrics[2].lr, log.metrics[2].fmri_r, log.n_epochs) == (3e-4, 0.01, 50)
        assert log.steps_per_epoch is not None and 40 <= log.steps_per_epoch <= 90


def test_validation_may_be_absent_and_numbers_not_finite() -> None:
    log = parse(
        ["Epoch 1/9 | Train Loss: 1.5 | LR: 1.00e-04", "Epoch 2/9 | Train Loss: nan | Val Loss: inf | LR: 1e-4"]
    )
    assert log.metrics[0].validation is None and log.metrics[1].train.total is None
    assert log.metrics[1].validation is not None and log.metrics[1].validation.total is None


def test_giblets_own_lines_bring_their_components() -> None:
    line = "Epoch 3/12 | Train Loss: 1.3692 | Val Loss: 7.6190 | fMRI Corr: 0.0563 | LR: 9.75e-04 | fmri 0.7 video 0.5"
    assert parse([line]).metrics[0].train.loss == {"fmri": 0.7, "video": 0.5}


def test_a_restart_in_the_same_log_replaces_what_it_repeats() -> None:
    once = [f"Epoch {e}/9 | Train Loss: {3 - e}.0 | LR: 1e-4" for e in (1, 2, 3)]
    log = parse([*once, "Traceback (most recent call last):", "Epoch 2/9 | Train Loss: 0.5 | LR: 1e-4"])
    assert [(m.epoch, m.train.total) for m in log.metrics] == [(1, 2.0), (2, 0.5)]
    assert log.tail == () and "restarted" in log.notes[0]


def test_the_labs_own_run_is_named_with_its_configuration(lab: Path, tmp_path: Path) -> None:
    plan = tmp_path / "production.yaml"
    plan.write_text(LAB_FILE)
    finding = of_path(lab, str(plan))
    first = finding.diagnosis.causes[0]
    assert (first.cause, first.evidence["reason"]) == ("lr_off_plan", "stepped_per_epoch")
    assert first.evidence["observed"] == 1e-5 and first.evidence["base"] == 1e-4
    assert {"loss_not_unit_free", "flat"} <= {cause.cause for cause in finding.diagnosis.causes}
    assert any("Only the plan" in note for note in finding.notes)
    assert "1.00e-05" in "\n".join(why_lines(finding))


def test_without_its_configuration_it_says_what_the_file_shows_and_what_it_cannot(lab: Path) -> None:
    finding = of_path(lab, None)
    assert finding.diagnosis.causes[0].cause == "loss_not_unit_free"
    assert "lr_off_plan" not in {cause.cause for cause in finding.diagnosis.causes}
    notes = " ".join(finding.notes)
    assert "components" in notes and "--config" in notes
    shape = json.loads(json.dumps(why_json(finding), allow_nan=False))
    assert shape["schema"] == 1 and shape["healthy"] is False
    assert set(shape["causes"][0]) == {"cause", "confidence", "sentence", "evidence", "action"}


@pytest.mark.parametrize(
    ("log", "opening"),
    [("/home/ada/v3.log", "This log does not show the components' losses"), (None, "No log of it is known")],
)
def test_an_adopted_run_that_does_well_is_reported_with_what_its_log_cannot_show(log: str | None, opening: str) -> None:
    lines = [Line(2.0 - 0.1 * e, 1e-4, 2.1 - 0.1 * e, 0.01 * e) for e in range(1, 6)]
    epochs = parse(write_log(lines, 50, 2).split("\n")).metrics
    run = fleets.run()
    own = of_run(run)
    adoption = Adoption(address="42.v3", mark="STY=42.v3", at=fleets.NOW, by="ada@laptop", log=log)
    finding = of_run(
        replace(run, run=replace(run.run, adopted=adoption), config=None, plan_record=None, steps=(), epochs=epochs)
    )
    assert finding.diagnosis.healthy and own.notes == ()
    assert "no records of steps or epochs" in of_run(replace(run, steps=(), epochs=())).notes[-1]
    assert "There is no plan to compare with" in finding.notes[0]
    assert finding.notes[1].startswith(opening) and len(finding.notes) == 2


def test_a_plan_is_read_from_a_file_that_giblet_would_not_train_on(tmp_path: Path) -> None:
    path = tmp_path / "Production Config.yaml"
    path.write_text(LAB_FILE)
    config = read_plan_file(path)
    assert (config.learning_rate, config.num_epochs, config.warmup_epochs) == (1e-4, 500, 10)


def test_a_log_in_which_nothing_began_is_not_called_well(tmp_path: Path) -> None:
    """The lab's run that never started was found eight hours later; another found its port in use."""
    log = tmp_path / "night.log"
    log.write_text("[2025-11-04 23:10:01] INFO Loading dataset for 17 subjects\n")
    finding = of_path(log, None)
    assert why_lines(finding)[0].startswith("Nothing can be concluded: no loss") and finding.inconclusive
    assert not why_json(finding)["healthy"]
    in_use = "torch.distributed.DistNetworkError: The server socket has failed to listen: address already in use"
    log.write_text(f"[c10d] The server socket has failed to listen on [::]:29500 (errno: 98).\n{in_use}\n")
    [cause] = of_path(log, None).diagnosis.causes
    assert cause.cause == "crashed" and in_use in cause.sentence


@pytest.mark.parametrize("n_epochs", [1, 2, 3])
def test_a_log_of_one_or_two_epochs_cannot_be_judged_yet(n_epochs: int, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"Epoch {e}/50 train loss {1.0 - 0.1 * e}\n" for e in range(1, n_epochs + 1)))
    answer = of_path(log, None)
    spans = {1: "only epoch 1 of 50", 2: "only epochs 1 and 2 of 50"}
    if n_epochs in spans:
        assert why_lines(answer) == [f"It cannot be judged yet: {spans[n_epochs]} can be seen, and no error."]
    assert answer.inconclusive is (n_epochs in spans) and why_json(answer)["healthy"] is (n_epochs not in spans)
    with log.open("a") as file:
        file.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 6.26 GiB\n")
    assert [cause.cause for cause in of_path(log, None).diagnosis.causes][:1] == ["oom_gpu"]


def test_a_log_that_only_crashed_is_read_by_its_end(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("Traceback (most recent call last):\n  File x\nKeyError: 'sub-04'\n")
    assert of_path(log, None).diagnosis.causes[0].cause == "crashed"
    log.write_text("")
    with pytest.raises(DataError, match="empty"):
        read_log(log)
    assert diagnose(None, parse(["Loading dataset..."]).metrics).healthy
