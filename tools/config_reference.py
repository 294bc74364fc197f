"""Write docs/configuration.md from the configuration's records: `python -m tools.config_reference > docs/configuration.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from giblet_tui.inventory.config_schema import config_schema

HEAD = """\
# Configuration keys

For everyone who writes a configuration. Generated from the program by `make docs`.

A configuration is a YAML file. It starts from another one (`extends: base`) and sets only what differs. `--set KEY=VALUE` overrides one
key, with dots for sections: `--set data.tr=2.0`. `giblet config show NAME` prints all values, `giblet config check FILE` lists every
problem with its line, and `giblet config schema` prints a JSON Schema for your editor.
"""


def main() -> None:
    print(HEAD)
    schema = config_schema()
    for title, prefix, definition in _sections(schema["$defs"], "Config", "", "Top level"):
        print(f"## {title}\n")
        print("| key | type | default | meaning |\n|---|---|---|---|")
        for key, value in definition["properties"].items():
            if key != "extends" and not _reference(value):
                print(_row(f"{prefix}{key}", value))
        print()


def _sections(
    definitions: Mapping[str, Any], name: str, prefix: str, title: str
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (title, prefix of its keys, definition) of a section and those inside it."""
    definition = definitions[name]
    yield title, prefix, definition
    for key, value in definition["properties"].items():
        if inner := _reference(value):
            path = f"{prefix}{key}"
            yield from _sections(definitions, inner, f"{path}.{'NAME.' if _is_mapping(value) else ''}", f"`{path}`")


def _reference(value: Mapping[str, Any]) -> str:
    """Return the section that a key contains; "" for a plain key."""
    inner = value.get("additionalProperties") or {}
    options = inner.get("anyOf", ()) if isinstance(inner, Mapping) else ()
    for candidate in (value, *value.get("allOf", ()), inner, *options):
        if isinstance(candidate, Mapping) and "$ref" in candidate:
            return str(candidate["$ref"]).rpartition("/")[2]
    return ""


def _is_mapping(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("additionalProperties"), Mapping)


def _row(key: str, value: Mapping[str, Any]) -> str:
    default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
    cells = (f"`{key}`", _type(value), default, value.get("description", "").replace("\n", " "))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(value: Mapping[str, Any]) -> str:
    """Return the type of a key in words."""
    if "anyOf" in value:
        return " or ".join(_type(option) for option in value["anyOf"])
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    if "$ref" in value:
        return "section"
    if value.get("type") == "array":
        return "list"
    limits = [f"{sign} {value[name]:g}" for name, sign in LIMITS.items() if name in value]
    return " ".join([str(value.get("type", "any")), *limits])


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


if __name__ == "__main__":
    main()
