"""manifest.json of a store: what its arrays are, and what they were made from."""

from __future__ import annotations

from pathlib import Path

import msgspec

from giblet_train.data.geometry import Geometry
from giblet_train.schema.errors import DataError

SCHEMA = 3
FILE = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a store. Paths are never written."""

    key: str
    """Hash of everything that decides the content; the folder's name."""
    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    """TRs of each scan."""
    first_tr: int
    """First stored TR that is used."""
    stimulus_offset_s: float
    """Film second at which the first used TR begins."""
    border_trs: tuple[int, ...]
    """TRs at which an annotation begins or ends."""
    text_labels: tuple[str, ...]
    """Annotation at the middle of each TR."""
    subjects: tuple[str, ...]
    geometry: Geometry
    """Where the voxels are."""
    masked: bool
    """True if a mask file was given."""
    notes: tuple[str, ...]
    """One sentence for each thing that was converted or cropped."""
    sources: dict[str, str]
    """Role -> SHA-256."""
    parameters: dict[str, object]
    """Configuration values that decide the content."""
    versions: dict[str, str]
    """Package -> version that made the store."""
    files: dict[str, int]
    """Name in the folder -> bytes."""
    seconds: float
    """Time it took to build the store."""
    parcel_names: dict[int, str] = {}
    """Label -> name."""
    codes: dict[str, int] = {}
    """Feature space -> codes in a book, if its features are shares of codes."""
    block_names: tuple[str, ...] = ()
    """Name of each scan: the stimulus that it shows, or `scan 1`."""
    spans: tuple[tuple[str, int, int, float], ...] = ()
    """Stimulus, first row, rows and starting second of each stretch."""
    presence: dict[str, tuple[tuple[int, int], ...]] = {}
    """Subject -> row ranges that it has; empty if all subjects have all rows."""
    schema: int = SCHEMA

    @property
    def n_trs(self) -> int:
        """Return T, the TRs of all scans together."""
        return sum(self.scan_lengths_trs)

    @property
    def bytes(self) -> int:
        """Return the size of the arrays."""
        return sum(self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store and check that every file is complete.

    Raises DataError if there is none, if it has another schema, or if a file is missing or cut short.
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
