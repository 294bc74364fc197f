"""Drills: one for each cause that the rules know, and what is told of one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from giblet_train.diagnosis.fault_catalog import EVENT, FAULTS
from giblet_train.diagnosis.rules.registry import RULES
from giblet_train.schema.config import set_dotted
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Alert, EventMetric
from giblet_tui.cli.parser import program
from giblet_tui.inventory import configs
from giblet_tui.launch.plan import training_argv
from giblet_tui.reporting.fault_outcome import outcome, outcome_lines
from tests import fleets


def alert(name: str, step: int) -> Alert:
    return Alert(
        seq=0,
        at=fleets.NOW - 5,
        step=step,
        name=name,
        level="error",
        state="raised",
        sentence="It is so.",
        action="Do.",
    )


def test_every_fault_names_its_rule_and_only_the_control_names_none() -> None:
    assert {name for name, fault in FAULTS.items() if fault.cause is None} == {"good"}
    assert {fault.cause for fault in FAULTS.values()} - {None} == {r.name for r in RULES.values() if r.fault}


@pytest.mark.parametrize("drill", FAULTS.values(), ids=str)
def test_every_drill_is_a_configuration_that_trains(drill: object) -> None:
    assert isinstance(drill, type(FAULTS["nan"]))
    value: dict[str, object] = {"name": f"demo-{drill.name}"}
    for key, item in drill.settings.items():
        set_dotted(value, key, item)
    config = from_mapping(value).config
    assert config.distributed.world_size == drill.processes and config.early_stopping_patience is None


def test_an_outcome_counts_steps_from_where_the_fault_began() -> None:
    run = fleets.run("demo-nan", steps=120, nan_from=40)
    began = EventMetric(
        seq=run.steps[40].seq, step=40, epoch=3, at=fleets.NOW - 7, name=EVENT, level="info", sentence="Drill."
    )
    run = replace(run, events=(began,), alerts=(alert("nan", 47),))
    caught_fault = outcome(run, FAULTS["nan"])
    assert (caught_fault.named, caught_fault.shown_after, caught_fault.raised_after, caught_fault.raised_s) == (
        "nan",
        0,
        7,
        2.0,
    )
    assert caught_fault.caught and outcome_lines(caught_fault)[-1] == "caught"
    missed = outcome(replace(run, alerts=()), FAULTS["nan"])
    assert not missed.caught and outcome_lines(missed)[-1] == "NOT CAUGHT"


def test_the_control_fails_on_any_alarm() -> None:
    quiet = fleets.run("demo-good", steps=60)
    assert outcome(quiet, FAULTS["good"]).caught
    assert not outcome(replace(quiet, alerts=(alert("flat", 50),)), FAULTS["good"]).caught


def test_the_engine_is_started_with_the_fault_and_only_then() -> None:
    assert training_argv("py", "/r", 1, "nan")[1:] == ["-m", "giblet_train", "drill", "nan", "/r"]
    assert training_argv("py", "/r", 1)[1:] == ["-m", "giblet_train", "train", "/r"]


def test_the_verb_lists_faults_and_names_the_nearest() -> None:
    assert "diverging" in CliRunner().invoke(program, ["demo", "--list"]).stdout
    result = CliRunner().invoke(program, ["demo", "stal"])
    assert isinstance(result.exception, ConfigError) and 'did you mean "stall"' in str(result.exception)
    assert "demo" in configs.known()
