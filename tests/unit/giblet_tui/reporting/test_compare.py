"""Two runs side by side: what differs, at which epoch they meet, and which losses may not be compared."""

from __future__ import annotations

import msgspec
import pytest

from giblet_train.schema.config import COMPONENTS
from giblet_tui.reporting.compare import compare, compare_json, compare_lines, many_json, many_lines, parts_of
from tests import fleets


def test_equal_configurations_meet_at_the_last_common_epoch() -> None:
    old, new = fleets.run("a", steps=200), fleets.run("b", steps=130)
    comparison = compare(old, new)
    assert comparison.changes == {} and comparison.doubts == {} and comparison.epoch == 6
    row = next(line for line in compare_lines(comparison) if line.startswith("fmri"))
    held_out = [run.epochs[5].validation for run in (old, new)]
    assert all(side is not None and f"{side.loss['fmri']:.4f}" in row for side in held_out)
    assert row.endswith("+0.0%")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"learning_rate": 1e-4}, ()),
        ({"video_weight": 2.0}, ("total",)),
        ({"model": {"n_voxels": 500}}, ("total", "fmri")),
        ({"losses": {"scale": "std"}}, parts_of(None, None)),
        ({"data": {"normalize_fmri": False}}, parts_of(None, None)),
        ({"split": {"fold": 1}}, parts_of(None, None)),
        ({"balance": {"kind": "gradnorm"}}, ("total",)),
        ({"model": {"n_mels": 32}}, ("total", "audio")),
    ],
)
def test_a_key_that_makes_a_loss_another_quantity_is_named(change: dict[str, object], parts: tuple[str, ...]) -> None:
    comparison = compare(fleets.run("a"), fleets.run("b", config=fleets.demo_config("b", **change)))
    assert tuple(comparison.doubts) == parts and len(comparison.changes) == 1
    assert all(keys == tuple(comparison.changes) for keys in comparison.doubts.values())
    lines = compare_lines(comparison)
    assert any("not comparable" in line for line in lines) == bool(parts)
    for part in parts:
        assert next(line for line in lines if line.startswith(part)).endswith("≠")


def test_without_a_configuration_nothing_is_called_equal() -> None:
    unread = msgspec.structs.replace(fleets.run("a"), config=None)
    comparison = compare(unread, fleets.run("b"))
    assert set(comparison.doubts) == {"total", *COMPONENTS}
    assert "was not read" in "\n".join(compare_lines(comparison))


def test_before_the_first_epoch_and_as_json() -> None:
    comparison = compare(fleets.run("a", steps=5), fleets.run("b"))
    assert "no epoch in common" in compare_lines(comparison)[-1]
    value = compare_json(comparison)
    assert value["epoch"] is None and value["losses"]["total"]["validation"] == {"old": None, "new": None}


def test_losses_of_another_scale_are_not_compared_whatever_the_configurations_say() -> None:
    raw, whole = fleets.run(loss_scale=200_000.0), fleets.run()
    comparison = compare(raw, whole)
    assert comparison.changes == {} and comparison.doubts == {"total": ("the best constant",)}
    assert compare(whole, fleets.run(suffix="bbbb")).doubts == {}


def test_several_runs_are_columns_with_their_values_and_losses_at_a_common_epoch() -> None:
    runs = [
        fleets.run(name, config=fleets.demo_config(name, **change), steps=steps)
        for name, change, steps in (
            ("a", {}, 200),
            ("b", {"learning_rate": 1e-4}, 130),
            ("c", {"losses": {"scale": "std"}}, 280),
        )
    ]
    lines = many_lines(runs)
    assert lines[0].split() == ["a", "a1b2", "b", "a1b2", "c", "a1b2"]
    rate = next(line.split() for line in lines if line.startswith("learning_rate"))
    assert rate[2] == "0.0001" and rate[1] == rate[3] != rate[2]
    assert any(line.startswith("≠ validation total") for line in lines)
    assert "losses at epoch 6, the last that all of them completed" in lines
    assert any(line.startswith("≠ ") and "losses.scale differs" in line for line in lines)
    value = many_json(runs)
    assert value["epoch"] == 6 and [run["values"]["learning_rate"] for run in value["runs"]][1] == 1e-4
    assert value["runs"][0]["validation"]["fmri"] is not None and "total" in value["not_comparable_for"]


def test_runs_without_an_epoch_or_a_configuration_are_compared_as_far_as_known() -> None:
    foreign = msgspec.structs.replace(fleets.run("x"), config=None, epochs=())
    lines = many_lines([fleets.run("a"), fleets.run("b"), foreign])
    assert lines[-1] == f"The configuration of {foreign.run.run_id} was not read: what differs is not known."
    assert "no epoch in common yet" in lines and any(line.startswith("verdict") and "–" in line for line in lines)
