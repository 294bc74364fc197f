"""Logs of trainings whose losses balance each other: adversarial networks and reinforcement learning."""

from __future__ import annotations

import math
from collections.abc import Callable

WAVE = 0.3
"""Amplitude of losses that neither fall nor rise."""


def cycle(epoch: int, level: float) -> str:
    """Return the lines that CycleGAN prints in an epoch."""
    line = "(epoch: {}, iters: {}, time: 0.507, data: 0.001) D_A: {:.3f} G_A: {:.3f} cycle_A: {:.3f} idt_A: {:.3f} \n"
    parts = (0.2 * level, 0.4 * level, 1.1 * level, 0.5 * level)
    return "".join(line.format(epoch, iters, *parts) for iters in (100, 200))


def box(iteration: int, level: float) -> str:
    """Return the table that Stable-Baselines3 prints in an iteration."""
    rows: dict[str, str] = {
        "rollout/": "",
        "   ep_rew_mean": f"{20 + iteration}",
        "time/": "",
        "   total_timesteps": f"{2048 * iteration}",
        "train/": "",
        "   learning_rate": "0.0003",
        "   loss": f"{30 * level:.3g}",
        "   policy_gradient_loss": f"{-0.01 * level:.3g}",
        "   value_loss": f"{60 * level:.3g}",
    }
    return "\n".join(["-" * 42, *(f"| {name:<24}| {cell:<13}|" for name, cell in rows.items()), "-" * 42, ""])


def surrogate(iteration: int, level: float) -> str:
    """Return what RSL-RL prints in an iteration."""
    lines = (
        f"Learning iteration {iteration}/1500",
        "",
        f"Value function loss: {0.05 * level:.4f}",
        f"Surrogate loss: {-0.005 * level:.4f}",
        f"Mean total reward: {0.4 * iteration:.2f}",
    )
    return "".join(f"{line:>48}".rstrip() + "\n" for line in lines)


BALANCED: dict[str, Callable[[int, float], str]] = {"cycle": cycle, "box": box, "surrogate": surrogate}
"""Name -> writer of an epoch or iteration, given its number and the level of its losses."""


def balanced_log(name: str, n: int = 40, n_lost: int = 0) -> str:
    """Return a log of n epochs or iterations, of which the last `n_lost` show nan."""
    levels = [1 + WAVE * math.sin(k) for k in range(1, n - n_lost + 1)] + [math.nan] * n_lost
    return "".join(BALANCED[name](k, level) for k, level in enumerate(levels, 1))


UNBALANCED: dict[str, list[str]] = {
    "discriminator": [f"epoch {k} D_loss {0.6 * 0.8**k:.4f} G_loss {0.7 + 0.25 * k:.3f}" for k in range(40)],
    "reward": [
        f"Episode {k} | mean reward {reward + 2 * math.sin(7 * k):.1f} | policy_loss 0.01 | value_loss 20.3"
        for k, reward in enumerate(
            100 - 70 * math.exp(-k / 8) - 70 * min(1.0, max(0.0, (k - 40) / 20)) for k in range(80)
        )
    ],
}
"""Name of what is lost -> lines of a training whose losses no longer balance each other, or whose reward is lost."""
