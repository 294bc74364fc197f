"""The frame of the command line: light to start, examples first, errors as sentences with documented exit codes."""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from giblet_train import __version__
from giblet_train.schema import yaml_io
from giblet_tui.cli.app import GROUPS, app
from giblet_tui.cli.commands import COMMANDS, SYNONYMS
from giblet_tui.cli.console import typographic_error
from giblet_tui.cli.parser import program
from giblet_tui.inventory import configs
from tests.fork_server import giblet_server
from tests.marks import can_train

GIBLET = Path(sys.executable).with_name("giblet")
VERBS = [
    "version",
    "wait",
    "demo",
    "launch",
    "ps",
    "status",
    "logs",
    "stop",
    "dashboard",
    "verdict",
    "attach",
    "pull",
    "setup",
    "doctor",
]
NODE_VERBS = ["node add", "node ls", "node rm", "node check"]
CONFIG_VERBS = ["config ls", "config show", "config diff", "config check"]
HEAVY = ("torch", "textual", "paramiko", "numpy", "nibabel", "rich")
HELP_LIMIT_CPU_S = 0.25


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which giblet finds nobody's files but the test's."""
    folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "home", "HOME": "user"}
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIBLET_")}
    return own | {key: str(tmp_path / folder) for key, folder in folders.items()}


def giblet(*words: str, env: Mapping[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return giblet_server().run(words, env, cwd or Path.cwd(), 60)


def test_help_imports_nothing_heavy(settings: dict[str, str]) -> None:
    code = (
        "import sys; sys.argv = ['giblet', '--help']\n"
        "from giblet_tui.cli import main\n"
        "try:\n    main()\nfinally:\n"
        f"    print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True)
    assert result.stderr.strip() == "[]"
    assert "Usage: giblet" in result.stdout


def test_help_is_cheap(settings: dict[str, str]) -> None:
    """The best of three, as CPU seconds of the whole process, bytecode already there."""
    command = [GIBLET, "--help"]
    subprocess.run(command, env=settings, stdout=subprocess.DEVNULL)
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=settings, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) <= HELP_LIMIT_CPU_S


INTERRUPTED_IMPORT = """
import sys
module = sys.argv.pop()
class Finder:
    def find_spec(self, name, *_):
        if name == module:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from giblet_tui.cli import main
sys.argv += ["ps", "--nonsense" if module.endswith("parser") else "--cached"]
main()
"""


@pytest.mark.parametrize("module", ["run", "ps", "parser"])
def test_an_interrupt_during_an_import_ends_without_a_traceback(module: str, settings: dict[str, str]) -> None:
    argv = [sys.executable, "-c", INTERRUPTED_IMPORT, f"giblet_tui.cli.{module}"]
    result = subprocess.run(argv, env=settings, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_help_is_that_of_the_command_line_library_at_every_width(columns: str, settings: dict[str, str]) -> None:
    environment = {**settings, "COLUMNS": columns}
    command = [sys.executable, "-c", "from giblet_tui.cli.run import run; run()", "--help"]
    texts = [
        subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
        for words in ([GIBLET, "--help"], command)
    ]
    assert texts[0] == texts[1] and "Commands:" in texts[0]


def test_help_names_every_verb_and_exit_code(settings: dict[str, str]) -> None:
    text = giblet("-h", env=settings).stdout
    assert [v for v in [*VERBS, "node", "config"] if f"\n  {v} " not in text] == []
    for code in (
        "0 ok",
        "1 run or verdict failed",
        "2 usage",
        "3 node unreachable",
        "4 target",
        "5 refused",
        "124",
        "130",
        "141",
    ):
        assert code in text


@pytest.mark.parametrize("verb", [*VERBS, *NODE_VERBS, *CONFIG_VERBS])
def test_every_verb_has_examples_first(verb: str, settings: dict[str, str]) -> None:
    result = giblet(*verb.split(), "-h", env=settings)
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    assert result.returncode == 0
    assert lines[1] == "Examples:"
    assert lines[2].startswith(f"giblet {verb}")
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("words", ["launch", "ps --frob", "node add x --session tmx", "lanch", "launch local dmo"])
def test_usage_errors_and_other_errors_look_alike(words: str, settings: dict[str, str]) -> None:
    first, *remedy = giblet(*words.split(), env=settings).stderr.splitlines()
    assert first.startswith("giblet: ")
    assert all(line.startswith("  ") for line in remedy)


def test_the_table_of_commands_names_the_module_that_registers_each() -> None:
    for name, row in COMMANDS.items():
        importlib.import_module(f"giblet_tui.cli.{row.module}")
        names = {*app.verbs, *GROUPS}
        assert name in names
    assert names == set(COMMANDS)
    assert set(SYNONYMS.values()) <= {*COMMANDS, "--help", "--version", "--install-completion"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("lanch local demo", 'Did you mean "giblet launch"?'),
        ("kill demo", 'Did you mean "giblet stop"?'),
        ("PS -a", 'Did you mean "giblet ps"?'),
        ("python3 train.py --lr 1", "To run a program: giblet launch NODE -- python3 train.py --lr 1"),
        ("./train.py", "To run a program: giblet launch NODE -- ./train.py"),
        ("logs x -n -5", "-5 must be at least 0."),
        ("ps --state ''", "There is no state ''."),
        ("node add x --host y:99", "Write y, and `Port 99` in a block `Host y` of the ssh config."),
        ("nosuchfault", 'There is no command "nosuchfault".\n'),
        ("launch", "Missing argument"),
        ("ps --frob", "No such option: --frob"),
        ("launch local dmo", 'did you mean "demo"?'),
        ("launch locl demo", 'did you mean "local"?'),
        ("launch local demo --set learning_rat=1", 'unknown key "learning_rat", did you mean "learning_rate"?'),
        ("launch local demo --set learning_rate", "written key=value"),
        ("launch local demo --set learning_rate=fast", '"learning_rate"'),
        ("launch local ./none.yaml", "no configuration file"),
        ("launch demo local", "'demo' is a configuration; a node is expected here."),
        ("launch local local", "'local' is a node; a configuration is expected here."),
        ("doctor demo", "'demo' is a configuration; a node is expected here."),
        ("demo nosuchfault", "No fault is called 'nosuchfault'.\n"),
        ("wait x", "No run begins with"),
        ("init local /none --to /none/a.yaml", "There is no folder /none."),
        ("config show demo --set data.tr=-1", '"data.tr"'),
        ("node add ../x", "cannot name a node"),
        ("node add x --session tmx", "not one of 'auto', 'tmux', 'screen', 'process'"),
        ("why training.log", "There is no file training.log."),
        ("node rm nowhere", "No node 'nowhere'"),
        ("dashboard", "needs a terminal"),
        ("launch '' demo", "'' cannot name a node."),
        ("launch 'local demo' demo", "cannot name a node."),
        ("launch local ./", "./ is a folder, not a configuration."),
        ("launch local demo --set num_epochs=ten", '"num_epochs": expected a whole number, got text.'),
        ("launch local demo --set data=5", '"data": expected a group of keys, got a whole number.'),
        ("launch local demo --ensemble 0", "0 must be from 1 to 100."),
        ("logs @last -n many", "'many' is not a whole number."),
        ("stop x --grace 9999", "9999 must be from 0 to 3600."),
        (f"launch local {'x' * 5000}", f"'{'x' * 99}… (50"),
        ("status demo-20260101-000000-aaaa", "No run begins with"),
        ("verdict @last", "There is no run yet"),
        ("logs x", "No run begins with"),
        ("stop x", "No run begins with"),
        ("—-version", "Type --version with hyphens."),
        ("ps –a", "Type -a with hyphens."),
        ("launch local demo —dry-run", "—dry-run begins with a typographic dash."),
        ("launch local demo --note “two words” --dry-run", "“two begins with a typographic quotation mark."),
        ("launch local demo --set num_epochs = 5", 'There are blanks around "=".'),
        ("launch local python train.py", "giblet launch NODE -- python train.py"),
        ("launch local demo.yml", 'did you mean "demo"?'),
        ("launch local demo --set name=Ü", '"name": expected 1 to 40 small letters, digits, _ and -'),
        ("launch me@host1 demo", "Name it host1;"),
        ("launch ssh://me@host1:22/data demo", "Name it host1;"),
        ("node add https://host1", "Name it host1;"),
        ("logs local", "local is a node; a run is expected here."),
        ("ps --state runing", 'did you mean "running"?'),
        ("ps -q", "It comes before the command: giblet -q ps"),
        ("config show demo --set", "Write its value behind it"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_code_2(words: str, sentence: str, settings: dict[str, str]) -> None:
    result = giblet(*shlex.split(words), env=settings)
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("folder", None, "folder is a folder, not a configuration."),
        ("wandb.json", "{}", "its name does not end in .yaml"),
        ("utf16.yaml", "\ufeffextends: demo", "is not UTF-8 text."),
        ("quotes.yaml", "extends: demo\nnum_epochs: “5”\n", "typographic quotation marks"),
        ("compose.yml", "version: 3\nservices: {}\n", 'line 1: unknown key "version"'),
        ("tab.yaml", "name: a\n\tb: c\n", "line 2, column 1"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_a_remedy(
    name: str, text: str | None, sentence: str, settings: dict[str, str], tmp_path: Path
) -> None:
    if text is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(text, encoding="utf-16" if name.startswith("utf16") else "utf-8")
    result = giblet("launch", "local", name, "--dry-run", env=settings, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    first, *remedy = result.stderr.splitlines()
    assert sentence in result.stderr and first.startswith("giblet: ") and remedy, result.stderr


def test_a_note_may_contain_typographic_characters(settings: dict[str, str]) -> None:
    assert typographic_error(["--note", "— a dash and “quotes”", "--", "—x"]) is None
    assert typographic_error(["launch", "−-dry-run"]) is not None


def test_bare_giblet_off_a_terminal_is_help(settings: dict[str, str]) -> None:
    result = giblet(env=settings)
    assert (result.returncode, result.stdout[:13]) == (0, "Usage: giblet")


def test_every_verb_that_returns_facts_has_a_json_form() -> None:
    without = {name for name, verb in verbs(get_command(program)) if not any("--json" in p.opts for p in verb.params)}
    for_people = {"attach", "confirm", "dashboard"}
    assert without == {*for_people, "mcp", "config schema"}, "the others print their format"


def test_a_usage_line_shows_a_required_argument_without_braces() -> None:
    usages = [verb.get_usage(typer.Context(verb, info_name=name)) for name, verb in verbs(get_command(program))]
    assert any(usage.endswith("[NODE] RUN") for usage in usages)
    assert [usage for usage in usages if "{" in usage and "|" not in usage] == [], "braces are for a choice"


def verbs(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command of a group and its groups, with its full name."""
    for name in group.list_commands(None):
        verb = group.get_command(None, name)
        if hasattr(verb, "list_commands"):
            yield from verbs(verb, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", verb


def test_a_reader_that_leaves_early_is_no_error(settings: dict[str, str]) -> None:
    show = subprocess.Popen(
        [GIBLET, "config", "show", "demo"], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert show.stdout is not None and show.stderr is not None
    show.stdout.close()
    assert b"Traceback" not in show.stderr.read()
    show.wait(120)
    show.stderr.close()


def test_configurations_are_found_away_from_the_clone(settings: dict[str, str], tmp_path: Path) -> None:
    result = giblet("config", "ls", "--json", env=settings, cwd=tmp_path)
    value = json.loads(result.stdout)
    assert value["schema"] == 1
    assert {"base", "demo", "test_50epoch_fixed"} <= {c["name"] for c in value["configs"]}
    assert "nodes.example" not in {c["name"] for c in value["configs"]}


def test_a_configuration_of_ones_own_extends_those_that_come_with_giblet(
    settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text("extends: demo\nnum_epochs: 7\n")
    expected = f"num_epochs: {configs.read('demo').config.num_epochs} → 7\n"
    result = giblet("config", "diff", "demo", "./mine.yaml", env=settings, cwd=tmp_path)
    assert result.stdout == expected
    (tmp_path / "configs").mkdir()
    (tmp_path / "mine.yaml").rename(tmp_path / "configs" / "mine.yaml")
    assert giblet("config", "diff", "demo", "mine", env=settings, cwd=tmp_path).stdout == expected


def test_what_config_show_prints_is_a_configuration(settings: dict[str, str], tmp_path: Path) -> None:
    result = giblet("config", "show", "test_50epoch_fixed", "--set", "num_epochs=60", env=settings)
    (tmp_path / "again.yaml").write_text(result.stdout)
    again = giblet("config", "diff", "test_50epoch_fixed", "./again.yaml", env=settings, cwd=tmp_path)
    assert again.stdout == "num_epochs: 50 → 60\n"
    assert "num_epochs: from --set" in result.stderr


def test_config_check_names_each_bad_file(settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("extends: base\nwarmup_epocs: 3\n")
    (tmp_path / "good.yaml").write_text("extends: base\n")
    result = giblet("config", "check", "./bad.yaml", "./good.yaml", env=settings, cwd=tmp_path)
    assert result.returncode == 2
    assert 'did you mean "warmup_epochs"?' in result.stderr
    assert result.stdout == "ok ./good.yaml\n" and "It sets no key" in result.stderr
    result = giblet("config", "check", "./bad.yaml", "./good.yaml", "--json", env=settings, cwd=tmp_path)
    bad, good = json.loads(result.stdout)["configs"]
    assert result.returncode == 2 and not bad["ok"] and "warmup_epocs" in bad["error"] and good["ok"]


def test_nodes_are_added_listed_and_removed(settings: dict[str, str]) -> None:
    assert giblet("node", "add", "lab", "--host", "h.example.org", "--workdir", "/data/g", env=settings).returncode == 0
    nodes = json.loads(giblet("node", "ls", "--json", env=settings).stdout)["nodes"]
    assert [(n["name"], n["host"], n["workdir"]) for n in nodes][1:] == [("lab", "h.example.org", "/data/g")]
    again = giblet("node", "add", "lab", env=settings)
    assert (again.returncode, "already in" in again.stderr) == (2, True)
    assert giblet("node", "rm", "lab", env=settings).returncode == 0
    assert len(json.loads(giblet("node", "ls", "--json", env=settings).stdout)["nodes"]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [("giblet launch lo", "local"), ("giblet launch local test_full", "test_full_fixes"), ("giblet stop @", "@last")],
)
def test_the_shell_completes_nodes_configurations_and_runs(settings: dict[str, str], words: str, expected: str) -> None:
    completion = {"_GIBLET_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert giblet(env=settings | completion).stdout.split() == [expected]


@pytest.mark.parametrize(
    ("words", "stream", "code"),
    [("launch -h", "stdout", 141), ("node ls", "stdout", 141), ("ps", "stderr", 141), ("ps", "stdout", 0)],
)
def test_a_closed_pipe_ends_a_verb_quietly(words: str, stream: str, code: int, settings: dict[str, str]) -> None:
    """As SIGPIPE ends `yes | head -1`. Here `ps` has nothing but talk, so a closed stdout is not missed."""
    reading, writing = os.pipe()
    os.close(reading)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    result = subprocess.run([GIBLET, *words.split()], env=settings, timeout=60, text=True, **pipes)
    os.close(writing)
    assert result.returncode == code
    output = f"{result.stdout}{result.stderr}"
    assert "Traceback" not in output and "Broken pipe" not in output


def test_the_version_is_printed_and_equals_the_engine_s(settings: dict[str, str]) -> None:
    assert giblet("--version", env=settings).stdout == giblet("-V", env=settings).stdout == f"giblet {__version__}\n"
    facts = json.loads(giblet("version", "--json", env=settings).stdout)
    assert facts["here"]["version"] == __version__ and facts["node"] is None and facts["same_engine"] is True
    local = json.loads(giblet("version", "local", "--json", env=settings).stdout)
    assert {local[where][key] for where in ("node", "here") for key in ("version", "fingerprint")} == {
        __version__,
        facts["here"]["fingerprint"],
    }


def test_config_check_reports_every_problem_with_its_line(settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "extends: demo\nnum_epochs: many\nlerning_rate: 2\ncriteria:\n  a: {kind: foo}\n"
    )
    result = giblet("config", "check", "./bad.yaml", env=settings, cwd=tmp_path)
    assert result.returncode == 2
    for line, key in ((2, "num_epochs"), (3, "lerning_rate"), (5, "criteria.a.kind")):
        assert re.search(rf'bad.yaml, line {line}: .*"{key}"', result.stderr)


def test_the_schema_accepts_every_configuration_and_describes_every_key(settings: dict[str, str]) -> None:
    schema = json.loads(giblet("config", "schema", env=settings).stdout)
    for name, definition in schema["$defs"].items():
        for key, value in definition.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key}"
    keys = schema["$defs"]["Config"]["properties"]
    for path in configs.known().values():
        assert set(yaml_io.load_file(path)) <= set(keys)
    assert "required" not in schema["$defs"]["Config"]


def test_no_folder_is_created_at_a_mistyped_path(settings: dict[str, str], tmp_path: Path) -> None:
    for words in (f"data check local demo --html {tmp_path}/none/page.html",):
        result = giblet(*words.split(), env=settings)
        assert (result.returncode, f"There is no folder {tmp_path}/none." in result.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def test_watching_runs_repeats_the_list_until_ctrl_c(settings: dict[str, str]) -> None:
    watch = subprocess.Popen(
        [GIBLET, "ps", "--watch", "--cached", "--json"], env=settings, stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    first, second = json.loads(watch.stdout.readline()), json.loads(watch.stdout.readline())
    assert second["at"] > first["at"] and second["runs"] == []
    watch.send_signal(signal.SIGINT)
    assert watch.wait(120) == 130
    watch.stdout.close()


@can_train
def test_init_writes_a_configuration_that_passes_the_check(
    settings: dict[str, str], tiny_study: Path, tmp_path: Path
) -> None:
    result = giblet("init", "local", str(tiny_study), "--name", "mine", env=settings, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "mine.yaml\n"), result.stderr
    assert giblet("config", "check", "./mine.yaml", env=settings, cwd=tmp_path).stdout == "ok ./mine.yaml\n"
    again = giblet("init", "local", str(tiny_study), "--name", "mine", env=settings, cwd=tmp_path)
    assert again.returncode == 2 and "mine.yaml already exists" in again.stderr


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("config ls <&-", 0, ""),
        ("config ls >&-", 1, "Standard output is closed."),
        ("config ls > /dev/full", 1, "Standard output: No space left on device."),
        ("--help > /dev/full", 1, "Standard output: No space left on device."),
        ("nope 2>&-", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full_are_named(
    command: str, code: int, words: str, settings: dict[str, str], tmp_path: Path
) -> None:
    result = subprocess.run(
        ["sh", "-c", f"{GIBLET} {command}"], env=settings, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == code, result.stderr
    assert (
        words in result.stderr and "Traceback" not in result.stdout + result.stderr and "ignored" not in result.stderr
    )


def test_a_terminal_without_the_glyphs_gets_their_codes(settings: dict[str, str]) -> None:
    environment = {**settings, "PYTHONIOENCODING": "ascii"}  # read when a Python starts, so it needs one of its own
    words = [GIBLET, "config", "diff", "demo", "base"]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "\\u2192" in result.stdout and "Traceback" not in result.stderr


def test_a_settings_folder_that_cannot_be_made_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = giblet("node", "add", "x", env={**settings, "XDG_CONFIG_HOME": str(tmp_path / "file")})
    assert result.returncode == 2 and "nodes.yaml cannot be written: Not a directory." in result.stderr
