"""`gpu-check`: check that training on this machine's device is correct, and print one table.

Lines that need a GPU are reported as not run if there is none; the others run on the CPU then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from giblet_train.analysis import gpu_check_worker
from giblet_train.analysis.gpu_check_worker import HANG_TIMEOUT_S, N_STEPS, build_step, check_config, check_data
from giblet_train.components.build import TrainingSetup
from giblet_train.components.train_step import TrainStep
from giblet_train.distributed.node_link import free_port
from giblet_train.distributed.process_group import ProcessGroup, set_threads, synchronize
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.model.heads import ridge_readout
from giblet_train.schema.config import Config

CPU = torch.device("cpu")
LOSS_TOLERANCE, RANKS_TOLERANCE, RESIDUAL_TOLERANCE = 1e-3, 1e-4, 1e-4
R_TOLERANCE, TIME_TOLERANCE = 0.01, 0.05
LIMIT_S = 300.0
Status = Literal["pass", "fail", "measured", "not run"]


@dataclass(frozen=True)
class CheckLine:
    """One line of the table."""

    name: str
    status: Status
    text: str


def check_gpu(progress: Callable[[str], None]) -> list[CheckLine]:
    """Run every line."""
    gpu = torch.device("cuda", 0) if torch.cuda.is_available() else None
    device = gpu or CPU
    lines = []
    for name, needs_gpu, check in LINES:
        if needs_gpu and gpu is None:
            lines.append(CheckLine(name, "not run", "needs a GPU"))
            continue
        progress(name)
        lines.append(_run_check(name, check, device))
    return lines


def table(lines: Sequence[CheckLine]) -> str:
    """Format the table, with the lines that could not run."""
    width = max(len(line.name) for line in lines)
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU (torch sees no GPU)"
    rows = [f"{line.name:{width}}  {line.status:8}  {line.text}" for line in lines]
    n_skipped = sum(line.status == "not run" for line in lines)
    note = [f"{n_skipped} of {len(lines)} lines could not run without a GPU."] if n_skipped else []
    return "\n".join([f"torch {torch.__version__}, {device}", "", *rows, *note])


def _run_check(name: str, check: Callable[[torch.device], tuple[Status, str]], device: torch.device) -> CheckLine:
    """Run one line; an exception is a failure of that line."""
    try:
        return CheckLine(name, *check(device))
    except Exception as error:  # every other line must still run
        return CheckLine(name, "fail", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _within_limit(value: float, limit: float, text: str) -> tuple[Status, str]:
    return ("pass" if value <= limit else "fail"), f"{text} {value:.2g} (limit {limit:g})"


def _train_step(device: torch.device, config: Config | None = None) -> TrainStep:
    config = config or check_config()
    set_threads(config, 1)
    return build_step(config, ProcessGroup(0, 1, device))


def _steps(train_step: TrainStep, first: int, stop: int) -> list[dict[str, float]]:
    return [train_step.step(step, {}).loss for step in range(first, stop)]


def _largest_difference(first: Sequence[dict[str, float]], second: Sequence[dict[str, float]]) -> float:
    return max(abs(a[c] / b[c] - 1.0) for a, b in zip(first, second, strict=True) for c in a)


def _cpu_against_gpu(device: torch.device) -> tuple[Status, str]:
    losses = [_steps(_train_step(d), 0, 50) for d in (CPU, device)]
    return _within_limit(_largest_difference(*losses), LOSS_TOLERANCE, "largest relative difference of a loss")


def _readout(device: torch.device) -> tuple[Status, str]:
    """Check the residual of the readout's normal equations, which TF32 would spoil."""
    set_threads(check_config(), 1)
    generator = torch.Generator().manual_seed(0)
    weight_KR = torch.randn(64, 2000, generator=generator).to(device)
    scores_TR = torch.randn(100, 2000, generator=generator).to(device)
    ridge = torch.tensor(10.0, device=device)
    [z_TK] = ridge_readout([scores_TR], weight_KR, ridge)
    weight, scores = weight_KR.double().cpu(), scores_TR.double().cpu()
    right_TK = scores @ weight.T
    left_TK = z_TK.double().cpu() @ (weight @ weight.T + 10.0 * torch.eye(64, dtype=torch.float64))
    return _within_limit(float((left_TK - right_TK).norm() / right_TK.norm()), RESIDUAL_TOLERANCE, "relative residual")


def _repeated(device: torch.device) -> tuple[Status, str]:
    config = check_config(deterministic=True)
    first, second = (_trained(_train_step(device, config), 0, 20) for _ in range(2))
    return _equal(first, second)


def _resumed(device: torch.device) -> tuple[Status, str]:
    config = check_config(deterministic=True)
    straight = _trained(_train_step(device, config), 0, 20)
    half = _trained(_train_step(device, config), 0, 10)
    second_half = _train_step(device, config)
    second_half.load(half.items())
    return _equal(straight, _trained(second_half, 10, 20))


def _trained(train_step: TrainStep, first: int, stop: int) -> dict[str, torch.Tensor]:
    _steps(train_step, first, stop)
    return {name: tensor.clone() for name, tensor in train_step.tensors().items()}


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> tuple[Status, str]:
    different = [name for name in first if not torch.equal(first[name], second[name])]
    return ("fail" if different else "pass"), f"{len(different)} of {len(first)} tensors differ"


def _mixed_precision(device: torch.device) -> tuple[Status, str]:
    r = []
    for is_mixed in (False, True):
        config = check_config(use_mixed_precision=is_mixed, model={"start": "zero"})
        data = check_data()
        setup = TrainingSetup.build(config, data, ProcessGroup(0, 1, device))
        _steps(setup.train_step, 0, 100)
        r.append(Evaluator.of(setup, data).validation(setup.train_step.average.model).r or 0.0)
    return _within_limit(abs(r[1] - r[0]), R_TOLERANCE, f"r {r[0]:.3f} in float32, {r[1]:.3f} in bfloat16; difference")


def _stage_times(device: torch.device) -> tuple[Status, str]:
    train_step = _train_step(device)
    _steps(train_step, 0, 5)
    synchronize(device)
    began = time.perf_counter()
    seconds = sum(train_step.step(step, {}).seconds for step in range(5, 25))
    synchronize(device)
    wall = time.perf_counter() - began
    return _within_limit(abs(seconds / wall - 1.0), TIME_TOLERANCE, f"{50 * wall:.1f} ms per step; relative difference")


def _kernels(device: torch.device) -> tuple[Status, str]:
    train_step = _train_step(device)
    _steps(train_step, 0, 5)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        train_step.step(5, {})
    events = {event.key: event.count for event in profile.key_averages()}
    kernels = sum(
        n for key, n in events.items() if key in ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC")
    )
    syncs = sum(n for key, n in events.items() if "Synchronize" in key)
    return "measured", f"{kernels} kernel launches, {syncs} synchronisations per step"


def _peak_memory(device: torch.device) -> tuple[Status, str]:
    torch.cuda.reset_peak_memory_stats(device)
    _steps(_train_step(device), 0, 5)
    return "measured", f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB"


def _two_ranks(device: torch.device) -> tuple[Status, str]:
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return "not run", "needs two GPUs"
    single_rank = _steps(_train_step(device), 0, N_STEPS)
    answer = _run_ranks("equal")
    return _within_limit(
        _largest_difference(single_rank, answer["losses"]),
        RANKS_TOLERANCE,
        "largest relative difference of a loss",
    )


def _killed_rank(device: torch.device) -> tuple[Status, str]:
    return _fault(device, "kill")


def _hanging_rank(device: torch.device) -> tuple[Status, str]:
    return _fault(device, "hang")


def _fault(device: torch.device, mode: str) -> tuple[Status, str]:
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return "not run", "needs two GPUs"
    answer = _run_ranks(mode)
    if "error" not in answer:
        return "fail", "the other rank noticed nothing"
    return _within_limit(float(answer["after_s"]), 2 * HANG_TIMEOUT_S, "the other rank ended with an error after s:")


def _run_ranks(mode: str) -> dict[str, Any]:
    """Run two ranks of the worker; return what rank 0 wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        common = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", gpu_check_worker.__name__, mode, str(out)]
        processes = [
            subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(2)
        ]
        try:
            processes[0].wait(LIMIT_S)
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
        answer: dict[str, Any] = json.loads(out.read_text())
        return answer


LINES: tuple[tuple[str, bool, Callable[[torch.device], tuple[Status, str]]], ...] = (
    ("50 steps on the CPU and on the GPU", True, _cpu_against_gpu),
    ("readout in float32", False, _readout),
    ("repeated run, bitwise", False, _repeated),
    ("resumed run, bitwise", False, _resumed),
    ("bfloat16 against float32", True, _mixed_precision),
    ("stage times against wall clock", False, _stage_times),
    ("kernels and synchronisations", True, _kernels),
    ("peak memory", True, _peak_memory),
    ("2 ranks against 1", False, _two_ranks),
    ("killed rank", False, _killed_rank),
    ("hanging rank", False, _hanging_rank),
)
