"""What happens between the steps of a run: records, validation, checkpoints, wishes, and the end."""

from __future__ import annotations

import errno
import signal
from dataclasses import asdict, dataclass, field
from types import FrameType

import torch

from giblet_train import checkpoint, gate
from giblet_train.checkpoint import BEST, LAST, PERIODIC, Checkpoints, Saved
from giblet_train.contract.config import Config, content_hash
from giblet_train.contract.errors import OK, PREEMPTED, RunFailed
from giblet_train.contract.records import (
    CheckpointRecord,
    EpochMetric,
    EvaluationMetric,
    Number,
    PartLoss,
    StepMetric,
)
from giblet_train.contract.rundir import RunDir
from giblet_train.data.dataset import SplitData
from giblet_train.evaluation.evaluate import Examiner
from giblet_train.learning.experiment import Experiment, introduce
from giblet_train.learning.learner import Stepped, under
from giblet_train.ranks.distributed import Ranks
from giblet_train.recorder import Recorder, resident_gib


@dataclass
class Standing:
    """Where training stands: what a checkpoint needs besides tensors. step: the next one to take."""

    step: int = 0
    best_total: float | None = None
    best_step: int | None = None
    validations_since_best: int = 0
    epoch_steps: int = 0
    epoch_seconds: float = 0.0
    epoch_sums: dict[str, float] = field(default_factory=dict)


class Training:
    """The steps of a run and what happens between them."""

    def __init__(self, run_dir: RunDir, config: Config, data: SplitData, ranks: Ranks, recorder: Recorder) -> None:
        self.run_dir, self.config, self.data, self.ranks, self.recorder = run_dir, config, data, ranks, recorder
        recorder.beat("loading", "preparing the network")
        self.experiment = Experiment.of(config, data, ranks, lambda sentence: recorder.beat("loading", sentence))
        self.learner, self.plan = self.experiment.learner, self.experiment.learner.plan
        self.shards = self.experiment.shards
        self.examiner = Examiner.of(self.experiment, data) if self.shards.judges else None
        self.checkpoints = Checkpoints(run_dir.checkpoints, config.keep_checkpoints) if ranks.is_first else None
        self.standing = Standing()
        self.best_weights = self.learner.average.model.state_dict()
        self._told_to_end = False
        self._ended_early = ""
        self._unsaved = ""

    def run(self) -> int:
        """All steps, then the held-out figures. Returns the exit code: 0, or 75 when told to terminate."""
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            resumed = self._resume()
            self._stamp()
            first = self.examiner.first_loss(self.learner.model) if self.examiner and not resumed else {}
            facts = introduce(self.experiment, self.data, first, self.recorder, resumed)
            if resumed is None:
                gate.hold(self.experiment, facts, first, self.recorder, self.run_dir)
                self._tell_start()
            left = self._steps()
            if left is None:
                self._judge()
            return OK if left is None else left
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _steps(self) -> int | None:
        """Steps until the plan or early stopping ends them (None), or a wish does (its exit code)."""
        while self.standing.step < self.plan.total_steps:
            stepped = self.learner.step(self.standing.step, self._wishes())
            self._note(stepped)
            self._check_finite(stepped)
            self.standing.step += 1
            ended_early = self.standing.step % self.plan.steps_per_epoch == 0 and self._end_epoch()
            if any(stepped.wishes.values()):
                return self._leave(stepped)
            if ended_early:
                return None
        return None

    def _tell_start(self) -> None:
        """Where a network that starts from ridge stands before its first step."""
        signal = self.experiment.start_signal
        if signal is None or self.examiner is None:
            return
        fitted = self.examiner.training_loss(self.learner.model)["fmri"]
        part, r = self.examiner.validation(self.learner.model)
        self.recorder.event(
            "ridge_start",
            "info",
            f"Starts from ridge: fmri {fitted:.3f} over training TRs, {part.loss['fmri']:.3f} over validation TRs.",
            training_loss=fitted,
            validation_loss=part.loss["fmri"],
            validation_r=r,
            signal=dict(signal),
        )

    def _wishes(self) -> dict[str, bool]:
        return {"stop": self.ranks.is_first and self.run_dir.stop.exists(), "terminate": self._told_to_end}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    def _stamp(self) -> None:
        """Tell the recorder which step and epoch it speaks of."""
        step = min(self.standing.step, self.plan.total_steps - 1)
        self.recorder.step, self.recorder.epoch = self.standing.step, self.plan.epoch_of(step)

    def _note(self, stepped: Stepped) -> None:
        """Record a step, and add it to its epoch's averages."""
        self._stamp()
        weighted = {c: stepped.weight[c] * value for c, value in stepped.loss.items()}
        all_weighted = sum(weighted.values())
        total = self.experiment.total_of(stepped.loss)
        self.recorder.record(
            StepMetric,
            lr=stepped.lr,
            total=total,
            loss=stepped.loss,
            weight=stepped.weight,
            share={c: value / all_weighted if all_weighted else 0.0 for c, value in weighted.items()},
            gradient_share=stepped.gradient_share,
            gradient_norm=stepped.gradient_norm,
            clipped=stepped.clipped,
            step_s=stepped.seconds,
            times=stepped.times,
            rss_gib=resident_gib(),
            gpu_gib=torch.cuda.max_memory_allocated() / 2**30 if self.ranks.device.type == "cuda" else None,
            slowest_rank=stepped.slowest_rank,
        )
        self.recorder.beat("training", step_s=stepped.seconds)
        if self.standing.step == 0:
            idle = list(dict.fromkeys(name for names in self.ranks.each(self.learner.idle) for name in names))
            if idle:
                self.recorder.event("idle_parameters", "warning", f"No gradient reaches {', '.join(idle)}.")
        standing = self.standing
        standing.epoch_steps += 1
        standing.epoch_seconds += stepped.seconds
        for key, value in (stepped.loss | {"total": total}).items():
            standing.epoch_sums[key] = standing.epoch_sums.get(key, 0.0) + value

    def _check_finite(self, stepped: Stepped) -> None:
        """Raises RunFailed naming component, step and rank; the weights are still those of the step before."""
        if stepped.not_finite:
            component, rank = stepped.not_finite[0]
            kept = f"; the checkpoint of step {last.step} is good" if (last := self._last_record()) else ""
            raise RunFailed(
                f"The loss of {component} is not finite at step {self.standing.step} on rank {rank}{kept}.",
                "Look at the step records before it; lower learning_rate, or run `python -m giblet_train data check`.",
            )

    def _end_epoch(self) -> bool:
        """Validate, record, save. Returns whether early stopping ends the run, the same on all ranks."""
        epoch = self.standing.step // self.plan.steps_per_epoch
        last = self.standing.step == self.plan.total_steps
        due = epoch % self.config.validate_every == 0 or last
        if due:
            self.recorder.beat("validating")
        seen = self.examiner.validation(self.learner.average.model) if due and self.examiner else None
        validation, r = self.ranks.from_first(seen) or (None, None)
        best = self._keep_if_best(validation)
        self._record_epoch(epoch, validation, r, best)
        periodic = epoch % self.config.save_every == 0
        if best or periodic or last:
            self._save((LAST, *([BEST] if best else []), *([PERIODIC] if periodic else [])), validation)
        self.recorder.beat("training")  # should the next step hang, it is not validating or saving that hangs
        patience = self.config.early_stopping_patience
        if patience is None or self.standing.validations_since_best < patience or last:
            return False
        self._ended_early = (
            f"stopped early at step {self.standing.step}: no better validation for {patience} of them; the best was "
            f"step {self.standing.best_step}"
        )
        self.recorder.event("early_stop", "warning", f"{self._ended_early}.")
        self.recorder.say(self._ended_early)
        return True

    def _keep_if_best(self, validation: PartLoss | None) -> bool:
        standing = self.standing
        if validation is None or validation.total is None:
            return False
        best = standing.best_total is None or validation.total < standing.best_total - self.config.early_stopping_delta
        standing.validations_since_best = 0 if best else standing.validations_since_best + 1
        if best:
            standing.best_total, standing.best_step = validation.total, standing.step
            self.best_weights = {n: t.clone() for n, t in self.learner.average.model.state_dict().items()}
        return best

    def _record_epoch(self, epoch: int, validation: PartLoss | None, r: float | None, best: bool) -> None:
        standing = self.standing
        sums = standing.epoch_sums
        total = sums["total"] / standing.epoch_steps
        means: dict[str, Number] = {c: value / standing.epoch_steps for c, value in sums.items() if c != "total"}
        skill: dict[str, Number] = {c: 1.0 - value for c, value in means.items() if value is not None}
        rate = self.experiment.rate_at(standing.step - 1)
        self.recorder.record(
            EpochMetric,
            step=standing.step,
            epoch=epoch,
            lr=rate,
            train=PartLoss(total=total, loss=means, skill=skill),
            validation=validation,
            fmri_r=r,
            best=best,
            seconds=standing.epoch_seconds,
        )
        line = f"Epoch {epoch}/{self.config.num_epochs} | Train Loss: {total:.4f}"
        if validation is not None and validation.total is not None:
            line += f" | Val Loss: {validation.total:.4f}" + (f" | fMRI Corr: {r:.4f}" if r is not None else "")
        self.recorder.say(f"{line} | LR: {rate:.2e} | " + " ".join(f"{c} {v:.4f}" for c, v in means.items()))
        standing.epoch_steps, standing.epoch_seconds, standing.epoch_sums = 0, 0.0, {}

    def _last_record(self) -> CheckpointRecord | None:
        return checkpoint.newest(self.run_dir.checkpoints)

    def _save(self, roles: tuple[str, ...], validation: PartLoss | None = None) -> bool:
        """Save on rank 0. A full disk is said and survived: the checkpoint before stays as it is."""
        self._stamp()
        self.recorder.beat("saving")
        tensors = self.learner.tensors()
        series = self.ranks.tensors_at_first(tensors, {n: t for n, t in tensors.items() if self.shards.holds(n)})
        if self.checkpoints is None:
            return True
        try:
            saved = self.checkpoints.save(
                series,
                state=asdict(self.standing),
                config=self.config,
                config_hash=content_hash(self.config),
                store_key=self.data.study.key,
                step=self.standing.step,
                epoch=self.plan.epoch_of(max(0, self.standing.step - 1)),
                validation_total=validation.total if validation else None,
                roles=roles,
            )
        except OSError as error:
            full = error.errno == errno.ENOSPC or "No space left" in str(error)
            why = self._unsaved = "the disk is full" if full else (error.strerror or str(error))
            before = self._last_record()
            kept = f"step {before.step} stays the last one" if before else "there is none before it"
            self.recorder.event(
                "checkpoint_failed",
                "error",
                f"No checkpoint at step {self.standing.step}: {why}; {kept}. Training goes on.",
            )
            return False
        self._unsaved = ""
        self.recorder.checkpointed(saved.file, saved.step)
        self.recorder.event(
            "checkpoint", "info", f"Saved {saved.file}.", file=saved.file, roles=list(roles), bytes=saved.bytes
        )
        return True

    def _resume(self) -> int | None:
        """Continue this directory's own run, or the one that `resume_from` names. Returns the step to go on from.

        Rank 0 reads, and every rank takes what it holds: others need no file, and may be as many as they like.
        """
        found = self.ranks.only_first(self._found)
        saved, best = found if found is not None else (None, None)
        told = self.ranks.from_first(
            None if saved is None else (saved.path, saved.state, saved.config.distributed.world_size)
        )
        if told is None:
            return None
        path, state, world_size = told
        self.learner.load(self.ranks.tensors_from_first(saved.tensors if saved else {}))
        self.standing = Standing(**state)
        if self.ranks.from_first(best is not None):
            whole = self.ranks.tensors_from_first(best.tensors if best else {})
            own = {f"average.{n}" for n in self.best_weights}
            self.best_weights = under("average.", {n: tensor for n, tensor in whole if n in own})
        self._stamp()
        step = self.standing.step
        inexact = f" It ran on {world_size} rank(s): from here on it is equal within rounding, not to the bit."
        self.recorder.event(
            "resumed",
            "info",
            f"Resumed from {path}, step {step}.{inexact if world_size != self.ranks.world_size else ''}",
            step=step,
        )
        return step

    def _found(self) -> tuple[Saved | None, Saved | None]:
        """What to go on from, and the best so far, which is kept in this run's own directory."""
        own = self._last_record()
        if own is None and self.config.resume_from is None:
            return None, None
        if own is not None:
            folder, found = self.run_dir.checkpoints, own
        else:
            folder, found = checkpoint.find(self.config.resume_from or "", self.run_dir)
        saved = checkpoint.read(folder, found)
        checkpoint.check_fits(saved, self.config, self.data.study.key)
        best = checkpoint.newest(folder, BEST)
        if best is not None and own is None and self.checkpoints is not None:
            self.checkpoints.adopt(folder, best)
        return saved, None if best is None else checkpoint.read(folder, best)

    def _leave(self, stepped: Stepped) -> int:
        """Save and go, because the stop file or a signal says so; the step is finished."""
        if not self._save((LAST,)):
            raise RunFailed(
                f"Asked to leave at step {self.standing.step}, but nothing could be saved.", "Free space on the node."
            )
        if stepped.wishes["stop"]:
            self.recorder.event("stopped", "info", f"Stopped on request after step {self.standing.step}.")
            self.recorder.beat("stopped")
            return OK
        self.recorder.event("preempted", "warning", f"Told to terminate; saved step {self.standing.step}.")
        self.recorder.beat("stopped", "preempted", why="told to terminate (SIGTERM or SIGINT)")
        return PREEMPTED

    def _judge(self) -> None:
        """Held-out figures of the best weights, said by rank 0."""
        self._stamp()
        if self.examiner is not None:
            self.learner.average.model.load_state_dict(self.best_weights)
            figures = self.examiner.evaluation(
                self.learner.average.model,
                lambda: self.recorder.beat("validating", "judging the best weights on the test block"),
            )
            self.recorder.record(EvaluationMetric, **figures)
        if self._unsaved:
            kept = f"since step {last.step} no" if (last := self._last_record()) else "no"
            raise RunFailed(
                f"Training ended, but {kept} checkpoint could be written: {self._unsaved}.",
                "Free space on the node, then go on from there: giblet launch NODE CONFIG --resume RUN",
            )
        self.recorder.event("finished", "info", f"Finished after {self.standing.step} steps.")
        self.recorder.beat("finished", why=self._ended_early)
        self.ranks.wait()
