"""Save a run's checkpoints and resume from them.

Rank 0 reads and writes; tensors of other ranks' heads pass through it one at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from giblet_train.components.build import TrainingSetup
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
    """The checkpoint to resume from, equal on every rank except for its tensors."""

    path: Path
    state: Mapping[str, Any]
    note: str
    """Why results will differ by rounding; empty if they will not."""
    damaged: Sequence[str]
    """A sentence about each newer checkpoint that cannot be used."""
    tensors: Mapping[str, Tensor]
    """Read on access, on rank 0; empty elsewhere."""


class CheckpointManager:
    """Saves and resumes a run."""

    def __init__(
        self,
        run_dir: RunDir,
        config: Config,
        setup: TrainingSetup,
        store_key: str,
        logger: RunLogger,
        hook: TrainerHook,
    ) -> None:
        """Open the checkpoint folder. Raises PreflightRefused on rank 0 if no checkpoint can be written.

        config: the run's own, which is saved; that of the setup has values in place of `auto`.
        """
        self.run_dir, self.setup, self.store_key, self.logger = run_dir, setup, store_key, logger
        self.config, self.ranks, self.train_step = config, setup.ranks, setup.train_step
        self.hook = hook
        self.last_save_error = ""
        """Why the last checkpoint could not be written; empty if it was."""
        self._checkpoints = self.ranks.on_rank_0(self._open)

    @property
    def last(self) -> CheckpointRecord | None:
        """Return the newest checkpoint in this run's directory."""
        return checkpoint_files.newest(self.run_dir.checkpoints)

    def save(self, state: TrainState, roles: tuple[str, ...], validation_total: float | None = None) -> bool:
        """Save on rank 0. Returns False if the disk is full; earlier checkpoints are then unchanged."""
        self.logger.heartbeat("saving")
        tensors, is_local = self.train_step.tensors(), self.setup.shards.is_local
        series = self.ranks.tensors_at_first(tensors, {n: t for n, t in tensors.items() if is_local(n)})
        if self._checkpoints is None:
            return True
        try:
            self.hook.before_save(state.step)
            record = self._checkpoints.save(
                series,
                state=asdict(state),
                config=self.config,
                config_hash=content_hash(self.config),
                store_key=self.store_key,
                step=state.step,
                epoch=self.train_step.plan.epoch_of(max(0, state.step - 1)),
                validation_total=validation_total,
                roles=self._with_best(state, roles),
            )
        except OSError as error:
            self._report_save_failure(state.step, error)
            return False
        self.last_save_error = ""
        self.logger.set_last_checkpoint(record.file, record.step)
        self.logger.log_event(
            "checkpoint",
            "info",
            f"Saved {record.file}.",
            file=record.file,
            roles=list(record.roles),
            bytes=record.bytes,
        )
        return True

    def record_refit(self, trs: int) -> str:
        """Record on rank 0 that the best weights were refitted on `trs` TRs; nothing if they were not or are not saved.

        Returns why the record could not be written; empty if it was.
        """
        if self._checkpoints is None or not trs or self.last_save_error:
            return ""
        best = checkpoint_files.newest(self.run_dir.checkpoints, BEST)
        try:
            if best is not None:
                checkpoint_files.record_refit(self.run_dir.checkpoints, best, trs)
        except OSError as error:
            return _reason_of(error)
        return ""

    def resume(self) -> TrainState | None:
        """Resume this directory's own run, or the one that `resume_from` names; None if there is neither.

        Rank 0 reads, and every rank takes its tensors: other ranks need no file, and may be of any number. Raises
        ConfigError, DataError, PreflightRefused.
        """
        chosen_on_rank_0 = self.ranks.on_rank_0(self._choose)
        point = self.ranks.broadcast(chosen_on_rank_0 and replace(chosen_on_rank_0, tensors={}))
        if point is None:
            return None
        self.train_step.load(self.ranks.tensors_from_first(chosen_on_rank_0.tensors if chosen_on_rank_0 else {}))
        state = TrainState(**point.state)
        self.logger.step = state.step
        if point.path.parent != self.run_dir.checkpoints:
            self.logger.copy_history(RunDir(point.path.parent.parent), state.step)
        for sentence in point.damaged:
            self.logger.log_event("checkpoint_damaged", "error", sentence)
        self.logger.log_event("resumed", "info", f"Resumed from {point.path}, step {state.step}.{point.note}")
        return state

    def _with_best(self, state: TrainState, roles: tuple[str, ...]) -> tuple[str, ...]:
        """Add the role `best` if no checkpoint on disk has the best weights, which every checkpoint carries."""
        on_disk = checkpoint_files.newest(self.run_dir.checkpoints, BEST)
        is_saved = on_disk is not None and (state.best_step is None or on_disk.step >= state.best_step)
        return roles if is_saved or BEST in roles else (*roles, BEST)

    def _inexact_resume_note(self, old_config: Config) -> str:
        """Return a note if sums are computed in another order than before; empty otherwise."""
        then, now = old_config.distributed.world_size, self.ranks.world_size
        if then == now and old_config.threads == self.config.threads:
            return ""
        how = f"on {then} rank(s)" if then != now else f"with threads: {old_config.threads or 'null'}"
        return f" It ran {how}: from here on results are equal within rounding, not to the bit."

    def _open(self) -> CheckpointDir:
        try:
            return CheckpointDir(self.run_dir.checkpoints, self.config.keep_checkpoints)
        except OSError as error:
            raise _cannot_write(self.run_dir.checkpoints, error) from None

    def _choose(self) -> ResumePoint | None:
        """Choose the checkpoint to resume from; keep the best one of a continued run in this run's own directory."""
        own = checkpoint_files.records_in(self.run_dir.checkpoints)
        if not own and self.config.resume_from is None:
            if unread := checkpoint_files.unread_records_in(self.run_dir.checkpoints):
                raise _no_intact_checkpoint(self.run_dir.checkpoints, unread)
            return None
        if own:
            folder, records = self.run_dir.checkpoints, own
        else:
            folder, records = checkpoint_files.find(self.config.resume_from or "", self.run_dir)
        checkpoint, damage = newest_intact(folder, records)
        checkpoint_files.check_fits(checkpoint, self.config, self.store_key)
        if not own:
            self._import_best(folder, checkpoint)
        return ResumePoint(
            checkpoint.path, checkpoint.state, self._inexact_resume_note(checkpoint.config), damage, checkpoint.tensors
        )

    def _import_best(self, folder: Path, checkpoint: Checkpoint) -> None:
        best = checkpoint_files.newest(folder, BEST)
        if best is None or best.step > checkpoint.record.step or self._checkpoints is None:
            return
        try:
            checkpoint_files.read(folder, best)
            self._checkpoints.import_best(folder, best)
        except DataError:
            return  # the next checkpoint gets its role
        except OSError as error:
            raise _cannot_write(self.run_dir.checkpoints, error) from None

    def _report_save_failure(self, step: int, error: OSError) -> None:
        self.last_save_error = _reason_of(error)
        fallback = f"step {self.last.step} remains the last one" if self.last else "there is none before it"
        self.logger.log_event(
            "checkpoint_failed",
            "error",
            f"No checkpoint at step {step}: {self.last_save_error}; {fallback}. Training continues.",
        )


def newest_intact(folder: Path, records: Sequence[CheckpointRecord]) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the newest intact checkpoint, and a sentence about each damaged one.

    records: candidates by step, at least one. Raises DataError if none is intact.
    """
    problems = list(checkpoint_files.unread_records_in(folder))
    for record in reversed(records):
        try:
            checkpoint = checkpoint_files.read(folder, record)
        except DataError as error:
            problems.insert(0, error.message)
            continue
        return checkpoint, tuple(f"{problem} Resumed from step {record.step}." for problem in problems)
    raise _no_intact_checkpoint(folder, problems)


def _reason_of(error: OSError) -> str:
    full = error.errno == errno.ENOSPC or "No space left" in str(error)
    return "the disk is full" if full else (error.strerror or str(error))


def _no_intact_checkpoint(folder: Path, problems: Sequence[str]) -> DataError:
    return DataError(
        f"{folder} has no checkpoint to resume from: {' '.join(problems)}",
        f"Start a new run, or remove {folder} to restart this one.",
    )


def _cannot_write(path: Path, error: OSError) -> PreflightRefused:
    return PreflightRefused(
        f"{path} cannot be written: {error.strerror or error}.", "Free space there, or check its permissions."
    )
