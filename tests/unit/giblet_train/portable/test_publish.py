"""A published model predicts what its run predicts, and has nothing of the participants' data in it."""

import dataclasses

import msgspec
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from giblet_train.analysis.load_run import load_run
from giblet_train.data.stimulus.video import feature_names
from giblet_train.portable.inference import Inference
from giblet_train.portable.model_file import FORMAT, OLDEST_FORMAT, ModelFile, read_model, write_model
from giblet_train.portable.open_model import publish_run
from giblet_train.portable.publish import model_card, publish
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.training import process
from tests import engine_study
from tests.unit.giblet_train.training.test_trainer import run_dir_of

QUIET = lambda *_: None  # noqa: E731


def span_share(head_KV, volumes_TV):
    """Return the share of the energy of volumes that the rows of a head span: what its owner could recover of them."""
    axes_VK = np.linalg.qr(head_KV.T.astype(float))[0]
    return ((volumes_TV @ axes_VK) ** 2).sum() / (volumes_TV**2).sum()


def recovered(data, head_KV):
    """Return the share of single persons' deviations from the group that a head spans, in training and test rows."""
    bold = {s: data.in_grid_order(data.bold[s]) for s in data.subjects}
    mean_TV = np.mean(list(bold.values()), axis=0)
    rows = (data.split.train, data.split.test)
    return [np.mean([span_share(head_KV, (bold[s] - mean_TV)[r]) for s in bold]) for r in rows]


def test_no_array_of_the_file_has_a_time_axis(model, model_path):
    shape, settings = model.header.shape, model.header.settings
    features = {*shape.n_inputs.values(), *shape.n_targets.values()}
    n_decoder_inputs = 9 * shape.bottleneck_dim
    sizes = {shape.n_latents, shape.bottleneck_dim, shape.residual_dim, shape.fir_trs, shape.width, 2 * shape.width}
    sizes |= {shape.decoder_width, n_decoder_inputs, n_decoder_inputs + shape.decoder_width} | features
    sizes |= {settings.video_height * settings.video_width * 3, int(model.mask.sum()), *model.mask.shape}
    arrays = load_file(model_path)
    sizes.add(shape.n_inputs["video"] - len(feature_names()))
    assert {n for array in arrays.values() for n in array.shape} <= sizes
    assert {"heads.average", "mask", "network.linear_path.audio", "frames.components_FP"} <= set(arrays)


def test_persons_cannot_be_recovered_from_the_average_subject(trained_run):
    model = publish(trained_run, ())
    assert model.header.subjects == ("average",)
    training, held_out = recovered(trained_run.data, model.head("average"))
    assert training < 1.15 * held_out
    public = publish(trained_run, ("1",))
    bold_TV = trained_run.data.in_grid_order(trained_run.data.bold["sub-01"])
    own = [
        span_share(public.head("sub-01"), bold_TV[rows])
        for rows in (trained_run.data.split.train, trained_run.data.split.test)
    ]
    assert own[0] > 1.3 * own[1], "the attack succeeds where a person is in the file"
    assert "personal data" in " ".join(public.header.card.limitations)


def test_training_responses_cannot_be_read_off_any_array(trained_run):
    model = publish(trained_run, ())
    train = trained_run.data.split.train
    for subject in trained_run.data.subjects:
        rows_NV = trained_run.data.in_grid_order(trained_run.data.bold[subject])[train]
        unit_NV = rows_NV / np.linalg.norm(rows_NV, axis=1, keepdims=True)
        for name, array in model.arrays.items():
            if array.ndim == 2 and array.shape[1] == rows_NV.shape[1]:
                unit_KV = array / np.linalg.norm(array, axis=1, keepdims=True).clip(1e-9)
                assert np.abs(unit_NV @ unit_KV.T).max() < 0.8, name


def test_held_out_rows_are_predicted_as_by_the_run(trained_run, model):
    check_same_predictions(trained_run, model)


def test_a_network_with_attention_and_without_a_start_is_predicted_as_by_its_run(tmp_path):
    change = {"n_layers": 1, "start": "zero"}
    run_dir = run_dir_of(tmp_path, num_epochs=1, steps_per_epoch=3, warmup_steps=1, model=change)
    assert process.train(run_dir.path, engine_study.load) == 0
    run = load_run(run_dir.path, "best", engine_study.load, QUIET)
    model = publish(run, run.data.subjects)
    write_model(model, tmp_path / "m.giblet")
    check_same_predictions(run, read_model(tmp_path / "m.giblet"))


def check_same_predictions(run, model):
    inference, split = Inference.of(model), run.data.split
    [(start, stop)] = split.test_blocks
    first = max(0, start - min(inference.context_trs, split.gap_trs))
    z_TK = inference.latents({m: x_TF[first:stop] for m, x_TF in run.data.inputs.items()})[start - first :]
    for subject, own_TV in run.evaluator.predicted(run.model):
        predicted_TV = run.data.drift.apply(inference.predict(z_TK, subject), split.test_blocks)
        np.testing.assert_allclose(predicted_TV, run.data.in_grid_order(own_TV), atol=1e-5)
        assert own_TV.std() > 1e-3


def test_the_card_says_what_a_user_must_know(trained_run, model):
    card = model.header.card
    assert card.licence == "CC-BY-4.0" and card.study["n_subjects"] == 3 and card.verdict["status"]
    assert all(f.low <= f.r <= f.high and f.r_training > f.r for f in card.heads.values())
    own = np.mean([card.heads[s].r for s in trained_run.data.subjects])
    assert own == pytest.approx(card.figures["encoding"]["r_responsive"], rel=1e-4)
    assert card.heads["average"].r == pytest.approx(card.figures["encoding"]["r_average_subject"], rel=1e-4)
    text = "\n".join(model_card(model))
    assert "licence      CC-BY-4.0" in text and "giblet.audio" in text and "head         sub-02: held-out r " in text


def test_a_folder_gets_the_card_next_to_the_file(pair, tmp_path):
    path, model = publish_run(pair.run_dir, "best", (), None, tmp_path / "out", QUIET)
    assert path.name == "pair-20261129-120000-0001.giblet"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {path.name, "publish.json", "publish.txt"}
    assert msgspec.json.decode((tmp_path / "out" / "publish.json").read_bytes())["subjects"] == ["average"]
    np.testing.assert_array_equal(read_model(path).head("average"), model.head("average"))


def test_unknown_subjects_and_single_persons_are_refused(trained_run):
    with pytest.raises(ConfigError, match="no subject 9; it has sub-01, sub-02, sub-03"):
        publish(trained_run, ("9",))
    alone = dataclasses.replace(trained_run.data, bold={"sub-01": trained_run.data.bold["sub-01"]})
    with pytest.raises(ConfigError, match="an average subject would be that person"):
        publish(dataclasses.replace(trained_run, data=alone), ())


def test_damaged_and_newer_files_are_refused(model, model_path, tmp_path):
    data = model_path.read_bytes()
    damaged_file = tmp_path / "damaged.giblet"
    for content, words in (
        (data[: len(data) // 2], "damaged or no published model"),
        (data[:-100] + bytes([data[-100] ^ 1]) + data[-99:], "checksum differs"),
        (b"", "damaged or no published model"),
    ):
        damaged_file.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_model(damaged_file)
    with pytest.raises(ConfigError, match="There is no model"):
        read_model(tmp_path / "absent.giblet")
    metadata, arrays = safe_open(model_path, framework="numpy").metadata(), dict(model.arrays)
    save_file(arrays | {"responsive_V": arrays["responsive_V"][None]}, damaged_file, metadata)
    with pytest.raises(DataError, match="checksum differs"):
        read_model(damaged_file)
    save_file({"x": np.zeros(2)}, damaged_file)
    with pytest.raises(DataError, match="no giblet header"):
        read_model(damaged_file)
    for other, advice in ((FORMAT + 1, "Install a newer giblet"), (OLDEST_FORMAT - 1, "Publish its run again")):
        write_model(ModelFile(msgspec.structs.replace(model.header, format=other), model.arrays), damaged_file)
        with pytest.raises(
            DataError, match=f"has model format {other}; this giblet reads formats {OLDEST_FORMAT} to {FORMAT}"
        ) as refusal:
            read_model(damaged_file)
        assert advice in refusal.value.remedy
    broken_model = ModelFile(
        model.header, {**model.arrays, "heads.average": np.full_like(model.head("average"), np.nan)}
    )
    write_model(broken_model, damaged_file)
    with pytest.raises(DataError, match="not finite"):
        read_model(damaged_file)
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.giblet"]
