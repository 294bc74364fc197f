"""Configurations by name or path; a mistake gets a sentence."""

from __future__ import annotations

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.inventory import configs


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("~nobody-of-that-name", "No configuration is called '~nobody-of-that-name'"),
        ("~nobody-of-that-name/demo.yaml", "There is no configuration file ~nobody-of-that-name/demo.yaml"),
    ],
)
def test_the_home_of_an_unknown_user_is_a_sentence(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("GIBLET_NODES", str(tmp_path_factory.mktemp("own") / "nodes.yaml"))
    with pytest.raises(ConfigError, match=sentence):
        configs.find(name)
