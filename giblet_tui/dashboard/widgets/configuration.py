"""The configuration pane: the run's note, what differs from the previous run of that name, and every setting."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar

from textual.content import Content

from giblet_train.schema.config import Config, diff, to_mapping
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.widgets.pane import ScrollingPane
from giblet_tui.reporting.formatting import clock
from giblet_tui.reporting.tables import as_yaml

APART = ("name", "note", "criteria", "watch")
"""Keys that are shown elsewhere, or that only watch."""


class ConfigurationPane(ScrollingPane):
    """What the run was asked to do; the most important lines first, so that a short pane shows those."""

    KEYS: ClassVar[tuple[str, ...]] = ("c compare", "i alone")

    def title(self) -> Content:
        heading = [("configuration", "bold")]
        if self.view is not None and self.view.run.config is not None:
            heading.append((f"  {self.view.run.config.name}, stage {self.view.run.config.stage}", styles.MUTED))
        return join_parts(*heading)

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        run = self.view.run
        launch_line = f"launched {clock(run.run.launched_at)} by {run.run.launched_by}, giblet {run.run.giblet_version}"
        note = textwrap.wrap(f"note: {run.run.note}", max(1, width)) if run.run.note else ["no note"]
        rows = [*(join_parts((line, "bold" if run.run.note else styles.MUTED)) for line in note)]
        rows += _difference(self.view)
        rows.append(join_parts((launch_line, styles.MUTED)))
        if run.config is None:
            if run.run.command is not None:
                lines = textwrap.wrap(f"command: {shlex.join(run.run.command.words)}", max(1, width))
                return [*rows, *(join_parts(line) for line in lines)]
            why = run.run.foreign or "its config.yaml could not be read"
            return [*rows, join_parts((f"configuration not known: {why}", styles.MUTED))]
        return [*rows, *islice(_settings(run.config), max(0, height - len(rows)))]


def _difference(view: RunView) -> list[Content]:
    """Return what differs from the previous run of the same name, a line per key."""
    if view.run.config is None:
        return []
    previous = view.previous
    if previous is None or previous.config is None:
        return [join_parts(("no earlier run of this name", styles.MUTED))]
    heading = f"previous run {previous.run.run_id[-4:]}, {previous.health.state}"
    changes = diff(previous.config, view.run.config)
    if not changes:
        return [join_parts(f"same configuration as the {heading}")]
    rows = [join_parts(f"differs from the {heading}:")]
    for key, (old, new) in changes.items():
        rows.append(join_parts(f"  {key}: ", (as_yaml(old), styles.MUTED), " → ", (as_yaml(new), "bold")))
    return rows


def _settings(config: Config) -> Iterator[Content]:
    for key, value in _flat(to_mapping(config)):
        yield join_parts((f"{key}: ", styles.MUTED), as_yaml(value))


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if not prefix and key in APART:
            continue
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
