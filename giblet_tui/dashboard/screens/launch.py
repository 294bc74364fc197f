"""The launch form: node, configuration, GPUs with who holds them; what would change and a dry run before the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Select, SelectionList, Static
from textual.widgets.selection_list import Selection

from giblet_train.schema.errors import GibletError
from giblet_tui.dashboard.model.interfaces import DashboardActions, Wish
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.monitor.snapshots import Fleet, Gpu


class LaunchForm(ModalScreen[Wish | None]):
    """Answers with what to launch, but only what a dry run of these very values has found possible."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "cancel")]

    class Foreseen(Message):
        """What a wish would do, or why it cannot be. dry: the node itself was asked."""

        def __init__(self, wish: Wish, lines: Sequence[str], *, dry: bool, possible: bool) -> None:
            super().__init__()
            self.wish, self.lines = wish, lines
            self.dry, self.possible = dry, possible

    def __init__(self, fleet: Fleet, actions: DashboardActions, node: str | None) -> None:
        super().__init__()
        self._fleet, self._actions = fleet, actions
        self._node = node or fleet.nodes[0].node

    def compose(self) -> ComposeResult:
        with Vertical(id="launch-form"):
            yield Static(join_parts(("Launch a run", "bold")))
            with Horizontal(id="launch-what"):
                nodes = [(node.node, node.node) for node in self._fleet.nodes]
                yield Select(nodes, value=self._node, allow_blank=False, id="launch-node")
                configs = [(name, name) for name in self._actions.configs()]
                yield Select(configs, prompt="a configuration", id="launch-config")
            yield SelectionList[int](id="launch-gpus")
            yield Input(placeholder="settings: key=value key=value", id="launch-settings")
            yield Input(placeholder="note", id="launch-note")
            with VerticalScroll(id="launch-preview"):
                hint = "Choose a configuration: what it changes stands here, then what the node says to it."
                yield Static(join_parts((hint, MUTED)), id="launch-lines", markup=False)
            with Horizontal(id="launch-buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Dry run", id="dry-run", disabled=True)
                yield Button("Launch", id="launch", variant="primary", disabled=True)

    def on_mount(self) -> None:
        self.query_one("#launch-config").focus()

    @property
    def wish(self) -> Wish | None:
        """What the form asks for now; None until a configuration is chosen."""
        config = self.query_one("#launch-config", Select).value
        if not isinstance(config, str):
            return None
        gpus = sorted(self.query_one(SelectionList).selected)
        return Wish(
            node=str(self.query_one("#launch-node", Select).value),
            config=config,
            gpus="".join(f"{index}," for index in gpus) or None,
            settings=tuple(self.query_one("#launch-settings", Input).value.split()),
            note=self.query_one("#launch-note", Input).value.strip(),
        )

    @on(Select.Changed, "#launch-node")
    def _list_gpus(self, event: Select.Changed) -> None:
        node = next(n for n in self._fleet.nodes if n.node == event.value)
        listed = self.query_one(SelectionList)
        listed.clear_options()
        listed.add_options([Selection(_gpu_row(gpu), gpu.index) for gpu in node.facts.gpus])
        listed.display = bool(node.facts.gpus)

    @on(Select.Changed)
    @on(Input.Changed)
    @on(SelectionList.SelectedChanged)
    def _changed(self) -> None:
        """Another wish: what it changes is said at once, and a dry run is due again."""
        wish = self.wish
        chosen = sorted(self.query_one(SelectionList).selected)
        gpus = ", ".join(map(str, chosen)) or "free ones, as many as it needs"
        self.query_one(SelectionList).border_title = f"GPUs: {gpus}"
        self.query_one("#launch", Button).disabled = True
        self.query_one("#dry-run", Button).disabled = wish is None
        if wish is not None:
            self._ask(wish, self._actions.changes, dry=False)

    def _ask(self, wish: Wish, question: Callable[[Wish], Sequence[str]], *, dry: bool) -> None:
        def ask() -> None:
            try:
                told, possible = list(question(wish)), True
            except GibletError as error:
                told, possible = [str(error)], False
            self.post_message(self.Foreseen(wish, told, dry=dry, possible=possible))

        self.run_worker(ask, thread=True, group="foresee", exclusive=True)

    def on_launch_form_foreseen(self, message: Foreseen) -> None:
        if message.wish != self.wish:
            return
        ink = "" if message.possible else "$error"
        can = ("The node can do this: Launch starts it.", "$success")
        end = can if message.dry else ("Dry run asks the node.", MUTED)
        shown = [join_parts((one, ink)) for told in message.lines for one in told.split("\n")]
        shown += [join_parts(end)] if message.possible else []
        self.query_one("#launch-lines", Static).update(Content("\n").join(shown))
        self.query_one("#launch", Button).disabled = not (message.dry and message.possible)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        wish = self.wish
        if event.button.id == "cancel":
            self.dismiss(None)
        elif wish is not None and event.button.id == "dry-run":
            self.query_one("#launch-lines", Static).update(join_parts((f"Asking {wish.node}.", MUTED)))
            self._ask(wish, self._actions.dry_run, dry=True)
        elif event.button.id == "launch":
            self.dismiss(wish)


def _gpu_row(gpu: Gpu) -> Content:
    return join_parts(
        (f"{gpu.index}  ", "bold"),
        f"{gpu.memory_used_gib:.0f}/{gpu.memory_total_gib:.0f} GiB  ",
        (gpu.not_free or "free", "$warning" if gpu.not_free else "$success"),
    )
