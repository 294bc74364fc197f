"""`giblet config`: list, show, compare and check configurations, without a connection."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

from giblet_train.schema.config import content_hash, diff, dump, to_mapping
from giblet_train.schema.config_loader import Loaded
from giblet_train.schema.config_migration import migrate_file
from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.app import command, config_app
from giblet_tui.cli.arguments import ConfigName, Json, Settings
from giblet_tui.cli.completion import config_names
from giblet_tui.cli.console import print_data, print_error, print_status, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.inventory import configs as catalog
from giblet_tui.inventory.config_schema import config_schema
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.tables import diff_lines, table


@command(config_app, "ls", "giblet config ls", "giblet config ls --json")
def list_configs(json: Json = False) -> None:
    """List configurations by name, with the file each comes from."""
    paths, configs, n_errors = catalog.known(), {}, 0
    for name, path in paths.items():
        try:
            configs[name] = catalog.read(str(path)).config
        except ConfigError as error:
            print_error(error)
            n_errors += 1
    if json:
        facts = [{"name": n, "path": str(paths[n]), "stage": c.stage} for n, c in sorted(configs.items())]
        show_json({"schema": SCHEMA, "configs": facts})
    else:
        rows = [
            (name, c.stage, str(c.num_epochs), str(c.distributed.world_size), c.note, str(paths[name]))
            for name, c in sorted(configs.items())
        ]
        print_data(table(("NAME", "STAGE", "EPOCHS", "GPUS", "NOTE", "FILE"), rows))
    if n_errors:
        raise Exit(ConfigError.exit_code)


@command(config_app, "show", "giblet config show demo", "giblet config show demo --set num_epochs=5 --json")
def show_config(name: ConfigName, settings: Settings = None, json: Json = False) -> None:
    """Print a resolved configuration with all defaults; on stderr, the origin of each changed value."""
    source = catalog.read(name, settings or ())
    print_status("\n".join(source.notes)) if source.notes else None
    if json:
        facts = {"config": to_mapping(source.config), "content_hash": content_hash(source.config)}
        show_json({"schema": SCHEMA, **facts, "provenance": source.provenance})
        return
    own = {key: file for key, file in source.provenance.items() if file != "base.yaml"}
    for key, file in own.items():
        print_status(f"# {key}: from {file}")
    print_data(dump(source.config).rstrip())


@command(config_app, "diff", "giblet config diff test_full_fixes production_500epoch")
def diff_configs(old: ConfigName, new: ConfigName, json: Json = False) -> None:
    """Print the keys whose resolved values differ."""
    changes = diff(catalog.read(old).config, catalog.read(new).config)
    if json:
        show_json({"schema": SCHEMA, "changes": {k: {"old": a, "new": b} for k, (a, b) in changes.items()}})
    elif changes:
        print_data("\n".join(line.strip() for line in diff_lines(changes)))
    else:
        print_status("No differences.")


@command(config_app, "schema", "giblet config schema > giblet.schema.json")
def print_schema() -> None:
    """Print the JSON Schema of configuration files, with which editors check and complete them.

    To use it, put `# yaml-language-server: $schema=giblet.schema.json` into the first line of a configuration.
    """
    print_data(jsonlib.dumps(config_schema(), indent=2))


@command(
    config_app,
    "migrate",
    "giblet config migrate production_500epoch_config.yaml",
    "giblet config migrate old.yaml -o configs/new.yaml",
)
def migrate_config(
    path: Annotated[Path, Argument(metavar="OLD", help="Configuration of the older trainer.")],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="NEW", help="File to write; printed if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert a configuration of the lab's older trainer, and list each key whose meaning changes.

    If keys cannot be converted, all of them are listed with their lines, and nothing is written.
    """
    migration = migrate_file(path)
    for note in migration.notes:
        print_status(f"line {note.line}: {note.sentence}" if note.line else note.sentence)
    if json:
        notes = [{"line": note.line, "sentence": note.sentence} for note in migration.notes]
        show_json({"schema": SCHEMA, "text": migration.text, "notes": notes, "path": output and str(output)})
    if output is None:
        print_data(migration.text.rstrip()) if not json else None
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(migration.text)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}.", "Choose another name with -o.") from None
    print_status(f"Wrote {output}. Next: giblet config check {output}")


@command(config_app, "check", "giblet config check my_config.yaml", "giblet config check")
def check_configs(
    names: Annotated[
        list[str] | None,
        Argument(metavar="[CONFIG]...", help="Names or paths; default: all.", autocompletion=config_names),
    ] = None,
    json: Json = False,
) -> None:
    """Check configurations: unknown keys, types, ranges, keys that contradict each other. Report every problem."""
    results: list[dict[str, object]] = []
    for name in names or sorted(catalog.known()):
        try:
            source = catalog.read(name)
        except ConfigError as error:
            print_error(error)
            results.append({"name": name, "ok": False, "error": str(error), "notes": []})
            continue
        notes = _notes(source)
        results.append({"name": name, "ok": True, "error": "", "notes": notes})
        if not json:
            print_data(f"ok {name}")
        for note in notes:
            print_status(f"  {note}")
    if json:
        show_json({"schema": SCHEMA, "configs": results})
    if not all(result["ok"] for result in results):
        raise Exit(ConfigError.exit_code)


def _notes(source: Loaded) -> list[str]:
    """Return what a user should know about a valid configuration, one sentence each."""
    sets_own_key = any(file != "base.yaml" for file in source.provenance.values())
    notes = [] if sets_own_key else ["It sets no key, so every key has its default."]
    if not source.config.criteria:
        notes.append("It has no criteria, so there will be no verdict; configs/demo.yaml has examples.")
    return [*notes, *source.notes]
