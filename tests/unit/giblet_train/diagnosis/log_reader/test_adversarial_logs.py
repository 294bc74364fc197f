"""Logs of adversarial training: a discriminator that wins is named, balanced networks are not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.case import Finding

Line = Callable[[int, random.Random], str]
"""(epoch, random numbers) -> line of a log"""


def won(epoch: int, start: float = 0.6) -> float:
    """Return the loss of a discriminator that makes ever fewer errors."""
    return start * math.exp(-epoch / 4) + 1e-3


def dcgan(epoch: int, d: float, g: float, fake: float) -> str:
    return f"[{epoch}/25][50/500]\tLoss_D: {d:.4f}\tLoss_G: {g:.4f}\tD(x): 0.71\tD(G(z)): {fake:.4f} / {fake / 2:.4f}"


WINS: dict[str, Line] = {
    "dcgan": lambda e, rng: dcgan(e, won(e), 2 + 0.3 * e, 0.3 * math.exp(-e / 4)),
    "keras_gan": lambda e, rng: f"[Epoch {e}/50] [D loss: {won(e):f}] [G loss: {1 + 0.3 * e:f}]",
    "adversary": lambda e, rng: f"{e}: [D loss: {won(e):f}, acc: 0.900000] [A loss: {1 + 0.3 * e:f}, acc: 0.000000]",
    "names": lambda e, rng: f"epoch {e} d_loss {won(e):.5f} g_loss {1 + 0.3 * e:.3f}",
    "least_squares": lambda e, rng: (
        f"epoch {e} D_A: {won(e, 0.2):.4f} G_A: {1 - 0.7 * math.exp(-e / 5):.3f} cycle_A: 1.1"
    ),
    "from_the_first_epoch": lambda e, rng: (
        f"epoch {e} loss_d {abs(rng.gauss(0, 1e-4)):.5f} loss_g {9 + rng.gauss(0, 1):.3f}"
    ),
}
BALANCED: dict[str, Line] = {
    "dcgan": lambda e, rng: dcgan(e, 0.7 + rng.gauss(0, 0.1), 3 + rng.gauss(0, 0.5), 0.2),
    "generator_grows": lambda e, rng: dcgan(e, 0.3 + rng.gauss(0, 0.03), 2 + 0.15 * e, 0.1),
    "wasserstein": lambda e, rng: f"epoch {e} d_loss {-8 * math.exp(-e / 9):.4f} g_loss {2 + 0.3 * e:.3f}",
    "recovers": lambda e, rng: (
        f"epoch {e} d_loss {0.01 if 5 < e < 10 else 0.6:.4f} g_loss {5 if 5 < e < 10 else 1.1:.3f}"
    ),
    "warm_up_without_game": lambda e, rng: f"Epoch {e}/100 rec_loss {0.6 * 0.9**e:.4f} g_loss 0.0000 d_loss 0.0000",
    "warm_up_of_the_generator": lambda e, rng: f"Epoch {e}/100 g_loss {26 * 0.9**e + 5:.4f} d_loss 0.0000",
    "hinge": lambda e, rng: f"Epoch {e}/30 d_loss {0.022 + rng.gauss(0, 1e-3):.4f} g_loss {rng.gauss(-1, 0.02):.4f}",
    "large_reconstruction": lambda e, rng: f"Epoch {e}/30 d_loss 0.02{e:02d} g_loss {26 * 0.9**e + 5:.4f}",
    "least_squares": lambda e, rng: f"epoch {e} D_A: {0.2 + rng.gauss(0, 0.03):.3f} G_A: 0.41 cycle_A: 1.1 idt_A: 0.5",
}


def judged(line: Line) -> tuple[Finding, ...]:
    rng = random.Random(3)
    log = parse([line(epoch, rng) for epoch in range(24)])
    assert log.log.is_adversarial
    return diagnose(None, log.metrics, log=log.log).causes


@pytest.mark.parametrize("kind", WINS)
def test_a_discriminator_that_wins_is_named(kind: str) -> None:
    (cause,) = judged(WINS[kind])
    assert cause.cause == "discriminator_wins" and cause.confidence > 0.5


@pytest.mark.parametrize("kind", BALANCED)
def test_balanced_networks_accuse_nobody(kind: str) -> None:
    assert judged(BALANCED[kind]) == ()


def test_the_verdicts_on_generated_samples_are_quoted() -> None:
    (cause,) = judged(WINS["dcgan"])
    assert "takes 0.2% of the generated samples for real" in cause.sentence


@pytest.mark.parametrize(
    ("rewards", "causes"),
    [
        ([-200 + 400 * (1 - math.exp(-k / 10)) if k < 45 else -250.0 for k in range(80)], ["reward_collapsed"]),
        ([-200 + 400 * (1 - math.exp(-k / 10)) for k in range(80)], []),
        ([-200 + 400 * (1 - math.exp(-k / 10)) - (150 if 30 <= k < 36 else 0) for k in range(80)], []),
        ([-200.0] * 80, []),
    ],
    ids=["collapses", "rises", "falls for a while", "stays"],
)
def test_a_reward_that_collapses_is_named_and_one_that_rises_shows_learning(
    rewards: list[float], causes: list[str]
) -> None:
    rng = random.Random(5)
    log = parse(
        f"Episode {10 * k} | mean reward {reward + rng.gauss(0, 8):.1f} | policy_loss 0.01 | value_loss 20.3"
        for k, reward in enumerate(rewards)
    )
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes] == causes
    assert log.has_course == (rewards[-1] > 0)


REWARDED: dict[str, Callable[[int, float], str]] = {
    "dqn": lambda k, reward: f"Episode {10 * k}\tAverage Score: {reward:.2f}\tepsilon: 0.9\tTD loss: {1.05**k:.4f}",
    "spinning_up": lambda k, reward: f"[Epoch {k}] EpRet={reward:.1f} LossQ={1.05**k:.3f} LossPi={-1 - k:.3f}",
    "ppo": lambda k, reward: (
        f"iter {k} | steps {2048 * k} | ret_mean {reward:.2f} | pi_loss -0.01 | vf_loss {1.04**k:.2f}"
    ),
    "evaluations": lambda k, reward: f"step {k}000 q_loss {1.05**k:.4f}\nEvaluation: eval/return {reward:.2f}",
    "letters": lambda k, reward: f"Episode {k}: R = {reward:.1f}, loss = {1.05**k:.3f}",
    "json": lambda k, reward: f'{{"iteration": {k}, "mean_reward": {reward:.2f}, "critic_loss": {1.05**k:.3f}}}',
    "episodes_only": lambda k, reward: f"Episode: {k} | total_reward: {reward:.1f} | steps: 200",
}


@pytest.mark.parametrize("kind", REWARDED)
@pytest.mark.parametrize("collapses", [False, True])
def test_the_reward_is_judged_and_not_the_losses_under_every_name(kind: str, collapses: bool) -> None:
    rng = random.Random(1)
    rewards = [9.0 if collapses and k > 60 else 200 - 190 * math.exp(-k / 20) for k in range(100)]
    lines = [REWARDED[kind](k, reward + rng.gauss(0, 3)) for k, reward in enumerate(rewards, 1)]
    log = parse("\n".join(lines).split("\n"))
    causes = [cause.cause for cause in diagnose(None, log.metrics, log=log.log).causes]
    assert causes == (["reward_collapsed"] if collapses else [])
    assert collapses or log.has_course


def test_a_score_next_to_the_loss_of_other_trainings_is_no_reward() -> None:
    log = parse(f"epoch {k} loss {0.9**k:.3f} val_loss {0.9**k:.3f} score {0.01 * k:.2f}" for k in range(20))
    assert len(log.metrics) == 20 and not log.log.is_adversarial


@pytest.mark.parametrize(("length", "confidence"), [(1, 0.5), (20, 0.7)], ids=["at once", "gradually"])
def test_a_reward_that_falls_at_once_may_be_that_of_a_new_task(length: int, confidence: float) -> None:
    rng = random.Random(5)
    rewards = [100 - 70 * math.exp(-k / 8) - 70 * min(1.0, max(0.0, (k - 40) / length)) for k in range(80)]
    log = parse(
        f"Episode {k} | mean reward {reward + rng.gauss(0, 2):.1f} | policy_loss 0.01 | value_loss 20.3"
        for k, reward in enumerate(rewards)
    )
    (cause,) = diagnose(None, log.metrics, log=log.log).causes
    assert (cause.cause, cause.confidence) == ("reward_collapsed", confidence)
    assert ("new task" in cause.sentence) == (length == 1)


def test_a_reward_that_falls_at_once_with_the_entropy_of_its_policy_has_collapsed() -> None:
    rng = random.Random(1)
    log = parse(
        f"iter {k} | ret_mean {(480 - 460 * math.exp(-k / 20) if k < 60 else 9) + rng.gauss(0, 3):.2f} | pi_loss -0.01 "
        f"| vf_loss 30.1 | entropy {0.55 if k < 60 else 0.0003:.4f} | kl 0.01"
        for k in range(100)
    )
    (cause,) = diagnose(None, log.metrics, log=log.log).causes
    assert cause.cause == "reward_collapsed" and cause.confidence > 0.5 and "entropy" in cause.sentence


def test_a_critic_and_a_generator_are_read_and_a_falling_fid_shows_learning() -> None:
    lines = [
        f"[Epoch {k}/40] [Batch {b}/800] [critic: {-40 * 0.9**k:.4f}] [gen: {6 + b / 100:.4f}] [gp: 0.31]"
        for k in range(1, 41)
        for b in (0, 400)
    ]
    log = parse(lines)
    assert log.log.is_adversarial and not log.has_course and diagnose(None, log.metrics, log=log.log).causes == ()
    log = parse(text for i, line in enumerate(lines) for text in (line, f"  -> FID {84 * 0.98**i + 10:.2f}"))
    assert log.has_course and diagnose(None, log.metrics, log=log.log).causes == ()
