"""Read nvidia-smi: which GPUs this node has, what they hold, and what is wrong with them.

Part of the agent: standard library only, Python >= 3.8. The supervisor contains it too.
Memory in GiB, utilisation in percent, temperature in °C.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import shutil
import subprocess
import time
from typing import Any

from giblet_tui.agent import gpu_slices, gpu_xid, proc, run_command

PROGRAM = "nvidia-smi"
PLACES = (
    "/usr/bin",
    "/usr/local/bin",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/bin",
    "/usr/local/nvidia/bin",
    "/opt/bin",
)
"""Where distributions, WSL, NixOS and container hosts put it, for a login whose PATH lacks the place."""
DEVICES = "/dev/nvidia[0-9]*"
LIMIT_S = 30.0
SLOW_S = 5.0
"""An answer that takes longer is reported: without persistence mode the driver is loaded again for each query."""
_MIB_PER_GIB = 1024.0
_GPU_FIELDS = "index,uuid,name,memory.used,memory.total,utilization.gpu,temperature.gpu"
_HEALTH_FIELDS = "uuid,compute_mode,mig.mode.current,display_active,ecc.errors.uncorrected.volatile.total"
_PCI_FIELDS = "uuid,pci.bus_id"
_RECOVERY_FIELDS = "uuid,gpu_recovery_action"
_SLOWDOWN_FIELDS = "uuid,clocks_throttle_reasons.hw_slowdown,clocks_throttle_reasons.sw_thermal_slowdown"
_PROCESS_FIELDS = "gpu_uuid,pid,used_memory"
_FORMAT = "--format=csv,noheader,nounits"
_VALUES_AFTER_NAME = 4
_LOOPS = {"-l", "--loop", "-lms", "--loop-ms"}
_UNIT = re.compile(r"\s*(MiB|%|C)$")
_NOT_REPORTED = ("[N/A]", "N/A", "[Not Supported]", "Not Supported")


class GpuQueryError(Exception):
    """nvidia-smi is installed but its answer cannot be used."""


def gpus_argv() -> list[str]:
    """Return the command that lists the GPUs, one per line."""
    return [PROGRAM, "--query-gpu=" + _GPU_FIELDS, _FORMAT]


def health_argv() -> list[str]:
    """Return the command that lists what old drivers do not know: compute mode, MIG, display, ECC errors."""
    return [PROGRAM, "--query-gpu=" + _HEALTH_FIELDS, _FORMAT]


def slowdown_argv() -> list[str]:
    """Return the command that lists which GPUs are slowed down because of heat or power."""
    return [PROGRAM, "--query-gpu=" + _SLOWDOWN_FIELDS, _FORMAT]


def recovery_argv() -> list[str]:
    """Return the command that lists what each GPU needs after an error. Drivers before 570 do not know it."""
    return [PROGRAM, "--query-gpu=" + _RECOVERY_FIELDS, _FORMAT]


def pci_argv() -> list[str]:
    """Return the command that lists the PCI address of each GPU, by which the kernel names it."""
    return [PROGRAM, "--query-gpu=" + _PCI_FIELDS, _FORMAT]


def processes_argv() -> list[str]:
    """Return the command that lists the compute processes on all GPUs, one per line."""
    return [PROGRAM, "--query-compute-apps=" + _PROCESS_FIELDS, _FORMAT]


def parse_gpus(output: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the GPUs in nvidia-smi's answer, and its other lines (warnings and damaged rows).

    A value that the card does not report is None; memory that cannot be read makes the card faulty.
    """
    gpus, other_lines = [], []
    for cells in _rows(output):
        gpu = _gpu(cells)
        if gpu is None:
            other_lines.append(", ".join(cells)[:200])
        else:
            gpus.append(gpu)
    return gpus, other_lines


def parse_health(output: str) -> dict[str, dict[str, Any]]:
    """Return uuid -> {compute_mode, mig, display, ecc_errors}; rows of another form are left out."""
    health = {}
    for cells in _rows(output):
        if len(cells) == len(_HEALTH_FIELDS.split(",")) and cells[0].startswith("GPU-"):
            uuid, compute_mode, mig, display, ecc_errors = cells
            health[uuid] = {
                "compute_mode": "" if compute_mode.startswith("[") else compute_mode,
                "mig": mig == "Enabled",
                "display": display == "Enabled",
                "ecc_errors": None if _number(ecc_errors) is None else int(_number(ecc_errors) or 0),
            }
    return health


def parse_recovery(output: str) -> dict[str, str]:
    """Return uuid -> what the driver asks for: `None`, `Reset`, `Reboot`, `Drain P2P`; nothing if it does not know."""
    rows = [cells for cells in _rows(output) if len(cells) == 2 and cells[0].startswith("GPU-")]
    return {uuid: action for uuid, action in rows if action and not action.startswith(("[", "N/A"))}


def parse_slowdown(output: str) -> set[str]:
    """Return the UUIDs of the GPUs that are slowed down; none from a driver that does not know the question."""
    rows = [cells for cells in _rows(output) if len(cells) == 3 and cells[0].startswith("GPU-")]
    return {uuid for uuid, *reasons in rows if "Active" in reasons}


def parse_processes(output: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return {uuid, pid, memory_gib} of each compute process, and all other lines; pid 0: not reported."""
    processes, other_lines = [], []
    for cells in _rows(output):
        if len(cells) == 3 and cells[0].startswith(("GPU-", "MIG-")):
            uuid, pid, memory = cells
            memory_gib = (_number(memory) or 0.0) / _MIB_PER_GIB
            processes.append({"uuid": uuid, "pid": int(pid) if pid.isdigit() else 0, "memory_gib": memory_gib})
        else:
            other_lines.append(", ".join(cells)[:200])
    return processes, other_lines


def query_gpus() -> dict[str, Any]:
    """Return the node's GPUs; never hangs and never raises.

    {gpus: [... with processes: [{pid, memory_gib}]],
     gpu_note: why there are none,
     gpu_error: the same, if nvidia-smi cannot be read, or is missing although there is a device of a GPU,
     gpu_warning: what nvidia-smi complains of although its answer is usable}
    """
    global _is_suspect
    empty: dict[str, Any] = {"gpus": [], "gpu_note": "", "gpu_error": "", "gpu_warning": ""}
    began = time.monotonic()
    if _is_suspect and (pid := _hung_query()) is not None:
        note = "nvidia-smi hangs in the kernel (pid %d), so it is not asked again; usually only a reboot ends it" % pid
        return dict(empty, gpu_note=note, gpu_error=note)
    _is_suspect = True
    try:
        questions = [gpus_argv(), processes_argv(), health_argv(), slowdown_argv(), pci_argv(), recovery_argv()]
        answers = _run(questions, began + LIMIT_S)
        gpus, warnings = _usable_gpus(*answers[0])
    except FileNotFoundError:
        _is_suspect = False
        problem = _devices_without_program()
        note = problem or "no nvidia-smi on the node's PATH, so giblet sees no GPU"
        return dict(empty, gpu_note=note, gpu_error=problem)
    except subprocess.TimeoutExpired:
        note = "nvidia-smi did not answer within %.0f s" % LIMIT_S
        return dict(empty, gpu_note=note, gpu_error=note)
    except (OSError, GpuQueryError) as error:
        note = "nvidia-smi cannot be read: %s" % error
        return dict(empty, gpu_note=note, gpu_error=note)
    _is_suspect = False
    took_s = time.monotonic() - began
    if took_s > SLOW_S:
        warnings.append("it took %.0f s to answer; persistence mode (nvidia-smi -pm 1) makes it fast" % took_s)
    health = parse_health(answers[2][1])
    slow = parse_slowdown(answers[3][1])
    warnings += [
        "GPU %d (%s) is slowed down because of heat or power: nvidia-smi -q -d PERFORMANCE"
        % (gpu["index"], gpu["name"])
        for gpu in gpus
        if gpu["uuid"] in slow
    ]
    processes, other_lines = parse_processes(answers[1][1])
    if other_lines:
        warnings.append("its processes cannot be listed: %s" % other_lines[0])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    addresses = dict(cells for cells in _rows(answers[4][1]) if len(cells) == 2)
    xids = gpu_xid.read_xids()
    recovery = parse_recovery(answers[5][1])
    for gpu in gpus:
        gpu.update(health.get(gpu["uuid"], {}))
        gpu["processes"] = [
            {"pid": process["pid"], "memory_gib": process["memory_gib"]}
            for process in processes
            if process["uuid"] == gpu["uuid"]
        ]
        if gpu.pop("shares_memory") and gpu.get("mig") is False:
            gpu.update(_memory_of_the_host(gpu["processes"]), fault="")
        xid = xids.get(gpu_xid.pci_address(addresses.get(gpu["uuid"], "")))
        gpu["damage"] = _damage(gpu, recovery.get(gpu["uuid"], ""), xid)
    gpus = _with_slices(gpus, processes, began + LIMIT_S)
    for gpu in gpus:
        gpu["fault"] = _fault(gpu, visible)
    return dict(empty, gpus=gpus, gpu_warning="nvidia-smi: " + "; ".join(warnings) if warnings else "")


_is_suspect = True
"""The last query did not end well, or there was none: look for one that hangs before the next is started."""


def _hung_query() -> int | None:
    """Return the process of a query that hangs: each further one would hang too.

    It is one of root or of this user: anybody can give a process of theirs the name of nvidia-smi.
    """
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        words = proc.command_line(pid)
        is_query = (
            words and os.path.basename(words[0]) == PROGRAM and any(word.startswith("--query-") for word in words)
        )
        if is_query and proc.owner(pid) in (0, os.getuid()):
            is_old = (proc.age_s(pid) or 0.0) > LIMIT_S
            if is_old and not _LOOPS.intersection(words) and proc.hangs_in_kernel(pid):
                return pid
    return None


def memory_by_pid(gpus: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return pid -> {index, uuid, memory_gib} of each GPU on which the process holds memory."""
    by_pid: dict[int, list[dict[str, Any]]] = {}
    for gpu in gpus:
        for process in gpu["processes"]:
            share = {"index": gpu["index"], "uuid": gpu["uuid"], "memory_gib": process["memory_gib"]}
            by_pid.setdefault(process["pid"], []).append(share)
    return by_pid


def is_visible(gpu: dict[str, Any], visible: str | None) -> bool:
    """Return True if CUDA_VISIBLE_DEVICES, as an administrator set it, shows this GPU; None: it is not set.

    CUDA ignores everything after the first entry that it cannot resolve, so -1 hides all that follows.
    """
    if visible is None:
        return True
    for entry in (part.strip() for part in visible.split(",")):
        if not (entry.isdigit() or entry.startswith(("GPU-", "MIG-"))):
            return False
        is_index = entry == str(gpu["index"]) and gpu.get("slice") is None
        if is_index or (entry.startswith(("GPU-", "MIG-")) and gpu["uuid"].startswith(entry)):
            return True
    return False


def _usable_gpus(status: int, output: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the GPUs and the warnings of an answer. Raises GpuQueryError when it lists no GPU.

    nvidia-smi ends with a status other than 0 for mere warnings too: 14 for a damaged infoROM.
    """
    gpus, other_lines = parse_gpus(output)
    if status != 0:
        reason = other_lines[0] if other_lines else "no reason given"
        if not gpus:
            raise GpuQueryError("it ended with status %d: %s" % (status, reason))
        return gpus, ["it ended with status %d: %s" % (status, reason)]
    if not gpus:
        raise GpuQueryError("it printed %r" % (other_lines[0] if other_lines else ""))
    return gpus, other_lines[:1]


def _gpu(cells: list[str]) -> dict[str, Any] | None:
    """Return the GPU of one row, or None when it is no such row. A name may contain commas."""
    if len(cells) < 3 + _VALUES_AFTER_NAME or not cells[0].isdigit() or not cells[1].startswith("GPU-"):
        return None
    memory, total, utilisation, temperature = cells[-_VALUES_AFTER_NAME:]
    unreadable = [cell for cell in (memory, total) if _number(cell) is None]
    return {
        "index": int(cells[0]),
        "uuid": cells[1],
        "name": ", ".join(cells[2:-_VALUES_AFTER_NAME]),
        "memory_used_gib": (_number(memory) or 0.0) / _MIB_PER_GIB,
        "memory_total_gib": (_number(total) or 0.0) / _MIB_PER_GIB,
        "utilisation": _number(utilisation),
        "temperature": _number(temperature),
        "fault": "nvidia-smi reports %s for its memory" % unreadable[0] if unreadable else "",
        "shares_memory": {memory, total} <= set(_NOT_REPORTED),
    }


def _fault(gpu: dict[str, Any], visible: str | None) -> str:
    """Return why no run may use this GPU, not even with --force; empty when a run may."""
    if gpu.get("mig"):  # the driver reports no memory of the whole then, so this reason comes first
        if not gpu["lists_slices"]:
            return "its MIG slices cannot be listed"
        return "divided into %d MIG slices" % gpu["n_slices"] if gpu["n_slices"] else "in MIG mode, but without a slice"
    if gpu["fault"]:
        return str(gpu["fault"])
    if not is_visible(gpu, visible):
        return "hidden by CUDA_VISIBLE_DEVICES=%s on this node" % visible
    if gpu.get("compute_mode") == "Prohibited":
        return "compute mode Prohibited"
    return ""


def _damage(gpu: dict[str, Any], recovery: str, xid: int | None) -> str:
    """Return what has been reported of the card's hardware; empty if nothing was.

    The kernel log keeps an Xid after the card was reset. What the driver itself reports comes first, therefore.
    """
    if gpu.get("ecc_errors"):
        return "%d uncorrectable ECC errors" % gpu["ecc_errors"]
    if recovery:
        return "" if recovery == "None" else "its driver asks for: %s (GPU recovery action)" % recovery
    if xid is None or (xid in gpu_xid.ECC_XIDS and gpu.get("ecc_errors") is not None):  # a reset clears the count
        return ""
    return gpu_xid.phrase(xid)


def _memory_of_the_host(processes: list[dict[str, Any]]) -> dict[str, float]:
    """Return the memory of a GPU that has none of its own, as in DGX Spark and Jetson: that of the node."""
    total_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024.0**3
    return {"memory_total_gib": total_gib, "memory_used_gib": sum(process["memory_gib"] for process in processes)}


def _devices_without_program() -> str:
    """Return that the node has GPUs which nothing can describe; empty if it has none."""
    devices = sorted(glob.glob(DEVICES))
    return "%s is there, but no nvidia-smi on the node's PATH" % devices[0] if devices else ""


def _with_slices(gpus: list[dict[str, Any]], processes: list[dict[str, Any]], deadline: float) -> list[dict[str, Any]]:
    """Return the GPUs, each that is divided into MIG slices followed by them."""
    if not any(gpu.get("mig") for gpu in gpus):
        return gpus
    lists_slices = True
    commands = [[PROGRAM, *gpu_slices.LIST_OPTIONS], [PROGRAM, *gpu_slices.DETAIL_OPTIONS]]
    try:
        (_, listing), (_, details) = _run(commands, deadline)
    except (OSError, subprocess.TimeoutExpired):
        listing = details = ""
        lists_slices = False
    all_gpus = []
    for gpu in gpus:
        slices = gpu_slices.slices_of(gpu, listing, details) if gpu.get("mig") else []
        for part in slices:
            part["damage"] = gpu["damage"]
            own_pids = {process["pid"] for process in part["processes"]}
            part["processes"] += [
                {"pid": process["pid"], "memory_gib": process["memory_gib"]}
                for process in processes
                if process["uuid"] == part["uuid"] and process["pid"] not in own_pids
            ]
        gpu.update(n_slices=len(slices), lists_slices=lists_slices)
        all_gpus += [gpu, *slices]
    return all_gpus


def _run(commands: list[list[str]], deadline: float) -> list[tuple[int, str]]:
    """Run nvidia-smi side by side; return the status and output of each. Raises OSError, TimeoutExpired."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    program = shutil.which(PROGRAM, path=path) or PROGRAM
    environment = {**os.environ, "LC_ALL": "C"}
    results = run_command.answers([[program, *argv[1:]] for argv in commands], deadline, environment)
    return [(result.returncode, f"{result.stdout}\n{result.stderr}") for result in results]


def _rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in csv.reader(output.splitlines()) if row]


def _number(cell: str) -> float | None:
    """Return the figure, or None for [N/A], [Unknown Error], [GPU is lost] and the like.

    Some drivers write the unit although they are asked not to.
    """
    try:
        return float(_UNIT.sub("", cell))
    except ValueError:
        return None
