"""Held-out figures: how well brains are predicted and films rebuilt on TRs that chose nothing.

T TRs of a part of the split, S subjects, V voxels, K latents, R compressed responses, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.baselines import ridge_of
from giblet_train.batch import Batch
from giblet_train.contract.records import Number, PartLoss
from giblet_train.data.dataset import SplitData
from giblet_train.experiment import Experiment, windows_in
from giblet_train.metrics import block_interval, pearson, products_of, reconstruction, shift_null, unit
from giblet_train.model.compress import Compression
from giblet_train.model.network import BrainModel
from giblet_train.newcomer import FilmView, left_out_figures
from giblet_train.objective import SOURCES, Forward, Objective

N_DRAWS = 1000
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Examiner:
    """What rank 0 knows to judge weights: all parts of the split, and the compression's way back to voxels."""

    experiment: Experiment
    data: SplitData
    objective: Objective
    compression: Compression
    validation_bold: Mapping[str, Floats]

    @classmethod
    def of(cls, experiment: Experiment, data: SplitData) -> Examiner:
        """Keep the validation responses of responsive voxels, which every epoch asks for."""
        assert experiment.compression is not None
        rows, responsive_V = data.split.validation, data.responsive_V
        bold = {s: data.bold[s][np.ix_(rows, np.flatnonzero(responsive_V))] for s in data.subjects}
        return cls(experiment, data, experiment.learner.objective, experiment.compression, bold)

    def training_loss(self, model: BrainModel) -> dict[str, float]:
        """component -> its loss over all training TRs."""
        return _part(self._pass(model, self.data.split.train_blocks), self.objective)

    def validation(self, model: BrainModel) -> tuple[PartLoss, float | None]:
        """Losses over the inner validation block, and r averaged over responsive voxels and subjects."""
        passes = self._pass(model, self.data.split.validation_blocks)
        loss = _part(passes, self.objective)
        part = PartLoss(total=self.experiment.total_of(loss), loss=dict(loss), skill=self._skill(loss, passes))
        if not self.data.responsive_V.any():
            return part, None
        scores_TR = _scored([forward.scores_BWR for _, forward in passes], passes)
        responsive = np.flatnonzero(self.data.responsive_V)
        r = [
            pearson(self.compression.expand(s, scores_TR)[:, responsive], measured_TV).mean()
            for s, measured_TV in self.validation_bold.items()
        ]
        return part, float(np.mean(r))

    def evaluation(self, model: BrainModel, alive: Callable[[], None]) -> dict[str, Any]:
        """The fields of an EvaluationMetric, over the test block. alive: called now and then: this takes long."""
        passes = self._pass(model, self.data.split.test_blocks)
        loss = _part(passes, self.objective)
        scores_TR = _scored([forward.scores_BWR for _, forward in passes], passes)
        encoding, baselines = self._encoding(scores_TR, alive)
        if self.data.left_out:
            encoding["left_out"] = left_out_figures(self.data, self._film_view(model))
        decoding = {source: self._decoding(passes, source) for source in SOURCES}
        skill = {"fmri": self._skill(loss, passes)["fmri"]} | {m: d["skill"] for m, d in decoding["predicted"].items()}
        return {
            "folds": (self.data.split.fold,),
            "encoding": encoding,
            "decoding": decoding,
            "baselines": baselines,
            "skill": skill,
        }

    def _skill(self, loss: Mapping[str, float], passes: list[tuple[Batch, Forward]]) -> dict[str, Number]:
        """component -> 1 - loss / loss of the training mean on the same TRs, where a mean may be worse than 1."""
        silent = [(batch, forward.silenced()) for batch, forward in passes]
        of_the_mean = _part(silent, self.objective)
        return {c: 1.0 - value / of_the_mean[c] for c, value in loss.items()}

    def predicted(self, model: BrainModel) -> Iterator[tuple[str, Floats]]:
        """Each subject with its predicted responses over the test TRs, (T, V)."""
        passes = self._pass(model, self.data.split.test_blocks)
        scores_TR = _scored([forward.scores_BWR for _, forward in passes], passes)
        for subject in self.data.subjects:
            yield subject, self.compression.expand(subject, scores_TR)

    @torch.no_grad()
    def _pass(self, model: BrainModel, blocks: tuple[tuple[int, int], ...]) -> list[tuple[Batch, Forward]]:
        """The network over whole blocks, without noise."""
        model.eval()
        config, shape = self.experiment.config, self.experiment.shape
        batches = windows_in(self.data, config, shape, blocks).whole()
        return [(batch, self.objective.forward(model, batch, None)) for batch in batches]

    def _film_view(self, model: BrainModel) -> FilmView:
        """Every part of the split in one series; context before a block may lie in its gap, as ever."""
        split = self.data.split
        z_TK = np.zeros((split.n_trs, self.experiment.shape.bottleneck_dim), np.float32)
        scores_TR = np.zeros((split.n_trs, self.compression.n_columns), np.float32)
        for blocks in (split.train_blocks, split.validation_blocks, split.test_blocks):
            for (start, stop), (batch, forward) in zip(blocks, self._pass(model, blocks), strict=True):
                z_TK[start:stop] = _scored([forward.z_BWK], [(batch, forward)])
                scores_TR[start:stop] = _scored([forward.scores_BWR], [(batch, forward)])
        return FilmView(z_TK, self.compression.expand_average(scores_TR))

    def _encoding(self, scores_TR: Floats, alive: Callable[[], None]) -> tuple[dict[str, Any], dict[str, float]]:
        """Figures of the network, and of what it must be held against, over test TRs, subject by subject."""
        data, split, rows = self.data, self.data.split, self.data.split.test
        network = _Encoding(data.responsive_V, data.null_V)
        others = {name: _Correlation(data.responsive_V, data.null_V) for name in ("ridge", "pooled_ridge", "average")}
        ridge = ridge_of(data.inputs, split.train, split.validation, data.study.scan_lengths_trs)
        shared_TV = ridge.predict(_mean(data.bold[s] for s in data.subjects), rows)
        average_TV = self.compression.expand_average(scores_TR)
        for subject in data.subjects:
            alive()
            bold_TV = data.bold[subject]
            measured_TV = bold_TV[rows]
            network.add(self.compression.expand(subject, scores_TR), measured_TV)
            others["ridge"].add(ridge.predict(bold_TV, rows), measured_TV)
            others["pooled_ridge"].add(shared_TV, measured_TV)
            if average_TV is not None:
                others["average"].add(average_TV, measured_TV)
        encoding = network.figures() | {
            "r_ridge": others["ridge"].r_responsive,
            "r_ridge_pooled": others["pooled_ridge"].r_responsive,
            "r_average_subject": others["average"].r_responsive,
        }
        baselines = {f"{name}_r_null": other.r_null for name, other in others.items()}
        return encoding, baselines | {"train_mean_loss": 1.0}

    def _decoding(self, passes: list[tuple[Batch, Forward]], source: str) -> dict[str, dict[str, float]]:
        """modality -> skill, mean r over features, and identification of segments, from one source of brains."""
        figures: dict[str, dict[str, float]] = {}
        for modality, target_TF in self.objective.targets.features.items():
            predicted_TF = _scored([forward.rebuilt[source][modality] for _, forward in passes], passes)
            true_TF = target_TF.cpu().numpy()[self.data.split.test]
            weight_F = self.objective.targets.weights[modality].cpu().numpy()
            figures[modality] = reconstruction(predicted_TF, true_TF, weight_F)
        return figures


class _Correlation:
    """r of responsive and of null voxels, gathered subject by subject."""

    def __init__(self, responsive_V: NDArray[np.bool_], null_V: NDArray[np.bool_]) -> None:
        self.responsive_V, self.null_V = responsive_V, null_V
        self.r: list[NDArray[np.float64]] = []

    def add(self, predicted_TV: Floats, measured_TV: Floats) -> None:
        """One subject's predictions and responses."""
        self.r.append(pearson(predicted_TV, measured_TV))

    @property
    def r_responsive(self) -> float:
        return self._mean(self.responsive_V)

    @property
    def r_null(self) -> float:
        return self._mean(self.null_V)

    def _mean(self, chosen_V: NDArray[np.bool_]) -> float:
        if not chosen_V.any() or not self.r:
            return float("nan")
        return float(np.mean([r_V[chosen_V].mean() for r_V in self.r]))


class _Encoding(_Correlation):
    """All figures of an encoding; what is kept of a subject does not grow with voxels times TRs times subjects."""

    def __init__(self, responsive_V: NDArray[np.bool_], null_V: NDArray[np.bool_]) -> None:
        super().__init__(responsive_V, null_V)
        self._differences: list[NDArray[np.float64]] = []
        self._shifted: list[NDArray[np.float64]] = []
        self._unit_sum_TV: NDArray[np.float64] | None = None
        self._error, self._energy = 0.0, 0.0

    def add(self, predicted_TV: Floats, measured_TV: Floats) -> None:
        """One subject's predictions and responses."""
        super().add(predicted_TV, measured_TV)
        yes, no = self.responsive_V, self.null_V
        if not yes.any():
            return
        predicted, measured = predicted_TV[:, yes], measured_TV[:, yes]
        self._shifted.append(shift_null(predicted, measured))
        if no.any():
            null = products_of(predicted_TV[:, no], measured_TV[:, no])
            self._differences.append(products_of(predicted, measured) - null)
        self._error += float(((predicted - measured) ** 2).sum())
        self._energy += float((measured**2).sum())
        unit_TV = unit(measured)
        self._unit_sum_TV = unit_TV if self._unit_sum_TV is None else self._unit_sum_TV + unit_TV

    def figures(self) -> dict[str, float]:
        """All that is said of the encoding. The ceiling is an estimate: sqrt of inter-subject correlation here."""
        r_V = np.mean(self.r, axis=0)
        figures = {
            "r_responsive": self.r_responsive,
            "r_null": self.r_null,
            "r_difference": self.r_responsive - self.r_null,
            "r_median": float(np.median(r_V)),
            "r_95th_percentile": float(np.quantile(r_V, 0.95)),
            "n_responsive": float(self.responsive_V.sum()),
            "n_null": float(self.null_V.sum()),
        }
        if self._differences:
            low, high = block_interval(np.mean(self._differences, axis=0), N_DRAWS, np.random.default_rng(0))
            figures |= {"r_difference_low": low, "r_difference_high": high}
        if self._shifted:
            figures["null_r_99"] = float(np.quantile(np.mean(self._shifted, axis=0), 0.99))
        return figures | self._ceiling()

    def _ceiling(self) -> dict[str, float]:
        n = len(self.r)
        if n < 2 or self._unit_sum_TV is None:
            return {}
        # The square of a sum of unit vectors holds each pair's correlation twice.
        rho = float((((self._unit_sum_TV**2).sum(axis=0) - n) / (n * (n - 1))).mean())
        if rho <= 0:
            return {"isc_test": rho}
        return {
            "isc_test": rho,
            "r_ceiling": rho**0.5,
            "r_over_ceiling": self.r_responsive / rho**0.5,
            "explainable_skill": (1.0 - self._error / self._energy) / rho,
        }


def _part(passes: list[tuple[Batch, Forward]], objective: Objective) -> dict[str, float]:
    n_scored = sum(batch.n_scored for batch, _ in passes)
    terms = [objective.terms(forward, batch, n_scored, len(passes)) for batch, forward in passes]
    return {c: float(sum(float(t[c]) for t in terms)) for c in terms[0]}


def _scored(parts: list[Tensor], passes: list[tuple[Batch, Forward]]) -> Floats:
    """(T, ...): what belongs to scored TRs, in order."""
    chosen = [part[torch.from_numpy(batch.scored_BW)] for part, (batch, _) in zip(parts, passes, strict=True)]
    return np.concatenate([c.cpu().numpy() for c in chosen])


def _mean(series: Iterable[Floats]) -> Floats:
    """The mean of arrays, read one at a time."""
    total, n = None, 0
    for x in series:
        total, n = x.astype(np.float64) if total is None else total + x, n + 1
    assert total is not None
    return (total / n).astype(np.float32)
