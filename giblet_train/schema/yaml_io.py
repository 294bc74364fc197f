"""Read and write YAML as people write it: numbers are numbers, keys are unique, and size and depth are capped.

PyYAML reads `1e-4` as a string, silently keeps the last of two equal keys, and expands nested aliases without bound.
Here `1e-4` is a float, duplicate keys and aliases are errors with their line, and size and depth are capped.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.regular_file import without_waiting

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
TOKENS_IN_WORDS = {
    "<stream end>": "the end of the text",
    "<block mapping start>": "lines of `key: value`",
    "<block sequence start>": "a list",
    "<document start>": "---",
    "<document end>": "...",
    "<scalar>": "text",
}
"""What PyYAML calls the pieces of a text, in words."""


class _Refused(yaml.MarkedYAMLError):
    """YAML that is valid and not accepted here."""

    def __init__(self, problem: str, mark: Any, remedy: str) -> None:
        super().__init__(problem=problem, problem_mark=mark)
        self.remedy = remedy


class _Rules(yaml.composer.Composer, yaml.constructor.SafeConstructor):
    """Unique keys, no aliases, and a limited depth."""

    depth = 0
    check_event: Any
    peek_event: Any
    """Methods of the parser: whether the next event is of a type, and that event."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()
            raise _Refused("aliases (*name) are not accepted", event.start_mark, "Write the value out.")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", mark, "Nest less deeply.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in keys:
                raise _Refused(f"the key `{key}` appears twice", key_node.start_mark, "Leave out one of them.")
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


class _Loader(_Rules, yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats; `no`, `on`, `010` and dates stay text."""

    def compose_scalar_node(self, anchor: dict[Any, Any]) -> yaml.ScalarNode:
        """Read nothing behind the tag `!` as empty text, as libyaml does."""
        event = self.peek_event()
        if event.tag == "!" and not event.value:
            event.implicit = (False, True)
        return super().compose_scalar_node(anchor)


_REPLACED_TYPES = ("bool", "float", "timestamp", "int")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in rules if tag.rsplit(":", 1)[-1] not in _REPLACED_TYPES]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    "-+0123456789.",
)


_LOADERS: tuple[Any, ...] = (_Loader,)
try:
    from yaml._yaml import CParser
except ImportError:  # PyYAML without libyaml
    pass
else:

    class _FastLoader(_Rules, CParser, yaml.resolver.Resolver):
        """The same loader with the scanner of libyaml, which takes a tenth of the time."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            yaml.composer.Composer.__init__(self)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    _FastLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
    _LOADERS = (_FastLoader, _Loader)


class Document(NamedTuple):
    """A YAML mapping with the position of its keys."""

    value: dict[str, Any]
    """The mapping."""
    lines: dict[str, int]
    """Dotted key -> its line, from 1."""


def parse(text: str, where: str) -> Document:
    """Return the mapping in a YAML text, with the line of each key.

    Args:
        text: the YAML text.
        where: name of the text for error messages.

    Raises ConfigError with line and column.
    """
    value, lines = _parse(text, where)
    return Document(copy.deepcopy(value), dict(lines))


@functools.lru_cache(maxsize=16)
def _parse(text: str, where: str) -> Document:
    """Parse a text once: every configuration extends base.yaml."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where} is {len(text) // 1024} KiB; a configuration has at most {MAX_BYTES // 1024} KiB.")
    try:
        node, value = _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        remedy = getattr(error, "remedy", "Check the indentation, colons and quotes there.")
        raise ConfigError(f"{where}, {place}: {_in_words(error)}.", remedy) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where} is not readable as YAML: {reason}.", "Retype the line in a text editor.") from None
    if value is None:
        return Document({}, {})
    if not isinstance(value, dict):
        raise ConfigError(
            f"{where} does not consist of `key: value` lines.", "Write a blank behind each colon, as in `key: value`."
        )
    return Document(value, dict(_key_lines(node)))


def _in_words(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong in words for people who do not know how YAML is scanned."""
    problem = error.problem or str(error)
    if "'\\t'" in problem:
        return "a tab begins the line, and YAML indents with blanks only"
    if "another document" in problem:
        return "a second document begins, and a configuration is one"
    if "could not determine a constructor" in problem:
        return "tags (!name) are not accepted"
    if "<block end>" in problem:
        return "the indentation of this line fits no line above it"
    if "mapping values are not allowed" in problem:
        return "a colon and a blank stand where no key can be; text with these needs quotes"
    if "unexpected end of stream" in problem:
        return "a quotation mark is not closed"
    if "cannot start any token" in problem:
        return problem.replace("found character", "the character").replace(
            "that cannot start any token", "needs quotes"
        )
    for token, words in TOKENS_IN_WORDS.items():
        problem = problem.replace(f"'{token}'", words)
    return problem.replace("the node content", "a value")


def _load(text: str) -> tuple[Any, Any]:
    """Return the node of a text and its value; what the fast loader rejects is left to the other one, for its words."""
    for loader_class in _LOADERS[:-1]:
        with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError):
            return _load_with(loader_class, text)
    return _load_with(_LOADERS[-1], text)


def _load_with(loader_class: Any, text: str) -> tuple[Any, Any]:
    loader = loader_class(text)
    node = loader.get_single_node()
    return node, loader.construct_document(node) if node else None


def load_text(text: str, where: str) -> dict[str, Any]:
    """Return the mapping in a YAML text. Raises ConfigError with line and column."""
    return parse(text, where).value


def parse_file(path: Path) -> Document:
    """Return the mapping in a YAML file, with the line of each key. Raises ConfigError, also for unreadable files."""
    try:
        with open(path, "rb", opener=without_waiting) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", "Check that the file exists and that you may read it."
        ) from None
    try:
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path} is longer than {MAX_BYTES // 1024} KiB.", "Name a configuration, a short text.")
        return parse(data.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is not UTF-8 text.", "It must be a YAML file; save it with the encoding UTF-8."
        ) from None


def load_file(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises ConfigError, also for unreadable files."""
    return parse_file(path).value


def _key_lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield each dotted key with its line, from 1."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        yield key, key_node.start_mark.line + 1
        yield from _key_lines(value_node, f"{key}.")


def dump(value: Any) -> str:
    """Return YAML text that `load_text` reads back to an equal value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quote text with unprintable characters: PyYAML turns U+0085 and similar into spaces outside double quotes."""
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
