"""The ladder: stages as data, what a passed run gains when it climbs one, and what keeps it from climbing.

Pure but for reading the ladder's file. A promotion starts from the run's own configuration: what was proved runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from giblet_train.diagnosis.criteria import CriterionVerdict, Verdict
from giblet_train.schema import yaml_io
from giblet_train.schema.config import Config, Section, diff, nearest, set_dotted, to_mapping
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import ConfigError

StageName = Literal["test", "cluster", "production"]
NAME_LIMIT = 40
_ALWAYS = ("note", "seed")


class Stage(Section, frozen=True, kw_only=True):
    """One rung. set: dotted key -> value, laid over what climbs. may_change: other keys that a person may set then."""

    stage: StageName
    title: str = ""
    set: dict[str, Any] = msgspec.field(default_factory=dict)
    may_change: tuple[str, ...] = ()

    @property
    def open_keys(self) -> tuple[str, ...]:
        """What --set may change on the way here."""
        return tuple(dict.fromkeys([*self.set, *self.may_change, *_ALWAYS]))


class Stages(Section, frozen=True, kw_only=True):
    """The stages, lowest first."""

    stages: tuple[Stage, ...]

    @property
    def names(self) -> list[str]:
        """The stages' names, lowest first."""
        return [stage.stage for stage in self.stages]

    def above(self, below: str) -> Stage | None:
        """The rung above that stage; None at the top, or where the ladder does not have it."""
        place = self.names.index(below) + 1 if below in self.names else len(self.stages)
        return self.stages[place] if place < len(self.stages) else None


class PromotionTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration on its new rung, and what differs from the run it comes from: dotted key -> (old, new)."""

    config: Config
    changes: dict[str, tuple[Any, Any]]


def read_ladder(path: Path) -> Stages:
    """The ladder of a file. Raises ConfigError."""
    try:
        ladder = msgspec.convert(yaml_io.load_file(path), Stages)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}.") from None
    if len(set(ladder.names)) < len(ladder.stages):
        raise ConfigError(f"{path}: a stage stands twice.", f"Stages: {', '.join(get_args(StageName))}.")
    return ladder


def next_stage(ladder: Stages, config: Config, wanted: str) -> Stage:
    """The rung that is wanted, if it is the next one. Raises ConfigError."""
    if wanted not in ladder.names:
        raise ConfigError(
            f"The ladder has no stage {wanted!r}{nearest(wanted, ladder.names) or '.'}", f"It has {_listed(ladder)}."
        )
    following = ladder.above(config.stage)
    if following is None:
        raise ConfigError(f"Nothing stands above {config.stage}.", f"The ladder is {_listed(ladder)}.")
    if following.stage != wanted:
        raise ConfigError(
            f"After {config.stage} comes {following.stage}, not {wanted}.", f"The ladder is {_listed(ladder)}."
        )
    return following


def promote_config(config: Config, stage: Stage, settings: Mapping[str, Any]) -> PromotionTarget:
    """A run's configuration laid under the stage's own values and a person's.

    settings: dotted key -> value, as --set gives them. Raises ConfigError for a key that the stage does not open.
    """
    closed = next((key for key in settings if not _opened(key, stage)), None)
    if closed is not None:
        raise ConfigError(
            f"--set {closed}: a promotion keeps what was proved; {stage.stage} opens {', '.join(stage.open_keys)}.",
            f"Prove the other value first: giblet launch NODE {config.name} --set {closed}=…",
        )
    value = to_mapping(config)
    fresh = {"stage": stage.stage, "name": promoted_name(config.name, stage.stage), "resume_from": None}
    for key, item in {**fresh, **stage.set, **settings}.items():
        set_dotted(value, key, item)
    risen = from_mapping(value, f"the configuration for {stage.stage}").config
    return PromotionTarget(config=risen, changes=diff(config, risen))


def unmet_criteria(verdict: Verdict, accepted: Collection[str]) -> list[CriterionVerdict]:
    """The criteria that were not met and that nobody has accepted. Raises ConfigError for one that need not be."""
    unmet = {c.name: c for c in verdict.criteria if c.status != "pass"}
    for name in accepted:
        if name not in unmet:
            known = [c.name for c in verdict.criteria]
            was = (
                f"{name} was met." if name in known else f"There is no criterion {name!r}{nearest(name, known) or '.'}"
            )
            remedy = f"Not met: {', '.join(unmet)}." if unmet else "Every criterion was met; leave out --accept."
            raise ConfigError(f"--accept {name}: {was}", remedy)
    return [c for name, c in unmet.items() if name not in accepted]


def promoted_name(name: str, stage: str) -> str:
    """The name of what climbed: the run's, with the new stage at its end."""
    root = name
    for below in get_args(StageName):
        root = root.removesuffix(f"-{below}")
    return f"{root[: NAME_LIMIT - len(stage) - 1].rstrip('-_')}-{stage}"


def _opened(key: str, stage: Stage) -> bool:
    return any(key == open_key or key.startswith(f"{open_key}.") for open_key in stage.open_keys)


def _listed(ladder: Stages) -> str:
    return " → ".join(ladder.names)
