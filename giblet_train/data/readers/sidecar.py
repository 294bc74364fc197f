"""Read the JSON metadata of an image, with those that BIDS lets it inherit from folders above."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from giblet_train.data.readers.image_files import check_present, is_absent
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import read_regular

ROOT_FILE = "dataset_description.json"
MOST_LEVELS = 5
KINDS = (".dtseries", ".ptseries", ".func", ".time")
"""Parts of endings that say what an image holds."""


def read_sidecar(image: Path) -> dict[str, Any]:
    """Return the metadata of an image: its own .json over those of folders above, up to the dataset's root.

    A file applies if its entities are among the image's and the suffix is equal. Raises DataError for a damaged file,
    and for one whose content is not on this machine if no other one states the TR.
    """
    stem = image_stem(image)
    parts = stem.split("_")
    metadata: dict[str, Any] = {}
    absent: list[Path] = []
    for folder in reversed(_folders_to_root(image.parent)):
        candidates = [path for path in folder.glob(f"*{parts[-1]}*.json") if _applies(path, parts)]
        for path in sorted(candidates, key=lambda p: len(p.stem.split("_"))):
            if is_absent(path):
                absent.append(path)
            else:
                metadata |= _read_json(path)
    if absent and "RepetitionTime" not in metadata:
        check_present(absent[-1])
    return metadata


def image_stem(image: Path) -> str:
    """Return the name without its ending, which may have several parts: `.nii.gz`, `.dtseries.nii`, `.func.gii`."""
    stem = image.name.removesuffix(".gz").rpartition(".")[0]
    kind = next((kind for kind in KINDS if stem.endswith(kind)), "")
    return stem.removesuffix(kind)


def _applies(sidecar: Path, parts: Sequence[str]) -> bool:
    """Return True if the suffix is that of the image and all other parts are among the image's."""
    own = image_stem(sidecar).split("_")
    return own[-1] == parts[-1] and set(own) <= set(parts)


def _folders_to_root(folder: Path) -> list[Path]:
    """Return the folder and those above it up to the dataset's root; only the folder outside a dataset."""
    folders = [folder, *folder.parents][:MOST_LEVELS]
    root = next((n for n, parent in enumerate(folders) if (parent / ROOT_FILE).is_file()), 0)
    return folders[: root + 1]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(read_regular(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Correct or remove it.") from None
    return metadata if isinstance(metadata, dict) else {}
