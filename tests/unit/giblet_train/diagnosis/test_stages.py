"""The ladder: who may climb, with what, at what cost, and what the notebook keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from giblet_train.diagnosis.stages import next_stage, promote_config, promoted_name
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.health import Health
from giblet_train.schema.records import DataMetric, Promotion
from giblet_tui.cli.parser import program
from giblet_tui.inventory import configs
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.promotion import (
    HEAD,
    PromotionPlan,
    obsolete_runs,
    plan_promotion,
    promotion_lines,
    stage_table,
)
from tests import fleets

LADDER = configs.ladder()
EASY = {"loss_drop": {"kind": "loss_drop", "threshold": 0.01}}
BOTH = EASY | {"unreal": {"kind": "loss_drop", "threshold": 0.99}}


def ended(criteria: dict[str, object] | None = None, **changes: object) -> RunSnapshot:
    """Return a run of 20 epochs that has finished, on one process with three subjects."""
    config = fleets.demo_config("flies", criteria=EASY if criteria is None else criteria, **changes)
    run = fleets.run("flies", steps=400, state="finished", config=config)
    data = DataMetric(
        seq=1, step=0, epoch=1, at=0.0, store_key="0", subjects=("1", "2", "3"), n_voxels=10, tr_s=1.5, n_trs=400,
        train_trs=200, validation_trs=40, test_trs=70, stimulus_offset_s=0.0, components={},
    )  # fmt: skip
    assert run.plan_record is not None
    return replace(run, data=data, plan_record=replace(run.plan_record, scored_trs_per_step=40, device="cuda"))


def rise(run: RunSnapshot, **settings: object) -> PromotionPlan:
    return plan_promotion(run, LADDER, "cluster", settings, (), "")


def test_what_was_proved_is_what_climbs_and_only_the_stages_keys_differ() -> None:
    ascent = rise(ended(learning_rate=2e-3))
    config = ascent.target.config
    assert (config.name, config.stage, config.num_epochs, config.learning_rate) == (
        "flies-cluster",
        "cluster",
        50,
        2e-3,
    )
    opened = {key.partition(".")[0] for key in LADDER.stages[1].open_keys} | {"stage"}
    assert {key.partition(".")[0] for key in ascent.target.changes} <= opened
    assert set(config.criteria) == {"loss_drop", "explained", "val_gap", "no_dominance", "beats_null"}


def test_the_cost_is_bounded_by_measured_steps_and_by_work() -> None:
    ascent = rise(ended())
    cost = ascent.cost
    assert cost is not None and cost.processes == 6
    # 200 TRs at 3 × 40 a step are 2 steps, and 20 at least; 12 windows on 6 for 4 on 1, 5 heads for 3.
    assert (cost.steps, cost.step_s) == (50 * 20, pytest.approx(fleets.STEP_S, rel=0.2))
    assert cost.work == pytest.approx(0.5 * 5 / 3)
    assert cost.low_s < cost.high_s and cost.hours[1] == pytest.approx(cost.high_s * 6 / 3600)
    assert "GPU-hours" in promotion_lines(ascent)[-1]


def test_a_run_that_has_not_passed_stays_where_it_is() -> None:
    with pytest.raises(PreflightRefused, match="1 of 3 criteria not met") as refusal:
        rise(ended(BOTH))
    assert "--accept unreal --note WHY" in refusal.value.remedy
    with pytest.raises(PreflightRefused, match="only a run that has ended"):
        rise(replace(ended(), health=replace(ended().health, state="running")))
    with pytest.raises(PreflightRefused, match="proved nothing"):
        rise(ended({}))


def test_a_run_that_did_not_complete_is_promoted_only_if_that_is_accepted() -> None:
    stopped = replace(ended(), health=Health(state="stopped", sentence="stopped on request"))
    with pytest.raises(PreflightRefused, match="1 of 2 criteria not met") as refusal:
        rise(stopped)
    assert "--accept completed --note WHY" in refusal.value.remedy
    plan = plan_promotion(stopped, LADDER, "cluster", {}, ["completed"], "stopped at the last epoch")
    assert "20 of 20 epochs; stopped: stopped on request" in plan.promotion.accepted["completed"]


def test_what_is_accepted_is_kept_with_its_reason() -> None:
    ascent = plan_promotion(ended(BOTH), LADDER, "cluster", {}, ["unreal"], "noise is 90 %")
    assert ascent.promotion.verdict == "fail" and ascent.promotion.why == "noise is 90 %"
    assert "needs -99%" in ascent.promotion.accepted["unreal"]
    for accepted, why, sentence in (
        (["unreal"], "", "needs a reason"),
        (["loss_drop"], "x", "was met"),
        (["unrael"], "x", 'did you mean "unreal"'),
    ):
        with pytest.raises(ConfigError, match=sentence):
            plan_promotion(ended(BOTH), LADDER, "cluster", {}, accepted, why)


def test_no_rung_is_left_out_and_no_proved_key_changed() -> None:
    with pytest.raises(ConfigError, match="After test comes cluster"):
        next_stage(LADDER, Config(name="a"), "production")
    with pytest.raises(ConfigError, match="is the highest stage"):
        next_stage(LADDER, Config(name="a", stage="production"), "production")
    with pytest.raises(ConfigError, match='did you mean "cluster"'):
        next_stage(LADDER, Config(name="a"), "clutser")
    with pytest.raises(ConfigError, match="keeps what was tested"):
        promote_config(Config(name="a"), LADDER.stages[1], {"learning_rate": 1.0})


def test_names_carry_their_stage_and_stay_names() -> None:
    assert promoted_name("lab", "cluster") == "lab-cluster"
    assert promoted_name("lab-cluster", "production") == "lab-production"
    assert len(promoted_name("x" * 40, "production")) == 40


def test_what_it_makes_pointless_is_named() -> None:
    config = fleets.demo_config("old", stage="cluster")
    old, other = fleets.run("old", config=config), fleets.run("other")
    assert obsolete_runs([old, other, replace(old, health=replace(old.health, state="finished"))], rise(ended())) == [
        old
    ]


def test_the_notebook_is_reported_by_stage_with_what_was_accepted() -> None:
    below = ended()
    came = Promotion(from_run=below.run.run_id, from_stage="test", verdict="fail", accepted={"unreal": "-3 %"})
    above = fleets.run("up", config=fleets.demo_config("up", stage="cluster"))
    above = replace(above, run=replace(above.run, promotion=came, gpus=("GPU-1", "GPU-2"), note="why | how"))
    first, second = [dict(zip(HEAD, row, strict=True)) for row in stage_table([above, below], LADDER.names)]
    assert (first["STAGE"], first["VERDICT"], first["FROM"]) == ("test", "PASS", "–")
    assert (second["ACCEPTED"], second["FROM"]) == ("unreal", below.run.run_id)
    assert float(second["GPU-HOURS"]) == pytest.approx(2 * 280 * fleets.STEP_S / 3600, rel=0.1)


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    yield


@pytest.mark.usefixtures("own_folders")
def test_the_verb_shows_the_stages_and_takes_a_ladder_of_ones_own(tmp_path: Path) -> None:
    assert "five subjects, 50 epochs, six GPUs" in CliRunner().invoke(program, ["ladder", "--stages"]).stdout
    assert "There is no run yet" in CliRunner().invoke(program, ["ladder"]).stderr
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ladder.yaml").write_text("stages: [{stage: test, title: mine}]\n")
    assert CliRunner().invoke(program, ["ladder", "--stages"]).stdout == "test: mine\n"
    (tmp_path / "configs" / "ladder.yaml").write_text("stages: [{stage: test, titel: mine}]\n")
    assert "titel" in str(CliRunner().invoke(program, ["ladder", "--stages"]).exception)


def test_a_study_with_a_table_of_runs_keeps_its_subjects() -> None:
    """The stage's numbers are those of files; names such as anna belong to no other study."""
    config = fleets.demo_config("flies", criteria=EASY)
    tabled = replace(config, data=replace(config.data, runs="runs.tsv"))
    stage = next_stage(LADDER, config, "cluster")
    assert promote_config(tabled, stage, {}).config.data.subjects == config.data.subjects
    assert promote_config(config, stage, {}).config.data.subjects != config.data.subjects
    assert list(promote_config(tabled, stage, {"data.subjects": ["anna"]}).config.data.subjects) == ["anna"]
