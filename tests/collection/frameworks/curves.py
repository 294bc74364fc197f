"""Loss curves, and the parts that logs of all frameworks have: times, bars, tracebacks, ends of jobs."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from random import Random

Curve = list[float]
START = datetime(2025, 3, 4, 21, 7, 33, tzinfo=UTC)


# Curves


def falling(rng: Random, n: int, start: float, end: float, noise: float = 0.02, speed: float = 12.0) -> Curve:
    """Return n losses that fall by a power law from start towards end, with noise relative to the loss."""
    drift, curve = 0.0, []
    for i in range(n):
        drift = 0.6 * drift + rng.gauss(0, noise)
        curve.append((end + (start - end) * (1 + speed * i / n) ** -1.3) * math.exp(drift))
    return curve


def steady(rng: Random, n: int, level: float, noise: float = 0.01) -> Curve:
    """Return n values around a level."""
    return [level * math.exp(rng.gauss(0, noise)) for _ in range(n)]


def nan_from(curve: Curve, first: int) -> Curve:
    """Return the curve with nan from one index on."""
    return [*curve[:first], *[math.nan] * (len(curve) - first)]


def growing_from(curve: Curve, first: int, factor: float, limit: float = math.inf) -> Curve:
    """Return the curve multiplied by one more factor at each index from the first on, up to a limit."""
    return [value if i < first else min(limit, value * factor ** (i - first)) for i, value in enumerate(curve)]


def turning(rng: Random, train: Curve, turn: int, rise: float, gap: float = 1.05, noise: float = 0.01) -> Curve:
    """Return a validation loss that follows training until an index and then rises by a share of itself per index."""
    best = train[turn] * gap
    return [
        (value * gap if i < turn else best * (1 + rise * (i - turn))) * math.exp(rng.gauss(0, noise))
        for i, value in enumerate(train)
    ]


def above(rng: Random, curve: Curve, gap: float = 1.06, noise: float = 0.01) -> Curve:
    """Return a validation loss that stays above a training loss."""
    return [value * gap * math.exp(rng.gauss(0, noise)) for value in curve]


def cosine(n: int, peak: float, warmup: int = 0, low: float = 0.0) -> Curve:
    """Return a learning rate with linear warm-up and cosine decay."""
    return [
        peak * (i + 1) / warmup
        if i < warmup
        else low + (peak - low) * (1 + math.cos(math.pi * (i - warmup) / max(1, n - warmup))) / 2
        for i in range(n)
    ]


def stepped(n: int, rate: float, *drops: int) -> Curve:
    """Return a learning rate that falls to a tenth at each of the given indices."""
    return [rate * 0.1 ** sum(i >= drop for drop in drops) for i in range(n)]


# Parts of every log


def stamp(seconds: float, layout: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return the time of day some seconds after the start of the log."""
    return (START + timedelta(seconds=seconds)).strftime(layout)


def clock(seconds: float) -> str:
    """Return a duration as tqdm prints it."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def bar(position: int, n: int, rate: float, end: str = "", name: str = "") -> str:
    """Return a tqdm bar."""
    blocks = "█" * (10 * position // n)
    elapsed_s = position / rate
    remaining = (n - position) / rate
    prefix = f"{name}: " if name else ""
    return f"{prefix}{100 * position // n:3d}%|{blocks:<10}| {position}/{n} [{clock(elapsed_s)}<{clock(remaining)}, {rate:5.2f}it/s{end}]"


def traceback(error: str, *frames: tuple[str, int, str, str], prefix: str = "") -> list[str]:
    """Return a Python traceback: each frame is (file, line, function, source)."""
    lines = ["Traceback (most recent call last):"]
    for file, line, function, source in frames or (("train.py", 214, "<module>", "main(args)"),):
        lines += [f'  File "{file}", line {line}, in {function}', f"    {source}"]
    return [prefix + line for line in (*lines, *error.split("\n"))]


SITE = "envs/train/lib/python3.10/site-packages"
BACKWARD = (f"{SITE}/torch/_tensor.py", 522, "backward", "torch.autograd.backward(")


def slurm(message: str, job: int = 4128817, node: str = "gpu014", after_s: float = 86400.0) -> list[str]:
    """Return the lines with which Slurm ends a job so long after its start."""
    end = stamp(after_s, "%Y-%m-%dT%H:%M:%S")
    return [f"slurmstepd: error: *** JOB {job} ON {node} CANCELLED AT {end} {message} ***"]


def torchrun_failure(script: str, rank: int, code: int, names: str = "") -> list[str]:
    """Return what torchrun prints when a rank has failed."""
    reason = (
        f"Signal {-code} ({names}) received by PID 31771"
        if code < 0
        else "To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html"
    )
    when = stamp(7201, "%Y-%m-%d %H:%M:%S")
    return [
        f"[{when},104] torch.distributed.elastic.multiprocessing.api: [WARNING] Sending process 31770 closing signal SIGTERM",
        f"[{when},883] torch.distributed.elastic.multiprocessing.api: [ERROR] failed (exitcode: {code}) local_rank: {rank} (pid: 31771) of binary: envs/train/bin/python",
        *traceback(
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
            ("envs/train/bin/torchrun", 8, "<module>", "sys.exit(main())"),
            (f"{SITE}/torch/distributed/run.py", 806, "main", "run(args)"),
        ),
        "============================================================",
        f"{script} FAILED",
        "------------------------------------------------------------",
        "Failures:",
        "  <NO_OTHER_FAILURES>",
        "------------------------------------------------------------",
        "Root Cause (first observed failure):",
        "[0]:",
        f"  time      : {stamp(7200, '%Y-%m-%d_%H:%M:%S')}",
        "  host      : gpu014.cluster.local",
        f"  rank      : {rank} (local_rank: {rank})",
        f"  exitcode  : {code} (pid: 31771)",
        "  error_file: <N/A>",
        f"  traceback : {reason}",
        "============================================================",
    ]
