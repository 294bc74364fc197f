"""Write docs/cli.md from the command line itself: `python -m tools.cli_reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from giblet_tui.cli.commands import COMMANDS
from giblet_tui.cli.parser import program

HEAD = """\
# Command line

For everyone who types `giblet`. Generated from the program by `make docs`; `--help` of each command prints the same.

Data go to stdout, status and errors to stderr. `--json` prints one object on one line; if the command
fails before it has one, `{"schema": 1, "error": {"message": ..., "remedy": ..., "exit_code": 2}}`. The shell completes
the names of nodes, configurations, runs and faults: `giblet --install-completion`.

`NODE` is `local`, a node of `nodes.yaml` or a host of `~/.ssh/config`. `RUN` is the name or id of a run, the beginning of one, or
`@last`. `CONFIG` is the name of a configuration or the path of a YAML file.

## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | the run or the verdict failed |
| 2 | usage, configuration or input files |
| 3 | a node could not be reached |
| 4 | the target state was not reached: something survives |
| 5 | refused before anything started |
| 75 | a training ended because it was asked to, after saving its state (`python -m giblet_train`) |
| 124 | timed out |
| 130 | interrupted by Ctrl-C |
| 141 | the reader of the output closed the pipe |

## Environment variables

| variable | meaning | default |
|---|---|---|
| `GIBLET_HOME` | workdir of the node `local` | `~/giblet` |
| `GIBLET_GPU_CLAIMS` | on a node: directory of the GPU claims of all users | `/dev/shm` |
| `GIBLET_NODES` | file with the nodes | `$XDG_CONFIG_HOME/giblet/nodes.yaml` |
| `GIBLET_SSH_CONFIG` | SSH configuration | `~/.ssh/config` |
| `XDG_CONFIG_HOME` | folder of `giblet/nodes.yaml` | `~/.config` |
| `XDG_CACHE_HOME` | folder of the cache of nodes and runs, and of the demo film | `~/.cache` |
| `NO_COLOR` | no colours if set | |

## Commands
"""


def main() -> None:
    print(HEAD)
    root: Any = get_command(program)
    for name in COMMANDS:
        for line in _sections(f"giblet {name}", root.get_command(None, name)):
            print(line)


def _sections(path: str, command: Any) -> Iterator[str]:
    """Yield the lines for a command, or for each command of a group."""
    if hasattr(command, "commands"):
        for name in sorted(command.commands):
            yield from _sections(f"{path} {name}", command.commands[name])
        return
    examples, _, text = command.help.partition("\n\n")
    yield from (f"### {path}", "", text.strip(), "", "```console")
    yield from (f"$ {line.strip()}" for line in examples.splitlines() if line.startswith("  "))
    yield from ("```", "")
    rows = [row for parameter in command.params if (row := _row(parameter))]
    if rows:
        yield from ("| argument or option | meaning |", "|---|---|", *rows, "")


def _row(parameter: Any) -> str:
    """Return the table row of an argument or option; "" if it has no help."""
    if parameter.param_type_name == "argument":
        name, text = parameter.metavar or parameter.name.upper(), parameter.help or ""
    else:
        value = "" if parameter.is_flag else f" {_value_name(parameter)}"
        name, text = ", ".join(parameter.opts) + value, parameter.help or ""
        if parameter.default not in (None, "", False) and not callable(parameter.default):
            text += f" Default: `{parameter.default}`."
    cells = (f"`{name}`", text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value_name(parameter: Any) -> str:
    choices = getattr(parameter.type, "choices", None)
    return "|".join(map(str, choices)) if choices else parameter.metavar or parameter.type.name.upper()


if __name__ == "__main__":
    main()
