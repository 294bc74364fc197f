"""`data discover`: the report of a folder, and its configuration in a file."""

from __future__ import annotations

from pathlib import Path

from giblet_train.data.discover.proposal import discover
from giblet_train.data.discover.report import report_lines, to_config, to_json
from giblet_train.schema.config import name_from
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback
from giblet_train.schema.run_dir import replace_file


def discover_text(
    folder: Path,
    write: Path | None,
    name: str | None,
    progress: ProgressCallback,
    *,
    as_json: bool,
    tr_s: float | None = None,
) -> tuple[bool, str]:
    """Return True if a file had to be left out or no run follows a stimulus, and the report.

    Writes the configuration if it is asked for.
    Raises ConfigError for a missing folder, an unsuitable name, and a file that exists or cannot be written; DataError
    if no table can be proposed. Nothing is written then.

    Args:
        write: File of the configuration; None for none.
        name: Name of the configuration; None to take it from the file or the folder.
    """
    folder = folder.expanduser().absolute()
    target = None if write is None else write.expanduser().absolute()
    name = name or name_from(target.stem if target else folder.name)
    if target is not None:
        _check_writable(target)
    proposal = discover(folder, progress, tr_s)
    if target is None:
        return proposal.failed, to_json(proposal, name) if as_json else "\n".join(report_lines(proposal))
    config = to_config(proposal, name)
    try:
        replace_file(target, config.encode())
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}.", "Choose another file.") from None
    if as_json:
        return proposal.failed, to_json(proposal, name)
    return proposal.failed, "\n".join([*report_lines(proposal), f"written: {target}"])


def _check_writable(path: Path) -> None:
    if path.exists():
        raise ConfigError(f"{path} already exists.", "Choose another file with --write.")
    if not path.parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent}.", "Make it, or choose another file with --write.")
