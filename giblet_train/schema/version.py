"""Version of giblet, and a fingerprint of the engine's source.

Two machines run the same engine exactly when their fingerprints are equal. Configurations next to the source are not
part of it, because every run stores its own.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Any

import giblet_train

NEEDED = (
    *("av", "nibabel", "numpy", "python_calamine", "safetensors"),
    *("threadpoolctl", "tokenizers", "torch", "xlsxwriter"),
)
"""Modules without which the engine cannot train."""


def fingerprint() -> str:
    """Return 12 hex digits over every source file of `giblet_train` and its path."""
    root = Path(giblet_train.__file__).parent
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".csv")):
        data = path.read_bytes()
        total.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    return total.hexdigest()[:12]


def facts() -> dict[str, Any]:
    """Return the versions of giblet, Python and torch, the fingerprint, and missing modules; imports nothing heavy."""
    missing = [name for name in NEEDED if util.find_spec(name) is None]
    return {
        "version": giblet_train.__version__,
        "fingerprint": fingerprint(),
        "executable": sys.executable,
        "python": platform.python_version(),
        "torch": None if "torch" in missing else metadata.version("torch"),
        "missing": missing,
    }
