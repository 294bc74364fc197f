"""Steps that lines of a log name."""

from __future__ import annotations

from giblet_tui.dashboard.model.log_steps import line_at, steps_of


def test_lines_of_a_log_belong_to_the_step_named_last() -> None:
    lines = [
        "starting",
        "Epoch 1/9 | Train Loss: 2.0",
        "saved",
        "resumed at step 5",
        "Epoch 1/9 | again",
        "step=1,200 x",
    ]
    steps = steps_of(lines, 10)
    assert steps == [None, 9, 9, 5, 9, 1200]
    assert [line_at(steps, step) for step in (0, 5, 9, 1199, 5000)] == [None, 3, 4, 4, 5]
