"""The training loop: steps, validation, checkpoints, stop requests, and the final evaluation."""

from __future__ import annotations

from giblet_train.components.build import TrainingSetup, log_run_metadata
from giblet_train.components.refit import refit
from giblet_train.components.train_step import GRADIENT, StepResult
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.evaluation.evaluator import Evaluator, Validation
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config
from giblet_train.schema.errors import OK, PREEMPTED, RunFailed
from giblet_train.schema.records import EvaluationMetric, SplitLoss
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import sanity_check
from giblet_train.training.checkpoint_files import BEST, LAST, PERIODIC
from giblet_train.training.checkpoint_manager import CheckpointManager
from giblet_train.training.hooks import TrainerHook
from giblet_train.training.step_logging import log_epoch, log_ridge_baseline, log_step, warn_unused_parameters
from giblet_train.training.stop_signals import Request, StopRequested, StopSignals
from giblet_train.training.train_state import TrainState


class Trainer:
    """Trains a run from its first or resumed step to its last."""

    def __init__(
        self,
        run_dir: RunDir,
        config: Config,
        data: PreparedSplit,
        ranks: ProcessGroup,
        logger: RunLogger,
        stop_signals: StopSignals,
        hook: TrainerHook | None = None,
    ) -> None:
        """hook: called around every step."""
        self.run_dir, self.config, self.data, self.ranks, self.logger = run_dir, config, data, ranks, logger
        self.stop_signals, self.hook = stop_signals, hook or TrainerHook()
        logger.heartbeat("loading", "preparing the network")
        self.setup = TrainingSetup.build(config, data, ranks, self._report_preparation)
        self.train_step, self.plan = self.setup.train_step, self.setup.train_step.plan
        self.train_step.hook = self.hook
        self.evaluator = Evaluator.of(self.setup, data) if self.setup.shards.evaluates else None
        self.checkpoints = CheckpointManager(run_dir, config, self.setup, data.study.key, logger, self.hook)
        self.state = TrainState()
        self.hook.on_start(self)

    def fit(self) -> int:
        """Train, then evaluate on the test block. Returns the exit code: 0, or 75 if terminated."""
        checkpoint = self._resume()
        self._sync_logger_position()
        first = self.evaluator.initial_loss(self.train_step.model) if self.evaluator and not checkpoint else {}
        facts = log_run_metadata(self.setup, self.data, first, self.logger, checkpoint)
        if checkpoint is None:
            sanity_check.run_sanity_checks(self.setup, facts, first, self.logger, self.run_dir)
            self._validate_start()
        self.stop_signals.defer_signals()
        exit_code = self._train_loop()
        return self._final_evaluation() if exit_code is None else exit_code

    def _report_preparation(self, sentence: str) -> None:
        self.logger.heartbeat("loading", sentence)
        self.logger.print_line(sentence)

    def _train_loop(self) -> int | None:
        """Step until the schedule or early stopping ends training (None), or a stop request does (its exit code)."""
        while self.state.step < self.plan.total_steps and not self._should_stop_early():
            result = self._step(self.state.step)
            self._log_step(result)
            self._check_finite(result)
            self.state.step += 1
            if self.state.step % self.plan.steps_per_epoch == 0:
                self._end_epoch()
            if any(result.stop_requests.values()):
                return self._save_and_exit(result)
        return None

    def _step(self, step: int) -> StepResult:
        self.hook.before_step(step)
        result = self.train_step.step(step, self.stop_signals.poll() | self.hook.stop_requests(step))
        self.hook.after_step(step, result)
        return result

    def _should_stop_early(self) -> bool:
        return self.state.should_stop_early(self.config.early_stopping_patience)

    def _resume(self) -> int | None:
        """Resume from a checkpoint if there is one. Returns the step to continue from."""
        checkpoint = self.checkpoints.resume()
        if checkpoint is None:
            return None
        self.state = checkpoint
        return self.state.step

    def _validate_start(self) -> None:
        """Validate the untrained network, which is a candidate for the best weights; record a ridge initialisation."""
        rank = self.ranks.broadcast(self.evaluator.select_start_rank(self.train_step.model) if self.evaluator else None)
        if rank is not None:
            self.train_step.model.limit_start(rank)
            self.train_step.average.model.limit_start(rank)
        validation = self._validate()
        if validation is None:
            return
        self._update_best_weights(validation)
        if self.setup.start_signal is not None and self.evaluator is not None:
            fitted = self.evaluator.training_loss(self.train_step.model)["fmri"]
            log_ridge_baseline(self.setup, self.logger, fitted, validation.loss, validation.r, rank)

    def _validate(self) -> Validation | None:
        """Validate the averaged weights, with the same result on every rank."""
        self.logger.heartbeat("validating")
        validation = self.evaluator.validation(self.train_step.average.model) if self.evaluator else None
        self.hook.on_validated(self)
        return self.ranks.broadcast(validation)

    def _sync_logger_position(self) -> None:
        """Set the step and epoch that the logger writes."""
        step = min(self.state.step, self.plan.total_steps - 1)
        self.logger.step, self.logger.epoch = self.state.step, self.plan.epoch_of(step)

    def _log_step(self, result: StepResult) -> None:
        """Record a step, and add it to its epoch's averages."""
        self._sync_logger_position()
        total = log_step(self.setup, self.logger, result)
        if self.state.step == 0:
            warn_unused_parameters(self.setup, self.logger)
        self.state.accumulate(result.loss | {"total": total}, result.seconds)

    def _check_finite(self, result: StepResult) -> None:
        """Raise RunFailed naming component, step and rank. The weights are still those of the previous step."""
        if result.not_finite:
            where = f"at step {self.state.step}"
            component, rank = result.not_finite[0]
            sentence = (
                f"The gradient is not finite {where}, though every loss is"
                if component == GRADIENT
                else f"The loss of {component} is not finite {where} on rank {rank}"
            )
            fallback = f"; the checkpoint of step {last.step} is good" if (last := self.checkpoints.last) else ""
            raise RunFailed(
                f"{sentence}{fallback}.",
                "Check the step records before it; lower learning_rate, or run `python -m giblet_train data check`.",
            )

    def _end_epoch(self) -> None:
        """Validate, record, save, and apply early stopping, the same on all ranks."""
        state = self.state
        epoch = state.step // self.plan.steps_per_epoch
        last = state.step == self.plan.total_steps
        due = epoch % self.config.validate_every == 0 or last
        validation = self._validate() if due else None
        best = validation is not None and self._update_best_weights(validation)
        log_epoch(self.setup, self.logger, state, validation, epoch=epoch, best=best)
        state.begin_epoch()
        stops = due and not last and self._should_stop_early()
        periodic = epoch % self.config.save_every == 0
        if best or periodic or last or stops:
            roles = (LAST, *([BEST] if best else []), *([PERIODIC] if periodic else []))
            self._save(roles, validation.loss if validation else None)
        self.logger.heartbeat("training")  # if the next step hangs, the heartbeat must not say "saving"
        if stops:
            self.logger.log_event("early_stop", "warning", f"{self._stopped_early()}.")

    def _stopped_early(self) -> str:
        """Return why training ended early; empty if it did not."""
        state, patience = self.state, self.config.early_stopping_patience
        if state.step == self.plan.total_steps:
            return ""
        return (
            f"stopped early at step {state.step}: the last {patience} validations were no better than that of "
            f"step {state.best_step}"
        )

    def _update_best_weights(self, validation: Validation) -> bool:
        """Keep the averaged weights of the encoding and of each modality that are the best so far; True if any are."""
        better_parts = self.state.record_validation(validation, self.config.early_stopping_delta)
        self.train_step.keep_best(better_parts)
        return bool(better_parts)

    def _save(self, roles: tuple[str, ...], validation: SplitLoss | None = None) -> bool:
        self._sync_logger_position()
        return self.checkpoints.save(self.state, roles, validation.total if validation else None)

    def _save_and_exit(self, result: StepResult) -> int:
        """Save and exit after a stop request; the step is finished."""
        if not self._save((LAST,)):
            raise RunFailed(
                f"Stop requested at step {self.state.step}, but no checkpoint could be saved.",
                "Free space on the node.",
            )
        if result.stop_requests["stop"]:
            self.logger.log_event("stopped", "info", f"Stopped on request after step {self.state.step}.")
            self.logger.heartbeat("stopped")
            return OK
        self.logger.log_event("preempted", "warning", f"Terminated; saved step {self.state.step}.")
        self.logger.heartbeat("stopped", "preempted", why="terminated (SIGTERM or SIGINT)")
        return PREEMPTED

    def _refit(self) -> None:
        """Fit the ridge initialisation of the best weights again, on training and validation TRs.

        The result replaces the setup, the training step and the evaluator of this trainer.
        """
        self.setup = refit(self.setup, self.data, lambda s: self.logger.heartbeat("validating", s))
        self.train_step, trs = self.setup.train_step, self.setup.refit_trs
        if trs:
            self.evaluator = Evaluator.of(self.setup, self.data)
            self.logger.log_event(
                "refit",
                "info",
                f"Fitted the initialisation again on {trs} training and validation TRs, with the selected latents and "
                "share. Validation figures are of the network before that.",
                trs=trs,
            )

    def _record_refit(self) -> None:
        """Record with the best checkpoint that its weights were refitted; a failure loses no weights."""
        if error := self.checkpoints.record_refit(self.setup.refit_trs):
            raise RunFailed(
                f"The run is trained and evaluated, but the last fit could not be recorded: {error}.",
                "Free space on the node, then continue: giblet launch NODE CONFIG --resume RUN",
            )

    def _final_evaluation(self) -> int:
        """Refit and evaluate the best weights on the test block; rank 0 records the result. Returns the exit code."""
        self._sync_logger_position()
        request = self._refit_and_evaluate() if self.evaluator is not None else None
        if not self.setup.shards.sharded:  # with sharded heads every rank evaluates, and has left by itself
            request = self.ranks.broadcast(request)
        if self.checkpoints.last_save_error:
            which = f"since step {last.step} no" if (last := self.checkpoints.last) else "no"
            raise RunFailed(
                f"Training ended, but {which} checkpoint could be written: {self.checkpoints.last_save_error}.",
                "Free space on the node, then continue: giblet launch NODE CONFIG --resume RUN",
            )
        if request is not None:
            return self._exit_before_evaluation(request)
        self._record_refit()
        self.hook.on_finished(self)
        self.logger.log_event("finished", "info", f"Finished after {self.state.step} steps.")
        self.logger.heartbeat("finished", why=self._stopped_early())
        self._await_other_ranks()
        return OK

    def _await_other_ranks(self) -> None:
        """Wait for the end of the other ranks, or of their connection if a request made them leave an evaluation."""
        try:
            self.ranks.barrier()
        except RunFailed:
            if self.stop_signals.request() is None:
                raise

    def _refit_and_evaluate(self) -> Request | None:
        """Refit the best weights and record their figures. Returns a stop request that ended it before."""
        assert self.evaluator is not None
        try:
            with self.stop_signals.obeyed_at_once():
                model = self.train_step.average.model
                model.load_state_dict(model.state_dict() | self.train_step.best)
                model.share = self.state.best_share
                self._refit()
                figures = self.evaluator.evaluation(
                    self.train_step.average.model,
                    lambda: self.logger.heartbeat("validating", "evaluating the best weights on the test block"),
                )
        except StopRequested as stop:
            return stop.request
        except RunFailed:  # another rank may have seen the request first
            if (request := self.stop_signals.request()) is None:
                raise
            return request
        self.logger.log_metric(EvaluationMetric, **figures)
        return None

    def _exit_before_evaluation(self, request: Request) -> int:
        """Record a stop request that came after the last step, whose checkpoint is saved. Returns the exit code."""
        sentence = f"before the evaluation had ended; all {self.state.step} steps are saved"
        remedy = "giblet launch NODE CONFIG --resume RUN continues there."
        if request == "stop":
            self.logger.log_event("stopped", "info", f"Stopped on request {sentence}. {remedy}")
            self.logger.heartbeat("stopped", why=f"stopped on request {sentence}")
            return OK
        self.logger.log_event("preempted", "warning", f"Terminated {sentence}. {remedy}")
        self.logger.heartbeat("stopped", "preempted", why=f"terminated {sentence}")
        return PREEMPTED
