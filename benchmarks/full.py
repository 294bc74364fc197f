"""What the full-size study costs: `python -m benchmarks.full WORKDIR`, a page on stdout.

Seventeen subjects on the 61×73×61 grid, 397 TRs, simulated under WORKDIR if missing (13 minutes). Prepares its store
and trains the demo's configuration on it, each in a process of its own, and reports CPU seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.demo_runs import CONFIG, narrate
from giblet_train.contract.config import dump, load
from giblet_train.contract.rundir import RunDir, new_run_id
from giblet_train.data.prepared import read_request
from giblet_train.data.store import study_folder

PAGE = """# The full-size study: seventeen subjects

`make bench-full` (simulated brain, real film; the demo's configuration with `data.simulate: full`, preset `tiny`, one
thread). Simulating the study is not counted.

| | CPU | peak memory (RSS) | goal |
|---|---|---|---|
| `prepare`: {n_subjects} subjects, {n_trs} TRs, NIfTI to store | {prepare} | 3 GiB |
| `train`: {n_voxels} voxels kept, {steps} steps, judged on the test block | {train} | 600 s, 6 GiB |

Best validation at step {best_step} of {steps}. Held-out r of responsive voxels {r:.3f} (ridge {ridge:.3f}, ridge
with pooled subjects {pooled:.3f}, ceiling {ceiling:.3f}), of null voxels {null:+.3f}.
"""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a process and its children, and the largest resident size of one of them."""

    cpu_s: float
    rss_gib: float

    def __str__(self) -> str:
        return f"{self.cpu_s:.0f} s | {self.rss_gib:.2f} GiB"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir.resolve()
    config = load(CONFIG, {"data.simulate": "full", "name": "full"}).config
    run_dir = RunDir(workdir / "runs" / new_run_id(config.name))
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config))
    request = read_request(run_dir.path, None)
    study_folder(config, request.data_dir, workdir, narrate)
    shutil.rmtree(workdir / "stores", ignore_errors=True)
    prepare, train = (measured("-m", "giblet_train", verb, str(run_dir.path)) for verb in ("prepare", "train"))
    records = [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]
    print(page(prepare, train, records), end="")


def page(prepare: Cost, train: Cost, records: list[dict[str, Any]]) -> str:
    """The figures of both processes and of what the run recorded."""
    data, run, evaluation = (next(r for r in records if r["kind"] == kind) for kind in ("data", "run", "evaluation"))
    best = min((r for r in records if r["kind"] == "epoch"), key=lambda r: float(r["validation"]["total"]))
    said = evaluation["encoding"]
    return PAGE.format(
        prepare=prepare,
        train=train,
        n_subjects=len(data["subjects"]),
        n_voxels=data["n_voxels"],
        n_trs=data["n_trs"],
        steps=run["total_steps"],
        best_step=best["step"],
        r=said["r_responsive"],
        ridge=said["r_ridge"],
        pooled=said["r_ridge_pooled"],
        ceiling=said["r_ceiling"],
        null=said["r_null"],
    )


def measured(*argv: str) -> Cost:
    """Run Python so, its output on stderr; SystemExit when it fails."""
    process = subprocess.Popen([sys.executable, *argv], stdout=sys.stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(argv)} ended with status {status}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


if __name__ == "__main__":
    main()
