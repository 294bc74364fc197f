"""Write the report of a run when its training has finished, with the weights and data that are still loaded."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from giblet_train.analysis.brain_record import CoarseGrid, fixed_maps, held_out_brain
from giblet_train.analysis.evaluation_folder import PAGE, evaluate_into
from giblet_train.analysis.held_out_maps import held_out_maps
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.data.geometry import VolumeGrid
from giblet_train.schema.errors import GibletError
from giblet_train.schema.health import Health
from giblet_train.schema.records import BrainMap
from giblet_train.schema.run_dir import write_record
from giblet_train.training import checkpoint_files
from giblet_train.training.hooks import TrainerHook

if TYPE_CHECKING:
    from giblet_train.training.trainer import Trainer


class _StopRequested(Exception):
    """A stop request arrived while the report was being written."""


class ReportHook(TrainerHook):
    """Writes brain.json at each validation and `<run directory>/report/` after the final evaluation.

    A report that fails does not fail the run. With sharded heads neither is written, and without a grid of voxels no
    brain.json. A stop request ends the report, because the run itself has ended: GPUs must not be held for it.
    """

    def __init__(self) -> None:
        self._grid: CoarseGrid | None = None
        self._fixed: dict[str, BrainMap] = {}
        self._is_broken = False

    def on_validated(self, trainer: Trainer) -> None:
        if not trainer.ranks.is_first or trainer.evaluator is None or trainer.setup.shards.sharded:
            return
        if self._is_broken or not isinstance(trainer.data.study.geometry, VolumeGrid):
            return
        try:
            if self._grid is None:
                self._grid = CoarseGrid(trainer.data)
                self._fixed = fixed_maps(self._grid, trainer.data, trainer.setup.posterior)
            r_V = trainer.evaluator.validation_map(trainer.train_step.average.model)
            r = self._grid.values("r on the validation block, responsive voxels", r_V)
            record = self._grid.record(trainer.state.step, {"r": r, **self._fixed}, held_out=False)
            write_record(trainer.run_dir.brain, record)
        except Exception as error:
            self._is_broken = True
            why = error.message if isinstance(error, GibletError) else f"{type(error).__name__}: {error}"
            trainer.logger.log_event("brain_map", "warning", f"Maps for the terminal could not be written: {why}")

    def on_finished(self, trainer: Trainer) -> None:
        if not trainer.ranks.is_first or trainer.evaluator is None:
            return
        logger = trainer.logger
        if trainer.setup.shards.sharded:
            logger.log_event("report", "info", "Heads are sharded, so no report was written: giblet evaluate RUN.")
            return
        try:
            self._write(trainer)
        except _StopRequested:
            logger.log_event("report", "info", "Stopped on request before the report was written: giblet evaluate RUN.")
        except Exception as error:
            why = error.message if isinstance(error, GibletError) else f"{type(error).__name__}: {error}"
            logger.log_event("report", "warning", f"The report could not be written: {why}")
        finally:
            shutil.rmtree(self._unfinished(trainer), ignore_errors=True)

    @staticmethod
    def _unfinished(trainer: Trainer) -> Path:
        """Return the folder of a report that is being written."""
        return trainer.run_dir.report.with_name(".report.part")

    def _write(self, trainer: Trainer) -> None:
        record = checkpoint_files.newest(trainer.run_dir.checkpoints, checkpoint_files.BEST)
        if record is None or trainer.evaluator is None:
            return
        run = LoadedRun(
            run_dir=trainer.run_dir,
            workdir=trainer.run_dir.path.parent.parent,
            config=trainer.config,
            record=record,
            data=trainer.data,
            setup=trainer.setup,
            model=trainer.train_step.average.model,
            evaluator=trainer.evaluator,
        )
        aside = self._unfinished(trainer)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()

        def report_progress(sentence: str, fraction: float = 0.0) -> None:
            if any(trainer.stop_signals.poll().values()):
                raise _StopRequested
            trainer.logger.heartbeat("validating", f"report: {sentence}")

        health = Health(state="finished", sentence="finished all its steps", since=time.time())
        maps = held_out_maps(run)
        evaluate_into(run, aside, report_progress, maps, health)
        if self._grid is not None:
            brain = held_out_brain(self._grid, maps) | self._fixed
            write_record(trainer.run_dir.brain, self._grid.record(record.step, brain, held_out=True))
        shutil.rmtree(trainer.run_dir.report, ignore_errors=True)
        aside.rename(trainer.run_dir.report)
        trainer.logger.log_event("report", "info", f"Wrote {trainer.run_dir.report.name}/{PAGE}.")
