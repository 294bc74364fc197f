"""`prepare`: the store of a run or a configuration, built and described."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from giblet_train.data.manifest import Manifest, read_manifest
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.row_plan import Span
from giblet_train.data.readers.study_files import study_dir
from giblet_train.data.store.store import build_store
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping, load
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.run_dir import RunDir
from giblet_train.schema.yaml_io import load_text

DEFAULT_WORKDIR = Path("~/giblet")
STDIN = "-"


@dataclass(frozen=True)
class DataRequest:
    """Configuration of a data command, and the folders of its files and stores."""

    config: Config
    """Configuration of the study."""
    workdir: Path
    """Folder of studies and stores."""

    @property
    def data_dir(self) -> Path:
        """Return the folder of the study's files."""
        return study_dir(self.config, self.workdir)


def read_data_request(run_or_config: Path, workdir: Path | None) -> DataRequest:
    """Read the request from a run directory, a configuration file, or `-` for a configuration on standard input.

    Raises ConfigError.

    Args:
        workdir: None for a run's own, `<workdir>/runs/<run>`, or ~/giblet for anything else.
    """
    if run_or_config.is_dir():
        run = RunDir(run_or_config.absolute())
        if not run.config.is_file():
            raise ConfigError(f"{run_or_config} is not a run directory: it has no config.yaml.", "Name a YAML file.")
        return DataRequest(run.read_config(), workdir_of(run, workdir))
    if str(run_or_config) == STDIN:
        config = from_mapping(load_text(sys.stdin.read(), "standard input"), "standard input").config
    else:
        config = load(run_or_config, folders=(Path(__file__).parents[2] / "configs",)).config
    return DataRequest(config, (workdir or DEFAULT_WORKDIR).expanduser().absolute())


def workdir_of(run: RunDir, workdir: Path | None) -> Path:
    """Return the folder of a run's study and store: as given, else the run's workdir, else (a pulled run) ~/giblet."""
    return (workdir or run.workdir or DEFAULT_WORKDIR).expanduser().absolute()


def prepare(request: DataRequest, progress: ProgressCallback) -> str:
    """Build the store and check that the configured split fits it; returns a description for people.

    Raises DataError, ConfigError, PreflightRefused.
    """
    start_s = time.monotonic()
    path = build_store(request.config, request.data_dir, request.workdir, progress)
    manifest = read_manifest(path)
    spans = [Span(*span) for span in manifest.spans]
    split = make_split(manifest.scan_lengths_trs, manifest.border_trs, request.config.split, spans, manifest.tr_s)
    parts = f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test"
    lines = [
        str(path),
        f"  subjects   {len(manifest.subjects)}: {', '.join(manifest.subjects)}",
        f"  TRs        {manifest.n_trs} of {manifest.tr_s:g} s in scans of {_list(manifest.scan_lengths_trs)}",
        f"  fold {split.fold}     {parts}",
        f"  offset     the film is at {manifest.stimulus_offset_s:g} s when TR 0 begins",
        f"  size       {manifest.bytes / 2**20:.1f} MiB: {_sizes(manifest)}",
        f"  time       built in {manifest.seconds:.1f} s, this call {time.monotonic() - start_s:.1f} s",
        *(f"  note       {note}" for note in manifest.notes),
    ]
    return "\n".join(lines)


def _list(numbers: tuple[int, ...]) -> str:
    return " + ".join(map(str, numbers))


def _sizes(manifest: Manifest) -> str:
    totals: dict[str, int] = {}
    for name, size in manifest.files.items():
        part = name.split("/")[0].removesuffix(".npy")
        totals[part] = totals.get(part, 0) + size
    largest = sorted(totals.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{part} {size / 2**20:.1f}" for part, size in largest)
