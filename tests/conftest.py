"""Which tests run where: without torch, as on a laptop, all but the engine's; plain pytest with torch runs all.

`make test` runs each test once: the application's unit tests where torch is missing, and with GIBLET_TESTS=engine the
rest where it is not.
"""

import gc
import os
import re
import signal
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.marks import can_train

HERE = Path(__file__).parent
SHARING = ("unit/giblet_train/portable/",)
"""Folders whose files share a fixture that takes long: one worker runs them all."""
ENGINE = ("giblet_train.", "torch", "nibabel", "av")
SHARED = ("giblet_train.schema", "giblet_train.diagnosis")
IMPORT = re.compile(r"^[ \t]*(?:from ([\w.]+) import (?:\(([^)]*)\)|([^(\n]+))|import ([^\n]+))", re.MULTILINE)
LONG = (
    "cluster/test_inspecting.py",
    "e2e",
    "unit/giblet_train/portable",
    "unit/giblet_train/training/test_trainer.py",
    "unit/giblet_train/distributed",
    "cluster/test_cli.py",
    "cluster",
    "unit/giblet_train/data/test_poison.py",
    "unit/giblet_train/data/discover",
    "unit/giblet_train",
)
"""Files and folders that take longest, in the order in which they are begun: short ones fill what is left at the end.

`python -m tests.cpu` measures them."""

# One thread of linear algebra per worker. The workers use all cores already, and OpenBLAS threads wait for a core in a
# busy loop: on a loaded machine the same tests cost seven times the CPU. Programs that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

# Compiled modules are stored even where the environment forbids it: each of the hundreds of programs that tests start
# would compile torch and giblet again, which takes twice as long as to run them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell starts what it puts into the background with SIGINT ignored, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No verdict depends on the clock or on chance: a loaded machine takes long over an example, and a counterexample that
# was found once must be found again.
settings.register_profile("giblet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("giblet")


# What collection makes stays: a garbage collection among the tests would look through it each time, for 0.4 s.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def own_gpu_claims(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this test's GPU claims apart from those of other tests on the machine: their recorded GPUs have one name."""
    monkeypatch.setenv("GIBLET_GPU_CLAIMS", str(tmp_path_factory.mktemp("claims")))


@cache
def needs_the_engine(path: Path) -> bool:
    """Return True if this file imports the engine beyond its contract, itself or through another test module."""
    modules = imported_modules(path.read_text(encoding="utf-8"))
    if any(m.startswith(ENGINE) and not m.startswith(SHARED) for m in modules):
        return True
    ours = [HERE.parent / (m.replace(".", "/") + ".py") for m in modules if m.startswith(("tests.", "benchmarks."))]
    return any(p.exists() and p != path and needs_the_engine(p) for p in ours)


def imported_modules(source: str) -> set[str]:
    """Return what a source file imports, at any place and in programs within it; of `from a import b`, a and a.b.

    Each worker reads all files, so that they are searched instead of parsed, which takes fifty times as long.
    """
    modules = set()
    for package, block, line, plain in IMPORT.findall(source):
        names = [words.split()[0] for words in re.sub("#.*", "", block or line or plain).split(",") if words.strip()]
        modules |= {package, *(f"{package}.{name}" for name in names)} if package else {*names}
    return modules


@cache
def on_a_laptop(path: Path) -> bool:
    """Return True for unit tests that a laptop runs, all but those that are marked with `can_train`."""
    return HERE / "unit" in path.parents and not needs_the_engine(path)


IS_ENGINE_PART = find_spec("torch") is not None and os.environ.get("GIBLET_TESTS") == "engine"
if find_spec("torch") is None:
    collect_ignore = [str(p) for p in HERE.rglob("test_*.py") if needs_the_engine(p)]
elif IS_ENGINE_PART:
    collect_ignore = [str(p) for p in HERE.rglob("test_*.py") if on_a_laptop(p) and "@can_train" not in p.read_text()]


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own hook, which comes before that of a conftest.py
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep each file with one worker, which makes its fixtures once, and begin with the files that take longest.

    Of a file that a laptop runs too, the engine's part runs what needs the engine.
    """
    if IS_ENGINE_PART:
        laptop_items = [i for i in items if on_a_laptop(i.path) and can_train.mark not in i.iter_markers()]
        config.hook.pytest_deselected(items=laptop_items)
        items[:] = [item for item in items if item not in laptop_items]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path.relative_to(HERE).as_posix())))
    items.sort(key=lambda item: _rank(item.path.relative_to(HERE).as_posix()))


def _group(path: str) -> str:
    return next((folder for folder in SHARING if path.startswith(folder)), path)


def _rank(path: str) -> int:
    return next((rank for rank, folder in enumerate(LONG) if path.startswith(folder)), len(LONG))
