"""Xid messages of NVIDIA's driver in the kernel log: what went wrong with a GPU since the machine started.

Many of them are a program's own fault and leave the GPU well. Those here mean that it needs a reset, or a technician.
Part of the agent: standard library only, Python >= 3.8. The supervisor contains it too.
"""

from __future__ import annotations

import re

from giblet_tui.agent.run_command import answer

HARDWARE_XIDS = {
    48: "double-bit ECC error",
    64: "row remapping or page retirement failed",
    79: "fallen off the bus",
    95: "uncontained ECC error",
    119: "no answer of its GSP processor",
    120: "error of its GSP processor",
}
"""Xid -> its meaning, as NVIDIA documents it."""
ECC_XIDS = (48, 95)
"""Those that the volatile count of uncorrectable ECC errors reports too."""
_LIMIT_S = 5.0
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)[,:]? ?(.*)")


def read_xids() -> dict[str, int]:
    """Return PCI address -> the newest Xid there that makes a GPU unfit; nothing where users may not read the log."""
    log = answer(["dmesg"], _LIMIT_S)
    return parse_xids(log.stdout) if log is not None else {}


def parse_xids(log: str) -> dict[str, int]:
    """Return PCI address -> the newest Xid there that makes a GPU unfit."""
    reports = [(pci_address(address), int(number)) for address, number, _ in _XID.findall(log)]
    return {address: number for address, number in reports if number in HARDWARE_XIDS}


def phrase(number: int) -> str:
    """Return an Xid as a phrase."""
    return "Xid %d (%s) in the kernel log since the machine started" % (number, HARDWARE_XIDS[number])


def pci_address(text: str) -> str:
    """Return domain, bus and device in one form: `00000000:3B:00.0` and `0000:3b:00` are the same device."""
    parts = text.strip().lower().partition(".")[0].split(":")
    try:
        return ":".join(["%04x" % int(parts[0], 16), *parts[1:]]) if len(parts) == 3 else text.strip().lower()
    except ValueError:  # the kernel log may be cut anywhere
        return text.strip().lower()
