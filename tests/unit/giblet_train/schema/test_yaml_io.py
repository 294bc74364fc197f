"""YAML as people write it, bounded."""

import contextlib
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from giblet_train.schema import yaml_io
from giblet_train.schema.errors import ConfigError
from tests.paths import ROOT


def test_scalars_are_read_as_people_mean_them() -> None:
    text = "a: 1e-4\nb: 3E4\nc: no\nd: 22:22\ne: .5\nf: 2024-01-01\ng: 010\nh: true\ni: ~\n"
    expected = {
        "a": 1e-4,
        "b": 3e4,
        "c": "no",
        "d": "22:22",
        "e": 0.5,
        "f": "2024-01-01",
        "g": "010",
        "h": True,
        "i": None,
    }
    assert yaml_io.load_text(text, "t") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &x [1]\nb: *x", "line 2, column 4: aliases"),
        ("[" * 2000, "nested deeper"),
        ("a: {b: 1, b: 2}", "the key `b` appears twice"),
        ("x: " + "y" * 300_000, "has at most 256 KiB"),
        ("a: !!python/object/apply:os.system [id]", "tags (!name) are not accepted"),
        ("a: \x00", "not readable"),
    ],
)
def test_hostile_text_is_refused_quickly(text: str, sentence: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        yaml_io.load_text(text, "cfg.yaml")
    assert time.process_time() - began < 2.0


def test_a_file_that_is_not_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        yaml_io.load_file(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        yaml_io.load_file(tmp_path / "binary.yaml")


plain = st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.text(), st.floats(allow_nan=False))


@given(st.dictionaries(st.from_regex(r"\A[a-z_]{1,8}\Z"), st.one_of(plain, st.lists(plain)), max_size=6))
def test_what_is_dumped_is_read_back(value: dict[str, object]) -> None:
    assert yaml_io.load_text(yaml_io.dump(value), "t") == value


@pytest.mark.skipif(len(yaml_io._LOADERS) < 2, reason="PyYAML was built without libyaml")
def test_both_scanners_read_the_same() -> None:
    texts = [path.read_text() for path in (ROOT / "configs").glob("*.yaml")]
    texts += [
        "a: 1e-4\nb: [no, 010, 2026-01-01]\nc: {d: .inf, e: 'x: y'}\n",
        "",
        "# only a comment\n",
        "- a\n- b\n",
        "a: !\nb: ! 1\n",
    ]
    for text in texts:
        (fast_node, fast), (node, value) = (yaml_io._load_with(loader, text) for loader in yaml_io._LOADERS)
        assert fast == value and repr(fast) == repr(value)
        assert list(yaml_io._key_lines(fast_node)) == list(yaml_io._key_lines(node))


@given(st.text(alphabet="ab: -\n[]{}&*'\"#,1.e|>%@!\t?~"))
def test_both_scanners_agree_on_what_both_accept(text: str) -> None:
    """libyaml accepts more than PyYAML's scanner does, such as a tab behind a dash; it never reads another value."""
    try:
        expected = yaml_io._load_with(yaml_io._LOADERS[-1], text)[1]
    except (yaml.YAMLError, ValueError, TypeError):
        return
    with contextlib.suppress(yaml.YAMLError, ValueError, TypeError):
        assert yaml_io._load_with(yaml_io._LOADERS[0], text)[1] == expected
