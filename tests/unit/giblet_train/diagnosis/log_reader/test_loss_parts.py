"""Parts of a loss under any name: found by their sum, and reported when one hides the others or collapses."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import ParsedLog, parse
from giblet_train.diagnosis.log_reader.loss_parts import part_weights

Line = Callable[[int, random.Random], str]
"""(epoch, random numbers) -> line of a log"""
EPOCHS = 40


def fall(epoch: int, rng: random.Random, start: float, floor: float) -> float:
    """Return a point of a fall with 0.3 % noise."""
    return (floor + (start - floor) * math.exp(-epoch / 8)) * (1 + rng.gauss(0, 0.003))


def judged(line: Line) -> tuple[ParsedLog, dict[str, float]]:
    """Return a log of such lines, and the confidence in each cause that it shows."""
    rng = random.Random(1)
    log = parse([line(epoch, rng) for epoch in range(1, EPOCHS + 1)])
    return log, {c.cause: c.confidence for c in diagnose(None, log.metrics, log=log.log).causes}


def unknown_names(epoch: int, rng: random.Random) -> str:
    foo, bar = fall(epoch, rng, 1.2, 0.5), fall(epoch, rng, 0.8, 0.2)
    return f"epoch {epoch} loss {foo + 0.5 * bar:.4f} foo {foo:.4f} bar {bar:.4f} acc {0.5 + 0.01 * epoch:.3f} lr 3e-4"


def detector(epoch: int, rng: random.Random) -> str:
    cls, box, rpn = fall(epoch, rng, 0.7, 0.2), fall(epoch, rng, 0.5, 0.2), fall(epoch, rng, 0.15, 0.02)
    total = cls + box + rpn
    return f"epoch {epoch} total_loss: {total:.4f} loss_cls: {cls:.4f} loss_box: {box:.4f} loss_rpn: {rpn:.4f}"


def mismatch(epoch: int, rng: random.Random, clip_floor: float = 4.85) -> str:
    mse, clip = fall(epoch, rng, 1195, 800), fall(epoch, rng, 4.85, clip_floor)
    return f"epoch {epoch} mse {mse:.2f} + clip {clip:.3f}"


def mismatch_of_a_total(epoch: int, rng: random.Random) -> str:
    audio, other = fall(epoch, rng, 30.0, 20.0), 0.9 + rng.gauss(0, 0.002)
    return f"epoch {epoch} loss={audio + other:.3f} waves={audio:.3f} labels={other:.3f}"


def collapse(epoch: int, rng: random.Random) -> str:
    return f"epoch {epoch}: recon={121 + rng.gauss(0, 0.3):.2f} kl={max(2e-5, 3 * math.exp(-epoch)):.5f}"


def annealed(epoch: int, rng: random.Random) -> str:
    recon, kl = fall(epoch, rng, 180, 85), fall(epoch, rng, 60, 22)
    return f"epoch {epoch}/40 loss={recon + min(1, epoch / 10) * kl:.3f} recon={recon:.3f} kl={kl:.3f}"


def tiny_weighted_divergence(epoch: int, rng: random.Random) -> str:
    recon, kl = fall(epoch, rng, 0.8, 0.3), 4e-6 + 1e-7 * epoch
    return f"epoch {epoch}/40 loss={recon + kl:.5f} rec={recon:.5f} kl={kl:.2e}"


def balanced_experts(epoch: int, rng: random.Random) -> str:
    ce = fall(epoch, rng, 2.2, 0.8)
    return f"epoch {epoch} loss {ce + 0.01:.4f} ce {ce:.4f} aux 0.0100"


def recall(epoch: int, rng: random.Random) -> str:
    loss, share = fall(epoch, rng, 2.2, 0.8), 0.2 + 0.01 * epoch
    return f"epoch {epoch} loss {loss:.4f} prec {1.1 * share:.3f} rec {share:.3f}"


PARTS: dict[str, tuple[Line, set[str]]] = {
    "unknown_names": (unknown_names, {"foo", "bar"}),
    "detector": (detector, {"cls", "box", "rpn"}),
    "no_total": (collapse, {"recon", "kl"}),
    "annealed": (annealed, {"recon", "kl"}),
    "aux": (balanced_experts, {"ce", "aux"}),
    "recall": (recall, set()),
}


@pytest.mark.parametrize("kind", PARTS)
def test_the_parts_of_a_loss_are_found(kind: str) -> None:
    line, names = PARTS[kind]
    log, _ = judged(line)
    assert {frozenset(metric.train.loss) for metric in log.metrics} == {frozenset(names)}
    assert all(metric.train.total for metric in log.metrics)


def test_a_total_that_is_not_printed_is_the_sum_of_its_parts() -> None:
    log, _ = judged(collapse)
    assert log.metrics[-1].train.total == pytest.approx(sum(filter(None, log.metrics[-1].train.loss.values())))
    assert any("the sum of recon, kl is taken" in note for note in log.notes)


def test_weights_have_one_digit() -> None:
    rng = random.Random(2)
    rows = [
        (a + 0.05 * b, {"a": a, "b": b, "c": rng.random()})
        for a, b in ((rng.random(), 9 * rng.random()) for _ in range(20))
    ]
    assert part_weights(rows) == {"a": 1.0, "b": 0.05}
    assert part_weights([(1.234 * total, parts) for total, parts in rows]) is None
    assert part_weights(rows[:3]) is None


NAMED: dict[str, tuple[Line, str]] = {
    "mismatch": (mismatch, "scale_mismatch"),
    "mismatch_of_a_total": (mismatch_of_a_total, "component_dominates"),
    "posterior_collapse": (collapse, "component_collapsed"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_part_that_hides_the_others_or_collapses_is_named_first(kind: str) -> None:
    line, cause = NAMED[kind]
    _, causes = judged(line)
    assert next(iter(causes)) == cause and causes[cause] > 0.5


@pytest.mark.parametrize(
    "line",
    [
        *(unknown_names, detector, annealed, tiny_weighted_divergence, balanced_experts, recall),
        lambda epoch, rng: mismatch(epoch, rng, clip_floor=2.0),
    ],
)
def test_parts_that_are_learnt_or_small_by_intention_accuse_nobody(line: Line) -> None:
    _, causes = judged(line)
    assert causes == {}


HEALTHY: dict[str, Line] = {
    "experts": lambda e, rng: (
        f"epoch {e} loss={(ce := fall(e, rng, 7.3, 2.0)) + 0.01:.4f} lm_loss={ce:.4f} "
        f"aux_loss={1 + rng.gauss(0, 0.002):.4f} router_z_loss={4e-4 * 0.7**e:.6f}"
    ),
    "load_balance": lambda e, rng: with_constant(e, rng, "load_balance", 0.01),
    "weights": lambda e, rng: with_constant(e, rng, "l2_reg", 0.02),
    "unknown_name": lambda e, rng: with_constant(e, rng, "foo", 0.05),
    "orthogonal": lambda e, rng: with_constant(e, rng, "ortho_loss", 0.31),
    "negative": lambda e, rng: (
        f"epoch {e} loss={(neg := fall(e, rng, 9.0, 7.4)) + (pos := -2.1 + rng.gauss(0, 0.01)):.4f} "
        f"pos={pos:.4f} neg={neg:.4f}"
    ),
    "boundary": lambda e, rng: (
        f"epoch {e} loss={(pde := 0.5 + rng.gauss(0, 3e-4)) + (bc := 0.3 * math.exp(-e)):.6f} "
        f"loss_pde={pde:.6f} loss_bc={bc:.7f}"
    ),
}


def with_constant(epoch: int, rng: random.Random, name: str, value: float) -> str:
    ce, part = fall(epoch, rng, 7.3, 2.0), value * (1 + rng.gauss(0, 0.001))
    return f"epoch {epoch} loss={ce + part:.4f} ce_loss={ce:.4f} {name}={part:.4f}"


@pytest.mark.parametrize("kind", HEALTHY)
def test_regularisers_and_parts_that_are_learnt_first_accuse_nobody(kind: str) -> None:
    log, causes = judged(HEALTHY[kind])
    assert causes == {} and not diagnose(None, log.metrics, log=log.log).unevaluated


def test_a_part_that_is_cut_off_is_a_doubt() -> None:
    def cut_off(epoch: int, rng: random.Random) -> str:
        box, mask = 0.5 + rng.gauss(0, 1e-3), (0.3 if epoch < 9 else 0.0)
        return f"epoch {epoch} loss {box + mask:.4f} loss_box {box:.4f} loss_mask {mask:.4f}"

    _, causes = judged(cut_off)
    assert causes["component_collapsed"] == 0.5


def test_the_name_of_a_part_is_shown_as_it_was_written() -> None:
    for name in ("l2_reg", "l2_reg_loss"):
        rng = random.Random(1)
        log = parse([with_constant(epoch, rng, name, 0.02) for epoch in range(1, EPOCHS + 1)])
        assert set(log.metrics[-1].train.loss) == {"ce", "l2_reg"}


def test_the_sentence_on_a_collapse_has_both_levels() -> None:
    rng = random.Random(1)
    log = parse([collapse(epoch, rng) for epoch in range(1, EPOCHS + 1)])
    first = diagnose(None, log.metrics, log=log.log).causes[0]
    assert first.sentence.startswith("kl fell from 1.104 to 2.0e-05, while the others did not change (recon at 12")
    assert "free bits" in first.action
