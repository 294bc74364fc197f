"""YAML as people write it: numbers are numbers, a key stands once, and a file cannot blow up.

PyYAML reads `1e-4` as a string, keeps the last of two equal keys without a word, and expands nested aliases without
bound. Here `1e-4` is a float, duplicate keys and aliases are errors with their line, and size and depth are capped.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from giblet_train.schema.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats, `no`, `on`, `010` and dates kept as text, unique keys, no aliases."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not accepted", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key `{key}` stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_KEPT = ("bool", "float", "timestamp", "int")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in rules if tag.rsplit(":", 1)[-1] not in _KEPT]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    "-+0123456789.",
)


def load_text(text: str, where: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    where: how to name the text in an error. Raises ConfigError with line and column.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where} is {len(text) // 1024} KiB; a configuration has at most {MAX_BYTES // 1024} KiB.")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ConfigError(f"{where}, {place}: {error.problem or error}.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{where} is not readable as YAML: {error}.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must hold `key: value` lines, not a {type(value).__name__}.")
    return value


def load_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError, also when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Is it there, and may you read it?") from None
    try:
        return load_text(data[: MAX_BYTES + 1].decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None


def dump(value: Any) -> str:
    """YAML text that `load_text` reads back to an equal value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """PyYAML folds U+0085 and its like into spaces unless the text stands in double quotes."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
