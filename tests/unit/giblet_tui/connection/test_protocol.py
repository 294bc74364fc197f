"""The structs of the protocol against what the agent really answers: every field arrives, none is unknown."""

from __future__ import annotations

import json
import os
import time

import pytest

from giblet_tui.agent import alert_answers, cleanup, host_info, log_end, python_env, resources, start_run, watch_runs
from giblet_tui.connection import protocol
from giblet_tui.errors import ProtocolError
from tests.collection.log_ends import OOM, stacks, torchrun, traceback
from tests.liveruns import append, beat, make_run, step_line

LINE = step_line(0)


def ignore(event):
    """Discard an event."""


def check(answer, kind):
    """Decode an answer and compare the keys at its top with the struct's fields."""
    message = json.loads(json.dumps(answer))
    struct = protocol.decode(message, kind)
    assert set(message) <= set(struct.__struct_fields__)
    return struct


@pytest.fixture
def run_dir(tmp_path):
    run_dir = make_run(tmp_path, node="tensor01")
    append(run_dir.metrics, LINE)
    beat(run_dir, step=0)
    return run_dir


def test_a_probe(tmp_path):
    probe = check(host_info.probe({"workdir": str(tmp_path)}, ignore), protocol.NodeProbe)
    assert abs(probe.now - time.time()) < 60 and probe.n_cpus == os.cpu_count() and "process" in probe.session_kinds


def test_what_is_held_and_what_takes_space(tmp_path, run_dir):
    listing = check(resources.list_resources({"workdir": str(tmp_path)}, ignore), protocol.Resources)
    (run,) = listing.runs
    assert (run.run_id, run.supervised, run.files["run.json"]) == (run_dir.run_id, True, run_dir.run.read_text())
    holdings = check(cleanup.holdings({"workdir": str(tmp_path)}, ignore), protocol.Holdings)
    assert holdings.runs[0].name == run_dir.run_id and holdings.runs[0].bytes > 0


def test_small_answers(tmp_path, run_dir):
    assert 0 < check(start_run.free_port({}, ignore), protocol.FreePort).port < 65536
    missing = check(python_env.missing_paths({"paths": ["/no/such"]}, ignore), protocol.MissingPaths)
    assert missing.paths == ("/no/such",)
    facts = check(python_env.engine({"python": "/no/such"}, ignore), protocol.EngineFacts)
    assert facts.problem == "/no/such does not exist"
    assert check(watch_runs.runs({"workdir": str(tmp_path)}, ignore), protocol.RunIds).runs == (run_dir.run_id,)
    none = start_run.checkpoint({"workdir": str(tmp_path), "resume_from": run_dir.run_id}, ignore)
    assert check(none, protocol.CheckpointFile).place == ""
    request = {"workdir": str(tmp_path), "run_id": run_dir.run_id, "alerts": [], "snooze_s": 60.0}
    reply = check(alert_answers.answer(request, ignore), protocol.AlertReply)
    assert reply.until == reply.at + 60.0


def test_events_of_a_watch(tmp_path, run_dir):
    events = []
    watch_runs.observe({"workdir": str(tmp_path)}, lambda event: events.append(json.loads(json.dumps(event))))
    decoded = [protocol.decode(event, protocol.WatchEvent) for event in events]
    for event, struct in zip(events, decoded, strict=True):
        part = struct.run if struct.run is not None else struct.tick
        assert set(event.get("run") or event["tick"]) <= set(part.__struct_fields__)
    pieces = {name: piece for news in decoded if news.run for name, piece in news.run.appended.items()}
    assert pieces["metrics.jsonl"].text.encode() == LINE
    assert pieces["metrics.jsonl"].mark.offset == len(LINE)
    assert decoded[-1].tick.present == (run_dir.run_id,)


def test_strings_are_sanitised_and_files_are_not():
    answer = {"runs": [{"run_id": "a\x1b[2Jb", "files": {"run.json": "{\n}"}}], "now": 1.0}
    (run,) = protocol.decode(answer, protocol.Resources).runs
    assert (run.run_id, run.files) == ("a\\x1b[2Jb", {"run.json": "{\n}"})


@pytest.mark.parametrize("answer", [{}, {"now": "soon"}, [], None, {"now": 1.0, "gpus": 3}])
def test_what_is_no_answer_is_refused_in_words(answer):
    with pytest.raises(ProtocolError, match="The node's answer is not a NodeProbe"):
        protocol.decode(answer, protocol.NodeProbe)


def test_the_end_of_a_log(tmp_path, run_dir):
    lines = ["Epoch 1/9 | Train Loss: 1.5", *traceback(OOM, "[rank3]: "), *stacks(500), *torchrun(3, 1)]
    run_dir.log.write_text("\n".join(lines) + "\n")
    answer = check(log_end.log_end({"workdir": str(tmp_path), "run_id": run_dir.run_id}, ignore), protocol.LogEndAnswer)
    assert [(cause.cause, cause.line.rank) for cause in answer.causes] == [("oom_gpu", 3)]
    assert answer.failed is not None and (answer.failed.rank, answer.failed.exit_code) == (3, 1)
