"""What a rank holds and sends when subjects' heads are shared out: `python -m benchmarks.scale`, a page on stdout.

Noise in the place of brains: seventeen subjects of 20,000 voxels, `model.compress: none`, the network of `tiny` with 96
latents from zero heads. Each case is a run of its own by the real torchrun (gloo, one thread a rank).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo_runs import report_progress
from giblet_train.components.build import TrainingSetup
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.distributed.process_group import ProcessGroup, ranks_of
from giblet_train.distributed.tensor_file import save_file
from tests.engine_study import config, split_data

N_SUBJECTS, N_VOXELS, N_TRS = 17, 20_000, 300
CASES = [(1, "replicated"), (2, "replicated"), (2, "sharded"), (4, "replicated"), (4, "sharded")]
N_STEPS = 4
PAGE = """# Heads sharded over ranks

With `distributed.world_size` above 1 and `model.compress: per_subject` or `none`, rank r of n holds the heads of
subjects r, r + n, … and nothing of the others: no targets, averages or optimizer moments. Encoders, trunk and
decoders are on every rank and take its share of the windows. Sharding is automatic; the `run` record states
`heads: sharded`. Joint and dense heads cannot be sharded and are replicated on each rank.

- Same curve: losses and gradient norms of 1, 2 and 4 ranks agree to a relative 1e-4 over 50 steps, with `mse`, `mae`
  and `correlation`, and with more ranks than subjects (`make test-ranks`; some 1e-7 seen).
- One checkpoint file whatever the number of ranks, written and read by rank 0 a tensor at a time. A resume is exact to
  the bit on as many ranks, and equal within rounding on more or fewer: the event `resumed` records which.
- Validation and the final evaluation are sharded as well; rank 0 reports them.

## What it saves

`make bench-scale`: {n_subjects} subjects × {n_voxels:,} voxels × {n_trs} TRs of noise, `model.compress: none`,
{n_parameters:.1f} M parameters, {n_own:.1f} M of them in heads; gloo, one thread a rank, all ranks on one machine.

| ranks | heads | memory, at rest | at most, in a step | at most, while saving | sent a step | CPU a step, all ranks |
|---|---|---|---|---|---|---|
{rows}

Memory is the most of any rank's private (anonymous) pages, torch's own {base:.2f} GiB among them; the store's memory
maps are shared by all and not counted. Sent is what each rank puts into sums over ranks; a ring carries 2 (n - 1) / n
of it over each rank's wire. `replicated` is every rank with all heads and its share of the windows, as `joint` does it.
"""


def main() -> None:
    """Print the page, or be one rank of a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rank", nargs="*", help=argparse.SUPPRESS)
    rank = parser.parse_args().rank
    if rank:
        _rank(rank[0], Path(rank[1]), int(rank[2]))
    else:
        _page()


def _page() -> None:
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for subject in range(N_SUBJECTS):
            np.save(_bold(Path(folder), subject), _noise(subject))
        for n_ranks, heads in CASES:
            report_progress(f"{n_ranks} rank(s), heads {heads}", 0.0)
            figures = _case(heads, Path(folder), n_ranks)
            gib, sent_bytes, cpu_s = (figures[name] for name in ("gib", "sent", "cpu_s"))
            rows.append(
                f"| {n_ranks} | {heads if n_ranks > 1 else 'all'} | {gib['rest']:.2f} GiB | {gib['step']:.2f} GiB | "
                f"{gib['save']:.2f} GiB | {sent_bytes / 1e6:.1f} MB | {cpu_s:.1f} s |"
            )
    sizes = {"n_subjects": N_SUBJECTS, "n_voxels": N_VOXELS, "n_trs": N_TRS}
    n_own = 96 * N_SUBJECTS * N_VOXELS / 1e6
    print(
        PAGE.format(
            rows="\n".join(rows),
            n_parameters=figures["n_parameters"] / 1e6,
            n_own=n_own,
            base=figures["gib"]["torch"],
            **sizes,
        ),
        end="",
    )


def _case(heads: str, folder: Path, n_ranks: int) -> dict[str, Any]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_ranks)]
    result = subprocess.run(
        [*torchrun, "-m", "benchmarks.scale", heads, str(folder), str(n_ranks)], capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(result.stderr)
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def _rank(heads: str, folder: Path, n_ranks: int) -> None:
    if heads == "replicated":
        setattr(HeadSharding, "of", classmethod(lambda cls, config, subjects, ranks: cls(ranks, tuple(subjects))))  # noqa: B010
    own = {"compress": "none", "start": "zero", "bottleneck_dim": 96, "width": 64, "n_layers": 0, "window_trs": 64}
    cfg = config(model=own, distributed={"world_size": n_ranks}, threads=1)
    with ranks_of(cfg) as ranks, Memory() as memory:
        gib = {"torch": memory.now()}
        setup = TrainingSetup.build(cfg, _data(folder), ranks)
        train_step = setup.train_step
        train_step.step(0, {})
        began, sent_bytes = time.process_time(), ranks.wire.n_bytes
        memory.mark()
        for step in range(1, N_STEPS + 1):
            train_step.step(step, {})
        cpu_s, sent_bytes = (time.process_time() - began) / N_STEPS, (ranks.wire.n_bytes - sent_bytes) // N_STEPS
        gib["step"] = memory.mark()
        gib["rest"] = memory.now()
        tensors = train_step.tensors()
        series = ranks.tensors_at_first(tensors, {n: t for n, t in tensors.items() if setup.shards.is_local(n)})
        if ranks.is_first:
            save_file(series, Path("/dev/null"), {})
        gib["save"] = memory.mark()
        _tell(ranks, gib, sent_bytes, cpu_s, train_step.n_parameters)


def _tell(ranks: ProcessGroup, gib: Mapping[str, float], sent_bytes: int, cpu_s: float, n_parameters: int) -> None:
    """Print one line from rank 0: the largest memory of any rank, and the CPU seconds of all."""
    per_rank = ranks.all_gather((gib, cpu_s))
    if ranks.is_first:
        worst = {name: max(theirs[name] for theirs, _ in per_rank) for name in gib}
        print(
            json.dumps(
                {"gib": worst, "sent": sent_bytes, "cpu_s": sum(s for _, s in per_rank), "n_parameters": n_parameters}
            )
        )


class Memory:
    """This process's anonymous pages, looked at every few milliseconds by a thread."""

    def __init__(self) -> None:
        self._most, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        self._thread.join()

    def mark(self) -> float:
        """Return the most GiB in use since the last mark."""
        most, self._most = self._most, self.now()
        return most

    @staticmethod
    def now() -> float:
        """Return the GiB in use."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, self.now())


def _data(folder: Path) -> PreparedSplit:
    """Return the tests' film, with brains that are read from memory maps as those of a store are."""
    bold = {f"sub-{n + 1:02d}": np.load(_bold(folder, n), mmap_mode="r") for n in range(N_SUBJECTS)}
    data, all_V = split_data(n_trs=N_TRS, n_subjects=1, n_voxels=3), np.ones(N_VOXELS, bool)
    return replace(
        data, bold=bold, voxels_V=np.arange(N_VOXELS), responsive_V=all_V, null_V=~all_V, isc_V=all_V.astype(np.float32)
    )


def _noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((N_TRS, N_VOXELS), np.float32)


def _bold(folder: Path, subject: int) -> Path:
    return folder / f"{subject}.npy"


if __name__ == "__main__":
    main()
