"""Configurations of the lab's older trainer, converted with a note on each change of meaning."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from giblet_train.schema.config_loader import load
from giblet_train.schema.config_migration import migrate_file
from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.parser import program
from tests.paths import ROOT

OLD = """\
learning_rate: 3e-4
batch_size: 2
num_epochs: 50
weight_decay: 1.0e-5
fmri_weight: 1.0
fmri_loss_type: mae
warmup_epochs: 2
use_mixed_precision: true
num_workers: 2
pin_memory: true
checkpoint_dir: out
resume_from: out/epoch_12.pt
data:
  subjects: [1-3, 9]
  fps: 25.0
  frame_skip: 4
  train_split: train
model:
  audio_mels: 2048
  use_encodec: true
  n_voxels: 85810
  text_dim: 3072
  decoder_dropout: 0.3
distributed:
  enabled: true
  world_size: 6
  master_addr: localhost
  master_port: '12355'
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "production_500epoch_config.yaml"
    path.write_text(OLD)
    return path


def test_an_old_file_becomes_one_that_loads(old: Path, tmp_path: Path) -> None:
    migration = migrate_file(old)
    new = tmp_path / "new.yaml"
    new.write_text(migration.text)
    config = load(new, folders=(ROOT / "configs",)).config
    assert config == migration.config
    assert (config.name, config.batch_size, config.distributed.world_size) == ("production_500epoch", 12, 6)
    assert (config.data.fps, config.data.subjects) == (6.25, (1, 2, 3, 9))
    assert (config.model.preset, config.model.dropout, config.model.compress) == ("lab", 0.3, "none")
    assert (config.model.n_voxels, config.model.text_dim, config.resume_from) == (None, None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (2, "batch_size 2 was per GPU and now counts the windows of all ranks: 12 for 6."),
        (4, "weight_decay is AdamW's"),
        (5, "losses of older logs cannot be compared"),
        (6, "model.compress is set to none"),
        (7, "the warm-up now advances with every step"),
        (12, "resume_from is left out"),
        (15, "data.fps 25 was the rate of the film and is now that of the frames used: 6.25"),
        (19, "model.n_mels 2048 is reduced to 128"),
        (20, "the audio target is a log-mel spectrogram"),
        (21, "model.n_voxels is left out"),
        (27, "distributed.master_addr is left out"),
    ],
)
def test_each_change_of_meaning_is_noted_with_its_line(old: Path, line: int, words: str) -> None:
    migration = migrate_file(old)
    assert any(note.line == line and words in note.sentence for note in migration.notes), migration.notes
    assert f"# {old.name}, line {line}: " in migration.text and words in migration.text


def test_all_problems_are_listed_at_once_and_nothing_is_written(old: Path, tmp_path: Path) -> None:
    old.write_text(OLD.replace("3e-4", "fast").replace("1-3, 9", "9-2") + "scheduler_type: plateau\nfoo: 1\n")
    new = tmp_path / "new.yaml"
    result = CliRunner().invoke(program, ["config", "migrate", str(old), "-o", str(new)])
    assert isinstance(result.exception, ConfigError) and not new.exists()
    remedy = result.exception.remedy
    assert "has 4 problems" in result.exception.message
    for line, key in ((1, "learning_rate"), (14, "data.subjects"), (29, "scheduler_type"), (30, "foo")):
        assert f"line {line}: " in remedy and key in remedy


def test_a_file_of_today_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "today.yaml"
    path.write_text("extends: base\nbatch_size: 2\ndistributed: {world_size: 6}\n")
    with pytest.raises(ConfigError, match="nothing to convert"):
        migrate_file(path)


def test_an_existing_file_is_not_overwritten(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    assert CliRunner().invoke(program, ["config", "migrate", str(old), "-o", str(new)]).exit_code == 0
    text = new.read_text()
    again = CliRunner().invoke(program, ["config", "migrate", str(old), "-o", str(new)])
    assert isinstance(again.exception, ConfigError) and new.read_text() == text
