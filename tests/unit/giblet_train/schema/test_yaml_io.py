"""YAML as people write it, bounded."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_train.schema import yaml_io
from giblet_train.schema.errors import ConfigError


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
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: \x00", "not readable"),
    ],
)
def test_hostile_text_is_refused_quickly(text: str, sentence: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(")):
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
