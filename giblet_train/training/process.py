"""A training process: from a run directory to an exit code.

Everything random follows from seed and step, so a run that was interrupted and resumed ends with the same bits as one
that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.distributed.process_group import ProcessGroup, ranks_of
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError, GibletError, Preempted
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.stop_signals import StopSignals
from giblet_train.training.trainer import Trainer

Progress = Callable[[str, float], None]
DataLoaderFn = Callable[[Config, Path, Progress], PreparedSplit]
Hook = Callable[[Trainer], None]


def train(path: Path, load: DataLoaderFn, arm: Hook | None = None) -> int:
    """Train as RUN_DIR/config.yaml says, alone or as one of torchrun's processes. Returns the exit code.

    load: (config, workdir, progress) -> the split; it builds what is missing. arm: told of the training before it
    begins, for drills. Raises GibletError, with the heartbeat saying `failed` and why.
    """
    run_dir = RunDir(path.resolve())
    config = run_dir.read_config()
    with ranks_of(config) as ranks, _run_logger(run_dir, ranks) as recorder, StopSignals(run_dir, ranks) as wishes:
        data = _load_data_on_all_ranks(load, config, run_dir, ranks, recorder)
        training = Trainer(run_dir, config, data, ranks, recorder, wishes)
        if arm is not None:
            arm(training)
        return training.fit()


def train_with_error_file(path: Path, load: DataLoaderFn, arm: Hook | None = None) -> int:
    """`train`, leaving torchrun the cause of a fault of ours in the error file it asks for.

    A GibletError is an answer, not a fault: torchrun would print where in the source it was raised.
    """

    @record
    def recorded() -> int | GibletError:
        try:
            return train(path, load, arm)
        except GibletError as error:
            return error

    answer = recorded()
    if isinstance(answer, GibletError):
        raise answer
    return answer or 0


@contextmanager
def _run_logger(run_dir: RunDir, ranks: ProcessGroup) -> Iterator[RunLogger]:
    """The pen, which writes the cause of whatever ends training before its time."""
    recorder = ranks.on_rank_0(lambda: RunLogger(run_dir)) or RunLogger(run_dir, active=False)
    try:
        yield recorder
    except Preempted as told:
        recorder.log_event("preempted", "warning", told.message)
        recorder.heartbeat("stopped", "preempted", why=told.message)
        raise
    except BaseException as error:
        why = error.message if isinstance(error, GibletError) else f"{type(error).__name__}: {error}"
        recorder.log_event("failed", "error", why)
        recorder.heartbeat("failed", why=why)
        raise
    finally:
        recorder.close()


def _load_data_on_all_ranks(
    load: DataLoaderFn, config: Config, run_dir: RunDir, ranks: ProcessGroup, recorder: RunLogger
) -> PreparedSplit:
    """The split; what is missing is built by rank 0 while the others wait."""
    said = ""

    def progress(sentence: str, fraction: float = 0.0) -> None:
        nonlocal said
        recorder.heartbeat("loading", f"{sentence} ({fraction:.0%})" if fraction else sentence)
        if sentence != said:
            recorder.log_event("loading", "info", sentence)
            recorder.print_line(sentence)
        said = sentence

    progress("reading the study")
    workdir = run_dir.path.parent.parent
    data = ranks.on_rank_0(lambda: load(config, workdir, progress))
    if data is None:
        data = load(config, workdir, progress)
    if data.study.key != ranks.broadcast(data.study.key):
        raise DataError(
            f"This node's data ({data.study.key}) are not those of the run's first process.",
            "Every node of a run needs the same study: copy it, or let each simulate it.",
        )
    for note in data.notes:
        recorder.log_event("data_note", "warning", note)
        recorder.print_line(f"note: {note}")
    return data
