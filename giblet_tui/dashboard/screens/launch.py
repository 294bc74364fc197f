"""The launch form: node, configuration, GPUs with who holds them; what would change and a dry run before the start."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import ClassVar, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Label, Select, SelectionList, Static
from textual.widgets.selection_list import Selection

from giblet_train.schema.config import Preset
from giblet_train.schema.records import SessionKind
from giblet_tui.dashboard.model.attempt import attempt
from giblet_tui.dashboard.model.interfaces import DashboardActions, LaunchChoice
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.dashboard.widgets.hardware import is_free
from giblet_tui.dashboard.widgets.tick_boxes import TickBox, TickList
from giblet_tui.monitor.snapshots import Fleet, Gpu, NodeSnapshot

PRESETS: tuple[str, ...] = get_args(Preset)
SESSIONS: tuple[str, ...] = get_args(SessionKind)
FIELDS = {
    "settings": "key=value key='two words'",
    "resume": "a run or a step; empty: a new run",
    "members": "of an ensemble, for example 5; empty: one run",
    "command": "in place of a configuration: python train.py --lr 1e-4",
    "folder": "of a command, on the node; empty: send this repository",
    "note": "why this run",
}
"""Inputs by their label, with what to type."""
SPLIT_FIELDS = ("settings", "command")
"""Inputs that are read as words of a shell."""
HINT = "Choose a configuration, or type a command. Its changes are shown here, then the node's answer to a dry run."


class LaunchForm(ModalScreen[LaunchChoice | None]):
    """Returns what to launch, but only values that a dry run has found possible."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "cancel")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-tall")]  # noqa: RUF012 (declared by Textual as of the instance)

    class PreviewReady(Message):
        """What a launch would do, or why it is not possible."""

        def __init__(self, choice: LaunchChoice, lines: Sequence[str], *, dry: bool, possible: bool) -> None:
            super().__init__()
            self.choice, self.lines = choice, lines
            self.dry = dry
            """Whether the node itself was asked."""
            self.possible = possible

    def __init__(self, fleet: Fleet, actions: DashboardActions, node: str | None, configs: Sequence[str]) -> None:
        super().__init__()
        self._fleet, self._actions, self._configs = fleet, actions, configs
        self._node = node or fleet.nodes[0].node

    def compose(self) -> ComposeResult:
        with Vertical(id="launch-form"):
            yield Static(join_parts(("Launch a run", "bold"), ("   tab: next field, esc: cancel", MUTED)))
            with Horizontal(id="launch-names"):
                yield Label("node")
                yield Label("configuration")
            with Horizontal(id="launch-what"):
                nodes = [(node.node, node.node) for node in self._fleet.nodes]
                yield Select(nodes, value=self._node, allow_blank=False, id="launch-node", compact=True)
                configs = [(name, name) for name in self._configs]
                yield Select(configs, prompt="a configuration", id="launch-config", compact=True)
            yield TickList(id="launch-gpus")
            for name, hint in FIELDS.items():
                with Horizontal(classes="field"):
                    yield Label(name)
                    yield Input(placeholder=hint, id=f"launch-{name}")
            with Horizontal(id="launch-how"):
                yield Select(
                    [(name, name) for name in PRESETS], prompt="usual preset", id="launch-preset", compact=True
                )
                yield Select(
                    [(name, name) for name in SESSIONS], prompt="usual session", id="launch-session", compact=True
                )
                yield TickBox("wait for free GPUs", id="launch-when-free", compact=True)
            with VerticalScroll(id="launch-preview"):
                yield Static(join_parts((HINT, MUTED)), id="launch-lines", markup=False)
            with Horizontal(id="launch-buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button("Dry run", id="dry-run", disabled=True, compact=True)
                yield Button("Launch", id="launch", variant="primary", disabled=True, compact=True)

    def on_mount(self) -> None:
        self.query_one("#launch-config").focus()

    @property
    def choice(self) -> LaunchChoice | None:
        """Return what the form asks for now; None until it names a configuration or a command that can be read."""
        config = _selected_value(self.query_one("#launch-config", Select))
        settings, command = (split_words(self._text(name)) for name in SPLIT_FIELDS)
        if settings is None or command is None or not (config or command):
            return None
        preset = _selected_value(self.query_one("#launch-preset", Select))
        return LaunchChoice(
            node=self._chosen_node.node,
            config=config,
            gpus=self._gpus(is_command=bool(command)),
            settings=(*settings, *([f"model.preset={preset}"] if preset else [])),
            note=self._text("note"),
            resume=self._text("resume"),
            session=_selected_value(self.query_one("#launch-session", Select)),
            when_free=self.query_one("#launch-when-free", Checkbox).value,
            command=tuple(command),
            folder=self._text("folder"),
            members=self._text("members"),
        )

    @property
    def _chosen_node(self) -> NodeSnapshot:
        name = self.query_one("#launch-node", Select).value
        return next(node for node in self._fleet.nodes if node.node == name)

    def _gpus(self, *, is_command: bool) -> str | None:
        """Return the chosen GPUs as `--gpus` takes them; for a command on a node without GPUs, none."""
        if is_command and not self._chosen_node.facts.gpus:
            return "0"
        return "".join(f"{index}," for index in sorted(self.query_one(SelectionList).selected)) or None

    def _text(self, name: str) -> str:
        return self.query_one(f"#launch-{name}", Input).value.strip()

    def _unreadable(self) -> str:
        """Return which field cannot be split into words, and why; empty if all can."""
        unreadable = [name for name in SPLIT_FIELDS if split_words(self._text(name)) is None]
        return f"{unreadable[0]}: a quotation mark is not closed, or a backslash is at the end." if unreadable else ""

    @on(Select.Changed, "#launch-node")
    def _list_gpus(self) -> None:
        node = self._chosen_node
        gpu_list = self.query_one(SelectionList)
        gpu_list.clear_options()
        whole = [gpu for gpu in node.facts.gpus if gpu.slice is None]
        gpu_list.add_options(
            [Selection(_gpu_row(gpu), gpu.index) for gpu in sorted(whole, key=lambda gpu: not is_free(gpu))]
        )
        gpu_list.display = bool(node.facts.gpus)

    @on(Select.Changed)
    @on(Input.Changed)
    @on(Checkbox.Changed)
    @on(SelectionList.SelectedChanged)
    def _on_values_changed(self) -> None:
        """Show what the new values change at once, and ask for another dry run."""
        choice = self.choice
        selection = sorted(self.query_one(SelectionList).selected)
        gpus = ", ".join(map(str, selection)) or "free ones, as many as needed"
        self.query_one(SelectionList).border_title = f"GPUs: {gpus}"
        self.query_one("#launch", Button).disabled = True
        self.query_one("#dry-run", Button).disabled = choice is None
        if choice is not None:
            self._preview(choice, self._actions.changes, dry=False)
        else:
            words = (self._unreadable(), "$error") if self._unreadable() else (HINT, MUTED)
            self.query_one("#launch-lines", Static).update(join_parts(words))

    def _preview(self, choice: LaunchChoice, question: Callable[[LaunchChoice], Sequence[str]], *, dry: bool) -> None:
        def ask() -> None:
            outcome = attempt(lambda: list(question(choice)))
            lines = outcome.value if outcome.value is not None else [outcome.error]
            self.post_message(self.PreviewReady(choice, lines, dry=dry, possible=not outcome.error))

        self.run_worker(ask, thread=True, group="preview", exclusive=True, exit_on_error=False)

    def on_launch_form_preview_ready(self, message: PreviewReady) -> None:
        if message.choice != self.choice:
            return
        style = "" if message.possible else "$error"
        lines = [join_parts((row, style)) for line in message.lines for row in line.split("\n")]
        answer = ("The node can run this: Launch starts it.", "$success bold")
        hint = ("Press Dry run to ask the node.", MUTED)
        if message.possible:
            lines = [join_parts(answer if message.dry else hint), *lines]
        self.query_one("#launch-lines", Static).update(Content("\n").join(lines))
        self.query_one("#launch-preview", VerticalScroll).scroll_home(animate=False)
        self.query_one("#launch", Button).disabled = not (message.dry and message.possible)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        choice = self.choice
        if event.button.id == "cancel":
            self.dismiss(None)
        elif choice is not None and event.button.id == "dry-run":
            self.query_one("#launch-lines", Static).update(join_parts((f"Asking {choice.node}.", MUTED)))
            self._preview(choice, self._actions.dry_run, dry=True)
        elif event.button.id == "launch":
            self.dismiss(choice)


def split_words(text: str) -> list[str] | None:
    """Return the words of a text as a shell reads them; None if it is not complete."""
    try:
        return shlex.split(text)
    except ValueError:
        return None


def _selected_value(select: Select[str]) -> str:
    """Return the chosen value; "" for none."""
    return select.value if isinstance(select.value, str) else ""


def _gpu_row(gpu: Gpu) -> Content:
    processes = ", ".join(f"{user} (pid {pid}, {gib:.1f} GiB)" for pid, user, gib in gpu.processes)
    words, style = ("free", "$success") if is_free(gpu) else (processes or gpu.not_free, "$warning")
    memory = f"{gpu.memory_used_gib:.0f}/{gpu.memory_total_gib:.0f} GiB  "
    return join_parts((f"{gpu.index}  ", "bold"), memory, (words, style))
