"""A trained run inspected from a laptop over a real sshd; and how an inspection lives on its node.

In the tests of its life a shell script stands in for the engine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from giblet_train.schema.config_loader import load
from giblet_train.schema.errors import ConfigError, GibletError, PreflightRefused
from giblet_train.schema.records import CheckpointRecord, encode
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import EngineFacts, Holdings
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import NodeFacts
from giblet_tui.results import remote_evaluation as inspection
from giblet_tui.results.remote_evaluation import EvaluationJob, EvaluationRequest
from tests import fleets, rundirs
from tests.cluster.laptop import GIBLET, Laptop
from tests.cluster.nodes import FaultProxy, LoopbackNode, processes, wait_until

pytestmark = pytest.mark.timeout(600)
ENGINE = """\
#!/bin/sh
[ "$1" = -c ] && exec {python} "$@"
while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done
echo "on '$CUDA_VISIBLE_DEVICES'" >&2
until [ -e {gate} ]; do sleep 0.05; done
echo "the gate is open" >&2
mkdir -p "$out" && echo '{{"r": 0.5}}' >"$out/evaluation.json" && echo "r  0.500" >"$out/evaluation.txt"
exit $(cat {gate})
"""


@pytest.fixture
def member_ids(laptop: Laptop, tensor01: LoopbackNode) -> list[str]:
    """Return two short runs of tensor01, members of an ensemble, that have ended with their best checkpoints."""
    laptop.name_nodes(f"tensor01:\n  python: {sys.executable}\n")
    settings = ("num_epochs=1", "warmup_epochs=0.5", "device=cpu")
    words = ("launch", "tensor01", "./small.yaml", *(word for setting in settings for word in ("--set", setting)))
    refusal = laptop.giblet(*words, "--ensemble", "2")
    assert refusal.returncode == 5 and "would train 2 members on the CPU, all at once" in refusal.stderr
    result = laptop.giblet(*words, "--ensemble", "2", "--force")
    assert result.returncode == 0, result.stderr
    run_ids = result.stdout.split()
    assert len(run_ids) == 2 and f"giblet ensemble {' '.join(run_ids)}" in result.stderr
    run_dirs = [tensor01.home / "giblet" / "runs" / run_id for run_id in run_ids]
    wait_until(lambda: all((run_dir / "exit.json").exists() for run_dir in run_dirs), what="the end of both")
    assert [laptop.run(run_id)["state"] for run_id in run_ids] == ["finished", "finished"]
    configs = [load(run_dir / "config.yaml").config for run_dir in run_dirs]
    assert [(c.seed, c.split.validation_block) for c in configs] == [(0, 0), (1, 1)]
    return run_ids


def test_what_runs_have_learnt_is_seen_from_a_laptop(
    member_ids: list[str], laptop: Laptop, tensor01: LoopbackNode
) -> None:
    answer = laptop.giblet("ensemble", *member_ids, "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["members"] == {"0": member_ids}
    trained_id = member_ids[0]
    shortest = next(trained_id[:n] for n in range(1, len(trained_id) + 1) if trained_id[:n] != member_ids[1][:n])
    verbs = {
        "evaluate": [trained_id],
        "lesion": ["tensor01", trained_id, "--draws", "20", "--region", "auditory"],
        "rebuild": ["tensor01", shortest],
        "publish": [trained_id],
    }
    processes = {
        verb: subprocess.Popen(
            [GIBLET, verb, *words, *(["-o", "m.giblet"] if verb == "publish" else ["--to", verb]), "--json"],
            env=laptop.environment, cwd=laptop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for verb, words in verbs.items()
    }  # fmt: skip
    outputs = {verb: process.communicate(timeout=240) for verb, process in processes.items()}
    for verb, (output, messages) in outputs.items():
        assert processes[verb].returncode == 0, messages
        assert re.search(rf"^{trained_id}: best checkpoint, step \d+, epoch \d+$", messages, re.M)
        assert "at work on tensor01, on the CPU" in messages
        facts = json.loads(output)
        assert (facts["card"] if verb == "publish" else facts)["run_id"] == trained_id
    header = (laptop.folder / "m.giblet").read_bytes()[8:].split(b'"heads.average"')[0]
    assert b"__metadata__" in header and not list(laptop.folder.glob(".m.giblet*"))
    files = {verb: {path.name for path in (laptop.folder / verb).iterdir()} for verb in verbs if verb != "publish"}
    assert files["evaluate"] > {"evaluation.json", "evaluation.txt", "r.nii.gz"}
    assert files["lesion"] == {"lesion.json", "lesion.txt"}
    assert files["rebuild"] > {"index.html", "frames.png", "sound_measured.wav", "words.json"}
    assert (laptop.folder / "rebuild" / "frames.png").read_bytes().startswith(b"\x89PNG")

    again = laptop.giblet("evaluate", trained_id)
    assert again.returncode == 0 and "tensor01 already has the results" in again.stderr
    assert "Film reconstructed" in again.stdout
    [folder] = (laptop.folder / trained_id).glob("evaluate-*")
    assert re.fullmatch(r"evaluate-step\d+-[0-9a-f]{8}", folder.name)

    workdir = tensor01.home / "giblet"
    shutil.copy(laptop.folder / "m.giblet", workdir / "m.giblet")
    [film] = workdir.glob("studies/*/film.mp4")
    there = ("m.giblet", str(film.relative_to(workdir)), "--without", "text", "--node", "tensor01", "-o", "predicted")
    predicted = laptop.giblet("predict", *there)
    assert predicted.returncode == 0, predicted.stderr
    assert (workdir / "predicted" / "dataset_description.json").is_file()
    assert "predicted/sub-average/func" in predicted.stdout
    again = laptop.giblet("predict", *there)
    assert again.returncode == 2 and "predicted" in again.stderr

    series = min(workdir.glob("studies/*/bold/*.nii.gz")).relative_to(workdir)
    person = (
        "m.giblet",
        "--bold",
        str(series),
        "--film",
        there[1],
        "--without",
        "text",
        "--node",
        "tensor01",
        "--json",
    )
    too_short = laptop.giblet("new-subject", *person, "--name", "07", "-o", "07.giblet")
    assert too_short.returncode == 2 and "a head needs at least" in too_short.stderr
    assert not (workdir / "07.giblet").exists()
    decoded = laptop.giblet("decode", *person, "-o", "decoded")
    assert decoded.returncode == 0, decoded.stderr
    assert {"index.html", "frames.png", "sound.wav"} <= {path.name for path in (workdir / "decoded").iterdir()}
    assert set(json.loads(decoded.stdout)["figures"]) == {"video", "audio"}

    inspections = workdir / "inspections" / trained_id
    assert inspections.is_dir()
    assert laptop.giblet("rm", trained_id, "--yes").returncode == 0
    assert not inspections.exists()


class Bench:
    """An ended run on a node, and a stand-in for its engine: it ends once its gate opens, with the code in there."""

    def __init__(self, node: Node, home: Path) -> None:
        self.node, self.workdir, self.gate = node, home / "giblet", home / "gate"
        self.gate.unlink(missing_ok=True)
        self.engine = home / "engine"
        self.engine.write_text(ENGINE.format(python=sys.executable, gate=self.gate))
        self.engine.chmod(0o755)
        suffix = os.urandom(2).hex()
        record = CheckpointRecord(
            file="step-00000040.safetensors", step=40, epoch=2, at=0.0, sha256="0" * 64, bytes=7, config_hash="c",
            store_key="s", roles=("best", "last"),
        )  # fmt: skip
        snapshot = fleets.run(suffix=suffix, node=node.name)
        argv = (str(self.engine), "-m", "giblet_train", "train")
        self.run = replace(snapshot, run=replace(snapshot.run, argv=argv), checkpoints=(record,))
        folder = rundirs.write(self.workdir, self.run)
        folder.checkpoints.mkdir()
        (folder.checkpoints / record.file).write_bytes(b"weights")
        (folder.checkpoints / record.file).with_suffix(".json").write_bytes(encode(record))
        self.said: list[str] = []

    def inspection(self, **question: Any) -> EvaluationJob:
        engine = EngineFacts(python=str(self.engine), version="0", fingerprint="f", torch=None)
        return inspection.plan(EvaluationRequest(verb="evaluate", **question), [self.run], self.node, engine)

    def attend(self, planned: EvaluationJob) -> tuple[threading.Thread, list[Any]]:
        """Wait for the evaluation in a thread, whose list gets the result."""
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(inspection.wait_for(planned, self.said.append)))
        thread.start()
        return thread, results

    def at_work(self) -> list[str]:
        return [command for _, _, command in processes() if str(self.engine) in command]

    def open(self, code: int = 0) -> None:
        aside = self.gate.with_suffix(".new")
        aside.write_text(f"{code}\n")
        aside.rename(self.gate)


@pytest.fixture
def bench(tensor02: LoopbackNode, proxy: FaultProxy) -> Iterator[Bench]:
    new_bench = Bench(proxy.node(), tensor02.home)
    yield new_bench
    new_bench.open()
    wait_until(lambda: not new_bench.at_work(), what="the end of the stand-in")


def test_a_lost_link_costs_no_word_of_it(bench: Bench, proxy: FaultProxy, tmp_path: Path) -> None:
    planned = bench.inspection()
    thread, results = bench.attend(planned)
    wait_until(lambda: "on ''" in bench.said, what="its first word")
    proxy.cut()
    bench.open()
    thread.join(60)
    own = [line for line in bench.said if line in ("on ''", "the gate is open")]
    assert own == ["on ''", "the gate is open"]
    assert any("Connecting again; it continues there." in line for line in bench.said)
    assert results[0].code == 0
    paths = inspection.download(planned, results[0], tmp_path / "here", bench.said.append)
    assert [path.name for path in paths] == ["evaluation.json", "evaluation.txt"]
    assert json.loads(paths[0].read_text()) == {"r": 0.5}


def test_two_who_ask_the_same_share_one_and_it_can_be_ended(bench: Bench) -> None:
    planned = bench.inspection()
    first, results = bench.attend(planned)
    wait_until(lambda: "on ''" in bench.said, what="its first word")
    second, others = bench.attend(planned)
    wait_until(lambda: any("on the CPU; joined" in line for line in bench.said), what="the second one's word")
    assert len({command for command in bench.at_work() if "/bin/sh -c" in command}) == 1
    with connect(bench.node) as connection:
        holdings = connection.call("holdings", {"workdir": bench.node.workdir}, Holdings)
    reasons = {run.name: run.kept for run in holdings.runs}
    assert reasons[bench.run.run.run_id] == "it is being inspected"
    assert inspection.cancel(planned)
    first.join(120)
    second.join(120)
    assert [result.code for result in (*results, *others)] == [None, None] and not bench.at_work()
    assert "was ended on tensor02-by-proxy" in str(inspection.failure(planned, None))
    assert not inspection.cancel(planned)


def test_what_failed_is_started_again_and_what_was_found_is_kept(bench: Bench) -> None:
    planned = bench.inspection()
    for code, begins in ((3, True), (0, True), (0, False)):
        bench.open(code)
        bench.said.clear()
        assert inspection.wait_for(planned, bench.said.append).code == code
        assert any(line.startswith("at work on") for line in bench.said) == begins
    assert bench.said == ["tensor02-by-proxy already has the results"]


def test_only_a_free_gpu_is_taken(bench: Bench, tensor02: LoopbackNode) -> None:
    """nvidia-smi is a recording: GPU 0 is somebody's, GPU 1 nobody's."""
    tensor02.record_gpus(
        "case $1 in --query-gpu*) echo '0, GPU-a, H100, 9000, 81559, 90, 60'; echo '1, GPU-b, H100, 4, 81559, 0, 30';;",
        "*) echo 'GPU-a, 1, 9000';; esac",
    )
    bench.open()
    try:
        inspection.wait_for(bench.inspection(), bench.said.append)
        assert "at work on tensor02-by-proxy, on GPU 1 (H100)" in bench.said and "on 'GPU-b'" in bench.said
        with pytest.raises(GibletError, match="GPU 0 is in use") as refusal:
            inspection.wait_for(bench.inspection(gpu=0, role="last"), bench.said.append)
        assert refusal.value.exit_code == 5
        inspection.wait_for(bench.inspection(gpu="cpu", role="last"), bench.said.append)
        assert bench.said[-2:] == ["on ''", "the gate is open"]
    finally:
        (tensor02.bin / "nvidia-smi").unlink()


def test_ctrl_c_leaves_it_at_work_and_says_how_to_come_back(
    bench: Bench, laptop: Laptop, tensor02: LoopbackNode
) -> None:
    laptop.name_nodes(f"tensor02:\n  python: {sys.executable}\n")
    words = [GIBLET, "evaluate", "tensor02", bench.run.run.run_id]
    with (laptop.folder / "talk").open("w") as talk:
        asking = subprocess.Popen(
            words,
            env=laptop.environment,
            cwd=laptop.folder,
            stdout=subprocess.PIPE,
            stderr=talk,
            start_new_session=True,
        )
    wait_until(lambda: "on ''" in (laptop.folder / "talk").read_text(), what="its first word")
    os.killpg(asking.pid, signal.SIGINT)
    assert asking.communicate(timeout=120)[0] == b"" and asking.returncode == 130
    transcript = (laptop.folder / "talk").read_text()
    again = f"giblet evaluate tensor02 {bench.run.run.run_id}"
    assert f"continues on tensor02 without this terminal.\nnext:\n  {again}\n  {again} --end\n" in transcript
    assert bench.at_work()
    bench.open()
    result = laptop.giblet(*again.split()[1:])
    assert (result.returncode, result.stdout) == (0, "r  0.500\n"), result.stderr
    assert laptop.giblet(*again.split()[1:], "--json").stdout == '{"r": 0.5}\n'


def test_what_cannot_be_asked_is_refused_in_words(tmp_path: Path) -> None:
    node = Node(name="local", host="localhost", transport="local", workdir=str(tmp_path))
    engine = EngineFacts(python="/python", version="0", fingerprint="f", torch=None)
    run = fleets.run()
    with pytest.raises(ConfigError, match="has no best checkpoint yet"):
        inspection.plan(EvaluationRequest(verb="evaluate"), [run], node, engine)
    record = CheckpointRecord(
        file="step-00000040.safetensors", step=40, epoch=2, at=0.0, sha256="0" * 64, bytes=7, config_hash="c",
        store_key="s", roles=("best",),
    )  # fmt: skip
    run = replace(run, checkpoints=(record,))
    assert inspection.checkpoint_sentence(run, record, "best").endswith(
        "best checkpoint, step 40, epoch 2; the run continues untouched"
    )
    with pytest.raises(ConfigError, match="There is no file"):
        inspection.plan(
            EvaluationRequest(verb="lesion", inputs={"--atlas": tmp_path / "none.nii"}), [run], node, engine
        )
    on_cpu = replace(run, config=replace(run.config, device="cpu"))
    with pytest.raises(ConfigError, match="--gpu 1, but the run's configuration has device: cpu"):
        inspection.plan(EvaluationRequest(verb="evaluate", gpu=1), [on_cpu], node, engine)
    regionless = replace(run, config=replace(run.config, data=replace(run.config.data, simulate=None, atlas=None)))
    with pytest.raises(ConfigError, match="no atlas, so no region has a name"):
        inspection.plan(EvaluationRequest(verb="lesion"), [regionless], node, engine)
    parcel_run = replace(run, config=replace(run.config, data=replace(run.config.data, atlas="atlas.nii.gz")))
    names = {
        inspection.plan(EvaluationRequest(verb="lesion", options=options), [parcel_run], node, engine).name
        for options in (("--draws", "20"), ("--draws", "30"))
    }
    assert len(names) == 2 and all(name.startswith("lesion-step40-") for name in names)
    greedy = replace(run, steps=(replace(run.steps[-1], rss_gib=40.0),))
    with pytest.raises(PreflightRefused, match=r"used 40\.0 GiB of memory"):
        inspection.refuse_without_memory(greedy, NodeFacts(ram_total_gib=64.0, ram_available_gib=8.0))
