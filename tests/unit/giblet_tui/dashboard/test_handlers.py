"""Textual finds handlers and styles by name: a name that matches no class would silently do nothing."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from textual.dom import DOMNode
from textual.message import Message

import giblet_tui.dashboard

FOLDER = Path(giblet_tui.dashboard.__file__).parent


def subclasses(base: type) -> Iterator[type]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def load_dashboard() -> None:
    for module in walk_packages(giblet_tui.dashboard.__path__, "giblet_tui.dashboard."):
        import_module(module.name)


def test_every_handler_belongs_to_a_message() -> None:
    load_dashboard()
    handlers = {message.handler_name for message in subclasses(Message)}
    for path in FOLDER.rglob("*.py"):
        for name in re.findall(r"def (on_\w+)\(", path.read_text()):
            assert name in handlers, f"{path.name}: {name} handles no message"


def test_every_styled_type_exists() -> None:
    load_dashboard()
    classes = {node.__name__ for node in subclasses(DOMNode)}
    styles = re.sub(r"/\*.*?\*/", "", (FOLDER / "dashboard.tcss").read_text(), flags=re.DOTALL)
    selectors = " ".join(re.findall(r"^[^{}:;]+(?=\{)", styles, flags=re.MULTILINE))
    for name in re.findall(r"(?<![\w.#&-])[A-Z]\w+", selectors):
        assert name in classes, f"dashboard.tcss styles {name}, which is no widget or screen"
