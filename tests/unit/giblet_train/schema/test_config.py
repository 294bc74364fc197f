"""Configurations: strict, complete, in the lab's vocabulary, with every refusal in words."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from giblet_train.schema import config as configs
from giblet_train.schema import config_loader, feature_spaces, yaml_io
from giblet_train.schema.config import Config, Section
from giblet_train.schema.errors import ConfigError
from tests.paths import ROOT

CONFIGS = ROOT / "configs"
SHIPPED = sorted(p for p in CONFIGS.glob("*.yaml") if "example" not in p.name and p.name != "ladder.yaml")


def load(text: str, tmp_path: Path, **overrides: Any) -> config_loader.Loaded:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    (tmp_path / "base.yaml").write_text((CONFIGS / "base.yaml").read_text())
    return config_loader.load(path, overrides)


def test_base_yaml_spells_out_exactly_the_defaults_of_the_code() -> None:
    values = yaml_io.load_file(CONFIGS / "base.yaml")
    assert values == configs.to_mapping(Config(name="base"))


def test_base_needs_no_file(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: base\nname: mine\nlearning_rate: 0.01\n")
    assert config_loader.load(tmp_path / "mine.yaml").config == Config(name="mine", learning_rate=0.01)


def test_base_yaml_comments_every_key() -> None:
    lines = (CONFIGS / "base.yaml").read_text().splitlines()
    bare_lines = [line for line in lines if re.match(r" *\w+: \S", line) and "#" not in line]
    assert not bare_lines


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = config_loader.load(path).config
    assert config.name == path.stem
    config_file = tmp_path / "config.yaml"
    config_file.write_text(configs.dump(config))
    assert config_loader.read_resolved(config_file) == config


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rte: 1.0", 'unknown key "learning_rte", did you mean "learning_rate"?'),
        ("data:\n  subjcts: 3", 'unknown key "data.subjcts", did you mean "subjects"?'),
        ("n_mels: 64", 'unknown key "n_mels"; it belongs under "model:"'),
        ("criteria:\n  drop: {kind: loss_drop, treshold: 1}", 'unknown key "criteria.drop.treshold"'),
        ("data:\n  features: {type: {file: a.npy}}", "the name type means something else in giblet"),
        ("data:\n  features: {My-Clip: {file: a.npy}}", "'My-Clip' is no name of a feature space"),
        (
            "data:\n  features: {clip: {file: a.npy, model: b}}",
            "names one of extractor, file and model; here: file and model",
        ),
        ("data:\n  features: {clip: {model: a, layer: [3, 3]}}", "names no layer or one twice"),
        ("data:\n  features: {clip: {model: a, rows_per_s: 2}}", "is the rate of a file; clip comes from a model"),
        ("data:\n  features: {clip: {layer: x, file: a}}", '"data.features.clip.layer": expected'),
        ("data:\n  spaces: [vidoe]", 'there is no feature space vidoe, did you mean "video"?'),
        ("data:\n  stimuli: {a: {}, b: {}}\n  features: {x: {file: a.npy}}", "is one file for 2 stimuli"),
        ("learning_rate: fast", '"learning_rate": expected a number, got text'),
        ("learning_rate: 1e400", '"learning_rate": inf is too large for a number'),
        ("learning_rate: -1", '"learning_rate": expected a number > 0'),
        ("name: Bad Name", '"name": expected 1 to 40 small letters, digits, _ and -'),
        ("min_lr: 1", "min_lr 1 is above learning_rate"),
        ("warmup_epochs: 20", "leaves none of the 20 epochs at the base rate"),
        ("split: {fold: 5}", "split.fold 5 does not exist"),
        ("fmri_loss_type: mae", "set model.compress: none"),
        ("fmri_weight: 0\nreconstruction_weight: 0", "every loss weight is 0"),
        ("model: {window_trs: 12, context_trs: 12}", "is all context"),
        ("data: {runs: runs.tsv, bids: {task: film, confounds: [csf]}}", "only its confounds"),
        ("data: {subjects: 5-2}", "\"data.subjects\" has '5-2'"),
        ("data: {subjects: [1, 1-3]}", "names a subject twice"),
        ("distributed: {master_port: 29500}", '"distributed.master_port" may only be null'),
        ("model: {use_encodec: true}", "needs EnCodec weights"),
        ("a: 1\na: 2", "the key `a` appears twice"),
        ("extends: bass", 'extends "bass", which does not exist, did you mean "base"?'),
        ("extends: mine", "extends itself"),
        ("seed: [1", "line 1"),
        ("- 1", "does not consist of `key: value` lines"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_words(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(text, tmp_path)
    assert sentence in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_an_overriding_key_is_checked_like_a_written_one(tmp_path: Path) -> None:
    config = load("extends: base", tmp_path, **{"data.tr": 2.0, "num_epochs": 3})
    assert (config.config.data.tr, config.config.num_epochs) == (2.0, 3)
    assert config.provenance["data.tr"] == "--set"
    for key, value, sentence in (
        ("data.trr", 2.0, '^--set: unknown key "data.trr", did you mean "tr"'),
        ("dta.tr", 2.0, '^--set: unknown key "dta"'),
        ("data.tr", "soon", r'^--set: "data\.tr": expected a number or null, got text'),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load("extends: base", tmp_path, **{key: value})
    with pytest.raises(ConfigError, match=r'mine\.yaml, line 2: unknown key "data.trr"'):
        load("extends: base\ndata: {trr: 2.0}", tmp_path, num_epochs=3)


def test_a_split_that_the_tiny_study_cannot_have_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    mine = "extends: base\nsplit: {usable_trs: 327}"
    with pytest.raises(ConfigError, match=r"tiny has 60 TRs, fewer than split\.usable_trs 327") as refusal:
        load(mine, tmp_path, **{"data.simulate": "tiny"})
    settings = [word for word in refusal.value.remedy.split() if "=" in word]
    fitting = {key: yaml_io.load_text(f"v: {value}", "")["v"] for key, value in (s.split("=") for s in settings)}
    assert load(mine, tmp_path, **{"data.simulate": "tiny"}, **fitting).config.split.usable_trs is None


def test_numbers_and_subjects_as_people_write_them(tmp_path: Path) -> None:
    config = load("learning_rate: 3e-4\ndata: {subjects: [1-3, 9]}", tmp_path)
    assert config.config.learning_rate == 0.0003
    assert config.config.data.subjects == (1, 2, 3, 9)
    assert any("is read as [1, 2, 3, 9]" in note for note in config.notes)


def test_the_labs_old_keys_are_answered_with_a_sentence_each(tmp_path: Path) -> None:
    old = """
        checkpoint_dir: out
        num_workers: 4
        pin_memory: true
        data: {frame_skip: 4, train_split: 0.8, val_split: 0.2}
        model: {decoder_dropout: 0.4, audio_mels: 80, use_encodec: false, gradient_checkpointing: true}
        distributed: {enabled: true, world_size: 6, master_addr: null, master_port: null}
    """
    config = load("\n".join(line[8:] for line in old.splitlines()), tmp_path)
    assert config.config.model.dropout == 0.4
    assert config.config.model.n_mels == 80
    assert config.config.distributed.world_size == 6
    for key in ("checkpoint_dir", "num_workers", "pin_memory", "data.frame_skip", "train_split", "decoder_dropout"):
        assert any(key in note for note in config.notes), key


def test_all_problems_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
extends: base
learning_rate: fast
data:
  trr: 1.5
  subjects: 5-2
num_epochs: 0
criteria:
  drop: {kind: loss_fall, threshold: 0.1}
distributed: {master_port: 29500}
"""
    with pytest.raises(ConfigError) as refusal:
        load(text, tmp_path)
    assert "has 6 problems" in refusal.value.message
    mine = tmp_path / "mine.yaml"
    for line, words in (
        (2, '"learning_rate": expected a number, got text.'),
        (4, 'unknown key "data.trr"'),
        (5, "\"data.subjects\" has '5-2'. Write all, 3, 1-17"),
        (6, '"num_epochs": expected a whole number >= 1'),
        (8, "\"criteria.drop.kind\": 'loss_fall' is none of loss_drop"),
        (9, '"distributed.master_port" may only be null'),
    ):
        assert f"{mine}, line {line}: {words}" in refusal.value.remedy


def test_hash_and_diff_see_what_can_change_a_result(tmp_path: Path) -> None:
    base = load("seed: 1", tmp_path).config
    other_name = msgspec.structs.replace(base, name="other", note="words")
    faster = msgspec.structs.replace(base, learning_rate=0.5)
    assert configs.content_hash(base) == configs.content_hash(other_name) != configs.content_hash(faster)
    assert configs.diff(base, faster) == {"learning_rate": (0.001, 0.5)}
    assert configs.diff(base, other_name) == {}


def test_the_weights_of_the_components_add_up_as_documented() -> None:
    config = Config(name="w", fmri_weight=0.5, reconstruction_weight=2.0, video_weight=1.0, audio_weight=3.0)
    assert config.component_weights() == pytest.approx({"fmri": 0.5, "video": 0.4, "audio": 1.2, "text": 0.4})


def test_no_section_accepts_an_unknown_field() -> None:
    for section in Section.__subclasses__():
        assert section.__struct_config__.forbid_unknown_fields
        assert section.__struct_config__.frozen


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"model": {"kind": "trunkk"}}, "\"model.kind\": 'trunkk' is none of trunk, dense."),
        ({"data": {"simulate": "smal"}}, "none of tiny, small, full, scale."),
        ({"criteria": {"mine": {"kind": "loss_drop", "split": "test"}}}, "'test' is none of train, held-out."),
    ],
)
def test_a_word_that_is_no_choice_is_answered_with_the_choices(value: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        config_loader.from_mapping({"name": "mine", **value})


def test_extends_distinguishes_a_path_from_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: small.yaml\nname: mine\n")
    with pytest.raises(ConfigError) as refusal:
        config_loader.load(tmp_path / "mine.yaml")
    assert "small.yaml" in refusal.value.message and "without folder and .yaml" in refusal.value.remedy


def test_no_space_has_a_name_that_the_network_needs() -> None:
    torch = pytest.importorskip("torch")
    from giblet_train.model.linear_encoder import LinearEncoder

    modules = (torch.nn.ModuleDict(), LinearEncoder({}))
    names = {n for module in modules for n in dir(module) if re.fullmatch(configs.SPACE_PATTERN, n)}
    assert {n for n in names if not n.startswith("register_")} <= feature_spaces.RESERVED
