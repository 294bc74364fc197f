"""Launch the lab's named configurations on a Sherlock-shaped study: `python -m benchmarks.rehearsal WORKDIR`.

Simulates the study under WORKDIR under the lab's file names, starts a node of its own (a real sshd on loopback),
launches each configuration there with `giblet launch` and judges it with `giblet verdict`. Prints a page; exit code 1
if a run fails a criterion.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.demo_runs import report_progress
from giblet_train.evaluation.evaluator import LINEAR_DECODER, RIDGE_DECODER
from giblet_train.schema.config import content_hash
from giblet_train.schema.config_loader import load
from giblet_train.schema.run_dir import RunDir
from tests.cluster.laptop import GIBLET, Laptop
from tests.cluster.nodes import Cluster

NODE = "tensor01"
SEED = 23
N_SUBJECTS = 5
CONFIGS = Path(__file__).parents[1] / "configs"
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "test_normalized_fmri": {"threads": 1},
    "test_full_fixes": {"threads": 1},
    "test_50epoch_fixed": {"distributed.world_size": 2, "steps_per_epoch": 4},
    "production_500epoch": {
        "distributed.world_size": 2,
        "data.subjects": f"1-{N_SUBJECTS}",
        "steps_per_epoch": 1,
        "validate_every": 10,
        "batch_size": 4,
    },
}
"""Each configuration with its differences for a study of five subjects and two shared CPU cores."""
PAGE = """# The lab's configurations on a study of the lab's shape

    make rehearsal      # this page

A simulated study of seed {seed}: generated film, {n_subjects} subjects, 12 mm voxels, scans of 946 and 1,030 TRs.
`giblet launch` starts each configuration on a node of its own (a real sshd on loopback, no GPU), and `giblet verdict`
judges it.

- **start**: the ridge initialisation with all latents; no weight of it is learnt.
- **network**: what the run ends with: the start with the selected latents, and with something learnt only if that was
  reliably better on the validation block. Start, network and pooled ridge are fitted again on training and validation
  TRs when the run ends.
- **ISC**: root of the inter-subject correlation.

| configuration | changed here | steps | network | start | pooled ridge | ISC | learnt share | verdict |
|---|---|---|---|---|---|---|---|---|
{rows}

r on the test block, over responsive voxels. **–**: a single subject has no inter-subject correlation, by which voxels
count as responsive.

The film of the test block, decoded from measured brains: skill (0 = training mean) and share of 5-TR segments that are
told from all others. **before training**: the ridge from latents from which the decoders start.

| configuration | skill of video, audio, text | before training | of ridge on voxels | told apart | before training \
| by ridge on voxels | by chance |
|---|---|---|---|---|---|---|---|
{films}

{verdicts}
{refusal}
Measured on {machine}.
"""


@dataclass(frozen=True)
class Rehearsed:
    """A configuration that was run."""

    name: str
    changes: Mapping[str, Any]
    verdict: Mapping[str, Any]
    """Output of `giblet verdict --json`."""
    records: Sequence[Mapping[str, Any]]
    """Records of the run."""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--only", nargs="+", choices=CONFIGS_OF_THE_LAB, default=CONFIGS_OF_THE_LAB, metavar="CONFIG")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of every run, such as fewer epochs"
    )
    options = parser.parse_args()
    workdir = options.workdir.resolve()
    make_study(workdir / "study")
    cluster = Cluster((NODE,))
    try:
        laptop = laptop_of(cluster, workdir)
        link_study(workdir / "study", workdir / "node" / "data")
        refusal = refused(laptop)
        runs = [rehearse(laptop, workdir / "node", name, options.set) for name in options.only]
    finally:
        cluster.close()
    print(page(runs, refusal), end="")
    sys.exit(any(run.verdict["verdict"] != "pass" for run in runs))


def make_study(folder: Path) -> None:
    """Simulate the study, unless it exists."""
    subprocess.run(
        [sys.executable, "-m", "giblet_train", "simulate", "--size", "sherlock", "--seed", str(SEED), str(folder)],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def link_study(study: Path, data: Path) -> None:
    """Give the study's files the names that the configurations expect."""
    config = load(CONFIGS / "base.yaml", {}).config.data
    names = {str(config.video): "film.mp4", str(config.annotations): "annotations.xlsx"}
    names |= {config.bold.format(subject=n): f"bold/sub-{n:02d}.nii.gz" for n in range(1, N_SUBJECTS + 1)}
    for name, source in names.items():
        link = data / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(study / source)


def laptop_of(cluster: Cluster, workdir: Path) -> Laptop:
    """Return a laptop that knows the node."""
    folder = workdir / "laptop"
    folder.mkdir(parents=True, exist_ok=True)
    laptop = Laptop(folder, cluster.ssh_config)
    laptop.name_nodes(f"{NODE}:\n  python: {sys.executable}\n  workdir: {workdir}/node\n  multiplexer: process\n")
    return laptop


def refused(laptop: Laptop) -> str:
    """Return what `giblet launch` says to six processes on this machine's cores."""
    result = laptop.giblet("launch", NODE, "test_50epoch_fixed", "--dry-run")
    return (
        f"`giblet launch {NODE} test_50epoch_fixed --dry-run`, six processes, ended with {result.returncode}:\n\n"
        + "".join(
            f"    {line}\n" for line in (result.stderr if result.returncode else result.stdout).strip().splitlines()
        )
    )


def rehearse(laptop: Laptop, node: Path, name: str, common: Sequence[str]) -> Rehearsed:
    """Launch a configuration, follow it to its end and judge it; a finished run of it is only judged."""
    changes = {
        **CHANGES[name],
        **{key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in common)},
    }
    run_dir = finished(node, name, changes) or launched(laptop, node, name, changes)
    verdict = laptop.giblet("verdict", run_dir.path.name, "--json")
    records = [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]
    return Rehearsed(name, changes, json.loads(verdict.stdout), records)


def finished(node: Path, name: str, changes: Mapping[str, Any]) -> RunDir | None:
    """Return an evaluated run of this configuration."""
    config_hash = content_hash(load(CONFIGS / f"{name}.yaml", changes).config)
    runs = [RunDir(path) for path in sorted((node / "runs").glob(f"{name}-*"))]
    evaluated_runs = [run for run in runs if run.metrics.exists() and '"evaluation"' in run.metrics.read_text()]
    return next((run for run in reversed(evaluated_runs) if content_hash(run.read_config()) == config_hash), None)


def launched(laptop: Laptop, node: Path, name: str, changes: Mapping[str, Any]) -> RunDir:
    """Launch a configuration and follow it to its end."""
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    report_progress(f"giblet launch {NODE} {name} {' '.join(words)}")
    with subprocess.Popen(
        [GIBLET, "launch", NODE, name, *words, "--follow", "--again"],
        env=laptop.environment,
        cwd=laptop.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        for line in process.stdout:
            report_progress(line.rstrip())
    return RunDir(node / "runs" / run_id)


def page(runs: Sequence[Rehearsed], refusal: str) -> str:
    """Format all figures as Markdown."""
    return PAGE.format(
        seed=SEED,
        n_subjects=N_SUBJECTS,
        rows="\n".join(_row(run) for run in runs),
        films="\n".join(_film(run) for run in runs),
        verdicts="\n".join(_criteria(run) for run in runs),
        refusal=refusal,
        machine=f"{os.cpu_count()} shared CPU cores, {time.strftime('%Y-%m-%d')}",
    )


def _row(run: Rehearsed) -> str:
    encoding = _last(run, "evaluation").get("encoding", {})
    figures = [
        f"{encoding[key]:.3f}" if encoding.get(key) is not None else "–"
        for key in ("r_responsive", "r_start", "r_ridge_pooled", "r_ceiling", "learnt_share")
    ]
    changes = ", ".join(f"`{key}={value}`" for key, value in run.changes.items()) or "nothing"
    cells = [f"`{run.name}`", changes, str(_last(run, "run").get("total_steps", "–")), *figures, run.verdict["verdict"]]
    return f"| {' | '.join(cells)} |"


def _film(run: Rehearsed) -> str:
    decoding = _last(run, "evaluation").get("decoding", {})
    sources = ("measured", LINEAR_DECODER, RIDGE_DECODER)
    columns = [(source, key) for key in ("skill", "top_1") for source in sources] + [("measured", "top_1_chance")]
    cells = [", ".join(f"{film[key]:.2f}" for film in decoding.get(source, {}).values()) for source, key in columns]
    return f"| {' | '.join([f'`{run.name}`', *cells])} |"


def _criteria(run: Rehearsed) -> str:
    lines = [f"- {c['status']}: `{c['name']}`: {c['sentence']}" for c in run.verdict["criteria"]]
    return "\n".join([f"`{run.name}`:\n", *lines, ""])


def _last(run: Rehearsed, kind: str) -> Mapping[str, Any]:
    return next((record for record in reversed(run.records) if record["kind"] == kind), {})


CONFIGS_OF_THE_LAB = tuple(CHANGES)


if __name__ == "__main__":
    main()
