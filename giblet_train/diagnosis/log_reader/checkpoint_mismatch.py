"""Condense the details of a checkpoint that does not fit its model, which torch prints in lines after the error."""

from __future__ import annotations

import re
from typing import List, Optional

LOADING = "in loading state_dict"
"""Part of the error before the details."""
SHOWN_KEYS = 3
SHOWN_SIZES = 2
_KEYS = re.compile(r"\s*(Missing|Unexpected) key\(s\) in state_dict:\s*(.*)")
_KEY = re.compile(r"['\"]([\w.\-/]+)['\"]")
_SIZE = re.compile(
    r"\s*size mismatch for ([\w.\-/]+): copying a param with shape (?:torch\.Size\()?(\[[\d, ]*\]|\([\d, ]*\))\)? from "
    r"checkpoint, the shape in current model is (?:torch\.Size\()?(\[[\d, ]*\]|\([\d, ]*\))"
)


class CheckpointMismatch:
    """Collects the keys and sizes that differ."""

    def __init__(self) -> None:
        self._parts: List[str] = []
        self._n_sizes = 0

    def read(self, text: str) -> bool:
        """Read a line after the error. Return False if it is no detail of it."""
        keys, size = _KEYS.match(text), _SIZE.match(text)
        if keys:
            names = _KEY.findall(keys[2])
            more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
            what = f"{keys[1].lower()} key{'s' if len(names) > 1 else ''}"
            self._parts.append(f"{what} {', '.join(names[:SHOWN_KEYS])}{more}")
        elif size:
            self._n_sizes += 1
            if self._n_sizes <= SHOWN_SIZES:
                self._parts.append(f"{size[1]} is {size[2]} in the checkpoint and {size[3]} in the model")
        return bool(keys or size)

    def summary(self) -> str:
        """Return what differs, in one clause; empty if no detail was read."""
        more = self._n_sizes - SHOWN_SIZES
        return "; ".join([*self._parts, *([f"{more} more sizes differ"] if more > 0 else [])])


def remedy_of(error: str) -> Optional[str]:
    """Return what to do about a checkpoint that does not fit; None for any other error."""
    if LOADING not in error:
        return None
    wrapper = next(
        (prefix for prefix in ("module.", "_orig_mod.") if re.search(rf"keys? {re.escape(prefix)}", error)), ""
    )
    if wrapper:
        return f"Remove the prefix `{wrapper}` from the keys of the checkpoint, or add it: one side was saved wrapped."
    if " in the checkpoint and " in error or "size mismatch" in error:
        return "Use the sizes that the checkpoint was trained with, or leave these layers out of it."
    return "Use the code and configuration that the checkpoint was trained with, or `strict=False` for new layers."
