"""A lasting loss of speed is noted, a short or gradual one is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from giblet_train.diagnosis.log_parser import parse

LINES: dict[str, Callable[[int, float], str]] = {
    "images": lambda k, speed: f"12:02:19 it {30 * k} loss {3 * 0.99**k:.3f} {900 * speed:.0f} img/s gpu 71C 1755MHz",
    "tokens": lambda k, speed: f"step {k} loss {3 * 0.99**k:.3f} | {120_000 * speed:,.0f} tokens/s",
    "seconds": lambda k, speed: f"Epoch {k} train_loss {3 * 0.99**k:.3f} ({0.5 / speed:.3f} s/it)",
}


def notes(kind: str, speed: Callable[[int], float]) -> str:
    return " ".join(parse(LINES[kind](k, speed(k)) for k in range(1, 101)).notes)


@pytest.mark.parametrize("kind", LINES)
def test_a_lasting_loss_of_speed_is_noted(kind: str) -> None:
    assert "It became 8.0 times slower at" in notes(kind, lambda k: 1.0 if k < 60 else 0.125)


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize(
    "speed", [lambda k: 1.0, lambda k: 0.5 if k > 50 else 1.0, lambda k: 0.1 if 50 < k < 60 else 1.0, lambda k: k / 100]
)
def test_other_speeds_are_not_noted(kind: str, speed: Callable[[int], float]) -> None:
    assert "slower" not in notes(kind, speed)
