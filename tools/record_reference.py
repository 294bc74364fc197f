"""Write docs/records.md from the records on disk: `python -m tools.record_reference > docs/records.md`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

from giblet_train.schema import records

HEAD = """\
# Records of a run

For everyone who reads run directories with their own programs. Generated from the program by `make docs`.

A run directory contains small JSON files, each with one record, and `.jsonl` files with one record per line. The files and their writers
are listed in [architecture](architecture.md#the-run-directory). Fields are added, never renamed; ignore those that you do not know.
A number that is not finite is `null`. Times are Unix seconds of the node's clock.

`giblet export RUN --csv FILE` writes steps and epochs as a table, and `giblet ps --json` prints what most programs need.
"""


def main() -> None:
    print(HEAD)
    for node in ast.parse(inspect.getsource(records)).body:
        if isinstance(node, ast.ClassDef) and (rows := list(_rows(node))):
            print(f"## {node.name}\n\n{ast.get_docstring(node) or ''}\n")
            print("\n".join(["| field | type | meaning |", "|---|---|---|", *rows, ""]))


def _rows(node: ast.ClassDef) -> Iterator[str]:
    """Yield a table row for each field."""
    for field, following in pairwise([*node.body, ast.Pass()]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = _text(following)
            cells = (f"`{field.target.id}`", f"`{ast.unparse(field.annotation)}`", text)
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _text(node: ast.stmt) -> str:
    """Return the string that a statement is; "" for any other."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return inspect.cleandoc(text)
    return ""


if __name__ == "__main__":
    main()
