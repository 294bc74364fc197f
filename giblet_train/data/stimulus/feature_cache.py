"""Keep what pretrained models computed of a stimulus, by content: the same film, model and options run once.

The arrays are in `<workdir>/features`, named by the hash of everything that decides them. Deleting them is safe.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.study_files import file_digest


@dataclass(frozen=True)
class FeatureCache:
    """A folder of arrays."""

    folder: Path | None = None
    """None keeps nothing."""
    digests: Mapping[Path, str] = field(default_factory=dict)
    """File -> SHA-256 of its bytes, as far as known."""

    def digest_of(self, path: Path) -> str:
        """Return the SHA-256 of a file."""
        return self.digests.get(path) or file_digest(path)

    def rows(self, identity: Mapping[str, Any], compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the array that `identity` describes; compute and keep it if it is not there."""
        if self.folder is None:
            return compute()
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        path = self.folder / f"{key}.npy"
        try:
            stored_NF: NDArray[np.float32] = np.load(path, mmap_mode="r")
            return stored_NF
        except (OSError, ValueError):  # not there, or cut short
            pass
        rows_NF = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{key}.{os.getpid()}.tmp")
        try:
            with open(aside, "wb") as file:
                np.save(file, rows_NF)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return rows_NF
