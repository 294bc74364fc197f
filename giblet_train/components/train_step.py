"""One optimizer step, and all tensors that a step changes.

A rank computes its share of the step's windows; where heads are sharded, those of its own subjects see all windows.
Gradients of what every rank has, losses, pulls on the bottleneck and wishes then travel in one sum over ranks, so every
rank takes the same step and knows the same facts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from giblet_train.components.batches import Batch, WindowSampler
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.loss_balancing import LossBalancer, squared_grad_norms
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.optim import ExponentialMovingAverage, adamw, set_rate
from giblet_train.components.step_timer import StepTimer
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.network import Network
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import StepTimes
from giblet_train.schema.schedule import LrSchedule, lr_at

KERNEL_PULL = 1.0
GRADIENT = "gradient"
"""What is not finite where every loss is, but not what follows from them over all ranks."""


@dataclass(frozen=True)
class StepResult:
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
    stop_requests: dict[str, bool]
    not_finite: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class GradientResult:
    """What all ranks know once gradients are in the parameters. pull: norm of each component's gradient at z."""

    loss: dict[str, float]
    bottleneck_grad_norm: dict[str, float] | None
    stop_requests: dict[str, bool]
    slowest_rank: int | None
    not_finite: tuple[tuple[str, int], ...]
    norm: float
    clipped: bool


class TrainStep:
    """Model, average, balance and optimizer, moved on by `step`. idle: parameters that the last step did not reach."""

    def __init__(
        self,
        model: Network,
        objective: LossTerms,
        windows: WindowSampler,
        plan: LrSchedule,
        config: Config,
        shards: HeadSharding,
    ):
        self.model, self.objective, self.windows = model, objective, windows
        self.plan, self.config, self.shards, self.ranks = plan, config, shards, shards.ranks
        self.components = tuple(objective.scales)
        self.base_weight = {c: w for c, w in config.component_weights().items() if c in self.components}
        self.balance = LossBalancer(config.balance.kind, self.components).to(self.ranks.device)
        self.trained = nn.ModuleDict({"model": model, "balance": self.balance})
        self.optimizer = adamw(self.trained, config.learning_rate, config.weight_decay)
        self.average = ExponentialMovingAverage(model, config.ema_decay)
        self.unused_parameters: list[str] = []

    def step(self, step: int, wishes: Mapping[str, bool]) -> StepResult:
        """Take step `step`. wishes: what this rank would like to happen next, such as `stop`.

        Weights stay as they are when a loss or gradient is not finite; the result says whose.
        """
        clock = StepTimer(self.ranks.wire)
        batch = self.windows.sample(self.config.seed, step, self.config.batch_size)
        clock.lap("data_s")
        weight = {c: w.item() for c, w in self._weights(step).items()}
        descent = self._descent(batch, step, wishes, clock)
        set_rate(self.optimizer, lr_at(step, self.plan))
        if not descent.not_finite:
            self.optimizer.step()
            self.average.update(self.model, step)
            if descent.bottleneck_grad_norm is not None:
                self.balance.observe({c: self.base_weight[c] * p for c, p in descent.bottleneck_grad_norm.items()})
        self.unused_parameters = parameters_without_gradient(self.trained)
        self.optimizer.zero_grad(set_to_none=True)
        clock.lap("optimizer_s")
        return StepResult(
            lr=self.optimizer.param_groups[0]["lr"],  # what was used, not what was meant
            loss=descent.loss,
            weight=weight,
            gradient_share=None
            if descent.bottleneck_grad_norm is None
            else _shares({c: weight[c] * p for c, p in descent.bottleneck_grad_norm.items()}),
            gradient_norm=descent.norm,
            clipped=descent.clipped,
            times=StepTimes(**clock.laps),
            seconds=clock.total_s,
            slowest_rank=descent.slowest_rank,
            stop_requests=descent.stop_requests,
            not_finite=descent.not_finite,
        )

    def compute_gradients(self, batch: Batch) -> GradientResult:
        """Leave a batch's gradients in the parameters, at the configured weights and without dropout."""
        return self._descent(batch, None, {}, StepTimer(self.ranks.wire))

    def _weights(self, step: int | None) -> dict[str, Tensor]:
        """Weight of each component: as configured for no step at all, balanced for one."""
        factors = {} if step is None else self.balance.factor_of()
        one = torch.ones((), device=self.ranks.device)
        return {c: weight * factors.get(c, one) for c, weight in self.base_weight.items()}

    def _descent(self, batch: Batch, step: int | None, wishes: Mapping[str, bool], clock: StepTimer) -> GradientResult:
        """Leave the gradients over all ranks in the parameters, clipped."""
        loss, pull = self._backward(batch, step, clock)
        facts = self._all_reduce(loss, pull, wishes, clock)
        limit = self.config.gradient_clip_val
        norm = math.hypot(facts.norm, get_total_norm(self._gradients(held=False)).item())
        if limit is not None:
            clip_grads_with_norm_(self.trained.parameters(), limit, torch.tensor(norm, device=self.ranks.device))
        return replace(
            facts,
            norm=norm,
            clipped=limit is not None and norm > limit,
            not_finite=facts.not_finite or (((GRADIENT, 0),) if not math.isfinite(norm) else ()),
        )

    def _backward(
        self, batch: Batch, step: int | None, clock: StepTimer
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Leave this rank's gradients in the parameters. Returns its part of each loss and squared pull on z.

        step: None for no step at all, and therefore neither dropout nor balance.
        """
        due = step is not None and step >= self.plan.warmup_steps and step % self.config.balance.every_steps == 0
        n_windows = self.config.batch_size
        loss: dict[str, Tensor] = {c: torch.zeros((), device=self.ranks.device) for c in self.components}
        pull = {c: torch.zeros((), device=self.ranks.device) for c in self.components} if due else None
        self.model.train()
        for portion, start, stop in self.shards.portions(batch, self.config.accumulate_steps):
            noise = None if step is None else StatelessDropout(self.config.seed, step, n_windows, start, stop)
            forward = self.objective.forward(self.model, portion, noise)
            terms = self.objective.terms(forward, portion, batch.n_scored, n_windows)
            clock.lap("forward_s")
            if pull is not None:
                for c, squared in squared_grad_norms(terms, forward.z_BWK).items():
                    pull[c] = pull[c] + squared
            weight = self._weights(step)  # anew in each pass: backward frees what a learnt one was computed by
            total = torch.stack([weight[c] * terms[c] for c in self.components]).sum()
            shared = self.balance.penalty() + KERNEL_PULL * self.model.kernel_penalty()
            # What every rank and piece adds alike must be added once in all.
            (total + shared * ((stop - start) / n_windows)).backward()  # type: ignore[no-untyped-call]
            for c in self.components:
                loss[c] = loss[c] + terms[c].detach()
            clock.lap("backward_s")
        return loss, pull

    def _all_reduce(
        self,
        loss: Mapping[str, Tensor],
        pull: Mapping[str, Tensor] | None,
        wishes: Mapping[str, bool],
        clock: StepTimer,
    ) -> GradientResult:
        """Sum facts over ranks, and the gradients of what every rank has. The norm is that of all others."""
        n_ranks, device = self.ranks.world_size, self.ranks.device
        per_rank = torch.zeros(1 + len(self.components), n_ranks, device=device)
        per_rank[0, self.ranks.rank] = clock.alone_s
        losses = torch.stack([loss[c] for c in self.components])
        per_rank[1:, self.ranks.rank] = (~torch.isfinite(losses)).float()
        pulls = torch.stack([pull[c] for c in self.components]) if pull is not None else losses.new_zeros(0)
        wished = torch.tensor([float(w) for w in wishes.values()], device=device)
        squared = get_total_norm(self._gradients(held=True)).to(device).square().view(1)
        gradients = self._gradients(held=False)
        parts = [*[g.flatten() for g in gradients], losses, pulls, wished, squared, per_rank.flatten()]
        if n_ranks > 1:
            *summed, losses, pulls, wished, squared, flat = self.ranks.all_reduce_sum(torch.cat(parts)).split(  # type: ignore[no-untyped-call]
                [len(p) for p in parts]
            )
            for gradient, total in zip(gradients, summed, strict=True):
                gradient.copy_(total.view_as(gradient))
            per_rank = flat.view_as(per_rank)
        clock.lap("communication_s")
        bad = per_rank[1:].nonzero().tolist()
        return GradientResult(
            loss=dict(zip(self.components, losses.tolist(), strict=True)),
            bottleneck_grad_norm=dict(zip(self.components, pulls.sqrt().tolist(), strict=True))
            if pull is not None
            else None,
            stop_requests={w: bool(v) for w, v in zip(wishes, wished.tolist(), strict=True)},
            slowest_rank=int(per_rank[0].argmax()) if n_ranks > 1 else None,
            not_finite=tuple((self.components[component], rank) for component, rank in bad),
            norm=squared.sqrt().item(),
            clipped=False,
        )

    def _gradients(self, held: bool) -> list[Tensor]:
        """Gradients of what this rank alone holds, or of what every rank has."""
        named = self.trained.named_parameters()
        return [p.grad for name, p in named if p.grad is not None and self.shards.is_local(name) == held]

    @property
    def n_parameters(self) -> int:
        """Of the whole network, wherever they are; to be asked for on all ranks at once, as `checkpoint_bytes` is."""
        return self.shards.total_of({name: p.numel() for name, p in self.trained.named_parameters()})

    def checkpoint_bytes(self) -> int:
        """Of `tensors` on all ranks, once the optimizer has its moments."""
        moments = {name: 2 * p.numel() * p.element_size() for name, p in self.trained.named_parameters()}
        kept = {n: t.numel() * t.element_size() for n, t in self.tensors().items() if not n.startswith("optimizer.")}
        return self.shards.total_of(kept) + self.shards.total_of(moments)

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on here, by name: weights, average, balance and the optimizer's moments."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.model.state_dict().items()}
        tensors |= {f"balance.{n}": t for n, t in self.balance.state_dict().items()}
        for name, parameter in self.trained.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}:{slot}"] = value
        return tensors

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Continue from what `tensors` gave on all ranks, of however many; what others hold is passed over.

        A parameter that had no gradient yet has no moments. Raises DataError when something is lacking.
        """
        parameters = dict(self.trained.named_parameters())
        known = {n for n in self.tensors() if not n.startswith("optimizer.")} | {f"optimizer.{n}" for n in parameters}
        found = {name: tensor for name, tensor in tensors if name.partition(":")[0] in known}
        lacking = sorted(n for n in known if n not in found and not n.startswith("optimizer."))
        if lacking:
            raise DataError(
                f"The checkpoint has no {lacking[0]}: it is of another network, or of another version of giblet.",
                "Start afresh without resume_from.",
            )
        self.model.load_state_dict(with_prefix("model.", found))
        self.average.model.load_state_dict(with_prefix("average.", found))
        self.balance.load_state_dict(with_prefix("balance.", found))
        for key, value in with_prefix("optimizer.", found).items():
            name, _, slot = key.partition(":")
            self.optimizer.state[parameters[name]][slot] = value.to(parameters[name].device)


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of parameters that the last backward pass did not reach."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _shares(pull: Mapping[str, float]) -> dict[str, float]:
    total = sum(pull.values())
    return {c: p / total if total > 0 else math.nan for c, p in pull.items()}
