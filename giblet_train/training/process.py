"""Run one training process: from a run directory to an exit code.

Everything random follows from seed and step, so a run that was interrupted and resumed ends with the same bits as one
that was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.distributed.process_group import ProcessGroup, ranks_of
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError, GibletError, Preempted
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.hooks import TrainerHook
from giblet_train.training.stop_signals import StopSignals
from giblet_train.training.trainer import Trainer

DataLoaderFn = Callable[[Config, Path, ProgressCallback], PreparedSplit]


def train(path: Path, load: DataLoaderFn, hook: TrainerHook | None = None) -> int:
    """Train as RUN_DIR/config.yaml says, alone or as one of torchrun's processes. Returns the exit code.

    Raises GibletError after the heartbeat says `failed` and why.

    Args:
        load: (config, workdir, progress) -> the split; builds its store if missing.
        hook: called by the trainer before and after every step.
    """
    run_dir = RunDir(path.resolve())
    config = run_dir.read_config()
    with (
        ranks_of(config) as ranks,
        _run_logger(run_dir, ranks) as logger,
        StopSignals(run_dir, ranks) as stop_signals,
    ):
        _warn_of_shared_cores(ranks, logger)
        data = _load_data_on_all_ranks(load, config, run_dir, ranks, logger)
        return Trainer(run_dir, config, data, ranks, logger, stop_signals, hook).fit()


def train_with_error_file(path: Path, load: DataLoaderFn, hook: TrainerHook | None = None) -> int:
    """Run `train` and write unexpected exceptions to the error file that torchrun asks for.

    A GibletError is raised outside of it, because torchrun would print a traceback.
    """

    @record
    def recorded() -> int | GibletError:
        try:
            return train(path, load, hook)
        except GibletError as error:
            return error

    answer = recorded()
    if isinstance(answer, GibletError):
        raise answer
    return answer or 0


@contextmanager
def _run_logger(run_dir: RunDir, ranks: ProcessGroup) -> Iterator[RunLogger]:
    """Open the run logger, and record the cause if training ends with an exception."""
    logger = ranks.on_rank_0(lambda: RunLogger(run_dir)) or RunLogger(run_dir, active=False)
    try:
        yield logger
    except Preempted as error:
        logger.log_event("preempted", "warning", error.message)
        logger.heartbeat("stopped", "preempted", why=error.message)
        raise
    except BaseException as error:
        why = error.message if isinstance(error, GibletError) else f"{type(error).__name__}: {error}"
        refusal = {"error": type(error).__name__, "remedy": error.remedy} if isinstance(error, GibletError) else {}
        logger.log_event("failed", "error", why, **refusal)
        logger.heartbeat("failed", why=why)
        raise
    finally:
        logger.close()


def _warn_of_shared_cores(ranks: ProcessGroup, logger: RunLogger) -> None:
    """Warn if this node has more CPU ranks than cores: they only wait for one another."""
    n_local, n_cores = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), len(os.sched_getaffinity(0))
    if ranks.device.type == "cpu" and n_local > n_cores:
        sentence = (
            f"{n_local} processes share {n_cores} CPU core(s), so each step takes longer than with {n_cores}; "
            f"set distributed.world_size to at most {n_cores}."
        )
        logger.log_event("ranks_share_cores", "warning", sentence)
        logger.print_line(f"note: {sentence}")


def _load_data_on_all_ranks(
    load: DataLoaderFn, config: Config, run_dir: RunDir, ranks: ProcessGroup, logger: RunLogger
) -> PreparedSplit:
    """Load the split; rank 0 builds a missing store while the others wait."""
    last_sentence = ""

    def progress(sentence: str, fraction: float = 0.0) -> None:
        nonlocal last_sentence
        logger.heartbeat("loading", f"{sentence} ({fraction:.0%})" if fraction else sentence)
        if sentence != last_sentence:
            logger.log_event("loading", "info", sentence)
            logger.print_line(sentence)
        last_sentence = sentence

    progress("reading the study")
    workdir = run_dir.path.parent.parent
    data = ranks.on_rank_0(lambda: load(config, workdir, progress))
    if data is None:
        data = load(config, workdir, progress)
    if data.study.key != ranks.broadcast(data.study.key):
        raise DataError(
            f"This node's data ({data.study.key}) differ from those of the run's first process.",
            "Every node of a run needs the same study: copy it, or let each simulate it.",
        )
    for note in data.notes:
        logger.log_event("data_note", "warning", note)
        logger.print_line(f"note: {note}")
    return data
