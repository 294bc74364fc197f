"""Checkpoints: whole or absent at every moment, roles that move, refusals that name what differs."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from giblet_train.distributed.tensor_file import Series
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import checkpoint_files
from giblet_train.training.checkpoint_files import BEST, LAST, PERIODIC, CheckpointDir
from tests.engine_study import config

POINTS = (
    "checkpoint-written",
    "checkpoint-synced",
    "checkpoint-renamed",
    "checkpoint-recorded",
    "checkpoint-retired",
)


def save(checkpoints, step, *roles, value=None):
    return checkpoints.save(
        Series.of({"model.w": torch.full((4,), float(step if value is None else value))}),
        state={"step": step, "best_total": 0.1 + 0.2},
        config=config(),
        config_hash="h",
        store_key="store",
        step=step,
        epoch=1,
        validation_total=None,
        roles=roles,
    )


def roles_in(folder):
    return {r.step: set(r.roles) for r in checkpoint_files.records_in(folder)}


def test_what_is_saved_is_read_back(tmp_path):
    record = save(CheckpointDir(tmp_path, 3), 5, LAST)
    state = checkpoint_files.read(tmp_path, record)
    assert torch.equal(state.tensors["model.w"], torch.full((4,), 5.0))
    assert state.state == {"step": 5, "best_total": 0.1 + 0.2}, "floats come back to the last bit"
    assert state.config == config()
    assert record.bytes == (tmp_path / record.file).stat().st_size


def test_roles_move_and_what_has_none_goes(tmp_path):
    checkpoints = CheckpointDir(tmp_path, 2)
    save(checkpoints, 1, LAST, BEST)
    save(checkpoints, 2, LAST, PERIODIC)
    assert roles_in(tmp_path) == {1: {BEST}, 2: {LAST, PERIODIC}}
    save(checkpoints, 3, LAST, PERIODIC, BEST)
    assert roles_in(tmp_path) == {2: {PERIODIC}, 3: {LAST, PERIODIC, BEST}}
    for step in (4, 5, 6):
        save(checkpoints, step, LAST, PERIODIC)
    save(checkpoints, 7, LAST)
    assert roles_in(tmp_path) == {3: {BEST}, 5: {PERIODIC}, 6: {PERIODIC}, 7: {LAST}}
    assert len(list(tmp_path.iterdir())) == 8
    assert checkpoint_files.newest(tmp_path).step == 7 and checkpoint_files.newest(tmp_path, BEST).step == 3


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path, point):
    save(CheckpointDir(tmp_path, 3), 1, LAST, BEST)
    program = f"""
        from pathlib import Path
        from tests.unit.giblet_train.training.test_checkpoint_files import save, CheckpointDir, LAST
        save(CheckpointDir(Path({str(tmp_path)!r}), 3), 2, LAST)
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=os.environ | {"GIBLET_CRASH_AT": point}, timeout=300
    )
    assert process.returncode == -signal.SIGKILL
    record = checkpoint_files.newest(tmp_path)
    state = checkpoint_files.read(tmp_path, record)
    assert record.step == (2 if point in POINTS[3:] else 1)
    assert torch.equal(state.tensors["model.w"], torch.full((4,), float(record.step)))
    best = checkpoint_files.newest(tmp_path, BEST)
    assert best.step == 1 and checkpoint_files.read(tmp_path, best)
    save(CheckpointDir(tmp_path, 3), 3, LAST)
    assert roles_in(tmp_path)[3] == {LAST}
    files = {p.name for p in tmp_path.iterdir()}
    whole = {n for r in checkpoint_files.records_in(tmp_path) for n in (r.file, r.file.replace("safetensors", "json"))}
    assert files == whole, "leftovers are cleaned at the next start"


def test_a_changed_byte_is_noticed(tmp_path):
    record = save(CheckpointDir(tmp_path, 3), 1, LAST)
    path = tmp_path / record.file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="checksum differs"):
        checkpoint_files.read(tmp_path, record)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    """A file-size limit stands for the full disk: the kernel refuses the bytes in the same place."""
    save(CheckpointDir(tmp_path, 3), 1, LAST)
    program = f"""
        import resource, signal, torch
        from pathlib import Path
        from tests.unit.giblet_train.training.test_checkpoint_files import config, CheckpointDir, LAST, Series
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        checkpoints = CheckpointDir(Path({str(tmp_path)!r}), 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoints.save(Series.of({{"model.w": torch.zeros(100_000)}}), state={{}}, config=config(),
                config_hash="h", store_key="store", step=2, epoch=1, validation_total=None, roles=(LAST,))
        except OSError:
            print("refused")
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=True
    )
    assert process.stdout == "refused\n"
    assert roles_in(tmp_path) == {1: {LAST}}
    assert len(list(tmp_path.iterdir())) == 2, "nothing half-written is left"


def test_another_configuration_is_refused_by_its_keys(tmp_path):
    state = checkpoint_files.read(tmp_path, save(CheckpointDir(tmp_path, 3), 1, LAST))
    checkpoint_files.check_fits(state, config(save_every=5, resume_from="x", threads=2), "store")
    with pytest.raises(ConfigError, match=r"learning_rate: 0.002 there, 0.1 here; model.width: 16 there, 32 here"):
        checkpoint_files.check_fits(state, config(learning_rate=0.1, model={"width": 32}), "store")
    with pytest.raises(ConfigError, match="store store, the data here are store other"):
        checkpoint_files.check_fits(state, config(), "other")


def test_resume_from_finds_a_run_a_folder_and_a_file(tmp_path):
    folder = tmp_path / "runs" / "old" / "checkpoints"
    record = save(CheckpointDir(folder, 3), 4, LAST)
    here = RunDir(tmp_path / "runs" / "new")
    for name in ("old", str(tmp_path / "runs" / "old"), str(folder / record.file)):
        assert checkpoint_files.find(name, here) == (folder, [record])
    with pytest.raises(ConfigError, match="neither a run of this node"):
        checkpoint_files.find("odl", here)


def test_the_best_of_the_run_before_is_adopted(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    best = save(CheckpointDir(old, 3), 4, LAST, BEST)
    CheckpointDir(new, 3).import_best(old, best)
    assert roles_in(new) == {4: {BEST}} and checkpoint_files.read(new, checkpoint_files.newest(new, BEST))


def test_a_checkpoint_whose_record_cannot_be_read_is_not_removed(tmp_path):
    record = save(CheckpointDir(tmp_path, 3), 4, LAST)
    (tmp_path / record.file).with_suffix(".json").write_bytes(b"{")
    CheckpointDir(tmp_path, 3)
    assert (tmp_path / record.file).exists()
