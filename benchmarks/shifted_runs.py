"""How often a run that begins when it should is called shifted, and how often a shifted one is found.

    python -m benchmarks.shifted_runs build/shifted_runs            seeds 0 to 5 of four layouts

Each study is judged as it is and with noise of up to five times its own standard deviation added to the mean response,
once with right onsets and once with its last run begun 12 s late. Heights are those of the lag against the stimulus.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import yaml
from threadpoolctl import threadpool_limits

from benchmarks.demo_runs import report_progress
from giblet_train.data.checks.clock import check_runs
from giblet_train.data.simulation.layout_study import simulate_layout
from giblet_train.data.statistics.lag import mean_response
from giblet_train.data.statistics.run_lags import run_lag_table
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import build_store, open_store
from giblet_train.data.study import Study
from giblet_train.schema.config_loader import load

LAYOUTS = ("sherlock", "hbn", "dartmouth", "narratives")
NOISE = (0.0, 1.0, 2.0, 3.0, 3.0, 5.0)
LATE_S = 12.0
NEAR_S = 3.0
HEAD = """
## Runs that begin late

`benchmarks.shifted_runs`: whether `giblet data check` names a run that begins 12 s late, and calls a right one
shifted. The layouts sherlock, hbn, dartmouth and narratives with several seeds, each with noise of 0 to 5 times the
standard deviation of the mean response added. z: height of the run's lag above chance, in
standard deviations.

| z | right runs | late runs | named with their amount | wrong statements |
| --- | ---: | ---: | ---: | ---: |"""
BINS = ((0.0, 2.5), (2.5, 4.0), (4.0, 6.0), (6.0, float("inf")))


def made_study(workdir: Path, layout: str, seed: int) -> Study:
    """Return the study of a layout with its true table of runs, as one subject with the mean response."""
    folder = workdir / f"{layout}-{seed}"
    if not folder.exists():
        simulate_layout(folder, layout, seed=seed)
    truth = json.loads((folder / "truth.json").read_text())
    stimuli = {name: {"audio" if s["kind"] == "sound" else "video": s["file"]} for name, s in truth["stimuli"].items()}
    data = {"data_dir": str(folder / "study"), "tr": truth["tr_s"], "stimuli": stimuli}
    data["runs"] = (folder / "truth.tsv").read_text()
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"extends": "base", "name": "study", "stage": "test", "data": data}))
    config = load(path, folders=(Path(__file__).parents[1] / "configs",)).config
    request = DataRequest(config, folder)
    study = open_store(build_store(config, request.data_dir, folder, lambda _sentence, _share: None))
    return replace(study, bold={"sub-mean": mean_response(study)}, present={})


def variants(study: Study, random: np.random.Generator) -> Iterator[tuple[bool, Study]]:
    """Yield the study with noise, each time with right onsets and with a late last run."""
    response_TV = study.bold["sub-mean"][:]
    start, late_trs = study.n_trs - study.scan_lengths_trs[-1], round(LATE_S / study.tr_s)
    for factor in NOISE:
        noise_TV = random.standard_normal(response_TV.shape)
        noise_TV = (noise_TV + 0.75 * np.roll(noise_TV, 1, axis=0)) / 1.25
        noisy_TV = (response_TV + factor * response_TV.std() * noise_TV).astype(np.float32)
        late_TV = noisy_TV.copy()
        late_TV[start:] = np.roll(noisy_TV[start:], late_trs, axis=0)
        for is_late, values_TV in ((False, noisy_TV), (True, late_TV)):
            yield is_late, replace(study, bold={"sub-mean": values_TV})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    right, late, n_named, wrong = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    with threadpool_limits(1):
        for layout, seed in product(LAYOUTS, options.seeds):
            study = made_study(options.workdir.absolute(), layout, seed)
            for is_late, variant in variants(study, np.random.default_rng([LAYOUTS.index(layout), seed])):
                rows = run_lag_table(variant)
                findings = {f.sentence.partition(":")[0]: f for f in check_runs(rows, variant)}
                for row in rows:
                    is_shifted = is_late and row.who == study.block_names[-1]
                    height = next(n for n, (low, high) in enumerate(BINS) if low <= max(0.0, row.whole.height) < high)
                    (late if is_shifted else right)[height] += 1
                    if row.who not in findings:
                        continue
                    amount_s = row.whole.lag_trs * study.tr_s - 4.5
                    is_named = is_shifted and abs(amount_s - LATE_S) <= NEAR_S
                    (n_named if is_named else wrong)[height] += 1
            report_progress(f"{layout} {seed}: {right.total()} right runs, {wrong.total()} wrong statements")
    print(HEAD)
    for n, (low, high) in enumerate(BINS):
        span = f"{low:g} or more" if high == float("inf") else f"{low:g} to {high:g}"
        print(f"| {span} | {right[n]} | {late[n]} | {n_named[n]} | {wrong[n]} |")
    print(f"| all | {right.total()} | {late.total()} | {n_named.total()} | {wrong.total()} |")


if __name__ == "__main__":
    main()
