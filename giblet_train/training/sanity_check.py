"""Minute one in the trainer: measure what `contract.minuteone` judges, tell it, and stop on what it finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

import torch

from giblet_train.components.build import Experiment
from giblet_train.components.overfit_batch import learn_one_batch
from giblet_train.diagnosis.sanity_checks import Beginning, Machine, findings, lines
from giblet_train.monitoring.run_logger import Recorder, resident_gib
from giblet_train.schema.disk_usage import GIB
from giblet_train.schema.errors import RunFailed
from giblet_train.schema.records import DataMetric
from giblet_train.schema.run_dir import RunDir

ONE_BATCH_STEPS = 10


def hold(
    experiment: Experiment, data: DataMetric, first: Mapping[str, float], recorder: Recorder, run_dir: RunDir
) -> None:
    """Hold the beginning against what it must be. Raises RunFailed, on every rank, with each finding's sentence.

    first: each component's loss over all training TRs before step 0, where this rank has measured it.
    """
    found: list[str] = []
    one_batch = learn_one_batch(experiment.learner, ONE_BATCH_STEPS)
    checkpoint_bytes = experiment.learner.checkpoint_bytes()
    if experiment.ranks.is_first:
        begun = Beginning(
            config=experiment.config,
            plan=experiment.learner.plan,
            data=data,
            first=dict(first),
            machine=_machine(experiment, run_dir, checkpoint_bytes),
            one_batch=one_batch,
        )
        found = findings(begun)
        told = lines(begun)
        recorder.event("minute_one", "info", "Minute one: " + "; ".join(told) + ".")
        for line in told:
            recorder.say(f"minute one: {line}")
    # Every rank must come to the same conclusion, and only the first has measured.
    found = experiment.ranks.from_first(found)
    for finding in found:
        recorder.event("sanity", "warning", finding)
    if found and experiment.config.on_sanity_fail == "stop":
        raise RunFailed(
            "Minute one: " + " ".join(found), "Mend the data, or set `on_sanity_fail: warn` to train all the same."
        )


def _machine(experiment: Experiment, run_dir: RunDir, checkpoint_bytes: int) -> Machine:
    """After one batch was tried, its memory is what every step will hold."""
    device = experiment.ranks.device
    on_gpu = device.type == "cuda"
    pages = os.sysconf("SC_PAGE_SIZE") / GIB
    return Machine(
        own_gib=resident_gib(),
        ram_free_gib=_available_gib(),
        ram_total_gib=os.sysconf("SC_PHYS_PAGES") * pages,
        checkpoint_bytes=checkpoint_bytes,
        disk_free_gib=shutil.disk_usage(run_dir.path).free / GIB,
        gpu_gib=torch.cuda.max_memory_allocated() / GIB if on_gpu else None,
        gpu_total_gib=torch.cuda.get_device_properties(device).total_memory / GIB if on_gpu else None,
    )


def _available_gib() -> float | None:
    """Memory that the node could still give out, its caches counted as free."""
    try:
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return kib * 1024 / GIB
