"""The balance pane: what each component contributes to the total and to the gradient at the last step."""

from __future__ import annotations

import math
from itertools import islice

from msgspec.structs import replace
from textual.content import Content

from giblet_train.schema.config import WatchConfig
from giblet_train.schema.records import StepMetric
from giblet_tui.dashboard.charts import axis
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_status import constant_of, no_steps_sentence
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.metric_columns import number

LABEL, PERCENT, DOMINATES = 9, 5, " ▲ dominates"
CELLS = {"loss": 8, "vs mean": 9, "weight": 8, "weighted": 10, "gradient": 10, "grad": 5}
LAYOUTS = (
    ("loss", "vs mean", "weight", "weighted", "share", "gradient"),
    ("loss", "weight", "weighted", "share", "gradient"),
    ("loss", "weight", "share", "gradient"),
    ("loss", "share", "grad"),
    ("loss", "share"),
)
UNTITLED = (("loss", "vs mean", "share"), ("loss", "share"))
"""Columns that need no headings, because they look as in the charts."""
SHORT_BAR, LONG_BAR = 4, 24
FULL_WIDTH = LABEL + PERCENT + 1 + SHORT_BAR + sum(CELLS.get(column, 0) for column in LAYOUTS[0])
RULE, TITLES, ALL_ROWS = 1, 1, 3
LOOK_BACK_STEPS = 500
ROOMY = 50


class Balance(Pane):
    """A row per component: loss, weight, weighted loss, share of the loss as a bar, share of the gradient."""

    def title(self) -> Content:
        words = "  of the last step" if self._newest() else ""
        return join_parts(("balance", "bold"), (words, styles.MUTED))

    def size_hint(self, width: int) -> SizeHint | None:
        if self.view is not None and self.view.run.run.foreign and not self.view.run.steps:
            return SizeHint(FULL_WIDTH, (1,), 1)
        n_components = len(self.view.components) if self.view is not None else 0
        if not n_components:
            return None
        if self._newest() is None:
            return SizeHint(FULL_WIDTH, (1, 2), 1)
        return SizeHint(FULL_WIDTH, (n_components, n_components + RULE + TITLES, n_components + ALL_ROWS), n_components)

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        step = self._newest()
        if step is None:
            name = "balance  " if self.has_class("-bare") else ""
            words = no_steps_sentence(self.view.run) if self.view is not None else ""
            return [join_parts((name, "bold"), (words, styles.MUTED))]
        has_titles = height > len(self._components)
        layouts = LAYOUTS if has_titles else UNTITLED
        columns = next((c for c in layouts if _bar_cells(c, width) >= SHORT_BAR), layouts[-1])
        cells = max(SHORT_BAR, min(LONG_BAR, _bar_cells(columns, width)))
        rows = [self._row(step, component, columns, cells) for component in self._components]
        titles = [_titles(columns, cells)] if has_titles else []
        total = [_total(step, width)] if height > len(rows) + 1 else []
        return [*titles, *rows, *total]

    def _newest(self) -> StepMetric | None:
        """Return the last step, with the newest gradient shares: not every step measures them."""
        if self.view is None or not self.view.run.steps:
            return None
        steps = self.view.run.steps
        recent = islice(reversed(steps), LOOK_BACK_STEPS)
        shares = next((s.gradient_share for s in recent if s.gradient_share is not None), None)
        return replace(steps[-1], gradient_share=shares)

    def _row(self, step: StepMetric, component: str, columns: tuple[str, ...], cells: int) -> Content:
        ink = self.line_colors[f"{component} train"]
        label = f"{styles.sample(component, self._components)} {styles.label(component):<{LABEL - 3}}"[:LABEL]
        constant = constant_of(self.view.run, component) if self.view is not None else 0.0
        share, gradient = _share(step, component), _gradient_share(step, component)
        parts: list[Part] = [(label[:2], ink), label[2:]]
        for column in columns:
            if column == "share":
                bar, rest = progress_bar(share if math.isfinite(share) else 0.0, cells)
                parts += [(f" {bar}", ink), (rest, styles.MUTED), f"{_percent(share):>{PERCENT}}"]
            else:
                parts.append(_figure(column, step, component, constant))
        limit = self._watch.dominance_share
        if share > limit and not gradient <= limit:
            parts.insert(2, (DOMINATES.lstrip() + " ", "$error bold"))
        return join_parts(*parts)

    @property
    def _components(self) -> tuple[str, ...]:
        return self.view.components if self.view is not None else ()

    @property
    def _watch(self) -> WatchConfig:
        config = self.view.run.config if self.view is not None else None
        return config.watch if config is not None else WatchConfig()


def _bar_cells(columns: tuple[str, ...], width: int) -> int:
    return width - LABEL - PERCENT - 1 - sum(CELLS.get(column, 0) for column in columns)


def _titles(columns: tuple[str, ...], cells: int) -> Content:
    titles = " " * LABEL
    for column in columns:
        titles += f" {column:<{cells + PERCENT}}" if column == "share" else f"{column:>{CELLS[column]}}"
    return join_parts((titles, styles.MUTED))


def _figure(column: str, step: StepMetric, component: str, constant: float) -> Part:
    loss, weight = number(step.loss.get(component)), number(step.weight.get(component))
    wide = CELLS[column]
    if column == "loss":
        return f"{axis.figure(loss):>{wide}}", "bold" if math.isfinite(loss) else "$error bold"
    if column == "vs mean":
        comparable = constant > 0 and math.isfinite(loss)
        return f"{axis.change(loss, constant) if comparable else '–':>{wide}}", ""
    if column == "weight":
        return f"{weight:>{wide}.3g}", styles.MUTED
    if column == "weighted":
        return f"{axis.figure(loss * weight):>{wide}}", ""
    gradient = _gradient_share(step, component)
    return f"{_percent(gradient) if math.isfinite(gradient) else '–':>{wide}}", ""


def _total(step: StepMetric, width: int) -> Content:
    total = f"step total {axis.figure(number(step.total)):>{CELLS['loss']}}"
    parts: list[Part] = [(total, "bold")]
    if step.gradient_norm is not None:
        norm = axis.figure(number(step.gradient_norm), significant=3)
        parts.append((f"  gradient norm {norm}" if width >= ROOMY else f"  |g| {norm}", styles.MUTED))
    return fit_parts([*parts, (" clipped" if step.clipped else "", "$warning")], width)


def _share(step: StepMetric, component: str) -> float:
    return number(step.share.get(component))


def _gradient_share(step: StepMetric, component: str) -> float:
    return number((step.gradient_share or {}).get(component))


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "nan"
