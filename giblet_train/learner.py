"""One optimizer step, and all tensors that a step changes.

A rank computes its share of the step's windows. Gradients, losses, pulls on the bottleneck and wishes then travel in
one sum over ranks, so every rank takes the same step and knows the same facts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from giblet_train.balance import Balance, squared_pull
from giblet_train.batch import Batch, Windows
from giblet_train.contract.config import Config
from giblet_train.contract.records import StepTimes
from giblet_train.contract.schedule import Plan, lr_at
from giblet_train.distributed import Ranks
from giblet_train.model.network import Network
from giblet_train.model.noise import Noise
from giblet_train.objective import Objective
from giblet_train.optim import Average, adamw, set_rate

KERNEL_PULL = 1.0


@dataclass(frozen=True)
class Stepped:
    """What a step did.

    loss, weight: per component; the weight includes its balance factor. not_finite: (component, rank) pairs.
    """

    lr: float
    loss: dict[str, float]
    weight: dict[str, float]
    gradient_share: dict[str, float] | None
    gradient_norm: float
    clipped: bool
    times: StepTimes
    seconds: float
    slowest_rank: int | None
    wishes: dict[str, bool]
    not_finite: tuple[tuple[str, int], ...]


class Learner:
    """Model, average, balance and optimizer, moved on by `step`. idle: parameters that the last step did not reach."""

    def __init__(
        self, model: Network, objective: Objective, windows: Windows, plan: Plan, config: Config, ranks: Ranks
    ):
        self.model, self.objective, self.windows = model, objective, windows
        self.plan, self.config, self.ranks = plan, config, ranks
        self.components = tuple(objective.scales)
        self.base_weight = {c: w for c, w in config.component_weights().items() if c in self.components}
        self.balance = Balance(config.balance.kind, self.components).to(ranks.device)
        self.trained = nn.ModuleDict({"model": model, "balance": self.balance})
        self.optimizer = adamw(self.trained, config.learning_rate, config.weight_decay)
        self.average = Average(model, config.ema_decay)
        self.idle: list[str] = []

    def step(self, step: int, wishes: Mapping[str, bool]) -> Stepped:
        """Take step `step`. wishes: what this rank would like to happen next, such as `stop`.

        Weights stay as they are when a loss or gradient is not finite; the result says whose.
        """
        clock = _Clock()
        batch = self.windows.draw(self.config.seed, step, self.config.batch_size)
        clock.lap("data_s")
        weight = {c: self.base_weight[c] * f for c, f in self.balance.factor_of().items()}
        loss, pull = self._backward(batch, step, weight, clock)
        facts = self._exchange(loss, pull, wishes, clock)
        limit = self.config.gradient_clip_val
        norm = float(nn.utils.clip_grad_norm_(self.trained.parameters(), limit if limit is not None else math.inf))
        set_rate(self.optimizer, lr_at(step, self.plan))
        if not facts.not_finite and math.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model, step)
            if facts.pull is not None:
                self.balance.observe({c: self.base_weight[c] * p for c, p in facts.pull.items()})
        self.idle = parameters_without_gradient(self.trained)
        self.optimizer.zero_grad(set_to_none=True)
        clock.lap("optimizer_s")
        return Stepped(
            lr=self.optimizer.param_groups[0]["lr"],  # what was used, not what was meant
            loss=facts.loss,
            weight={c: w.item() for c, w in weight.items()},
            gradient_share=None
            if facts.pull is None
            else _shares({c: weight[c].item() * p for c, p in facts.pull.items()}),
            gradient_norm=norm,
            clipped=limit is not None and norm > limit,
            times=StepTimes(**clock.laps),
            seconds=clock.total_s,
            slowest_rank=facts.slowest_rank,
            wishes=facts.wishes,
            not_finite=facts.not_finite or ((("gradient", 0),) if not math.isfinite(norm) else ()),
        )

    def _backward(
        self, batch: Batch, step: int, weight: Mapping[str, Tensor], clock: _Clock
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Leave this rank's gradients in the parameters. Returns its part of each loss and squared pull on z."""
        first, last = self.ranks.share(self.config.batch_size)
        due = step >= self.plan.warmup_steps and step % self.config.balance.every_steps == 0
        loss: dict[str, Tensor] = {c: torch.zeros((), device=self.ranks.device) for c in self.components}
        pull = {c: torch.zeros((), device=self.ranks.device) for c in self.components} if due else None
        self.model.train()
        for start, stop in _pieces(first, last, self.config.accumulate_steps):
            piece = batch.rows(start, stop)
            noise = Noise(self.config.seed, step, self.config.batch_size, start, stop)
            forward = self.objective.forward(self.model, piece, noise)
            terms = self.objective.terms(forward, piece, batch.n_scored, self.config.batch_size)
            clock.lap("forward_s")
            if pull is not None:
                for c, squared in squared_pull(terms, forward.z_BWK).items():
                    pull[c] = pull[c] + squared
            total = torch.stack([weight[c] * terms[c] for c in self.components]).sum()
            shared = self.balance.penalty() + KERNEL_PULL * self.model.drift()
            # What every rank and piece adds alike must be added once in all.
            (total + shared * ((stop - start) / self.config.batch_size)).backward()  # type: ignore[no-untyped-call]
            for c in self.components:
                loss[c] = loss[c] + terms[c].detach()
            clock.lap("backward_s")
        return loss, pull

    def _exchange(
        self, loss: Mapping[str, Tensor], pull: Mapping[str, Tensor] | None, wishes: Mapping[str, bool], clock: _Clock
    ) -> _Facts:
        """Sum gradients and facts over ranks."""
        n_ranks, device = self.ranks.world_size, self.ranks.device
        per_rank = torch.zeros(1 + len(self.components), n_ranks, device=device)
        per_rank[0, self.ranks.rank] = clock.total_s
        losses = torch.stack([loss[c] for c in self.components])
        per_rank[1:, self.ranks.rank] = (~torch.isfinite(losses)).float()
        pulls = torch.stack([pull[c] for c in self.components]) if pull is not None else losses.new_zeros(0)
        wished = torch.tensor([float(w) for w in wishes.values()], device=device)
        gradients = [p.grad for p in self.trained.parameters() if p.grad is not None]
        parts = [*[g.flatten() for g in gradients], losses, pulls, wished, per_rank.flatten()]
        if n_ranks > 1:
            *summed, losses, pulls, wished, flat = self.ranks.sum_(torch.cat(parts)).split([len(p) for p in parts])  # type: ignore[no-untyped-call]
            for gradient, total in zip(gradients, summed, strict=True):
                gradient.copy_(total.view_as(gradient))
            per_rank = flat.view_as(per_rank)
        clock.lap("communication_s")
        bad = per_rank[1:].nonzero().tolist()
        return _Facts(
            loss=dict(zip(self.components, losses.tolist(), strict=True)),
            pull=dict(zip(self.components, pulls.sqrt().tolist(), strict=True)) if pull is not None else None,
            wishes={w: bool(v) for w, v in zip(wishes, wished.tolist(), strict=True)},
            slowest_rank=int(per_rank[0].argmax()) if n_ranks > 1 else None,
            not_finite=tuple((self.components[component], rank) for component, rank in bad),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name: weights, average, balance and the optimizer's moments."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.model.state_dict().items()}
        tensors |= {f"balance.{n}": t for n, t in self.balance.state_dict().items()}
        for name, parameter in self.trained.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}:{slot}"] = value
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `tensors` gave. A parameter that had no gradient yet has no moments."""
        self.model.load_state_dict(under("model.", tensors))
        self.average.model.load_state_dict(under("average.", tensors))
        self.balance.load_state_dict(under("balance.", tensors))
        moments = under("optimizer.", tensors)
        for name, parameter in self.trained.named_parameters():
            slots = {key.rpartition(":")[2]: value for key, value in moments.items() if key.rpartition(":")[0] == name}
            if slots:
                self.optimizer.state[parameter] = {
                    slot: value.to(parameter.device, copy=True) for slot, value in slots.items()
                }


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of parameters that the last backward pass did not reach."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class _Facts:
    loss: dict[str, float]
    pull: dict[str, float] | None
    wishes: dict[str, bool]
    slowest_rank: int | None
    not_finite: tuple[tuple[str, int], ...]


class _Clock:
    """Seconds by what they were spent on, in the order of the laps."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now

    @property
    def total_s(self) -> float:
        """Up to the last lap."""
        return self._last - self._started


def _pieces(first: int, last: int, n_pieces: int) -> Sequence[tuple[int, int]]:
    n = last - first
    return [(first + i * n // n_pieces, first + (i + 1) * n // n_pieces) for i in range(n_pieces)]


def _shares(pull: Mapping[str, float]) -> dict[str, float]:
    total = sum(pull.values())
    return {c: p / total if total > 0 else math.nan for c, p in pull.items()}
