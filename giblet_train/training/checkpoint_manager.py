"""Save a run's checkpoints and resume from them.

Rank 0 reads and writes; tensors of other ranks' heads pass through it one at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from giblet_train.components.build import TrainingSetup
from giblet_train.components.train_step import with_prefix
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config, content_hash
from giblet_train.schema.errors import DataError, PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import checkpoint_files
from giblet_train.training.checkpoint_files import BEST, Checkpoint, CheckpointDir
from giblet_train.training.hooks import TrainerHook
from giblet_train.training.train_state import TrainState


@dataclass(frozen=True)
class ResumePoint:
    """What to go on from, the best checkpoint there is, and a sentence about each damaged one.

    best_ahead: the best one is a later one, so training will meet it again.
    """

    saved: Checkpoint
    best: Checkpoint | None
    damaged: Sequence[str] = ()
    best_ahead: bool = False


class CheckpointManager:
    """Saves and resumes a run."""

    def __init__(
        self, run_dir: RunDir, experiment: TrainingSetup, store_key: str, recorder: RunLogger, hook: TrainerHook
    ) -> None:
        """Open the checkpoint folder. Raises PreflightRefused on rank 0 if no checkpoint can be written."""
        self.run_dir, self.experiment, self.store_key, self.recorder = run_dir, experiment, store_key, recorder
        self.config, self.ranks, self.learner = experiment.config, experiment.ranks, experiment.learner
        self.hook = hook
        self.last_save_error = ""
        """Why the last checkpoint could not be written; empty if it was."""
        self._checkpoints = self.ranks.on_rank_0(self._open)

    @property
    def last(self) -> CheckpointRecord | None:
        """Return the newest checkpoint in this run's directory."""
        return checkpoint_files.newest(self.run_dir.checkpoints)

    def save(self, standing: TrainState, roles: tuple[str, ...], validation_total: float | None = None) -> bool:
        """Save on rank 0. Returns False if the disk is full; earlier checkpoints are then unchanged."""
        self.recorder.heartbeat("saving")
        tensors, holds = self.learner.tensors(), self.experiment.shards.is_local
        series = self.ranks.tensors_at_first(tensors, {n: t for n, t in tensors.items() if holds(n)})
        if self._checkpoints is None:
            return True
        try:
            self.hook.before_save(standing.step)
            saved = self._checkpoints.save(
                series,
                state=asdict(standing),
                config=self.config,
                config_hash=content_hash(self.config),
                store_key=self.store_key,
                step=standing.step,
                epoch=self.learner.plan.epoch_of(max(0, standing.step - 1)),
                validation_total=validation_total,
                roles=roles,
            )
        except OSError as error:
            self._report_save_failure(standing.step, error)
            return False
        self.last_save_error = ""
        self.recorder.set_last_checkpoint(saved.file, saved.step)
        self.recorder.log_event(
            "checkpoint", "info", f"Saved {saved.file}.", file=saved.file, roles=list(roles), bytes=saved.bytes
        )
        return True

    def resume(self) -> tuple[TrainState, dict[str, Tensor] | None] | None:
        """Continue this directory's own run, or the one that `resume_from` names; None where there is neither.

        Returns where it stands and the best weights so far. Rank 0 reads, and every rank takes what it holds: others
        need no file, and may be as many as they like. Raises ConfigError, DataError, PreflightRefused.
        """
        found = self.ranks.on_rank_0(self._found)
        saved, best = (found.saved, found.best) if found else (None, None)
        told = self.ranks.broadcast(
            None if saved is None else (saved.path, saved.state, self._inexact_resume_note(saved.config))
        )
        if told is None:
            return None
        path, state, inexact = told
        self.learner.load(self.ranks.tensors_from_first(saved.tensors if saved else {}))
        standing, best_weights = TrainState(**state), None
        self.recorder.step = standing.step
        if path.parent != self.run_dir.checkpoints:
            self.recorder.copy_history(RunDir(path.parent.parent), standing.step)
        there = self.ranks.broadcast((best.record.step, best.record.validation_total) if best else None)
        if there is not None:
            whole = self.ranks.tensors_from_first(best.tensors if best else {})
            own = {f"average.{name}" for name in self.learner.average.model.state_dict()}
            best_weights = with_prefix("average.", {name: tensor for name, tensor in whole if name in own})
        ahead = self.ranks.broadcast(found.best_ahead if found else False)
        if not ahead and standing.best_step is not None and (there is None or there[0] < standing.best_step):
            self._replace_missing_best(standing, there)
        for sentence in found.damaged if found else ():
            self.recorder.log_event("checkpoint_damaged", "error", sentence)
        self.recorder.log_event("resumed", "info", f"Resumed from {path}, step {standing.step}.{inexact}")
        return standing, best_weights

    def _replace_missing_best(self, standing: TrainState, there: tuple[int, float | None] | None) -> None:
        """Let the best that has weights, (step, validation total), count in place of one that has none any more."""
        self.recorder.log_event(
            "best_gone",
            "warning",
            f"The best checkpoint so far, of step {standing.best_step}, is not there: "
            f"{f'that of step {there[0]}' if there else 'the best from here on'} counts.",
        )
        standing.best_step, standing.best_total = there or (None, None)

    def _inexact_resume_note(self, saved: Config) -> str:
        """Return a note if sums are computed in another order than before; empty otherwise."""
        then, now = saved.distributed.world_size, self.ranks.world_size
        if then == now and saved.threads == self.config.threads:
            return ""
        how = f"on {then} rank(s)" if then != now else f"with threads: {saved.threads or 'null'}"
        return f" It ran {how}: from here on results are equal within rounding, not to the bit."

    def _open(self) -> CheckpointDir:
        try:
            return CheckpointDir(self.run_dir.checkpoints, self.config.keep_checkpoints)
        except OSError as error:
            raise _cannot_write(self.run_dir.checkpoints, error) from None

    def _found(self) -> ResumePoint | None:
        """What to go on from, with the best so far kept in this run's own directory."""
        own = checkpoint_files.records_in(self.run_dir.checkpoints)
        if not own and self.config.resume_from is None:
            if unread := checkpoint_files.unread_records_in(self.run_dir.checkpoints):
                raise _no_intact_checkpoint(self.run_dir.checkpoints, unread)
            return None
        if own:
            folder, records = self.run_dir.checkpoints, own
        else:
            folder, records = checkpoint_files.find(self.config.resume_from or "", self.run_dir)
        found = newest_intact(folder, records)
        checkpoint_files.check_fits(found.saved, self.config, self.store_key)
        best = found.best
        if best is not None and best.record.step <= found.saved.record.step and not own and self._checkpoints:
            try:
                self._checkpoints.import_best(folder, best.record)
            except OSError as error:
                raise _cannot_write(self.run_dir.checkpoints, error) from None
        return found

    def _report_save_failure(self, step: int, error: OSError) -> None:
        full = error.errno == errno.ENOSPC or "No space left" in str(error)
        self.last_save_error = "the disk is full" if full else (error.strerror or str(error))
        fallback = f"step {self.last.step} remains the last one" if self.last else "there is none before it"
        self.recorder.log_event(
            "checkpoint_failed",
            "error",
            f"No checkpoint at step {step}: {self.last_save_error}; {fallback}. Training continues.",
        )


def newest_intact(folder: Path, records: Sequence[CheckpointRecord]) -> ResumePoint:
    """The newest checkpoint from which a run can go on to the same end. records: candidates, by step, at least one.

    That is one which is what was written, and so is the best one before it; a best one after it is met again on the
    way. Raises DataError where there is none.
    """
    unread = checkpoint_files.unread_records_in(folder)
    damaged: dict[str, str] = {}

    def whole(record: CheckpointRecord | None) -> Checkpoint | None:
        if record is None or record.file in damaged:
            return None
        try:
            return checkpoint_files.read(folder, record)
        except DataError as error:
            damaged[record.file] = error.message
            return None

    best = checkpoint_files.newest(folder, BEST)
    for record in reversed(records):
        saved = whole(record)
        if saved is None:
            continue
        kept = whole(best)
        ahead = best is not None and best.step > record.step
        if best is None or kept is not None or ahead:
            whys = (*damaged.values(), *unread)
            return ResumePoint(saved, kept, tuple(f"{why} Gone on from step {record.step}." for why in whys), ahead)
    raise _no_intact_checkpoint(folder, (*damaged.values(), *unread))


def _no_intact_checkpoint(folder: Path, whys: Sequence[str]) -> DataError:
    return DataError(
        f"{folder} has no checkpoint to resume from: {' '.join(whys)}",
        f"Start a new run, or remove {folder} to restart this one.",
    )


def _cannot_write(path: Path, error: OSError) -> PreflightRefused:
    return PreflightRefused(
        f"{path} cannot be written: {error.strerror or error}.", "Free space there, or check its permissions."
    )
