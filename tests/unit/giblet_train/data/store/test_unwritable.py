"""A folder that cannot be made ends a data command with a message; a store where nothing can be written is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from giblet_train.data.store.store import build_store
from giblet_train.schema.errors import ConfigError
from tests.made_study import TINY_DATA, made_config


def silent(_sentence: str, _share: float) -> None:
    pass


def test_a_workdir_that_is_a_file(tiny_study: Path, tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(ConfigError, match=r"work/stores/[0-9a-f]+ cannot be made: Not a directory"):
        build_store(made_config(data=TINY_DATA), tiny_study, tmp_path / "work", silent)


def test_a_store_is_found_where_nothing_can_be_written(tiny_study: Path, tmp_path: Path) -> None:
    config = made_config(data=TINY_DATA)
    path = build_store(config, tiny_study, tmp_path, silent)
    digests_file = tmp_path / "stores" / "digests.json"
    digests_file.unlink()
    digests_file.mkdir()
    assert build_store(config, tiny_study, tmp_path, silent) == path
