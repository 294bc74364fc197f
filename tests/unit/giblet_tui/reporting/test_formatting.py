"""Snapshots as text and JSON: the stable shapes, and figures that agree with the records they come from."""

from __future__ import annotations

import json

import msgspec
import pytest

from giblet_train.schema.health import Health
from giblet_train.schema.schedule import lr_at
from giblet_tui.monitor.snapshots import Fleet
from giblet_tui.reporting import formatting, json_output, tables
from tests import fleets

RUN_KEYS = {
    "run_id", "name", "node", "state", "evidence", "step", "epoch", "lr", "lr_planned", "loss", "verdict", "eta_s",
    "session", "multiplexer",
}  # fmt: skip


def test_ps_json_has_the_documented_shape() -> None:
    fleet = fleets.several()
    value = json.loads(json.dumps(json_output.fleet_json(fleet, fleet.runs(), fleets.NOW), allow_nan=False))
    assert (value["schema"], value["at"]) == (1, fleets.NOW)
    assert {"node", "reachable", "since", "clock_skew_s", "gpus", "sessions"} <= set(value["nodes"][0])
    assert [n["reachable"] for n in value["nodes"]] == [True, True, False]
    assert all(set(run) >= RUN_KEYS for run in value["runs"])
    broken_run = next(run for run in value["runs"] if run["name"] == "broken")
    assert broken_run["loss"]["audio"] is None and broken_run["state"] == "failed"


def test_a_run_before_its_first_step_has_nulls_not_zeros() -> None:
    run = msgspec.structs.replace(fleets.run(steps=1), steps=(), epochs=())
    value = json_output.run_json(run)
    assert (value["step"], value["lr"], value["loss"], value["eta_s"]) == (None, None, {}, None)
    assert formatting.runs_table([run]).count("\n") == 1


@pytest.mark.parametrize("state", ["stalled", "finished", "failed", "died", "stopped", "unknown"])
def test_what_does_not_move_has_no_time_left(state: str) -> None:
    assert fleets.run(state=state).eta_s is None


def test_the_planned_rate_is_the_schedules() -> None:
    run = fleets.run(steps=33, stuck_lr=1e-5)
    plan = run.plan
    assert plan is not None
    value = json_output.run_json(run)
    assert value["lr"] == 1e-5
    assert value["lr_planned"] == lr_at(32, plan)


def test_status_names_verdict_losses_alerts_and_session() -> None:
    run = fleets.run("flat", flat=True, alerts=(fleets.alert(),), loss_scale=200_000.0)
    text = "\n".join(formatting.status_lines(run, fleets.NOW))
    for part in ("● running", "verdict: ", "loss_drop: ", "alert: total moved", run.run.session, "launched", "by ada"):
        assert part in text
    cleared_alert = msgspec.structs.replace(fleets.alert(), state="cleared")
    calm = msgspec.structs.replace(run, alerts=(fleets.alert(), cleared_alert))
    assert "alert:" not in "\n".join(formatting.status_lines(calm, fleets.NOW))


def test_the_last_line_of_a_verdict_is_the_word() -> None:
    run = fleets.run()
    verdict = formatting.verdict(run)
    assert verdict is not None
    lines = formatting.verdict_lines(verdict, run.health)
    assert lines[-1] == f"verdict: {verdict.word}"
    assert len(lines) == len(verdict.criteria) + 1
    value = json_output.verdict_json("demo-1", verdict)
    assert [set(c) for c in value["criteria"]] == [
        {"name", "status", "needed", "seen", "deadline_epoch", "sentence", "pace_needed", "pace_seen"}
    ] * len(verdict.criteria)


def test_large_losses_keep_the_digits_that_differ() -> None:
    assert formatting.number(275_824.6) != formatting.number(275_958.9)
    texts = [formatting.number(v) for v in (None, 0.91234, 1.0, 16.157, 0.0, 3e-6, -0.5)]
    assert texts == ["–", "0.9123", "1.000", "16.16", "0.000", "3.000e-06", "-0.5000"]


def test_a_table_is_aligned() -> None:
    head, first, second = tables.table(("A", "B"), [("x", "long"), ("longer", "y")]).split("\n")
    assert head.index("B") == first.index("long") == second.index("y")


def test_a_row_is_one_line_whatever_a_cell_holds() -> None:
    """The evidence of a newer giblet's run is a sentence and, on a line of its own, a remedy: `ps` failed on it."""
    rows = [("○ unknown", "schema 99.\n  Install it.")]
    assert tables.table(("STATE", "EVIDENCE"), rows).split("\n")[1:] == ["○ unknown  schema 99. Install it."]
    assert tables.markdown_table(("STATE", "EVIDENCE"), rows).split("\n")[2:] == [
        "| ○ unknown | schema 99. Install it. |"
    ]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_narrow_terminal_keeps_a_run_to_one_line_with_its_verdict(width: int) -> None:
    runs = fleets.several().runs()
    wide = formatting.runs_table(runs).split("\n")
    lines = formatting.runs_table(runs, width).split("\n")
    assert len(lines) == len(wide) and max(map(len, lines)) <= width < max(map(len, wide))
    for line, run in zip(lines[1:], runs, strict=True):
        verdict = formatting.verdict(run)
        assert run.run.run_id in line and (verdict is None or verdict.word_for(run.health) in line)


def test_silent_nodes_are_named_with_the_remedy() -> None:
    lines = formatting.node_lines(fleets.several(), fleets.NOW)
    assert lines == ["tensor03: No answer for 3 s; connecting again. (last heard 4m 07s ago)"]
    assert formatting.node_lines(Fleet(), fleets.NOW) == []


def test_gpu_lines_name_who_holds_what() -> None:
    (line,) = formatting.gpu_lines(Fleet(nodes=(fleets.node("tensor01", gpus=7), fleets.node("tensor02"))))
    assert line.startswith("tensor01: 1 of 7 GPUs free; GPU 0 (NVIDIA RTX A6000): ada (pid 4242, 41.1 GiB); GPU 1 ")


def test_changed_values_are_reported_as_a_file_would_have_them() -> None:
    changes = {"data.subjects": ("all", (1, 2)), "early_stopping_patience": (20, None), "split": (None, {"a": True})}
    assert tables.diff_lines(changes) == [
        "  data.subjects: all → [1, 2]",
        "  early_stopping_patience: 20 → null",
        "  split: null → {a: true}",
    ]


def test_a_run_known_by_its_log_alone_is_reported_by_its_last_epoch() -> None:
    run = fleets.run()
    log_run = msgspec.structs.replace(run, steps=(), config=None, plan_record=None)
    newest = run.epochs[-1]
    assert formatting.progress_line(log_run).startswith(
        f"epoch {newest.epoch} train total {newest.train.total:.4g}"[:20]
    )


def test_a_run_that_failed_before_its_first_step_is_not_told_to_do_something() -> None:
    new_run = msgspec.structs.replace(fleets.run(), steps=(), epochs=())
    assert new_run.heartbeat is not None and formatting.progress_line(new_run) == new_run.heartbeat.phase
    failed_run = msgspec.structs.replace(new_run, health=Health(state="failed", sentence="no such film"))
    assert formatting.progress_line(failed_run) == ""


def test_the_numbers_of_a_command_are_in_json_and_status() -> None:
    run = fleets.command_run()
    value = json.loads(json.dumps(json_output.run_json(run), allow_nan=False))
    assert (value["epoch"], value["step"], value["lr"]) == (23, None, 1e-3)
    assert value["loss"]["total"] < value["validation_loss"]["total"]
    assert value["metrics"]["accuracy"]["higher_is_better"] is True and value["metrics"]["accuracy"]["best_at"] == 18
    assert value["metrics"]["WER"]["higher_is_better"] is False and value["metrics"]["WER"]["best_at"] == 23
    assert value["metrics"]["grad_norm"] | {"train": 0} == {
        "train": 0, "validation": None, "best": None, "best_at": None, "higher_is_better": None,
    }  # fmt: skip
    lines = formatting.status_lines(run, fleets.NOW)
    assert "  accuracy: train 0.8832 validation 0.7592 (best 0.7617 at epoch 18, higher is better)" in lines
    assert "  grad_norm: 0.7461" in lines


def test_a_command_without_losses_shows_where_it_is() -> None:
    run = fleets.command_run(losses=False, by_step=True)
    assert "  step 2300" in formatting.status_lines(run, fleets.NOW)
    assert json_output.run_json(run)["step"] == 2300 and json_output.run_json(run)["epoch"] is None
    assert "  epoch 23" in formatting.status_lines(fleets.command_run(losses=False), fleets.NOW)
