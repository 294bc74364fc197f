"""README, CONTRIBUTING and docs: links resolve, commands exist, README stays short."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from typer._click.exceptions import ClickException, MissingParameter

from giblet_train.cli.app import app as engine_app
from giblet_tui.cli import parser
from tests import fleets, rundirs
from tests.browser import Browser, browser
from tests.paths import ROOT

HISTORY = ("CHANGELOG.md", "DECISIONS.md")
"""Pages that also speak of commands of the past."""
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README_LINES = 90
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def slug(heading: str) -> str:
    """Return the anchor that GitHub and mkdocs give a heading."""
    text = re.sub(r"[`*_]|\[|\]\([^)]*\)", "", heading.lower())
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text).strip())


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#").strip()) for line in page.read_text().splitlines() if line.startswith("#")}


def broken_links(page: Path) -> list[str]:
    faults = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked_page = (page.parent / path).resolve() if path else page
        if not linked_page.exists() or (anchor and linked_page.suffix == ".md" and anchor not in anchors(linked_page)):
            faults.append(target)
    return faults


def commands(page: Path) -> list[str]:
    """Return the giblet commands of a page: in code blocks and between backticks."""
    text = page.read_text()
    blocks = [*FENCE.findall(text), *re.findall(r"^    .*$", text, re.M)]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(giblet [^`\n]+)`", FENCE.sub("", text))
    return [line for line in (*lines, *inline) if re.match(r"(giblet|python -m giblet_train)( |$)", line)]


def words_of(line: str) -> list[str]:
    """Return the words of one command, without comment, pipe and redirection."""
    words = shlex.split(line, comments=True)
    end = next((i for i, word in enumerate(words) if word in ("|", "||", "&&", "<", ">", ";", "--")), len(words))
    return words[:end]


@functools.cache
def root_command(program: str) -> Any:
    """Return the click command of `giblet`, or of the engine. Kept, because building it takes a quarter of a second."""
    return typer.main.get_command(parser.program if program == "giblet" else engine_app)


def problem(line: str) -> str:
    """Return what is wrong with a command of the docs; "" if the command line itself would accept it.

    Its words are parsed as giblet parses them: number of arguments, options, their values. A command that is only
    named, without its arguments, is accepted.
    """
    words = words_of(line)
    command = root_command(words[0])
    words = words[1:] if words[0] == "giblet" else words[3:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        child = command.get_command(None, words.pop(0))
        if child is None:
            return "no such command"
        command = child
    if not words or {"-h", "--help"} & set(words):
        return ""
    if hasattr(command, "commands"):  # options of giblet itself act while they are parsed
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        return "" if set(words) <= options else f"no option {' '.join(words)}"
    try:
        command.make_context(command.name, [word for word in words if word not in ("...", "…")])
    except MissingParameter:  # the command is named, not typed
        return ""
    except ClickException as error:
        return error.format_message()
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in HISTORY], ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    assert {line: fault for line in commands(page) if (fault := problem(line))} == {}


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](page.md#one-two) [b](none.md) [c](#three)\n\n    giblet lanch x\n\n`giblet ps --frob`\n"
    )
    assert broken_links(page) == ["none.md", "#three"]
    assert [problem(line) for line in commands(page)] == ["no such command", "No such option: --frob"]


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ("cli_reference", "docs/cli.md"),
        ("config_reference", "docs/configuration.md"),
        ("record_reference", "docs/records.md"),
        ("cause_reference", "docs/troubleshooting.md"),
        ("help_text", "giblet_tui/cli/help.txt"),
    ],
)
def test_generated_pages_are_current(
    tool: str, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    importlib.import_module(f"tools.{tool}").main()
    assert capsys.readouterr().out == (ROOT / path).read_text(), "run `make docs`"


def test_python_examples_of_the_api_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = rundirs.write(tmp_path / "work", fleets.run("demo", nan_from=70), code=1)
    text = (ROOT / "docs" / "api.md").read_text()
    (tmp_path / re.findall(r'"(demo-\d[^"]+)"', text)[0]).symlink_to(run_dir.path)
    (tmp_path / "mine.yaml").write_text("extends: base\n")
    (tmp_path / "base.yaml").symlink_to(ROOT / "configs" / "base.yaml")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/api.md", "exec"), names)
    output = capsys.readouterr().out
    assert "0.001" in output and "nan" in output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site once, strictly, as `make site` does; --quiet would hide the warnings from --strict."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert build.returncode == 0, build.stderr
    return folder


def test_the_site_builds_without_a_broken_link_or_missing_picture(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    assert {f"{page.name}: {target}" for page in pages for target in missing_targets(page)} == set()


def missing_targets(page: Path) -> list[str]:
    """Return links, pictures, styles and scripts of a built page that do not exist."""
    targets = re.findall(r'(?:href|src)="([^"#?]+)', page.read_text())
    local = [target for target in targets if not re.match(r"[a-z]+:|//", target)]
    return [t for t in local if not (page.parent / t).exists() and not t.startswith("/")]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_every_page_is_reachable_from_the_readme() -> None:
    reachable, pages = set(), [ROOT / "README.md"]
    while pages:
        page = pages.pop()
        if page in reachable:
            continue
        reachable.add(page)
        targets = [(page.parent / t.partition("#")[0]).resolve() for t in LINK.findall(page.read_text())]
        pages += [path for path in targets if path.suffix == ".md" and path.exists()]
    assert set(PAGES) - reachable == set()


def test_the_site_has_no_dead_link_missing_picture_or_error_in_a_browser(site: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "index.html").write_text('<a href="none.html#x">a</a><img src="none.png" alt="a">')
    with browser(tmp_path / "profile") as chromium:
        with served(site) as address:
            pages, faults = crawl(chromium, f"{address}/index.html")
        assert faults == []
        assert len(pages) > 25 and {page.rsplit("/", 1)[-1] for page in pages} >= {"api.html", "cli.html"}
        with served(tmp_path / "broken") as address:
            _, faults = crawl(chromium, f"{address}/index.html")
        assert any("none.png" in fault for fault in faults) and any("none.html" in fault for fault in faults)


def crawl(chromium: Browser, start: str) -> tuple[set[str], list[str]]:
    """Follow every link from a page; return the pages of the same server, and what is wrong with them."""
    ids: dict[str, set[str]] = {}
    anchors_of: dict[str, set[str]] = {}
    faults: list[str] = []
    queue = [start]
    while queue:
        page = queue.pop()
        if page in ids:
            continue
        page_faults, links, page_ids = chromium.site_page(page)
        ids[page] = set(page_ids)
        faults += [f"{page}: {fault}" for fault in page_faults]
        for link in links:
            target, _, anchor = link.partition("#")
            anchors_of.setdefault(target, set()).update([unquote(anchor)] if anchor else [])
            if target.endswith((".html", "/")):
                queue.append(target)
    for target, anchors in anchors_of.items():
        missing = anchors - ids.get(target, anchors) - {"__skip"}
        faults += [f"{target} has no #{anchor}" for anchor in sorted(missing)]
    return set(ids), faults


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line per request."""

    def log_message(self, *words: object) -> None:
        """Print nothing."""
