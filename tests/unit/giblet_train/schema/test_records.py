"""Records: written strictly, read leniently, never a torn or non-finite surprise."""

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import Alert, Heartbeat, Run, StepMetric, decode, decode_lines, decode_metrics, encode
from giblet_train.schema.run_dir import RunDir, config_name, new_run_id, replace_file, session_name, write_record

STEP = StepMetric(seq=3, step=2, epoch=1, at=1.5, lr=1e-4, total=2.0, loss={"fmri": 1.0}, weight={}, share={})
RUN = Run(
    run_id="demo-20260101-000000-abcd", name="demo", node="local", session="gib-demo-20260101-000000-abcd",
    multiplexer="tmux", argv=("python",), config_hash="0", giblet_version="0", launched_by="me", launched_at=1.0,
)  # fmt: skip


def test_a_metric_survives_the_file() -> None:
    assert decode_metrics([encode(STEP)]) == ([STEP], 0)


def test_what_is_not_finite_is_null() -> None:
    line = encode(StepMetric(seq=0, step=0, epoch=1, at=0, lr=1, total=float("nan"), loss={"fmri": float("inf")},
                             weight={}, share={}))  # fmt: skip
    value = json.loads(line)
    assert value["total"] is None
    assert value["loss"] == {"fmri": None}


def test_readers_skip_what_a_newer_writer_added() -> None:
    newer = json.loads(encode(STEP)) | {"wind": "north"}
    unknown_kind = {"kind": "weather", "seq": 1}
    lines = [json.dumps(newer).encode(), json.dumps(unknown_kind).encode()]
    assert decode_metrics(lines) == ([STEP], 0)


BAD = [b"{", b"[1]", b"\xff\xfe", b"null", b'{"kind":"step"}', b'{"seq":1}', b"[" * 5000, b'{"kind":"step","seq":"x"}',
       b'{"a":' + b"9" * 5000 + b"}"]  # fmt: skip


def test_malformed_lines_are_counted_and_the_others_kept() -> None:
    lines = [x for bad in BAD for x in (bad, encode(STEP))]
    assert decode_metrics(lines) == ([STEP] * len(BAD), len(BAD))


@given(st.binary(max_size=200))
def test_no_line_can_crash_a_reader(line: bytes) -> None:
    metrics, n_malformed = decode_metrics([line, encode(STEP)])
    assert metrics[-1] == STEP
    assert n_malformed in (0, 1)
    decode_lines([line], Alert)


def test_a_newer_schema_is_refused_in_words() -> None:
    newer = json.dumps(json.loads(encode(RUN)) | {"schema": 99})
    with pytest.raises(DataError, match="schema 99; this giblet reads up to 1"):
        decode(newer, Run)
    with pytest.raises(DataError, match="Not a Heartbeat record"):
        decode(b"{}", Heartbeat)


def test_alerts_round_trip() -> None:
    alert = Alert(seq=0, at=1.0, step=5, name="flat", level="warning", state="raised", sentence="s")
    assert decode_lines([encode(alert), b"junk"], Alert) == [alert]


def test_a_run_id_names_its_config_and_is_no_prefix_of_another() -> None:
    short, long = new_run_id("test", 0.0), new_run_id("test_50epoch_fixed", 0.0)
    assert config_name(short) == "test"
    assert config_name(long) == "test_50epoch_fixed"
    assert not long.startswith(short)
    assert len(session_name(new_run_id("a" * 40))) <= 80


@pytest.mark.parametrize("name", ["", "-x", "a" * 41, "a b", "../x", "a;rm -rf", "#(touch x)", "a\n", "é", "A"])
def test_hostile_names_name_no_run(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        new_run_id(name)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a device, a pipe or a socket"):
        replace_file(tmp_path / "pipe", b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and len(list(tmp_path.iterdir())) == 1


def test_a_replaced_file_is_old_or_new_and_leaves_nothing_next_to_it(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    write_record(target, RUN, sync=True)
    assert decode(target.read_bytes(), Run) == RUN
    with pytest.raises(TypeError):
        replace_file(target, "text, not bytes")  # type: ignore[arg-type]
    assert decode(target.read_bytes(), Run) == RUN
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_directory_that_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run directory"):
        RunDir(tmp_path).read_run()
