"""Find configurations by name: a given path, ./configs, then those that come with giblet."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import giblet_train
from giblet_train.schema import yaml_io
from giblet_train.schema.config import nearest
from giblet_train.schema.config_loader import Loaded, load
from giblet_train.schema.errors import ConfigError

if TYPE_CHECKING:
    from giblet_train.diagnosis.stages import Stages

LADDER = "ladder.yaml"
PACKAGED = Path(giblet_train.__file__).parent / "configs"


def folders() -> tuple[Path, ...]:
    """Return the folders that are searched, in order."""
    return tuple(f for f in (Path("configs"), PACKAGED) if f.is_dir())


def known() -> dict[str, Path]:
    """Return name -> file of every configuration; the first folder wins."""
    files = [p for folder in folders() for p in sorted(folder.glob("*.yaml"))]
    configs = [p for p in files if p.name != LADDER and not p.name.endswith(".example.yaml")]
    return {p.stem: p for p in reversed(configs)}


def ladder() -> Stages:
    """Read the stages of ./configs/ladder.yaml, else giblet's own. Raises ConfigError."""
    from giblet_train.diagnosis.stages import read_ladder  # the rules that it imports cost as much as a listing

    return read_ladder(next(folder / LADDER for folder in folders() if (folder / LADDER).is_file()))


def find(name: str) -> Path:
    """Return the file of a configuration, by name or path. Raises ConfigError with the nearest name."""
    if not name:
        remedy = "Is a variable of the shell unset? `giblet config ls` lists those with a name."
        raise ConfigError("The name of the configuration is empty.", remedy)
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = _expanded(name)
        if path.is_dir():
            raise ConfigError(f"{name} is a folder, not a configuration.", f"Name a file in it: {name.rstrip('/')}/...")
        if path.is_symlink() and not path.exists():
            raise ConfigError(f"{name} is a link to {path.readlink()}, which leads to no file.", "Repair or remove it.")
        if not path.exists():
            hint = nearest(path.stem, list(known())) or "."
            raise ConfigError(
                f"There is no configuration file {name}{hint}", "`giblet config ls` lists those with a name."
            )
        return path
    configs = known()
    if name not in configs:
        from giblet_tui.inventory import nodes  # imports the records of runs, and only an error needs it

        if name in {node.name for node in nodes.known_nodes()}:
            raise ConfigError(
                f"{name!r} is a node; a configuration is expected here.", "The node comes first: NODE CONFIG."
            )
        _refuse_other_path(name)
        raise ConfigError(
            f"No configuration is called {name!r}{nearest(name, list(configs)) or '.'}",
            f"Known: {', '.join(sorted(configs))}. A file of your own: give its path, or put it into ./configs.",
        )
    return configs[name]


def _refuse_other_path(name: str) -> None:
    """Raise ConfigError if the name is that of a folder or of a file that is no YAML file."""
    with contextlib.suppress(OSError):  # a name that is too long names neither
        path = _expanded(name)
        if path.is_dir():
            raise ConfigError(f"{name} is a folder, not a configuration.", f"Name a file in it: {name}/...")
        if path.is_file():
            raise ConfigError(
                f"{name} is not a configuration, for its name does not end in .yaml.",
                "Name a YAML file; giblet init NODE FOLDER writes one for a folder with a film and scans.",
            )


def _expanded(name: str) -> Path:
    """Return the path with the home folder for ~; unchanged if this machine has no user of that name."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def read(name: str, settings: Sequence[str] = ()) -> Loaded:
    """Read a configuration by name or path and apply `key=value` settings. Raises ConfigError."""
    return load(find(name), parse_settings(settings), folders=folders())


def parse_settings(settings: Sequence[str]) -> Mapping[str, Any]:
    """Parse `--set key=value` texts into dotted key -> value; values are YAML. Raises ConfigError."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {setting}: a setting is written key=value.", "For example: --set num_epochs=20")
        overrides[key.strip()] = yaml_io.load_text(f"value: {text}", f"--set {setting}")["value"]
    return overrides
