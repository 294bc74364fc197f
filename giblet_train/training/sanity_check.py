"""Run the checks of `diagnosis.sanity_checks` before step 0, print their results, and stop if one fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.components.overfit_batch import overfit_one_batch
from giblet_train.diagnosis.sanity_checks import Machine, SanityInputs, failures, report_lines
from giblet_train.monitoring.run_logger import RunLogger, resident_gib
from giblet_train.schema.disk_usage import GIB
from giblet_train.schema.errors import RunFailed
from giblet_train.schema.records import DataMetric
from giblet_train.schema.run_dir import RunDir

ONE_BATCH_STEPS = 10


def run_sanity_checks(
    setup: TrainingSetup, data: DataMetric, first: Mapping[str, float], logger: RunLogger, run_dir: RunDir
) -> None:
    """Run the checks made before step 0. Raises RunFailed on every rank if one fails.

    first: each component's initial loss over all training TRs, on the ranks that measured it.
    """
    messages: list[str] = []
    one_batch = overfit_one_batch(setup.train_step, ONE_BATCH_STEPS)
    checkpoint_bytes = setup.train_step.checkpoint_bytes()
    if setup.ranks.is_first:
        inputs = SanityInputs(
            config=setup.config,
            plan=setup.train_step.plan,
            data=data,
            first=dict(first),
            machine=_machine(setup, run_dir, checkpoint_bytes),
            one_batch=one_batch,
        )
        messages = failures(inputs)
        lines = report_lines(inputs)
        logger.log_event("minute_one", "info", "Minute one: " + "; ".join(lines) + ".")
        for line in lines:
            logger.print_line(f"minute one: {line}")
    # Only rank 0 has measured, and every rank must reach the same conclusion.
    messages = setup.ranks.broadcast(messages)
    for message in messages:
        logger.log_event("sanity", "warning", message)
    if messages and setup.config.on_sanity_fail == "stop":
        raise RunFailed(
            "Minute one: " + " ".join(messages), "Fix the data, or set `on_sanity_fail: warn` to train anyway."
        )


def _machine(setup: TrainingSetup, run_dir: RunDir, checkpoint_bytes: int) -> Machine:
    """Measure memory and disk space. Called after the one-batch test, which uses as much memory as a step."""
    device = setup.ranks.device
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
    """Return the node's available memory; caches count as free."""
    try:
        with open("/proc/meminfo") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return kib * 1024 / GIB
