"""What the engine learns on truths of known form: `python -m benchmarks.learning`, a page on stdout.

Each cell simulates a study in memory (`giblet_train.data.simulation.learning_study`), trains it with the real trainer
and measures r on its test block. `--json FILE` also keeps the figures, and continues from those that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import expert_ridge, product_ridge
from giblet_train.components.build import TrainingSetup
from giblet_train.components.refit import refit
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.simulation.learning_study import LearningStudy, simulate_learning_study
from giblet_train.distributed.process_group import ProcessGroup, ranks_of
from giblet_train.evaluation.baselines import ridge_of
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.evaluation.metrics import contributions_of
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config, dump
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.stop_signals import StopSignals
from giblet_train.training.trainer import Trainer

FORMS = ("linear", "saturation", "energy", "interaction", "integration")
MODELS = (
    "pooled ridge", "expert ridge", "linear start", "start", "selected start", "start + pooled ridge",
    "network before refit", "network", "product ridge",
)  # fmt: skip
COMPARED = ("expert ridge", "linear start", "start", "selected start", "network before refit", "product ridge")
EPOCHS = 10
Series = dict[str, NDArray[np.float64]]

PAGE = """# What the engine learns

    make bench-learning      # this page

Simulated responses of known form, so that the ceiling is known: r of the noiseless with the measured responses. Half of
the explainable variance is linear in the film's factors in the rows `half ...`, none in the others. Films, noise and
responses come from `giblet_train/data/simulation/learning_study.py`, not from the simulator of the demo:
{n_subjects} subjects, 80 responsive voxels of 120, 30 % signal, 400 test TRs, 150 validation TRs.

All models but one use the same TRs: training TRs fit and validation TRs select, then both fit again what was selected.

- **pooled ridge**: ridge on the mean of the subjects at delays of 1 to 8 TRs, penalty by validation.
- **expert ridge**: banded ridge by himalaya, with HRF and memory bands, whitened, one penalty for all voxels, mean of
  the subjects plus each subject's deviation (`benchmarks/expert_ridge.py`); inner folds of training and validation TRs
  select. Its penalty lay at the edge of the grid in {n_edges} of {n_experts} fits.
- **linear start**: the ridge initialisation with linear bands only.
- **start**: with nonlinear bands (products within and between modalities, rectified projections).
- **selected start**: the start with as many latents as validation TRs select. No weight of it is learnt.
- **start + pooled ridge**: the mean of the predictions of `selected start` and `pooled ridge`.
- **network before refit**: the network with the initialisation of the training TRs, as validation judged it.
- **network**: what a run ends with: the selected start and the learnt addition, whose share validation TRs select. The
  last column gives the number of runs that kept an addition.
- **product ridge**: knows the form of the truth (`benchmarks/product_ridge.py`).

r on the test block, mean over the seeds; preset `tiny`, {epochs} epochs. Intervals: 95 %, paired, over all test TRs of
these seeds. `--cells 3000:1 10000:1` measures longer studies.
{left_out}
| training TRs | truth | seeds | {columns} | ceiling | {gains} | runs with an addition |
|{rule}
{rows}

Measured on {machine}.
"""


@dataclass(frozen=True)
class Cell:
    """One entry of the table."""

    n_trs: int
    form: str
    seed: int
    form_share: float = 1.0

    @property
    def name(self) -> str:
        """Return the key of the cell."""
        return f"{self.n_trs} {self.label} {self.seed}"

    @property
    def label(self) -> str:
        """Return the truth in words."""
        return self.form if self.form_share == 1.0 else f"half {self.form}"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=training_trs_and_seeds, nargs="+", default=[(300, 2), (1000, 1)])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes after which no further study is begun")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cells = [
        Cell(n, form, seed, share)
        for n, n_seeds in options.cells
        for seed in range(n_seeds)
        for form, share in [*((form, 1.0) for form in options.forms), ("interaction", 0.5)]
    ]
    figures: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for cell in cells:
        if cell.name not in figures and cpu_minutes(figures) < options.minutes:
            figures[cell.name] = measure(cell, options.epochs)
            print(
                cell.name,
                {k: round(sum(v), 3) for k, v in figures[cell.name]["r"].items()},
                file=sys.stderr,
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps(figures))
    print(page(figures, options.epochs, [cell for cell in cells if cell.name not in figures]))


def training_trs_and_seeds(text: str) -> tuple[int, int]:
    """Return training TRs and the number of seeds of `300:2`."""
    n_trs, n_seeds = text.split(":")
    return int(n_trs), int(n_seeds)


def cpu_minutes(figures: Mapping[str, Any]) -> float:
    """Return the CPU minutes that the cells took."""
    return float(sum(measured["cpu_s"] for measured in figures.values())) / 60


def measure(cell: Cell, epochs: int) -> dict[str, Any]:
    """Return the series of r of each model, the ceiling, the share of the addition and the CPU seconds."""
    began = time.process_time()
    study = simulate_learning_study(cell.form, cell.n_trs, cell.seed, form_share=cell.form_share)
    data = study.data
    config = config_of_seed(cell.seed, epochs)
    expert, pooled = expert_ridge.predict(data), _pooled(data)
    product = dict.fromkeys(data.subjects, product_ridge.predict(data, cell.form))
    linear = TrainingSetup.build(config_of_seed(cell.seed, epochs, start_nonlinear=False), data, _alone(config))
    trainer = train(config, study)
    network = trainer.setup.train_step.average.model
    predicted = {
        "pooled ridge": pooled,
        "expert ridge": expert.predicted,
        "product ridge": product,
        "linear start": _predicted(data, refit(linear, data)),
        "network before refit": _predicted(data, trainer.checkpoints.setup),
        "network": _predicted(data, trainer.setup),
    }
    network.share = 0.0
    selection = predicted["selected start"] = _predicted(data, trainer.setup)
    predicted["start + pooled ridge"] = {s: (x_TV + pooled[s]) / 2.0 for s, x_TV in selection.items()}
    network.limit_start(trainer.setup.shape.bottleneck_dim)
    predicted["start"] = _predicted(data, trainer.setup)
    r = {name: _series(data, responses) for name, responses in predicted.items()}
    return {
        "r": {name: series_T.tolist() for name, series_T in r.items()},
        "ceiling": study.ceiling(),
        "share": trainer.state.best_share,
        "expert_at_edge": expert.alpha_at_edge,
        "cpu_s": time.process_time() - began,
    }


def config_of_seed(seed: int, epochs: int, **model: Any) -> Config:
    """Return the run's configuration: the defaults, on one thread."""
    value = {"name": "learning", "threads": 1, "device": "cpu", "seed": seed, "num_epochs": epochs, "model": model}
    return from_mapping(value | {"criteria": {}, "on_sanity_fail": "warn"}).config


def train(config: Config, study: LearningStudy) -> Trainer:
    """Train a study to its end; return the trainer, whose averaged model has the best weights."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder) / "runs" / "learning")
        run_dir.path.mkdir(parents=True)
        run_dir.config.write_text(dump(config))
        with ranks_of(config) as ranks, StopSignals(run_dir, ranks) as stop_signals:
            logger = RunLogger(run_dir, active=False)
            trainer = Trainer(run_dir, config, study.data, ranks, logger, stop_signals)
            trainer.fit()
            logger.close()
    return trainer


def _alone(config: Config) -> ProcessGroup:
    with ranks_of(config) as ranks:
        return ranks


def _predicted(data: PreparedSplit, setup: TrainingSetup) -> dict[str, NDArray[np.float32]]:
    """Return subject -> responses (T, V) on the test TRs as the averaged model of a setup predicts them."""
    return dict(Evaluator.of(setup, data).predicted(setup.train_step.average.model))


def _pooled(data: PreparedSplit) -> dict[str, NDArray[np.float32]]:
    split = data.split
    ridge = ridge_of(data.inputs, split.train, split.validation, data.study.scan_lengths_trs)
    mean_TV = np.asarray(np.mean([data.bold[s] for s in data.subjects], axis=0), np.float32)
    return dict.fromkeys(data.subjects, ridge.predict(mean_TV, split.test, data.responsive_V))


def _series(data: PreparedSplit, predicted: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    yes_V, rows = data.responsive_V, data.split.test
    return np.asarray(
        np.mean(
            [contributions_of(x_TV[:, yes_V], data.bold[s][rows][:, yes_V]) for s, x_TV in predicted.items()], axis=0
        )
    )


def page(figures: Mapping[str, Any], epochs: int, missing_cells: Sequence[Cell] = ()) -> str:
    """Format the page of all measured cells. unmeasured: cells that were left out for want of time."""
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for name, measured in figures.items():
        n_trs, *words, _ = name.split()
        groups.setdefault((int(n_trs), " ".join(words)), []).append(measured)
    names = ", ".join(cell.name for cell in missing_cells)
    return PAGE.format(
        n_subjects=3,
        epochs=epochs,
        left_out=f"\nNot measured, for want of time (training TRs, truth, seed): {names}.\n" if names else "",
        n_edges=sum(bool(measured.get("expert_at_edge")) for measured in figures.values()),
        n_experts=sum("expert_at_edge" in measured for measured in figures.values()),
        columns=" | ".join(MODELS),
        gains=" | ".join(f"network − {other}" for other in COMPARED),
        rule="---|" * (len(MODELS) + len(COMPARED) + 5),
        rows="\n".join(_row(n_trs, label, measured) for (n_trs, label), measured in sorted(groups.items())),
        machine=f"one thread of a shared two-core machine, {cpu_minutes(figures):.0f} CPU minutes",
    ).rstrip()


def _row(n_trs: int, label: str, measured: Sequence[Mapping[str, Any]]) -> str:
    """Format a row of the table."""
    series: Series = {m: np.concatenate([x["r"][m] for x in measured]) / len(measured) for m in MODELS}
    cells = [str(n_trs), label, str(len(measured)), *(f"{series[m].sum():.3f}" for m in MODELS)]
    cells.append(f"{np.mean([x['ceiling'] for x in measured]):.3f}")
    cells += [_gain(series["network"] - series[other]) for other in COMPARED]
    cells.append(f"{sum(x['share'] > 0 for x in measured)} of {len(measured)}")
    return f"| {' | '.join(cells)} |"


def _gain(gain_T: NDArray[np.float64]) -> str:
    low, high = interval_of_sum(gain_T)
    return f"{gain_T.sum():+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
