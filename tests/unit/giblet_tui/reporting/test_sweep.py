"""The table of a sweep, and which of its runs is called the best."""

from __future__ import annotations

from msgspec.structs import replace

from giblet_train.schema.health import Health
from giblet_train.schema.records import EvaluationMetric, SweepCell
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.sweep import best_run, held_out, sweep_json, sweep_lines, sweeps
from tests import fleets


def cell(
    number: int, r: float | None, differences: tuple[float, float, float] | None, state: str = "finished"
) -> RunSnapshot:
    """Return one of three runs of a sweep. r: validation r of its best epoch; held: held-out figure, interval."""
    run = fleets.run(state=state, suffix=f"000{number}", steps=60)
    epochs = [replace(epoch, best=False, fmri_r=0.9 if r is not None else None) for epoch in run.epochs]
    epochs[1] = replace(epochs[1], best=True, fmri_r=r)
    evaluation = None
    if differences is not None:
        figures = dict(zip(("r_difference", "r_difference_low", "r_difference_high"), differences, strict=True))
        evaluation = EvaluationMetric(seq=99, step=60, epoch=3, at=0.0, folds=(0,), encoding=figures, decoding={})
    sweep = SweepCell(name="demo-grid-1a2b", values={"data.rate": f"{number}e-4"}, number=number, n_runs=3)
    return replace(run, run=replace(run.run, sweep=sweep), epochs=tuple(epochs), evaluation=evaluation)


def test_the_best_has_the_highest_validation_r_not_the_highest_held_out_r() -> None:
    runs = [cell(1, 0.10, (0.30, 0.2, 0.4)), cell(2, 0.20, (0.12, 0.05, 0.19)), cell(3, None, None, "running")]
    assert best_run(runs) is runs[1] and str(held_out(runs[1])) == "0.120 [0.050, 0.190]"
    lines = sweep_lines(runs)
    assert lines[0].split() == [
        "RATE",
        "RUN",
        "STATE",
        "EPOCH",
        "TRAIN",
        "VALIDATION",
        "VAL",
        "R",
        "HELD-OUT",
        "R",
        "VERDICT",
    ]
    assert lines[2].startswith("★  2e-4") and "0.200  0.120 [0.050, 0.190]" in lines[2]
    assert lines[4] == f"best so far: rate=2e-4 ({runs[1].run.run_id}), validation r 0.200"
    assert lines[5] == "  its held-out r, responsive minus null voxels: 0.120 [0.050, 0.190] (95 % interval)"
    assert lines[6:] == ["  0 of the 1 others that were evaluated are within it", "1 of 3 runs have not ended."]
    value = sweep_json("demo-grid-1a2b", runs)
    assert value["best"] == runs[1].run.run_id and value["runs"][0]["values"] == {"data.rate": "1e-4"}
    assert value["runs"][1]["held_out_r"] == {"value": 0.12, "low": 0.05, "high": 0.19}


def test_without_any_r_the_lowest_validation_loss_counts() -> None:
    first, second = cell(1, None, None), cell(2, None, None)
    validation = second.epochs[1].validation
    assert validation is not None
    lower = replace(second.epochs[1], validation=replace(validation, total=0.01))
    second = replace(second, epochs=(second.epochs[0], lower, *second.epochs[2:]))
    assert best_run([first, second]) is second
    text = "\n".join(sweep_lines([first, second]))
    assert "validation loss 0.01000" in text and "1 of its 3 runs are not there" in text


def test_a_sweep_without_a_result_says_so() -> None:
    waiting = replace(cell(1, None, None, "waiting"), epochs=(), steps=())
    assert sweep_lines([waiting])[-1] == "No run has a validation result yet. 1 of 1 runs have not ended."


def test_an_early_end_is_explained() -> None:
    failed_cell = cell(1, 0.1, None)
    failed_cell = replace(failed_cell, health=Health(state="failed", sentence="fmri starts at 5,555"))
    assert "rate=1e-4: failed: fmri starts at 5,555" in sweep_lines([failed_cell])


def test_runs_are_grouped_by_sweep_in_the_order_of_the_grid() -> None:
    alone = fleets.run()
    groups = sweeps([cell(3, None, None), alone, cell(1, None, None)])
    assert list(groups) == ["demo-grid-1a2b"]
    assert [run.run.sweep.number for run in groups["demo-grid-1a2b"] if run.run.sweep] == [1, 3]
