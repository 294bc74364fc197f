"""manifest.json of a store: what its arrays are, and what they were made from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from giblet_train.schema.errors import DataError

SCHEMA = 1
FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a store. sources: role -> SHA-256; files: name in the folder -> bytes; paths are never written."""

    key: str
    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    first_tr: int
    stimulus_offset_s: float
    border_trs: tuple[int, ...]
    text_labels: tuple[str, ...]
    subjects: tuple[str, ...]
    grid_XYZ: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    masked: bool
    notes: tuple[str, ...]
    sources: dict[str, str]
    parameters: dict[str, object]
    versions: dict[str, str]
    files: dict[str, int]
    seconds: float
    parcel_names: dict[int, str] = {}
    codes: dict[str, int] = {}
    space_code: int = 2
    schema: int = SCHEMA

    @property
    def n_trs(self) -> int:
        """T: TRs of all scans together."""
        return sum(self.scan_lengths_trs)

    @property
    def bytes(self) -> int:
        """Size of the arrays."""
        return sum(self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a store, its files checked to be there in full.

    Raises DataError when there is none, when it is from a newer giblet, or when a file is missing or cut short.
    """
    remedy = f"Delete {folder} and run `python -m giblet_train prepare` again."
    try:
        data = (folder / FILE).read_bytes()
        schema = msgspec.json.decode(data).get("schema")
        if schema != SCHEMA:
            raise DataError(f"The store {folder} has schema {schema}; this giblet reads {SCHEMA}.", remedy)
        manifest = msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError:
        raise DataError(f"{folder} is not a store: it has no {FILE}.", remedy) from None
    except (msgspec.MsgspecError, AttributeError, OSError) as error:
        raise DataError(f"{folder / FILE} cannot be read: {error}.", remedy) from None
    for name, size in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(f"The store's file {path} is missing or cut short.", remedy)
    return manifest
