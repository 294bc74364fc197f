"""The lab's legacy logs as its trainer wrote them: epoch lines among tqdm bars, ANSI colours and NCCL noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping


@dataclass(frozen=True)
class Log:
    """A log's text, the epoch from which its fault could be seen, and the configuration, if that is known too."""

    text: str
    onset: int
    config: Config | None = None


@dataclass(frozen=True)
class Line:
    """The numbers of one epoch line; validation parts may be absent."""

    train: float
    lr: float
    validation: float | None = None
    r: float | None = None


def write_log(lines: list[Line], n_epochs: int, seed: int, tail: str = "") -> str:
    """Return the text of a log with these epochs, and noise between them."""
    rng = random.Random(seed)
    out = ["NCCL INFO Bootstrap : Using eno1:10.0.0.5<0>", "\x1b[32mINFO\x1b[0m Loading dataset...", ""]
    for number, line in enumerate(lines, 1):
        steps = rng.randint(40, 90)
        for n_done in sorted(rng.sample(range(1, steps), 3)):
            loss = line.train * rng.uniform(0.9, 1.1)
            out[-1] += (
                f"\rEpoch {number}:  {100 * n_done // steps}%|###   | {n_done}/{steps} [00:10<00:20, loss={loss:.1f}]"
            )
        if rng.random() < 0.3:
            out.append("[rank2]:[W1105 10:01:02.123] Warning: find_unused_parameters=True was specified")
        text = f"Epoch {number}/{n_epochs} | Train Loss: {line.train:.4f}"
        if line.validation is not None:
            text += f" | Val Loss: {line.validation:.4f}"
        if line.r is not None:
            text += f" | fMRI Corr: {line.r:.4f}"
        stamp = f"2025-11-05 {number % 24:02d}:14:07,123 - INFO - " if seed % 3 == 0 else ""
        colour = ("\x1b[1m", "\x1b[0m") if seed // 2 % 2 else ("", "")
        out += [f"{stamp}{colour[0]}{text} | LR: {line.lr:.2e}{colour[1]}", ""]
    return "\n".join(out) + tail


def _config(rng: random.Random, epochs: int, lr: float = 1e-4, warmup: float = 10) -> Config:
    return from_mapping({"name": "legacy", "num_epochs": epochs, "learning_rate": lr, "warmup_epochs": warmup}).config


def _rate(epoch: int, epochs: int, base: float, warmup: float) -> float:
    """Return the correct rate at the end of an epoch: linear from a tenth, then cosine to 0."""
    if epoch < warmup:
        return base * (0.1 + 0.9 * epoch / warmup)
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - warmup) / max(1, epochs - warmup))))


def _losses(rng: random.Random, start: float, floor: float, rate: float, n: int, noise: float) -> list[float]:
    return [(floor + (start - floor) * math.exp(-rate * e)) * (1 + rng.gauss(0, noise)) for e in range(1, n + 1)]


def healthy(seed: int) -> Log:
    rng = random.Random(seed)
    epochs, start = rng.choice([20, 50, 100]), rng.uniform(1.8, 4.0)
    base = 10 ** rng.uniform(-4, -3)
    train = _losses(rng, start, start * rng.uniform(0.35, 0.6), 5 / epochs, epochs, 0.004)
    gap = rng.uniform(1.02, 1.2)
    lines = [
        Line(t, _rate(e, epochs, base, 2), t * gap * (1 + rng.gauss(0, 0.004)), 0.2 * (1 - math.exp(-e / 5)))
        for e, t in enumerate(train, 1)
    ]
    return Log(write_log(lines, epochs, seed), 0)


def lab_flat(seed: int, *, with_config: bool = True) -> Log:
    """Write the lab's own run: 275,959 to 275,825 in 15 epochs while the rate never leaves a tenth of its base."""
    rng = random.Random(seed)
    start, fall = rng.uniform(2.5e5, 2.9e5), rng.uniform(0.0002, 0.003)
    n = rng.randint(10, 20)
    lines = [
        Line(
            start * (1 - fall * e / n) * (1 + rng.gauss(0, 2e-5)),
            1e-5,
            start * 0.72 * (1 + rng.gauss(0, 1e-4)),
            rng.gauss(0, 0.002),
        )
        for e in range(1, n + 1)
    ]
    return Log(write_log(lines, 500, seed), 2, _config(rng, 500) if with_config else None)


def flat_unknown_plan(seed: int) -> Log:
    """Write the same run without its configuration: the file shows a huge loss that hardly changes."""
    return lab_flat(seed, with_config=False)


def std_scaled(seed: int) -> Log:
    """Write the lab's repair: MSE over sd starts at 725 and falls by 2.5 %, with a rate that follows its plan."""
    rng = random.Random(seed)
    start = rng.uniform(500, 1000)
    train = [start * (1 - 0.025 * e / 29) * (1 + rng.gauss(0, 2e-4)) for e in range(1, 30)]
    lines = [Line(t, _rate(e, 50, 3e-4, 2), t * 0.98, rng.gauss(0.001, 0.002)) for e, t in enumerate(train, 1)]
    return Log(write_log(lines, 50, seed), 1)


def flat_log(seed: int) -> Log:
    """Write a loss of the right size that does not change although the rate follows its plan."""
    rng = random.Random(seed)
    start, n = rng.uniform(1.8, 4), rng.randint(15, 40)
    lines = [Line(start * (1 + rng.gauss(0, 0.0008)), _rate(e, 50, 3e-4, 2), start * 1.01, rng.gauss(0, 0.003))
             for e in range(1, n + 1)]  # fmt: skip
    return Log(write_log(lines, 50, seed), 2)


def diverging_log(seed: int) -> Log:
    rng = random.Random(seed)
    onset = rng.randint(4, 8)
    train = _losses(rng, 2.5, 1.2, 0.2, onset, 0.004)
    train += [train[-1] * rng.uniform(1.5, 2.5) ** k for k in range(1, 7)]
    lines = [Line(t, _rate(e, 50, 3e-3, 2), t * 1.1) for e, t in enumerate(train, 1)]
    return Log(write_log(lines, 50, seed), onset)


def nan_log(seed: int) -> Log:
    rng = random.Random(seed)
    onset = rng.randint(3, 9)
    train = [*_losses(rng, 2.5, 1.2, 0.2, onset, 0.004), *[math.nan] * 4]
    lines = [Line(t, _rate(e, 50, 1e-3, 2), t * 1.1) for e, t in enumerate(train, 1)]
    return Log(write_log(lines, 50, seed), onset + 1)


def overfit_log(seed: int) -> Log:
    rng = random.Random(seed)
    turn = rng.randint(5, 9)
    train = _losses(rng, 2.5, 0.1, 0.12, 30, 0.004)
    low = train[turn] * 1.15
    lines = [
        Line(t, _rate(e, 50, 1e-3, 2), t * 1.15 if e <= turn else low * (1 + 0.05 * (e - turn)), 0.1)
        for e, t in enumerate(train, 1)
    ]
    return Log(write_log(lines, 50, seed), turn)


def oom_gpu_log(seed: int) -> Log:
    rng = random.Random(seed)
    train = _losses(rng, 2.5, 1.2, 0.2, 4, 0.004)
    lines = [Line(t, _rate(e, 50, 1e-3, 2), t * 1.1) for e, t in enumerate(train, 1)]
    tail = (
        "[rank3]: Traceback (most recent call last):\n"
        "[rank3]: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 11.80 GiB. GPU 3 has a total "
        "capacity of 47.54 GiB\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: train.py FAILED\n"
    )
    return Log(write_log(lines, 50, seed, tail), 4)


def crashed_log(seed: int) -> Log:
    rng = random.Random(seed)
    train = _losses(rng, 2.5, 1.2, 0.2, 4, 0.004)
    lines = [Line(t, _rate(e, 50, 1e-3, 2), t * 1.1) for e, t in enumerate(train, 1)]
    tail = "Traceback (most recent call last):\n  File \"dataset.py\", line 12\nKeyError: 'sub-04'\n"
    return Log(write_log(lines, 50, seed, tail), 4)


LEGACY: dict[str, tuple[str, str, Callable[[int], Log]]] = {
    "healthy": ("", "", healthy),
    "lab_flat": ("lr_off_plan", "stepped_per_epoch", lab_flat),
    "flat_unknown_plan": ("loss_not_unit_free", "", flat_unknown_plan),
    "std_scaled": ("loss_not_unit_free", "", std_scaled),
    "flat": ("flat", "", flat_log),
    "diverging": ("diverging", "", diverging_log),
    "nan": ("nan", "", nan_log),
    "overfit": ("overfit", "", overfit_log),
    "oom_gpu": ("oom_gpu", "", oom_gpu_log),
    "crashed": ("crashed", "", crashed_log),
}
"""Name -> (the cause to be named first, its reason, the writer)."""
