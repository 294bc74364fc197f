"""Evaluate how well responses are predicted and films reconstructed, on TRs not used for training or selection.

If heads are sharded, every rank processes the same windows and evaluates its own subjects; rank 0 combines the figures.

T TRs of a part of the split, S subjects, V voxels, K latents, R compressed responses, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.build import TrainingSetup, windows_in
from giblet_train.components.decoder_init import decoder_inputs
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.loss_terms import MEASURED, SOURCES, Forward, LossTerms
from giblet_train.components.train_step import ENCODING
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import ridge_of
from giblet_train.evaluation.chance import chance_r, stretches_of
from giblet_train.evaluation.encoding import (
    CHANCE,
    Candidate,
    CorrelationAccumulator,
    EncodingScores,
    select_candidate,
)
from giblet_train.evaluation.left_out_subject import StimulusPrediction, left_out_figures
from giblet_train.evaluation.metrics import reconstruction
from giblet_train.evaluation.ridge_decoder import ridge_decoded
from giblet_train.evaluation.validation_responses import FEWEST_TRS, ValidationResponses
from giblet_train.model.linear_encoder import LinearEncoder
from giblet_train.model.network import BrainModel, Network
from giblet_train.model.voxel_basis import VoxelBasis
from giblet_train.schema.records import Number, SplitLoss

Floats = NDArray[np.float32]
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Candidate shares of the learnt addition to the ridge start."""
RIDGE_DECODER = "ridge"
"""Entry of the decoding figures that belongs to the baseline, which reads the voxels of measured brains."""
LINEAR_DECODER = "linear"
"""Entry of the decoding figures that belongs to the ridge from which decoders start, which reads their latents."""
START_RANKS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Candidate numbers of the ridge start's latents."""


@dataclass(frozen=True)
class Validation:
    """Result of a validation."""

    loss: SplitLoss
    r: float | None
    """Mean over responsive voxels and subjects; None without responsive voxels."""
    share: float
    """Selected share of the learnt addition."""
    scores: Mapping[str, float]
    """`fmri` and each modality -> what the weights of the encoding, or of its decoder, are selected by."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates weights on every part of the split, in voxels.

    Its methods are collective over the ranks that have one, with the weights of the same step.
    """

    setup: TrainingSetup
    data: PreparedSplit
    objective: LossTerms
    shards: HeadSharding
    compression: VoxelBasis
    validation_responses: ValidationResponses

    @classmethod
    def of(cls, setup: TrainingSetup, data: PreparedSplit) -> Evaluator:
        """Build it, and keep the validation responses of responsive voxels, which every epoch needs."""
        assert setup.compression is not None
        shards = setup.shards
        responses = ValidationResponses.of(data, setup.compression, shards.local_subjects, shards.ranks.device)
        return cls(setup, data, setup.train_step.objective, shards, setup.compression, responses)

    def initial_loss(self, model: Network) -> dict[str, float]:
        """Return component -> loss over all training TRs of predicting the training mean, which is 1.

        It measures the scale of the data, so the ridge initialisation is left out.
        """
        passes = self._predict_blocks(model, self.data.split.train_blocks)
        if self.setup.start_signal is not None:
            passes = [(batch, forward.with_mean_prediction()) for batch, forward in passes]
        return self._loss(passes)

    def training_loss(self, model: Network) -> dict[str, float]:
        """Return component -> loss over all training TRs."""
        return self._loss(self._predict_blocks(model, self.data.split.train_blocks))

    def validation(self, model: Network) -> Validation:
        """Validate on the validation block, with the share of the learnt addition that is selected there."""
        model.share, r = self._select_share(model)
        passes = self._predict_blocks(model, self.data.split.validation_blocks)
        loss = self._loss(passes)
        total = self.setup.total_of(loss)
        part = SplitLoss(total=total, loss=dict(loss), skill=self._skill(loss, passes))
        if not self.setup.train_step.is_split:
            return Validation(part, r, model.share, {ENCODING: -total})
        scores = {ENCODING: -loss["fmri"] if r is None else r}
        weight = self.setup.train_step.base_weight
        scores |= {modality: -weight[modality] * value for modality, value in loss.items() if modality != ENCODING}
        return Validation(part, r, model.share, scores)

    @torch.no_grad()
    def select_start_rank(self, model: Network) -> int | None:
        """Return how many of the ridge start's latents count; None without a start or without responsive voxels.

        All count, unless fewer are reliably better on the validation block.
        """
        if not isinstance(model, BrainModel) or model.linear_path is None or not self.data.responsive_V.any():
            return None
        blocks, start_ZR = self.data.split.validation_blocks, model.heads.start_ZR
        z_TZ = torch.from_numpy(self.data.drift.apply(self._start_latents(model.linear_path, blocks), blocks)).to(
            start_ZR
        )
        n_latents: int = z_TZ.shape[1]
        r = {
            rank: self._r_T(z_TZ[:, :rank] @ start_ZR[:rank])[0.0]
            for rank in (*(rank for rank in START_RANKS if rank < n_latents), n_latents)
        }
        return _select(r, n_latents)[0]

    def _start_latents(self, path: LinearEncoder, blocks: tuple[tuple[int, int], ...]) -> Floats:
        """Return the latents (T, Z) of the ridge start over some blocks."""
        parts = []
        for batch in windows_in(self.data, self.setup.config, self.setup.shape, blocks).sequential():
            z_BWZ = path(*self.objective.targets.masked_inputs(batch))
            parts.append(z_BWZ[torch.from_numpy(batch.scored_BW)].cpu().numpy())
        return np.concatenate(parts)

    def _select_share(self, model: Network) -> tuple[float, float | None]:
        """Return the share of the learnt addition, and its r on the validation block.

        The share is 0, unless another one is reliably better there.
        """
        blocks, start = self.data.split.validation_blocks, self.setup.config.model.learnt_share
        model.share = 1.0
        passes = self._predict_blocks(model, blocks)
        scores_TR = _scores_of(passes)
        if model.linear_path is None:
            return _select({1.0: self._r_T(scores_TR)[0.0]}, 1.0)
        model.share = 0.0
        start_TR = _scores_of(self._predict_blocks(model, blocks))
        shares = SHARES if start is None else (start,)
        candidates = self._r_T(start_TR, scores_TR - start_TR, shares)
        # Every epoch tries all shares, so a gain by chance has many occasions.
        share, r = _select(candidates, shares[0], CHANCE / len(SHARES))
        return (shares[-1], None) if r is None else (share, r)

    def _r_T(
        self, scores_TR: Tensor, added_TR: Tensor | None = None, shares: Sequence[float] = (0.0,)
    ) -> dict[float, NDArray[np.float64] | None]:
        """Return for each share of an addition each validation TR's contribution (T,) to r, or None if not measured.

        r is averaged over responsive voxels and subjects.
        """
        if not self.data.responsive_V.any():
            return dict.fromkeys(shares)
        n_subjects = self.shards.total(len(self.validation_responses.subjects))
        total_HT = torch.stack(self.validation_responses.r_T(scores_TR, added_TR, shares)).double().cpu().numpy()
        total_HT = self.shards.total(total_HT)
        return {h: total_T / n_subjects if n_subjects else None for h, total_T in zip(shares, total_HT, strict=True)}

    def validation_map(self, model: Network) -> Floats:
        """Return r of each responsive voxel on the validation block (V,), mean over local subjects; NaN elsewhere."""
        passes = self._predict_blocks(model, self.data.split.validation_blocks)
        r_V = np.full(self.data.n_voxels, np.nan, np.float32)
        r = self.validation_responses.r_V(_scores_of(passes))
        if r is not None:
            r_V[self.data.responsive_V] = r
        return r_V

    def evaluation(self, model: Network, alive: Callable[[], None]) -> dict[str, Any]:
        """Return the fields of an EvaluationMetric over the test block, complete on rank 0.

        alive: called regularly, because this can take long.
        """
        passes = self._predict_blocks(model, self.data.split.test_blocks)
        loss = self._loss(passes)
        scores_TR = _scores_of(passes).cpu().numpy()
        start_TR = self._start_scores(model, self.data.split.test_blocks)
        encoding, baselines = self._encoding(scores_TR, start_TR, self._elsewhere(model), alive)
        if self.data.left_out:
            view = self._film_view(model)
            if self.shards.ranks.is_first:
                encoding["left_out"] = left_out_figures(self.data, view)
        if encoding and isinstance(model, BrainModel) and model.linear_path is not None:
            encoding |= {"start_latents": float(model.start_gate_Z.sum()), "learnt_share": model.share}
            encoding["refit_trs"] = float(self.setup.refit_trs)
        decoding = self.decoding(self._rebuilt(passes))
        linear = {LINEAR_DECODER: self._linearly_decoded(model), RIDGE_DECODER: ridge_decoded(self.data, self.shards)}
        decoding |= self.decoding({source: film for source, film in linear.items() if film})
        skill = {"fmri": self._skill(loss, passes)["fmri"]} | {m: d["skill"] for m, d in decoding["predicted"].items()}
        return {
            "folds": (self.data.split.fold,),
            "encoding": encoding,
            "decoding": decoding,
            "baselines": baselines,
            "skill": skill,
        }

    def _skill(self, loss: Mapping[str, float], passes: list[tuple[Batch, Forward]]) -> dict[str, Number]:
        """Return component -> 1 - loss / loss of the training mean on the same TRs."""
        silent = [(batch, forward.with_mean_prediction()) for batch, forward in passes]
        of_the_mean = self._loss(silent)
        return {c: 1.0 - value / of_the_mean[c] for c, value in loss.items() if of_the_mean[c]}

    def latents(self, model: Network, blocks: tuple[tuple[int, int], ...]) -> Floats:
        """Return the bottleneck (T, K) of the rows of some blocks, one block after another."""
        passes = self._predict_blocks(model, blocks)
        return _scored([forward.z_BWK for _, forward in passes], passes).cpu().numpy()

    def predicted(
        self, model: Network, blocks: tuple[tuple[int, int], ...] | None = None
    ) -> Iterator[tuple[str, Floats]]:
        """Yield each local subject with its predicted responses (T, V) over some blocks, by default the test block."""
        passes = self._predict_blocks(model, self.data.split.test_blocks if blocks is None else blocks)
        scores_TR = _scores_of(passes).cpu().numpy()
        for subject in self.shards.local_subjects:
            yield subject, self.compression.expand(subject, scores_TR)

    @torch.no_grad()
    def _predict_blocks(self, model: Network, blocks: tuple[tuple[int, int], ...]) -> list[tuple[Batch, Forward]]:
        """Run the network over whole blocks without dropout, and detrend its predictions as the responses were."""
        model.eval()
        config, shape = self.setup.config, self.setup.shape
        batches = windows_in(self.data, config, shape, blocks).sequential()
        forwards = (self.objective.forward(model, self.shards.whole(batch), None) for batch in batches)
        return [(batch, self._detrended(forward, batch)) for batch, forward in zip(batches, forwards, strict=True)]

    def _loss(self, passes: list[tuple[Batch, Forward]]) -> dict[str, float]:
        """Return component -> loss over all scored TRs of the passes and all subjects."""
        n_scored = self.objective.targets.n_scored([batch for batch, _ in passes])
        terms = [self.objective.terms(f, self.shards.whole(batch), n_scored, len(passes)) for batch, f in passes]
        loss = {c: float(sum(float(t[c]) for t in terms)) for c in terms[0]}
        return loss | {"fmri": self.shards.total(loss["fmri"])}

    @torch.no_grad()
    def _start_scores(self, model: Network, blocks: tuple[tuple[int, int], ...]) -> Floats | None:
        """Return the scores (T, R) of the ridge initialisation over some blocks; None without one."""
        parts = []
        for batch, forward in self._predict_blocks(model, blocks):
            scores_BWR = model.start_scores(*self.objective.targets.masked_inputs(batch))
            if scores_BWR is None:
                return None
            detrended = self._detrended(replace(forward, scores_BWR=scores_BWR), batch)
            parts.append(_scores_of([(batch, detrended)]).cpu().numpy())
        return np.concatenate(parts)

    def _detrended(self, forward: Forward, batch: Batch) -> Forward:
        scores_BWR = forward.scores_BWR.clone()
        scored_BW = torch.from_numpy(batch.scored_BW).to(scores_BWR.device)
        scores_NR = scores_BWR[scored_BW]
        courses_NK = torch.from_numpy(self.data.drift.regressors(batch.n_scored)).to(scores_NR)
        scores_BWR[scored_BW] = scores_NR - courses_NK @ (courses_NK.T @ scores_NR)
        return replace(forward, scores_BWR=scores_BWR)

    def _film_view(self, model: Network) -> StimulusPrediction:
        """Predict every part of the split, in one series; context before a block may reach into its gap."""
        split = self.data.split
        z_TK = np.zeros((split.n_trs, self.setup.n_latents), np.float32)
        scores_TR = np.zeros((split.n_trs, self.compression.n_columns), np.float32)
        for blocks in (split.train_blocks, split.validation_blocks, split.test_blocks):
            for (start, stop), (batch, forward) in zip(blocks, self._predict_blocks(model, blocks), strict=True):
                z_TK[start:stop] = _scored([forward.z_BWK], [(batch, forward)]).cpu().numpy()
                scores_TR[start:stop] = _scores_of([(batch, forward)]).cpu().numpy()
        return StimulusPrediction(z_TK, self.compression.expand_average(scores_TR))

    def _elsewhere(self, model: Network) -> Floats:
        """Return the scores (T, R) of all training and validation blocks in their order in the film."""
        passes = self._predict_blocks(model, self.data.split.other_blocks)
        return _scores_of(passes).cpu().numpy()

    def _encoding(
        self, scores_TR: Floats, start_TR: Floats | None, elsewhere_SR: Floats, alive: Callable[[], None]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Return the figures of the network and of the baselines over test TRs.

        start_TR: scores predicted by the ridge initialisation. All predictions are detrended alike.
        elsewhere_SR: scores of the rest of the film, for correlations by chance.
        """
        data, split, rows = self.data, self.data.split, self.data.split.test
        together_V = data.responsive_V if data.responsive_V.any() else np.ones(data.n_voxels, bool)
        network = EncodingScores(data.responsive_V, data.null_V)
        stretches, responsive = stretches_of(split.other_blocks, len(rows)), np.flatnonzero(data.responsive_V)
        names = ("ridge", "ridge_pooled", "start", "average_subject", "with_ridge_pooled")
        others = {name: CorrelationAccumulator(data.responsive_V, data.null_V) for name in names}
        ridge = ridge_of(data.inputs, split.train, split.validation, data.study.scan_lengths_trs)
        pooled_TV = ridge.predict(_mean(data), rows, together_V)
        pooled_TV = data.drift.apply(pooled_TV, split.test_blocks)
        average_TV = self.compression.expand_average(scores_TR)
        for subject in self.shards.local_subjects:
            alive()
            own_T = data.present[subject][rows] if data.present else None
            if own_T is not None and own_T.sum() < FEWEST_TRS:
                continue
            bold_TV = data.bold[subject]
            measured_TV = bold_TV[rows]
            predicted_TV = self.compression.expand(subject, scores_TR)
            network.add(predicted_TV, measured_TV, own_T)
            if len(responsive):
                elsewhere_SV = self.compression.expand(subject, elsewhere_SR)[:, responsive]
                network.add_chance(
                    chance_r(
                        predicted_TV[:, responsive],
                        measured_TV[:, responsive],
                        elsewhere_SV,
                        stretches,
                        data.drift,
                        own_T,
                    )
                )
            own_ridge = ridge.restricted_to(data.present[subject]) if data.present else ridge
            alone_TV = own_ridge.predict(bold_TV, rows, together_V)
            others["ridge"].add(data.drift.apply(alone_TV, split.test_blocks), measured_TV, own_T)
            others["ridge_pooled"].add(pooled_TV, measured_TV, own_T)
            others["with_ridge_pooled"].add((predicted_TV + pooled_TV) / 2.0, measured_TV, own_T)
            if start_TR is not None:
                others["start"].add(self.compression.expand(subject, start_TR), measured_TV, own_T)
            if average_TV is not None:
                others["average_subject"].add(average_TV, measured_TV, own_T)
        for theirs_network, theirs in self.shards.gather_to_rank_0((network, others)):
            network.extend(theirs_network)
            for name, other in others.items():
                other.extend(theirs[name])
        if not self.shards.ranks.is_first:
            return {}, {}
        encoding = network.figures() | {"null_stretches": float(len(stretches))}
        encoding |= {f"r_{name}": other.r_responsive for name, other in others.items()}
        for name in ("ridge", "ridge_pooled"):
            encoding |= network.above(others[name], f"r_over_{name}")
        baselines = {f"{name}_r_null": other.r_null for name, other in others.items()}
        return encoding, baselines | {"train_mean_loss": 1.0}

    def rebuilt(self, model: Network) -> dict[str, dict[str, Floats]]:
        """Return source -> modality -> reconstructed features (T, F) of the test TRs, or probabilities of codes."""
        return self._rebuilt(self._predict_blocks(model, self.data.split.test_blocks))

    def _rebuilt(self, passes: list[tuple[Batch, Forward]]) -> dict[str, dict[str, Floats]]:
        targets = self.objective.targets
        return {
            s: {
                m: _scored([targets.decode_to_features(m, f.rebuilt[s][m]) for _, f in passes], passes).cpu().numpy()
                for m in targets.features
            }
            for s in passes[0][1].rebuilt
        }

    def _linearly_decoded(self, model: Network) -> dict[str, Floats]:
        """Return modality -> features (T, F) of the test TRs, decoded from measured brains by the linear decoders."""
        decoders = self.setup.linear_decoders
        if not decoders or not isinstance(model, BrainModel):
            return {}
        windows = windows_in(self.data, self.setup.config, self.setup.shape, self.data.split.test_blocks)
        input_STI = decoder_inputs(model, self.objective, self.shards, windows.sequential())
        input_TI = input_STI[SOURCES.index(MEASURED)].double().cpu().numpy()
        return {modality: decoder(input_TI).astype(np.float32) for modality, decoder in decoders.items()}

    def decoding(self, rebuilt: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, dict[str, float]]]:
        """Return source -> modality -> skill, mean r over features, and identification of segments."""
        return {
            source: {m: self._reconstruction(m, predicted_TF) for m, predicted_TF in film.items()}
            for source, film in rebuilt.items()
        }

    def _reconstruction(self, modality: str, predicted_TF: Floats) -> dict[str, float]:
        test = self.data.split.test
        true_TF = self.data.targets[modality][test]
        shown_T = self.data.study.shown.get(modality)
        if shown_T is not None:
            predicted_TF, true_TF = predicted_TF[shown_T[test]], true_TF[shown_T[test]]
        weight_F, unigram_BQ = self.data.target_weights[modality], self.data.unigram.get(modality)
        return reconstruction(predicted_TF, true_TF, weight_F, unigram_BQ)


def _select(
    candidates: Mapping[Candidate, NDArray[np.float64] | None], reference: Candidate, chance: float = CHANCE
) -> tuple[Candidate, float | None]:
    """Return the candidate that `select_candidate` selects, and its r; the reference and None if r was not measured.

    candidates: candidate -> each validation TR's contribution (T,) to r; of all or of none.
    """
    r = {candidate: r_T for candidate, r_T in candidates.items() if r_T is not None}
    if not r:
        return reference, None
    choice = select_candidate(r, reference, chance)
    return choice, float(r[choice].sum())


def _scores_of(passes: list[tuple[Batch, Forward]]) -> Tensor:
    """Return the predicted scores (T, R) of scored TRs, in order, on the run's device."""
    return _scored([forward.scores_BWR for _, forward in passes], passes)


def _scored(parts: list[Tensor], passes: list[tuple[Batch, Forward]]) -> Tensor:
    """Return the entries of scored TRs (T, ...), in order, on the device of the parts."""
    return torch.cat([part[torch.from_numpy(batch.scored_BW)] for part, (batch, _) in zip(parts, passes, strict=True)])


def _mean(data: PreparedSplit) -> Floats:
    """Return the mean response of the subjects who have each row, (T, V), read one at a time."""
    total_TV: Any = 0.0
    for subject in data.subjects:
        total_TV = data.bold[subject].astype(np.float64) + total_TV
    return np.asarray(total_TV / np.maximum(1, data.n_present_T())[:, None], np.float32)
