"""nvidia-smi as pure pairs: what to run, and what its output means; and one look that cannot hang or fail.

Part of the agent: standard library only, Python >= 3.8. Memory in GiB, utilisation in percent, temperature in °C.
"""

from __future__ import annotations

import csv
import subprocess
from typing import Any

PROGRAM = "nvidia-smi"
LIMIT_S = 5.0
BUSY_GIB = 1.0
"""A GPU that holds more than this is in use, even where its process cannot be seen (a container's)."""
_MIB_PER_GIB = 1024.0
_GPU_FIELDS = "index,uuid,name,memory.used,memory.total,utilization.gpu,temperature.gpu"
_PROCESS_FIELDS = "gpu_uuid,pid,used_memory"
_FORMAT = "--format=csv,noheader,nounits"


def gpus_argv() -> list[str]:
    """List the GPUs, a line each."""
    return [PROGRAM, "--query-gpu=" + _GPU_FIELDS, _FORMAT]


def processes_argv() -> list[str]:
    """List the compute processes on all GPUs, a line each."""
    return [PROGRAM, "--query-compute-apps=" + _PROCESS_FIELDS, _FORMAT]


def parse_gpus(output: str) -> list[dict[str, Any]]:
    """One mapping per GPU; a figure that the card does not give is None. Raises ValueError for other output."""
    gpus = []
    for row in _rows(output, _GPU_FIELDS):
        index, uuid, name, used, total, utilisation, temperature = row
        gpus.append(
            {
                "index": int(index),
                "uuid": uuid,
                "name": name,
                "memory_used_gib": (_number(used) or 0.0) / _MIB_PER_GIB,
                "memory_total_gib": (_number(total) or 0.0) / _MIB_PER_GIB,
                "utilisation": _number(utilisation),
                "temperature": _number(temperature),
            }
        )
    return gpus


def parse_processes(output: str) -> list[dict[str, Any]]:
    """{uuid, pid, memory_gib} of each compute process. Raises ValueError for other output."""
    return [
        {"uuid": uuid, "pid": int(pid), "memory_gib": (_number(used) or 0.0) / _MIB_PER_GIB}
        for uuid, pid, used in _rows(output, _PROCESS_FIELDS)
    ]


def query_gpus() -> dict[str, Any]:
    """{gpus: [… with processes: [{pid, memory_gib}]], gpu_note}: the note says why there are none to see."""
    try:
        gpus, processes = parse_gpus(_run(gpus_argv())), parse_processes(_run(processes_argv()))
    except FileNotFoundError:
        return {"gpus": [], "gpu_note": "no nvidia-smi on the node's PATH, so no GPU is seen"}
    except subprocess.TimeoutExpired:
        return {"gpus": [], "gpu_note": f"nvidia-smi did not answer within {LIMIT_S:.0f} s"}
    except (OSError, ValueError) as error:
        return {"gpus": [], "gpu_note": f"nvidia-smi cannot be read: {error}"}
    for gpu in gpus:
        gpu["processes"] = [
            {"pid": process["pid"], "memory_gib": process["memory_gib"]}
            for process in processes
            if process["uuid"] == gpu["uuid"]
        ]
    return {"gpus": gpus, "gpu_note": ""}


def free(gpus: list[dict[str, Any]], taken: set[str]) -> list[dict[str, Any]]:
    """Of the GPUs that `look` saw those that nobody has: no process, little memory in use, not in `taken` (UUIDs)."""
    return [g for g in gpus if not g["processes"] and g["memory_used_gib"] <= BUSY_GIB and g["uuid"] not in taken]


def free_after_queue(free: list[str], ahead: list[dict[str, Any]]) -> list[str]:
    """Of free GPUs (UUIDs) those left for one who comes after others, each of whom keeps `n_gpus` of its `among`.

    So a run that waits for more than there are is not passed by smaller ones for ever.
    """
    left = list(free)
    for waiter in ahead:
        kept = [uuid for uuid in left if uuid in waiter["among"]][: waiter["n_gpus"]]
        left = [uuid for uuid in left if uuid not in kept]
    return left


def memory_by_pid(gpus: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """pid -> {index, uuid, memory_gib} of each of the GPUs that `look` saw of which it holds memory."""
    found: dict[int, list[dict[str, Any]]] = {}
    for card in gpus:
        for process in card["processes"]:
            part = {"index": card["index"], "uuid": card["uuid"], "memory_gib": process["memory_gib"]}
            found.setdefault(process["pid"], []).append(part)
    return found


def _run(argv: list[str]) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=LIMIT_S,
    )
    if done.returncode != 0:
        said = done.stdout.strip().splitlines()
        raise ValueError(f"it ended with status {done.returncode}: {said[0] if said else 'no reason given'}")
    return done.stdout


def _rows(output: str, fields: str) -> list[list[str]]:
    n_fields = fields.count(",") + 1
    rows = [[cell.strip() for cell in row] for row in csv.reader(output.splitlines()) if row]
    for row in rows:
        if len(row) != n_fields:
            raise ValueError(f"it printed {','.join(row)[:120]!r}")
    return rows


def _number(cell: str) -> float | None:
    """A figure, or None for [N/A], [Not Supported] and the like."""
    try:
        return float(cell)
    except ValueError:
        return None
