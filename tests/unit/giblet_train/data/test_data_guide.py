"""docs/data.md: its configurations load, and the findings that it names are those of the code."""

import re

import pytest

from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.yaml_io import load_text
from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "data.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_each_configuration_loads(text):
    from_mapping({"name": "guide", **load_text(text, "docs/data.md")})


def test_each_finding_in_the_guide_is_one_of_the_code():
    source = "".join(path.read_text() for path in (ROOT / "giblet_train").rglob("*.py"))
    table = GUIDE[GUIDE.index("| mistake |") : GUIDE.index("On the demo\nstudy, its table")]
    names = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", table))
    assert len(names) > 20
    assert {name for name in names if f'"{name}"' not in source} == set()
