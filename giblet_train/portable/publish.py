"""Make a published model of a trained run: everything that predictions need, and nothing of its participants' data.

The network is primal already: its closed-form start is stored as filters over features and lags, not as weights of
training rows. Heads are expanded to voxels, because the basis in which they are trained is made of training responses.
K latents, V voxels, T TRs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

import giblet_train
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.stimulus.external import identity
from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.evaluation.metrics import contributions_of
from giblet_train.model.network import BrainModel
from giblet_train.monitoring.verdict import read_verdict
from giblet_train.portable.inference import NETWORK
from giblet_train.portable.model_file import (
    AVERAGE,
    FORMAT,
    Card,
    FeatureSpace,
    Header,
    HeadFigures,
    ModelFile,
    Settings,
    Shape,
)
from giblet_train.schema.config import FeatureSource
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import EvaluationMetric, encode

Singles = NDArray[np.float32]
CHUNK_TRS = 256
FEWEST_FOR_AVERAGE = 2
NO_LICENCE = "not stated"


def publish(
    run: LoadedRun, subjects: Sequence[str] = (), licence: str | None = None, figures: Mapping[str, Any] | None = None
) -> ModelFile:
    """Return the published model of a run.

    Args:
        run: the run.
        subjects: whose heads to include, as `1`, `01` or `sub-01`, next to the average subject's; none by default,
            because a head describes one person's brain.
        licence: licence of the model.
        figures: of `evaluated`, for the card.

    Raises ConfigError for a network without voxel heads, an unknown subject, or a study of one subject of whom
    nothing was asked for: its average would be that person.
    """
    network = run.model
    if not isinstance(network, BrainModel):
        raise ConfigError(
            f"A network of model.kind {run.config.model.kind} predicts from layers of its own and has no heads in "
            "voxel space.",
            "Publish a run with model.kind: trunk.",
        )
    labels, noun = _labels(run.data, subjects), run.data.study.geometry.noun
    heads = dict(_heads(run, network, labels))
    header = Header(
        format=FORMAT,
        tr_s=run.data.study.tr_s,
        subjects=tuple(heads),
        n_subjects=len(run.data.subjects),
        features=_features(run),
        settings=_settings(run),
        shape=_shape(run, network),
        geometry=run.data.study.geometry,
        detrend=run.data.drift.kind,
        gap_s=run.config.split.gap_trs * run.data.study.tr_s,
        units=f"standard deviations of each {noun.one}"
        if run.config.data.normalize_fmri
        else "units of the BOLD files",
        card=_card(run, figures or {}, _figures_of_heads(run, network, heads), licence),
    )
    arrays = {f"{NETWORK}{name}": x.cpu().numpy() for name, x in network.state_dict().items() if not _is_head(name)}
    arrays |= {f"heads.{label}": run.data.in_grid_order(head_KV) for label, head_KV in heads.items()}
    arrays |= _scales(run.data)
    arrays |= {
        "mask": run.data.mask,
        "responsive_V": run.data.in_grid_order(run.data.responsive_V),
    }
    return ModelFile(header, arrays)


def evaluated(run: LoadedRun) -> dict[str, Any]:
    """Return the held-out figures of a run: encoding, decoding, baselines, skill."""
    figures = run.evaluator.evaluation(run.model, lambda: None)
    record = EvaluationMetric(seq=0, step=run.record.step, epoch=run.record.epoch, at=run.record.at, **figures)
    finite = msgspec.json.decode(encode(record))
    return {key: finite[key] for key in ("step", "epoch", "folds", "encoding", "decoding", "baselines", "skill")}


def model_card(model: ModelFile) -> list[str]:
    """Format the model card as text."""
    header, card = model.header, model.header.card
    study = card.study
    features = "; ".join(f"{m}: {f.extractor} ({f.version})" for m, f in header.features.items())
    return [
        f"Model of run {card.run_id}, format {header.format}",
        f"study        {study['name']}: {study['n_subjects']} subjects, {study['n_trs']} rows of {header.tr_s:g} s",
        f"predicts     {int(model.mask.sum())} of {header.geometry.description}, in {header.units}",
        f"features     {features}",
        *(
            f"head         {label}: held-out r {f.r:.3f} [{f.low:.3f}, {f.high:.3f}], training rows {f.r_training:.3f}"
            for label, f in card.heads.items()
        ),
        f"verdict      {card.verdict['status']}",
        f"licence      {card.licence}",
        f"stimulus     {card.credit or NO_LICENCE}",
        *(f"limitation   {sentence}" for sentence in card.limitations),
    ]


def _labels(data: PreparedSplit, subjects: Sequence[str]) -> list[str]:
    if not subjects and len(data.subjects) < FEWEST_FOR_AVERAGE and data.subjects != (AVERAGE,):
        raise ConfigError(
            f"The only subject of this run is {data.subjects[0]}: an average subject would be that person.",
            f"If the person agrees: --subjects {data.subjects[0].removeprefix('sub-')}",
        )
    by_name = {s.removeprefix("sub-").lstrip("0") or s: s for s in data.subjects}
    unknown = [s for s in subjects if s.removeprefix("sub-").lstrip("0") not in by_name]
    if unknown:
        raise ConfigError(
            f"The run has no subject {', '.join(unknown)}; it has {', '.join(data.subjects)}.", "Name some of these."
        )
    return [by_name[s.removeprefix("sub-").lstrip("0")] for s in subjects]


def _heads(run: LoadedRun, network: BrainModel, labels: Sequence[str]) -> Iterator[tuple[str, Singles]]:
    """Yield the average subject's head (K, V), and those of the labels."""
    weight_KR = network.heads.weight_KR.detach().cpu().numpy()
    basis = run.evaluator.compression
    if len(run.data.subjects) >= FEWEST_FOR_AVERAGE or run.data.subjects == (AVERAGE,):
        average_KV = basis.expand_average(weight_KR)
        if average_KV is None or len(run.data.subjects) == 1:
            average_KV = np.mean([basis.expand(s, weight_KR) for s in run.data.subjects], axis=0, dtype=np.float32)
        yield AVERAGE, average_KV
    for label in dict.fromkeys(labels):
        if label != AVERAGE:
            yield label, basis.expand(label, weight_KR)


def _is_head(name: str) -> bool:
    return name.startswith("heads.")


def _figures_of_heads(run: LoadedRun, network: BrainModel, heads: Mapping[str, Singles]) -> dict[str, HeadFigures]:
    """Return the held-out and training correlation of each head over responsive voxels."""
    split = run.data.split
    test_TK, train_TK = (run.evaluator.latents(network, blocks) for blocks in (split.test_blocks, split.train_blocks))
    figures = {}
    for label, head_KV in heads.items():
        people = run.data.subjects if label == AVERAGE else (label,)
        contributions_T = _products(run.data, test_TK @ head_KV, people, split.test, split.test_blocks)
        low, high = interval_of_sum(contributions_T)
        training = _products(run.data, train_TK @ head_KV, people, split.train, split.train_blocks).sum()
        figures[label] = HeadFigures(r=float(contributions_T.sum()), low=low, high=high, r_training=float(training))
    return figures


def _products(
    data: PreparedSplit,
    predicted_TV: Singles,
    people: Sequence[str],
    rows: NDArray[np.intp],
    blocks: Sequence[tuple[int, int]],
) -> NDArray[np.float64]:
    """Return each row's contribution (T,) to r over responsive voxels and people."""
    voxels_V = data.responsive_V if data.responsive_V.any() else np.ones(data.n_voxels, bool)
    predicted_TV = data.drift.apply(predicted_TV[:, voxels_V], blocks)
    total_T = np.zeros(len(rows))
    for subject in people:
        own_T = data.present[subject][rows] if data.present else np.ones(len(rows), bool)
        total_T[own_T] += contributions_of(predicted_TV[own_T], data.bold[subject][rows][own_T][:, voxels_V]) / len(
            people
        )
    return total_T


def _features(run: LoadedRun) -> dict[str, FeatureSpace]:
    sources = run.config.data.all_sources()
    return {m: _feature_space(m, x_TF.shape[1], sources.get(m), run) for m, x_TF in run.data.inputs.items()}


def _feature_space(modality: str, n_features: int, source: FeatureSource | None, run: LoadedRun) -> FeatureSpace:
    if source is None:
        name = run.config.data.text_model if modality == "text" else f"giblet.{modality}"
        made_by = f"giblet {giblet_train.__version__}"
        return FeatureSpace(source="giblet", extractor=name, version=made_by, n_features=n_features)
    codes = run.data.study.codes.get(modality)
    if source.model is not None:
        return FeatureSpace(
            source="model",
            extractor=source.model,
            version=f"transformers {version('transformers')}",
            n_features=n_features,
            reads=source.reads,
            layer=source.layer,
            context_words=source.context_words,
        )
    if source.extractor is None:
        return FeatureSpace(
            source="file",
            extractor="file",
            version="",
            n_features=n_features,
            codes=codes,
            rows_per_s=source.rows_per_s,
        )
    package = identity(source)["package"] or f"giblet {giblet_train.__version__}"
    return FeatureSpace(
        source="extractor", extractor=source.extractor, version=package, n_features=n_features, codes=codes
    )


def _settings(run: LoadedRun) -> Settings:
    data, model = run.config.data, run.config.model
    return Settings(
        fps=data.fps,
        video_height=model.video_height,
        video_width=model.video_width,
        n_mels=model.n_mels,
        text_model=data.text_model,
        apply_hrf=data.apply_hrf,
    )


def _shape(run: LoadedRun, network: BrainModel) -> Shape:
    size, path = run.setup.shape, network.linear_path
    expansion = path.expansion if path is not None else None
    longest = max(stop - start for start, stop in run.data.split.test_blocks)
    return Shape(
        width=size.width,
        n_layers=size.n_layers,
        n_attention_heads=size.n_attention_heads,
        bottleneck_dim=size.bottleneck_dim,
        residual_dim=size.residual_dim,
        window_trs=size.window_trs,
        context_trs=size.context_trs,
        fir_trs=size.fir_trs,
        decoder_width=size.decoder_width,
        has_start=path is not None,
        n_latents=run.setup.n_latents,
        n_inputs={m: x.shape[1] for m, x in run.data.inputs.items()},
        n_targets={m: x.shape[1] for m, x in run.data.targets.items()},
        learnt_share=network.share,
        expansion_rms=expansion.rms if expansion is not None else {},
        # Attention sees a whole window, so its windows are as long as those it was evaluated on.
        chunk_trs=longest if size.n_layers else CHUNK_TRS,
    )


def _scales(data: PreparedSplit) -> dict[str, NDArray[Any]]:
    """Return the scales of inputs and targets, the components of frames, and the frequencies of codes."""
    arrays: dict[str, NDArray[Any]] = {}
    for modality, scale in data.input_scales.items():
        arrays |= {f"input.{modality}.mean_F": scale.mean_F, f"input.{modality}.sd_F": scale.sd_F}
    for modality, mean_F in data.feature_mean.items():
        arrays |= {f"target.{modality}.mean_F": mean_F, f"target.{modality}.sd_F": data.feature_sd[modality]}
    arrays |= {f"target.{modality}.weight_F": weight_F for modality, weight_F in data.target_weights.items()}
    arrays |= {f"target.{modality}.unigram": unigram_BQ for modality, unigram_BQ in data.unigram.items()}
    if len(data.frame_pca.variance_F):
        pca = data.frame_pca
        arrays |= {"frames.mean_P": pca.mean_P, "frames.components_FP": pca.components_FP}
        arrays |= {"frames.variance_F": pca.variance_F}
    return arrays


def _card(run: LoadedRun, figures: Mapping[str, Any], heads: dict[str, HeadFigures], licence: str | None) -> Card:
    study = run.data.study
    verdict = read_verdict(run.run_dir)
    return Card(
        run_id=run.run_dir.run_id,
        study={
            "name": run.config.name,
            "n_subjects": len(study.subjects),
            "n_trs": study.n_trs,
            "n_training_trs": len(run.data.split.train),
            "n_refit_trs": run.setup.refit_trs,
            "tr_s": study.tr_s,
            "stimuli": sorted({span.stimulus for span in study.spans}),
            "checkpoint": run.record.file,
        },
        figures=dict(figures),
        heads=heads,
        verdict={"status": verdict.status, "criteria": [c.sentence for c in verdict.criteria]},
        limitations=tuple(_limitations(run, heads)),
        versions={
            "giblet": giblet_train.__version__,
            **{package: version(package) for package in ("torch", "numpy", "safetensors")},
        },
        licence=licence or NO_LICENCE,
        credit=run.credit(),
    )


def _limitations(run: LoadedRun, heads: Mapping[str, HeadFigures]) -> Iterator[str]:
    data, noun = run.data, run.data.study.geometry.noun
    minutes = (run.setup.refit_trs or len(data.split.train)) * data.study.tr_s / 60.0
    yield f"It was trained on {minutes:.0f} min of film; films unlike it are predicted less well."
    yield f"Predictions have no unit of signal change: they are in standard deviations of each {noun.one}."
    if len(data.split.test) * data.study.tr_s < 300:
        yield "Its held-out figures rest on less than five minutes of film."
    if not data.responsive_V.all():
        silent = 1.0 - float(data.responsive_V.mean())
        yield (
            f"{silent:.0%} of its {noun.many} showed no response shared by subjects; "
            "predictions there are mostly noise."
        )
    if set(heads) - {AVERAGE}:
        yield "It contains heads of single persons, which describe their brains: treat it as personal data."
    else:
        yield "It contains only the average subject, not any single person."
