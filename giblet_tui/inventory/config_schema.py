"""JSON Schema of configuration files, for editors that check and complete YAML."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Any

import msgspec

from giblet_train.schema import config as config_module
from giblet_train.schema.config import NAME_PATTERN, Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENDS = {"type": "string", "pattern": NAME_PATTERN, "description": "Configuration whose values this one starts from."}


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, in which every key has its meaning as description.

    A file may leave out any key, because it extends another configuration.
    """
    schema = {"$schema": DIALECT, "title": "giblet configuration", **msgspec.json.schema(Config)}
    descriptions = _descriptions()
    for name, definition in schema["$defs"].items():
        definition.pop("required", None)
        for key, value in definition.get("properties", {}).items():
            if text := descriptions.get(name, {}).get(key):
                value["description"] = text
    schema["$defs"]["Config"]["properties"]["extends"] = EXTENDS
    return schema


def _descriptions() -> dict[str, dict[str, str]]:
    """Return class -> field -> the string under that field in the source of the configuration."""
    classes = [node for node in ast.parse(inspect.getsource(config_module)).body if isinstance(node, ast.ClassDef)]
    return {node.name: _field_strings(node) for node in classes}


def _field_strings(node: ast.ClassDef) -> dict[str, str]:
    """Return field -> the string under it."""
    strings = {}
    for field, following in pairwise(node.body):
        match field, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                strings[name] = inspect.cleandoc(text)
    return strings
