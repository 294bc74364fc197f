"""Marks of tests that need more than a laptop has."""

from importlib.util import find_spec

import pytest

can_train = pytest.mark.skipif(find_spec("torch") is None, reason="this environment cannot train: torch is missing")
