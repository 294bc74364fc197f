"""What a node lacks for a run, each with its remedy; unknown is neither good nor bad."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from giblet_train.schema.config import Config, DataConfig, DistributedConfig, dump
from giblet_train.schema.errors import PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.agent import preflight as agent_preflight
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.connection.protocol import EngineFacts, NodeProbe, Preflight, StudyFiles, decode
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.finding import Finding
from giblet_tui.launch.preflight import check_node, check_run, refuse
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.reporting.doctor import doctor_json, finding_lines
from tests import fleets
from tests.marks import can_train

NODE = Node(name="n", host="n")
ENGINE = EngineFacts(python="/e/bin/python", version="0.1.0", fingerprint="0" * 12, torch="2.13.0")
GPU = {
    "index": 0, "uuid": "GPU-0", "name": "RTX A6000", "memory_used_gib": 41.5, "memory_total_gib": 48.0,
    "processes": [{"pid": 77, "user": "ada", "memory_gib": 41.0}], "not_free": "ada (pid 77, 41.0 GiB)",
}  # fmt: skip
IDLE = {**GPU, "index": 1, "uuid": "GPU-1", "memory_used_gib": 0.0, "processes": [], "not_free": ""}
SIMULATED = Config(name="demo", data=DataConfig(simulate="tiny"))
OWN = Config(name="mine")


def probe(**changes: Any) -> NodeProbe:
    well = {
        "now": 0.0, "session_kinds": ["tmux", "process"], "gpus": [GPU], "gpu_note": "", "disk_free_gib": 900.0,
        "n_cpus": 4, "ram_available_gib": 64.0,
    }  # fmt: skip
    return decode(well | {"kill_user_processes": False, "linger": None} | changes, NodeProbe)


def request(config: Config = SIMULATED, **changes: Any) -> LaunchRequest:
    return LaunchRequest(config=config, launched_by="ada@laptop", **changes)


def ranks(config: Config, world_size: int) -> Config:
    return replace(config, distributed=DistributedConfig(world_size=world_size))


def checks(launch_request: LaunchRequest, node_probe: NodeProbe, files: StudyFiles | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_run(launch_request, node_probe, files, [])}


def test_a_sound_node_has_no_remedies() -> None:
    findings = check_node(NODE, probe(), ENGINE)
    assert all(f.well for f in findings)
    gpu = next(f for f in findings if f.name == "gpu 0")
    assert gpu.sentence == "RTX A6000, 41.5/48 GiB, ada (pid 77, 41.0 GiB)" and gpu.mark == "✔"


@pytest.mark.parametrize(
    ("changes", "multiplexer", "name", "needed"),
    [
        ({"session_kinds": ["process"]}, "tmux", "sessions", True),
        ({"session_kinds": ["process"]}, "auto", "sessions", False),
        ({"session_kinds": ["process"], "session_problems": {"tmux": "x"}}, "tmux", "sessions", True),
        ({"session_kinds": ["process"], "session_problems": {"tmux": "x"}}, "auto", "sessions", False),
        ({"session_kinds": ["process"], "session_problems": {"tmux": "x"}}, "screen", "sessions", True),
        ({"disk_free_gib": 3.0}, "auto", "disk", False),
        ({"writable": False}, "auto", "disk", True),
        ({"noexec": True}, "auto", "disk", False),
        ({"cpu_limit_s": 1800.0}, "auto", "CPU time", False),
        ({"has_scheduler": True}, "auto", "scheduler", False),
        ({"n_free_inodes": 300}, "auto", "disk", False),
        ({"n_free_inodes": 0}, "auto", "disk", True),
        ({"gpus": [{**GPU, "damage": "Xid 79", "not_free": "Xid 79"}]}, "auto", "gpu 0", False),
        ({"kill_user_processes": True, "linger": False}, "auto", "logout", True),
        ({"gpus": [], "gpu_error": "nvidia-smi cannot be read: mismatch"}, "auto", "gpus", True),
        ({"gpus": [{**GPU, "fault": "lost", "not_free": "lost"}]}, "auto", "gpu 0", False),
        ({"gpu_warning": "nvidia-smi: it ended with status 14"}, "auto", "nvidia-smi", False),
    ],
)
def test_each_shortcoming_has_a_remedy(changes: dict[str, Any], multiplexer: Any, name: str, needed: bool) -> None:
    findings = check_node(replace(NODE, multiplexer=multiplexer), probe(**changes), ENGINE)
    unwell = [f for f in findings if not f.well]
    assert [(f.name, f.needed, f.mark) for f in unwell] == [(name, needed, "✖" if needed else "!")]
    assert unwell[0].remedy


@pytest.mark.parametrize("multiplexer", ["tmux", "slurm"])
def test_who_has_decided_about_the_scheduler_is_not_warned(multiplexer: Any) -> None:
    node_probe = probe(has_scheduler=True, session_kinds=["tmux", "process", "slurm"])
    assert all(f.well for f in check_node(replace(NODE, multiplexer=multiplexer), node_probe, ENGINE))


def test_a_run_on_the_cpu_needs_no_nvidia_smi() -> None:
    broken_node = probe(gpus=[], gpu_error="nvidia-smi cannot be read: mismatch")
    on_cpu = {f.name: f for f in check_node(NODE, broken_node, ENGINE, device="cpu")}
    assert not on_cpu["gpus"].well and not on_cpu["gpus"].needed
    assert checks(request(replace(SIMULATED, device="cpu")), broken_node)["processes"].well
    refusal = checks(request(), broken_node)["processes"]
    assert not refusal.well and refusal.needed and "mismatch" in refusal.sentence


def test_a_missing_engine_stops_a_launch() -> None:
    findings = check_node(NODE, probe(), PreflightRefused("n lacks giblet.", "giblet setup n"))
    assert [(f.name, f.remedy, f.needed) for f in findings if not f.well] == [("engine", "giblet setup n", True)]


def test_lingering_spares_nothing_and_root_is_not_ended() -> None:
    """As `launch` judges it: tmux and screen go with the last logout, whether the user lingers or not."""
    findings = {f.name: f for f in check_node(NODE, probe(kill_user_processes=True, linger=True, user="ada"), ENGINE)}
    assert not findings["logout"].well and "KillUserProcesses=no" in findings["logout"].remedy
    assert all(f.well for f in check_node(NODE, probe(kill_user_processes=True, user="root"), ENGINE))


def test_programs_get_the_findings_too() -> None:
    report = doctor_json(NODE, check_node(NODE, probe(disk_free_gib=3.0), ENGINE))
    assert (report["schema"], report["node"], report["ok"]) == (1, "n", True)
    assert [(f["name"], f["needed"]) for f in report["findings"] if f["remedy"]] == [("disk", False)]
    assert not doctor_json(NODE, check_node(NODE, probe(writable=False), ENGINE))["ok"]


@pytest.mark.parametrize(("skew_s", "well"), [(0.4, True), (-0.4, True), (90.0, False), (-90.0, False)])
def test_a_wrong_clock_is_reported(skew_s: float, well: bool) -> None:
    clock = next(f for f in check_node(NODE, probe(), ENGINE, skew_s) if f.name == "clock")
    assert clock.well == well
    assert ("ahead of" in clock.sentence) == (skew_s > 0)


def test_what_a_node_sends_moves_no_cursor() -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\u202e"
    gpu = GPU | {"name": f"A6000{evil}", "not_free": f"{evil} (pid 77, 41.0 GiB)"}
    for answer in (probe(gpus=[gpu]), probe(gpus=[], gpu_note=f"nvidia-smi cannot be read: {evil}")):
        text = "".join(f.name + f.sentence + f.remedy for f in check_node(NODE, answer, ENGINE))
        assert "]52;c;" in text and text.isprintable()


@pytest.mark.parametrize(
    ("launch_request", "node_probe", "well", "sentence"),
    [
        (request(), probe(gpus=[]), True, "1 process on 4 CPU cores"),
        (request(ranks(SIMULATED, 6)), probe(gpus=[]), False, "6 processes on 4 CPU cores"),
        (request(), probe(gpus=[GPU, IDLE]), True, "1 on GPU 1"),
        (request(), probe(), False, "1 GPU is requested, 0 of 1 are free"),
        (request(when_free=True), probe(), True, "1 of 1 GPUs, when they are free"),
        (request(gpus=3, when_free=True), probe(gpus=[GPU, IDLE]), False, "3 GPUs are requested, 1 of 2 are free"),
        (request(gpus=(0,)), probe(gpus=[GPU, IDLE]), False, "Busy: GPU 0"),
    ],
)
def test_processes_are_counted_against_gpus_or_cores(
    launch_request: LaunchRequest, node_probe: NodeProbe, well: bool, sentence: str
) -> None:
    finding = checks(launch_request, node_probe)["processes"]
    assert finding.well == well and finding.sentence.startswith(sentence)
    assert well or (finding.needed and finding.remedy)


def test_what_nobody_could_look_at_is_unknown_and_stops_nothing() -> None:
    unknown = [finding for finding in check_run(request(OWN), probe(gpus=[], n_cpus=0), None, []) if not finding.known]
    assert [(f.name, f.mark) for f in unknown] == [
        ("processes", "?"), ("data", "?"), ("checkpoints", "?"), ("memory", "?"),
    ]  # fmt: skip
    refuse(NODE, request(OWN), unknown)
    assert not checks(request(OWN), probe(), StudyFiles(unknown="it ended with code 2"))["data"].known


def test_all_missing_files_are_named_at_once() -> None:
    problems = [{"sentence": f"/data/{n}.nii.gz does not exist", "remedy": "Set data.data_dir."} for n in range(3)]
    files = decode({"n_files": 5, "problems": problems}, StudyFiles)
    finding = checks(request(OWN), probe(gpus=[]), files)["data"]
    assert (finding.sentence, finding.needed, finding.mark) == ("3 files are missing or cannot be used", True, "✖")
    assert finding.remedy.splitlines() == [*(p["sentence"] for p in problems), "Set data.data_dir."]
    assert finding_lines(finding)[1][0] == "    /data/0.nii.gz does not exist"
    single_finding = checks(request(OWN), probe(gpus=[]), decode({"n_files": 5, "problems": problems[:1]}, StudyFiles))[
        "data"
    ]
    assert (single_finding.sentence, single_finding.remedy) == ("/data/0.nii.gz does not exist", "Set data.data_dir.")
    assert checks(request(OWN), probe(gpus=[]), StudyFiles(n_files=5))["data"].sentence == "all 5 files are there"
    assert checks(request(), probe())["data"].sentence == "the tiny demo study, made on first use"


def test_space_is_judged_by_earlier_runs_and_never_guessed() -> None:
    run = fleets.healthy().runs()[0]
    config, fleet_run = run.config, run.run
    assert config is not None
    weights = CheckpointRecord(
        file="last.safetensors", step=9, epoch=1, at=0.0, sha256="0", bytes=2**30, config_hash="0", store_key="0"
    )
    steps = tuple(replace(step, rss_gib=2.0) for step in run.steps[:2])
    same_name = replace(run, run=replace(fleet_run, name=config.name), steps=steps, checkpoints=(weights,))
    small = probe(gpus=[], disk_free_gib=0.0, ram_available_gib=1.0)
    findings = {f.name: f for f in check_run(request(config), small, None, [same_name])}
    assert not findings["checkpoints"].well
    assert f"{config.keep_checkpoints + 3} checkpoints" in findings["checkpoints"].sentence
    assert findings["memory"].sentence == "1 process of 2.0 GiB: 2.0 GiB of 1 GiB free" and not findings["memory"].well
    large = {f.name: f for f in check_run(request(config), probe(gpus=[], ram_available_gib=500.0), None, [same_name])}
    assert large["checkpoints"].well and large["memory"].well
    other = {f.name: f for f in check_run(request(replace(config, name="other")), small, None, [same_name])}
    assert [other[name].mark for name in ("checkpoints", "memory")] == ["?", "?"]


def test_a_refusal_names_everything_and_force_overrules_some() -> None:
    failures = [
        Finding(name="data", well=False, sentence="film.mp4 does not exist", remedy="Set data.video.", needed=True),
        Finding(name="processes", well=False, sentence="6 processes on 2 CPU cores", remedy="Fewer.", needed=True),
        Finding(name="disk", well=False, sentence="3 GiB free", remedy="Free some."),
    ]
    with pytest.raises(PreflightRefused) as both:
        refuse(NODE, request(OWN), failures)
    assert both.value.message == "n cannot run mine: 2 checks failed." and both.value.exit_code == 5
    assert both.value.remedy.splitlines() == [
        "data: film.mp4 does not exist", "    Set data.video.", "  processes: 6 processes on 2 CPU cores", "    Fewer.",
    ]  # fmt: skip
    with pytest.raises(PreflightRefused) as refusal:
        refuse(NODE, request(OWN, force=True), failures)
    assert (refusal.value.message, refusal.value.remedy) == ("n: film.mp4 does not exist.", "Set data.video.")


def test_an_interpreter_that_others_can_change_is_not_run(tmp_path: Path) -> None:
    folder, ran = tmp_path / "envs" / "key" / "bin", tmp_path / "ran"
    folder.mkdir(parents=True)
    (folder / "python").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (folder / "python").chmod(0o755)
    (tmp_path / "envs").chmod(0o777)
    arguments = {"workdir": str(tmp_path), "python": None, "key": "key", "config": dump(OWN)}
    with pytest.raises(AgentRefusal, match="others could have changed"):
        agent_preflight.preflight(arguments, lambda event: None)
    assert not ran.exists()


@can_train
def test_the_node_answers_all_of_it_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    arguments = {"workdir": str(tmp_path), "python": sys.executable, "key": "", "config": dump(OWN)}
    answer = decode(json.loads(json.dumps(agent_preflight.preflight(arguments, lambda event: None))), Preflight)
    assert answer.engine.problem == "" and answer.probe.n_cpus > 0
    assert answer.files is not None and answer.files.unknown == ""
    sentences = [problem.sentence for problem in answer.files.problems]
    assert len(sentences) >= 3 and all("does not exist" in s or "No file matches" in s for s in sentences)
    assert agent_preflight.preflight({**arguments, "config": None}, lambda event: None)["files"] is None
    no_files = agent_preflight.study_files({**arguments, "python": "/no/such/python"})
    assert "/no/such/python cannot be run" in no_files["unknown"]
    assert "missing required key" in agent_preflight.study_files({**arguments, "config": "nonsense: 1\n"})["unknown"]
