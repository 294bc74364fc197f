"""Read what a run recorded, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from giblet_train.diagnosis.criteria import Verdict
from giblet_train.monitoring.verdict import read_verdict
from giblet_train.portable.arguments import as_path
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.history import read_history
from giblet_train.schema.records import AnyMetric, EpochMetric, EvaluationMetric
from giblet_train.schema.run_dir import RunDir


@dataclass(frozen=True)
class RunRecords:
    """Records of a run."""

    run_id: str
    config: Config
    """The resolved configuration."""
    metrics: tuple[AnyMetric, ...]
    """All records, in order, including those of the runs that it resumed."""
    verdict: Verdict
    """The run by its criteria."""

    @property
    def epochs(self) -> tuple[EpochMetric, ...]:
        """Return the record of each epoch."""
        return tuple(m for m in self.metrics if isinstance(m, EpochMetric))

    @property
    def evaluation(self) -> EvaluationMetric | None:
        """Return the last evaluation on held-out rows; None if there is none."""
        return next((m for m in reversed(self.metrics) if isinstance(m, EvaluationMetric)), None)


def run_dir_of(path: Path) -> RunDir:
    """Return the run directory at a path. Raises ConfigError if it is not one."""
    run_dir = RunDir(path.resolve())
    if not run_dir.config.is_file():
        raise ConfigError(f"{path} is not a run directory: it has no config.yaml.", "Name the folder of a run.")
    return run_dir


def read_run(path: str | Path) -> RunRecords:
    """Read the records in a run directory, or in a pulled copy. Raises ConfigError if it is not one."""
    run_dir = run_dir_of(as_path(path, "The run"))
    config = run_dir.read_config()
    return RunRecords(run_dir.run_id, config, tuple(read_history(run_dir)), read_verdict(run_dir))
