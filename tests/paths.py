"""Paths of the checkout that tests start programs from."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE_WORKER = ROOT / "tests" / "engine_worker.py"
