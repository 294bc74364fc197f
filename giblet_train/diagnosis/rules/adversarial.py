"""Rules for logs whose losses balance each other: a discriminator that wins, and a reward that collapses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from giblet_train.diagnosis.log_reader.epoch_table import EpochRow
from giblet_train.diagnosis.log_reader.key_names import REINFORCEMENT
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter, median_error, smoothed
from giblet_train.diagnosis.rules.registry import rule
from giblet_train.diagnosis.run_start import format_loss

DISCRIMINATOR = frozenset({"d", "disc", "discriminator", "dis", "netd"})
GENERATOR = frozenset({"g", "gen", "generator", "netg"})
ADVERSARY = "a"
"""Name of the generator's loss in programs that call it the adversary; as one word of several it is a domain."""
OF_THE_GAME = frozenset({"gan", "adv", "adversarial"})
"""Words of the part of a generator's loss that the discriminator decides, next to reconstruction losses."""
FEWEST_ROWS = 6
WON = 0.03
"""Loss of a discriminator below which it makes no errors; balanced ones stay above 0.1."""
CLEARLY_WON = 0.01
GROWTH = 1.5
"""Growth of the generator's loss that shows that it loses."""
LOST = 4.0
"""Loss of a generator from which its samples are taken for real in less than 2 % of the cases."""
NO_FALL = 0.85
"""Share of its first loss down to which a generator's loss has not fallen, but for noise."""
FEWEST_REWARDS = 8
REWARD_ERRORS = 5.0
"""Standard errors of a median that a change of the reward must exceed."""
LOST_SHARE, ALL_LOST = 0.6, 0.8
"""Share of a rise of the reward whose loss is reported, and from which it is likely."""
STEP_MARGIN, STEP_ROWS = 0.2, 1
"""Share of a fall of the reward at each of its ends, and rows between these: no more in a fall at once."""
VALUE_WORDS = frozenset({"td", "q", "qf", "vf", "value", "values", "bellman", "critic"})
DIVERGED = 1e6
"""Growth of an estimated value, or of its loss, that no reward explains."""
LAST_ROWS = 3
ENTROPY_LOST = 0.02
"""Share of its first entropy below which a policy no longer explores."""
NEVER_REAL = 0.02
"""Mean verdict of the discriminator on generated samples below which it takes none of them for real."""


@rule(group="curve", level="warning")
def discriminator_wins(case: RunHistory) -> Finding | None:
    """Report an adversarial training whose discriminator makes no errors any more: its generator learns nothing."""
    rows = case.log.balanced_rows if case.log is not None else ()
    discriminator, generator = _courses(rows)
    if len(discriminator) < FEWEST_ROWS or min(discriminator) < 0:  # Wasserstein losses have no such scale
        return None
    if not any(discriminator):  # not trained yet: the generator is warmed up alone
        return None
    third = len(discriminator) // 3
    first_d, last_d = median(discriminator[:third]), median(discriminator[-third:])
    first_g, last_g = median(generator[:third]), median(generator[-third:])
    fake = [row.fake_score for row in rows[-third:] if row.fake_score is not None]
    is_never_real = bool(fake) and median(fake) < NEVER_REAL
    # A negative loss, as of a hinge, has no scale; one that falls is not lost however large its other parts are.
    has_grown = first_g > 0 and last_g >= GROWTH * first_g
    is_lost = has_grown or (last_g >= LOST and last_g >= NO_FALL * first_g) or is_never_real
    if max(discriminator[-2:]) >= 2 * WON or last_d >= WON or not is_lost:
        return None
    verdicts = f", which takes {median(fake):.1%} of the generated samples for real" if fake else ""
    return Finding(
        confidence=0.85 if last_d < CLEARLY_WON else 0.7,
        sentence=(
            f"The discriminator wins: the median of its loss is {format_loss(last_d)} in the last third of training "
            f"(first third: {format_loss(first_d)}){verdicts}; that of the generator is {format_loss(last_g)} (first "
            f"third: {format_loss(first_g)}). The generator gets no useful gradient."
        ),
        evidence={"discriminator": last_d, "generator": last_g, "fake_score": median(fake) if fake else None},
        action=(
            "Go back to a checkpoint before that; lower the discriminator's learning rate, update it less often, or "
            "regularise it (R1 penalty, label smoothing, augmentation)."
        ),
    )


@rule(group="curve", level="warning")
def reward_collapsed(case: RunHistory) -> Finding | None:
    """Report a reward that had risen, and has lost most of its rise for good."""
    rewards = _rewards(case.log.balanced_rows if case.log is not None else ())
    if len(rewards) < FEWEST_REWARDS:
        return None
    n = len(rewards) // 5
    levels = smoothed(rewards, n)[n - 1 :]
    best_index = max(range(len(levels)), key=levels.__getitem__)
    start, best, last = levels[0], levels[best_index], levels[-1]
    error = REWARD_ERRORS * median_error(jitter(rewards), n)
    rise, fall = best - start, best - last
    if rise <= error or fall <= error or fall < LOST_SHARE * rise:
        return None
    # A policy may collapse within a row too, but so does the reward of a curriculum whose next task is harder.
    between = (last + STEP_MARGIN * fall, best - STEP_MARGIN * fall)
    policy_is_gone = _has_lost_entropy(case.log.balanced_rows if case.log is not None else ())
    is_step = not policy_is_gone and sum(between[0] < level < between[1] for level in levels[best_index:]) <= STEP_ROWS
    return Finding(
        confidence=0.7 if fall >= rise * ALL_LOST and not is_step else TENTATIVE,
        sentence=(
            f"The reward had risen from {format_loss(start)} to {format_loss(best)}, and has fallen to "
            f"{format_loss(last)}: {min(1.0, fall / rise):.0%} of the rise is lost."
            f"{' The entropy of the policy is practically 0.' if policy_is_gone else ''}"
            f"{' It fell at once, as it also does with a new task or environment.' if is_step else ''}"
        ),
        evidence={"start": start, "best": best, "last": last},
        action=(
            "Go back to the checkpoint with the best reward; lower the learning rate, or limit each update more (clip "
            "range, target KL, fewer epochs per batch)."
        ),
    )


def value_divergence(case: RunHistory) -> Finding | None:
    """Return the finding for values, or their loss, that grow without bound while the reward does not rise."""
    rows = case.log.balanced_rows if case.log is not None else ()
    names = dict.fromkeys(name for row in rows for name in row.train_parts if VALUE_WORDS & set(name.split("_")))
    for name in names:
        values = [abs(row.train_parts[name]) for row in rows if name in row.train_parts]
        if len(values) < FEWEST_ROWS or not all(map(math.isfinite, values)):
            continue
        first, last = median(values[:LAST_ROWS]), min(values[-LAST_ROWS:])
        # From near 0, as without any reward yet, a loss grows by any factor.
        if last > DIVERGED * max(first, 1.0) and reward_change(rows) is None:
            return Finding(
                confidence=0.9,
                sentence=(
                    f"The estimated values diverge: {name} grew from {format_loss(first)} to {last:.2g}, while "
                    "no reward rises."
                ),
                evidence={"component": name, "first": first, "last": last},
                action=(
                    "Check the bootstrapped target (terminal states, discount, target network); lower the learning "
                    "rate, and clip rewards and gradients."
                ),
            )
    return None


def _has_lost_entropy(rows: Sequence[EpochRow]) -> bool:
    """Return True if the policy has become deterministic: its entropy is a small part of what it was at first."""
    values = [abs({**row.others, **row.train_parts}.get("entropy", math.nan)) for row in rows]
    values = [value for value in values if math.isfinite(value)]
    fifth = len(values) // 5
    return fifth > 0 and median(values[-fifth:]) < ENTROPY_LOST * median(values[:fifth])


def reward_change(rows: Sequence[EpochRow]) -> tuple[float, float] | None:
    """Return the reward at the beginning and at the end if it has risen by more than its noise; else None."""
    rewards = _rewards(rows)
    if len(rewards) < FEWEST_REWARDS:
        return None
    third = len(rewards) // 3
    first, last = median(rewards[:third]), median(rewards[-third:])
    return (first, last) if last - first > REWARD_ERRORS * median_error(jitter(rewards), third) else None


def _rewards(rows: Sequence[EpochRow]) -> list[float]:
    return [row.reward for row in rows if row.reward is not None and math.isfinite(row.reward)]


def _courses(rows: Sequence[EpochRow]) -> tuple[list[float], list[float]]:
    """Return the losses of discriminator and generator, of the rows that have both; empty if it is another game."""
    pairs = []
    for row in rows:
        words = {name: frozenset(name.split("_")) for name in row.train_parts}
        if any(names & REINFORCEMENT for names in words.values()):
            return [], []
        d = [name for name, names in words.items() if names & DISCRIMINATOR]
        g = [name for name, names in words.items() if names & (GENERATOR | OF_THE_GAME) and not names & DISCRIMINATOR]
        g = g or [name for name in words if name == ADVERSARY]
        of_the_game = [name for name in g if words[name] & OF_THE_GAME]
        if d and g:
            pairs.append((_mean(row, d), _mean(row, of_the_game or g)))
    return [d for d, _ in pairs], [g for _, g in pairs]


def _mean(row: EpochRow, names: Iterable[str]) -> float:
    return fmean(row.train_parts[name] for name in names)
