"""MIG slices: parts of a GPU with memory of their own, each of which CUDA sees as a device by its UUID.

`nvidia-smi -L` has their UUIDs and profiles, `nvidia-smi -q -x` their memory and processes; both count the slices of a
GPU in the same order. Part of the agent: standard library only, Python >= 3.8. The supervisor contains it too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_GPU_LINE = re.compile(r"GPU (\d+): ")
_SLICE_LINE = re.compile(r"\s+MIG (.+?)\s+Device\s+(\d+): \(UUID: (MIG-[A-Za-z0-9/-]{1,80})\)")
_PROCESS_NAME = re.compile(r"<process_name>.*?</process_name>", re.DOTALL)
"""nvidia-smi does not escape it, so that one user's `a&b` would make the answer unreadable for all."""
_MIB = re.compile(r"(\d+) MiB")
_MIB_PER_GIB = 1024.0

LIST_OPTIONS = ["-L"]
DETAIL_OPTIONS = ["-q", "-x"]


def slices_of(gpu: dict[str, Any], listing: str, details: str) -> list[dict[str, Any]]:
    """Return the slices of a GPU, in its own form, each with `slice`: its number on that GPU.

    Args:
        gpu: the GPU, as `gpu.query_gpus` describes it.
        listing: what `nvidia-smi -L` printed.
        details: what `nvidia-smi -q -x` printed.
    """
    memory, processes = _details_of(gpu["uuid"], details)
    slices = []
    for number, profile, uuid in _listed(gpu["index"], listing):
        used_gib, total_gib, instance = memory.get(number, (None, None, None))
        slices.append(
            {
                "index": gpu["index"],
                "slice": number,
                "uuid": uuid,
                "name": "MIG %s of %s" % (profile, gpu["name"]),
                "memory_used_gib": used_gib or 0.0,
                "memory_total_gib": total_gib or 0.0,
                "utilisation": None,  # the driver reports none for a slice
                "temperature": gpu["temperature"],
                "fault": "" if total_gib is not None else "nvidia-smi reports no memory for it",
                "processes": [process for where, process in processes if where == instance],
            }
        )
    return slices


def _listed(index: int, listing: str) -> list[tuple[int, str, str]]:
    """Return (number, profile, UUID) of each slice of the GPU of that index."""
    slices, current = [], -1
    for line in listing.splitlines():
        gpu = _GPU_LINE.match(line)
        current = int(gpu.group(1)) if gpu else current
        match = _SLICE_LINE.match(line)
        if match and current == index:
            slices.append((int(match.group(2)), match.group(1), match.group(3)))
    return slices


def _details_of(uuid: str, details: str) -> tuple[dict[int, Any], list[tuple[Any, dict[str, Any]]]]:
    """Return number -> (GiB in use, GiB in total, instance) of a GPU's slices, and its processes by instance."""
    from xml.etree import ElementTree  # a node without slices is asked without it, in a tenth less time

    try:
        root = ElementTree.fromstring(_PROCESS_NAME.sub("", details).encode("utf-8", "replace"))
    except ElementTree.ParseError:
        return {}, []
    element = next((gpu for gpu in root.iter("gpu") if gpu.findtext("uuid", "").strip() == uuid), None)
    if element is None:
        return {}, []
    memory = {}
    for part in element.iter("mig_device"):
        number = part.findtext("index", "").strip()
        if number.isdigit():
            memory_gib, total = (_gib(part.findtext("fb_memory_usage/" + name, "")) for name in ("used", "total"))
            memory[int(number)] = (memory_gib, total, _instance(part))
    processes = []
    for entry in element.iter("process_info"):
        pid = entry.findtext("pid", "").strip()
        memory_gib = _gib(entry.findtext("used_memory", ""))
        process = {"pid": int(pid) if pid.isdigit() else 0, "memory_gib": memory_gib or 0.0}
        processes.append((_instance(entry), process))
    return memory, processes


def _instance(element: Element) -> tuple[str, str]:
    """Return what slices and processes have in common: the ids of GPU instance and compute instance."""
    return element.findtext("gpu_instance_id", "").strip(), element.findtext("compute_instance_id", "").strip()


def _gib(text: str) -> float | None:
    match = _MIB.match(text.strip())
    return int(match.group(1)) / _MIB_PER_GIB if match else None
