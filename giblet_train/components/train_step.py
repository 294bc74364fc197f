"""One optimizer step, and all tensors that it changes.

A rank computes its share of the step's windows; sharded heads process all windows for the local subjects. Gradients of
replicated parameters, losses, gradient norms at the bottleneck and stop requests are summed over ranks in one
all-reduce, so that every rank takes the same step.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from giblet_train.components.batches import Batch, WindowSampler
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.loss_balancing import LossBalancer, squared_grad_norms
from giblet_train.components.loss_terms import LossTerms
from giblet_train.components.optim import ExponentialMovingAverage, adamw, set_rate
from giblet_train.components.step_hook import StepHook
from giblet_train.components.step_timer import StepTimer
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.network import Network
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import StepTimes
from giblet_train.schema.schedule import LrSchedule, lr_at

KERNEL_PULL = 1.0
ENCODING = "fmri"
"""Component by which all parameters are selected that no modality's decoder owns."""
START_HEADS = "heads.start."
"""Part of the name of the heads of a ridge initialisation."""
START_TOLERANCE = 0.01
"""Relative difference of these heads that rounding on another processor may explain."""
GRADIENT = "gradient"
"""Name of what is not finite if every loss is finite but the gradient is not."""


@dataclass(frozen=True)
class StepResult:
    """Result of a step. loss and weight are per component."""

    lr: float
    loss: dict[str, float]
    weight: dict[str, float]
    """Weight of each component, including its balance factor."""
    gradient_share: dict[str, float] | None
    """Share of each component in the gradient at the bottleneck, on the steps that measure it."""
    gradient_norm: float
    clipped: bool
    times: StepTimes
    seconds: float
    slowest_rank: int | None
    stop_requests: dict[str, bool]
    not_finite: tuple[tuple[str, int], ...]
    """(component, rank) pairs whose loss or gradient is not finite."""


@dataclass(frozen=True)
class GradientResult:
    """Losses, gradient norms and stop requests after the all-reduce; equal on every rank."""

    loss: dict[str, float]
    bottleneck_grad_norm: dict[str, float] | None
    """Norm of each component's gradient at the bottleneck, on the steps that measure it."""
    stop_requests: dict[str, bool]
    slowest_rank: int | None
    not_finite: tuple[tuple[str, int], ...]
    norm: float
    clipped: bool


class TrainStep:
    """Model, average, balance and optimizer, updated by `step`."""

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
        self.base_weight = config.component_weights([c for c in self.components if c != "fmri"])
        self.balance = LossBalancer(config.balance.kind, self.components).to(self.ranks.device)
        self.trained = nn.ModuleDict({"model": model, "balance": self.balance})
        self.optimizer = adamw(self.trained, config.learning_rate, config.weight_decay)
        self.average = ExponentialMovingAverage(model, config.ema_decay)
        self.best = {name: p.detach().clone() for name, p in self.average.model.named_parameters()}
        """Best averaged weights by validation so far, by parameter."""
        modality_of = {id(p): m for m, parameters in model.decoder_parameters.items() for p in parameters}
        self.selected_by = {name: modality_of.get(id(p), ENCODING) for name, p in model.named_parameters()}
        """Parameter -> component by which it is selected: the modality of its decoder, `fmri` for all others."""
        self.unused_parameters: list[str] = []
        """Parameters without a gradient in the last step."""
        self.hook = StepHook()

    def step(self, step: int, stop_requests: Mapping[str, bool]) -> StepResult:
        """Take step `step`. stop_requests: this rank's pending requests.

        The weights are unchanged if a loss or gradient is not finite; the result names it.
        """
        clock = StepTimer(self.ranks)
        self.hook.before_sampling(step)
        batch = self.windows.sample(self.config.seed, step, self.config.batch_size)
        clock.lap("data_s")
        weights = torch.stack([w.detach() for w in self._weights(step).values()])
        gradients = self._descent(batch, step, stop_requests, clock)
        weight = dict(zip(self.components, weights.tolist(), strict=True))
        set_rate(self.optimizer, self.hook.learning_rate(step, lr_at(step, self.plan)))
        if not gradients.not_finite:
            self.optimizer.step()
            self.balance.limit()
            self.hook.after_optimizer(step)
            self.average.update(self.model, step)
            if gradients.bottleneck_grad_norm is not None:
                self.balance.observe({c: self.base_weight[c] * p for c, p in gradients.bottleneck_grad_norm.items()})
        self.unused_parameters = parameters_without_gradient(self.trained)
        self.optimizer.zero_grad()
        clock.lap("optimizer_s")
        return StepResult(
            lr=self.optimizer.param_groups[0]["lr"],  # the rate that was used
            loss=gradients.loss,
            weight=weight,
            gradient_share=None
            if gradients.bottleneck_grad_norm is None
            else _shares({c: weight[c] * p for c, p in gradients.bottleneck_grad_norm.items()}),
            gradient_norm=gradients.norm,
            clipped=gradients.clipped,
            times=StepTimes(**clock.laps),
            seconds=clock.total_s,
            slowest_rank=gradients.slowest_rank,
            stop_requests=gradients.stop_requests,
            not_finite=gradients.not_finite,
        )

    def compute_gradients(self, batch: Batch) -> GradientResult:
        """Compute a batch's gradients with the configured weights and without dropout."""
        return self._descent(batch, None, {}, StepTimer(self.ranks))

    def _weights(self, step: int | None) -> dict[str, Tensor]:
        """Return the weight of each component: balanced for a step, as configured for step None."""
        factors = {} if step is None else self.balance.factor_of()
        unit = torch.ones((), device=self.ranks.device)
        return {c: weight * factors.get(c, unit) for c, weight in self.base_weight.items()}

    def _descent(
        self, batch: Batch, step: int | None, stop_requests: Mapping[str, bool], clock: StepTimer
    ) -> GradientResult:
        """Compute the gradients over all ranks, clipped."""
        loss, pull = self._backward(batch, step, clock)
        facts = self._all_reduce(loss, pull, stop_requests, clock, step)
        limit = self.config.gradient_clip_val
        if limit is not None:
            clip_grads_with_norm_(self.trained.parameters(), limit, torch.tensor(facts.norm, device=self.ranks.device))
        return replace(
            facts,
            clipped=limit is not None and facts.norm > limit,
            not_finite=facts.not_finite or (((GRADIENT, 0),) if not math.isfinite(facts.norm) else ()),
        )

    def _backward(
        self, batch: Batch, step: int | None, clock: StepTimer
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Compute this rank's gradients. Returns its part of each loss and of each squared gradient norm at z.

        step: None for neither dropout nor balance.
        """
        due = step is not None and step >= self.plan.warmup_steps and step % self.config.balance.every_steps == 0
        n_windows, n_scored = self.config.batch_size, self.objective.targets.n_scored([batch])
        loss: dict[str, Tensor] = {c: torch.zeros((), device=self.ranks.device) for c in self.components}
        pull = {c: torch.zeros((), device=self.ranks.device) for c in self.components} if due else None
        self.model.train()
        for portion, start, stop in self.shards.portions(batch, self.config.accumulate_steps):
            noise = None if step is None else StatelessDropout(self.config.seed, step, start, self.ranks.device)
            forward = self.objective.forward(self.model, portion, noise)
            terms = self.objective.terms(forward, portion, n_scored, n_windows)
            clock.lap("forward_s")
            if pull is not None:
                for c, squared in squared_grad_norms(terms, forward.z_BWK).items():
                    pull[c] = pull[c] + squared
            weight = self._weights(step)  # again in each pass, because backward frees its graph
            # Every rank and pass adds the same penalty, which must count once in all.
            penalty = self.balance.penalty() + KERNEL_PULL * self.model.kernel_penalty()
            penalty = penalty * ((stop - start) / n_windows)
            self._backward_pass({c: weight[c] * terms[c] for c in self.components}, penalty)
            for c in self.components:
                loss[c] = loss[c] + terms[c].detach()
            clock.lap("backward_s")
        return loss, pull

    def _backward_pass(self, terms: Mapping[str, Tensor], penalty: Tensor) -> None:
        """Add the gradients of one pass.

        Without balancing, the film's loss trains only the film's own parameters where the network has such: it would
        otherwise pull the encoding towards latents that reconstruct the film.
        """
        film = [p for own in self.model.decoder_parameters.values() for p in own]
        film = film if self.config.balance.kind == "fixed" else []
        if not film:
            (torch.stack(list(terms.values())).sum() + penalty).backward()  # type: ignore[no-untyped-call]
            return
        (terms["fmri"] + penalty).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        film_terms = [term for component, term in terms.items() if component != "fmri"]
        if film_terms:
            torch.stack(film_terms).sum().backward(inputs=film)  # type: ignore[no-untyped-call]

    def keep_best(self, components: Collection[str]) -> None:
        """Take the averaged weights of some components of `selected_by` as the best ones."""
        for name, parameter in self.average.model.named_parameters():
            if self.selected_by[name] in components:
                self.best[name].copy_(parameter.detach())

    @property
    def is_split(self) -> bool:
        """Return True if no reconstruction shares learnt weights with the encoding, so that each selects its own."""
        return set(self.components) <= {ENCODING, *self.selected_by.values()}

    def _all_reduce(
        self,
        loss: Mapping[str, Tensor],
        pull: Mapping[str, Tensor] | None,
        stop_requests: Mapping[str, bool],
        clock: StepTimer,
        step: int | None,
    ) -> GradientResult:
        """Sum losses and gradients of replicated parameters over ranks."""
        n_ranks, device = self.ranks.world_size, self.ranks.device
        per_rank = torch.zeros(1 + len(self.components), n_ranks, device=device)
        per_rank[0, self.ranks.rank] = clock.alone_s
        losses = torch.stack([loss[c] for c in self.components])
        per_rank[1:, self.ranks.rank] = (~torch.isfinite(losses)).float()
        pulls = torch.stack([pull[c] for c in self.components]) if pull is not None else losses.new_zeros(0)
        flags = torch.tensor([float(w) for w in stop_requests.values()], device=device)
        squared = get_total_norm(self._gradients(local=True)).to(device).square().view(1)
        gradients = self._gradients(local=False)
        parts = [*[g.flatten() for g in gradients], losses, pulls, flags, squared, per_rank.flatten()]
        if step is not None:
            self.hook.before_all_reduce(step)
        if n_ranks > 1:
            *summed, losses, pulls, flags, squared, flat = self.ranks.all_reduce_sum(torch.cat(parts)).split(  # type: ignore[no-untyped-call]
                [len(p) for p in parts]
            )
            for gradient, total in zip(gradients, summed, strict=True):
                gradient.copy_(total.view_as(gradient))
            per_rank = flat.view_as(per_rank)
        squared = squared + get_total_norm(gradients).to(device).square()
        # One copy for all: the host waits for the device once.
        values = iter(torch.cat([losses, pulls, flags, squared, per_rank.flatten()]).tolist())
        clock.lap("communication_s")
        loss_of = {c: next(values) for c in self.components}
        pull_of = {c: math.sqrt(next(values)) for c in self.components} if pull is not None else None
        requests = {w: bool(next(values)) for w in stop_requests}
        norm = math.sqrt(next(values))
        alone_s = [next(values) for _ in range(n_ranks)]
        bad = [(c, rank) for c in self.components for rank in range(n_ranks) if next(values)]
        return GradientResult(
            loss=loss_of,
            bottleneck_grad_norm=pull_of,
            stop_requests=requests,
            slowest_rank=alone_s.index(max(alone_s)) if n_ranks > 1 else None,
            not_finite=tuple(bad),
            norm=norm,
            clipped=False,
        )

    def _gradients(self, local: bool) -> list[Tensor]:
        """Return the gradients of local or of replicated parameters."""
        parameters = self.trained.named_parameters()
        return [p.grad for name, p in parameters if p.grad is not None and self.shards.is_local(name) == local]

    @property
    def n_parameters(self) -> int:
        """Return the number of parameters over all ranks. Collective, as `checkpoint_bytes` is."""
        return self.shards.total_of({name: p.numel() for name, p in self.trained.named_parameters()})

    def checkpoint_bytes(self) -> int:
        """Return the size of `tensors` over all ranks, including the optimizer's moments."""
        moments = {name: 2 * p.numel() * p.element_size() for name, p in self.trained.named_parameters()}
        other = {n: t.numel() * t.element_size() for n, t in self.tensors().items() if not n.startswith("optimizer.")}
        return self.shards.total_of(other) + self.shards.total_of(moments)

    def tensors(self) -> dict[str, Tensor]:
        """Return the local tensors of a checkpoint: weights, their average and best, balance, optimizer moments."""
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": p.detach() for n, p in self.average.model.named_parameters()}
        tensors |= {f"best.{n}": t for n, t in self.best.items()}
        tensors |= {f"balance.{n}": t for n, t in self.balance.state_dict().items()}
        for name, parameter in self.trained.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}:{slot}"] = value
        return tensors

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Load `tensors` of all ranks, of any number; tensors of other ranks' subjects are skipped.

        A parameter that never had a gradient has no moments. Raises DataError if a tensor is missing.
        """
        parameters = dict(self.trained.named_parameters())
        expected = {n for n in self.tensors() if not n.startswith("optimizer.")} | {
            f"optimizer.{n}" for n in parameters
        }
        state = {name: tensor for name, tensor in tensors if name.partition(":")[0] in expected}
        missing = sorted(n for n in expected if n not in state and not n.startswith("optimizer."))
        if missing:
            raise DataError(
                f"The checkpoint has no {missing[0]}: it belongs to another network or another version of giblet.",
                "Start a new run without resume_from.",
            )
        require_same_start(self.model, with_prefix("model.", state))
        self.model.load_state_dict(with_prefix("model.", state))
        self.average.model.load_state_dict(self.model.state_dict() | with_prefix("average.", state))
        for name, tensor in with_prefix("best.", state).items():
            self.best[name].copy_(tensor)
        self.balance.load_state_dict(with_prefix("balance.", state))
        for key, value in with_prefix("optimizer.", state).items():
            name, _, slot = key.partition(":")
            self.optimizer.state[parameters[name]][slot] = value.to(parameters[name].device)


def require_same_start(model: nn.Module, checkpoint: Mapping[str, Tensor]) -> None:
    """Raise DataError if the ridge initialisation that was fitted here is not the one of a checkpoint.

    Its heads extend the basis of the compression, which is fitted again rather than saved: heads of another basis would
    predict other responses without any error.

    Args:
        model: a network as it was built, before weights are loaded.
        checkpoint: tensors of the network, by name.
    """
    for name, tensor in model.state_dict().items():
        saved = checkpoint.get(name)
        if not name.startswith(START_HEADS) or saved is None:
            continue
        is_same = saved.shape == tensor.shape
        if not is_same or not (saved.to(tensor) - tensor).norm() <= START_TOLERANCE * tensor.norm():
            raise DataError(
                "The ridge initialisation fitted here differs from that of the checkpoint: this is another version of "
                "giblet, or its data have changed.",
                "Use the version of giblet that trained it: giblet_version in run.json.",
            )


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Return the names of parameters without a gradient after the last backward pass."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name starts with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _shares(pull: Mapping[str, float]) -> dict[str, float]:
    total = sum(pull.values())
    return {c: p / total if total > 0 else math.nan for c, p in pull.items()}
