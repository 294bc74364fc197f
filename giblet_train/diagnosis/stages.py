"""Stages of the ladder: which one is next, what a promotion changes, and what prevents it.

Pure except for reading the file of the ladder. A promotion starts from the configuration of the run that passed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from giblet_train.diagnosis.criteria import Verdict
from giblet_train.diagnosis.criterion_verdict import CriterionVerdict
from giblet_train.schema import yaml_io
from giblet_train.schema.config import Config, Section, diff, nearest, set_dotted, to_mapping
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.type_errors import type_error_in_words

StageName = Literal["test", "cluster", "production"]
NAME_LIMIT = 40
_ALWAYS = ("note", "seed")


class Stage(Section, frozen=True, kw_only=True):
    """One stage of the ladder."""

    stage: StageName
    """Name of the stage."""
    title: str = ""
    """Description of the stage."""
    set: dict[str, Any] = msgspec.field(default_factory=dict)
    """Dotted key -> value that the stage sets."""
    may_change: tuple[str, ...] = ()
    """Other keys that a person may set when promoting to it."""

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Return the keys that --set may change when promoting to this stage."""
        return tuple(dict.fromkeys([*self.set, *self.may_change, *_ALWAYS]))


class Stages(Section, frozen=True, kw_only=True):
    """The stages, lowest first."""

    stages: tuple[Stage, ...]
    """The stages, lowest first."""

    @property
    def names(self) -> list[str]:
        """Return the names of the stages, lowest first."""
        return [stage.stage for stage in self.stages]

    def above(self, below: str) -> Stage | None:
        """Return the stage above; None at the top, or if the ladder does not have that stage."""
        position = self.names.index(below) + 1 if below in self.names else len(self.stages)
        return self.stages[position] if position < len(self.stages) else None


class PromotionTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of a promoted run."""

    config: Config
    """The new configuration."""
    changes: dict[str, tuple[Any, Any]]
    """Dotted key -> (old, new) where it differs from the promoted run."""


def read_ladder(path: Path) -> Stages:
    """Read the file of the ladder. Raises ConfigError."""
    try:
        ladder = msgspec.convert(yaml_io.load_file(path), Stages)
    except msgspec.ValidationError as error:
        what, _, key = type_error_in_words(str(error)).partition(" - at `$.")
        words = what.replace("Object missing required field", "it lacks the key")
        place = f'"{key.rstrip("`")}": ' if key else ""
        raise ConfigError(f"{path}: {place}{words}.", "configs/ladder.yaml of giblet is an example.") from None
    if len(set(ladder.names)) < len(ladder.stages):
        raise ConfigError(f"{path}: a stage appears twice.", f"Stages: {', '.join(get_args(StageName))}.")
    return ladder


def next_stage(ladder: Stages, config: Config, name: str) -> Stage:
    """Return the named stage if it is the next one. Raises ConfigError."""
    if name not in ladder.names:
        raise ConfigError(
            f"The ladder has no stage {name!r}{nearest(name, ladder.names) or '.'}", f"It has {_stage_names(ladder)}."
        )
    following = ladder.above(config.stage)
    if following is None:
        raise ConfigError(f"{config.stage} is the highest stage.", f"The ladder is {_stage_names(ladder)}.")
    if following.stage != name:
        raise ConfigError(
            f"After {config.stage} comes {following.stage}, not {name}.", f"The ladder is {_stage_names(ladder)}."
        )
    return following


def promote_config(config: Config, stage: Stage, settings: Mapping[str, Any]) -> PromotionTarget:
    """Return a run's configuration with the values of the stage and of a person on top.

    A study with a table of runs keeps its subjects: a stage's `data.subjects` are numbers of files.

    settings: dotted key -> value, as from --set. Raises ConfigError for a key that may not change.
    """
    fixed_key = next((key for key in settings if not _may_change(key, stage)), None)
    if fixed_key is not None:
        raise ConfigError(
            f"--set {fixed_key}: a promotion keeps what was tested; only {', '.join(stage.open_keys)} may change.",
            f"Test the other value first: giblet launch NODE {config.name} --set {fixed_key}=…",
        )
    value = to_mapping(config)
    own = {"stage": stage.stage, "name": promoted_name(config.name, stage.stage), "resume_from": None}
    has_own_subjects = config.data.runs is not None
    of_stage = {key: item for key, item in stage.set.items() if not (has_own_subjects and key == "data.subjects")}
    for key, item in {**own, **of_stage, **settings}.items():
        set_dotted(value, key, item)
    next_config = from_mapping(value, f"the configuration for {stage.stage}").config
    return PromotionTarget(config=next_config, changes=diff(config, next_config))


def unmet_criteria(verdict: Verdict, accepted_criteria: Collection[str]) -> list[CriterionVerdict]:
    """Return the criteria that are neither met nor accepted. Raises ConfigError for a needless acceptance."""
    unmet = {c.name: c for c in verdict.criteria if c.status != "pass"}
    for name in accepted_criteria:
        if name not in unmet:
            names = [c.name for c in verdict.criteria]
            was = (
                f"{name} was met." if name in names else f"There is no criterion {name!r}{nearest(name, names) or '.'}"
            )
            remedy = f"Not met: {', '.join(unmet)}." if unmet else "Every criterion was met; leave out --accept."
            raise ConfigError(f"--accept {name}: {was}", remedy)
    return [c for name, c in unmet.items() if name not in accepted_criteria]


def promoted_name(name: str, stage: str) -> str:
    """Return the name of the promoted run: the old name with the new stage at its end."""
    root = name
    for below in get_args(StageName):
        root = root.removesuffix(f"-{below}")
    return f"{root[: NAME_LIMIT - len(stage) - 1].rstrip('-_')}-{stage}"


def _may_change(key: str, stage: Stage) -> bool:
    return any(key == open_key or key.startswith(f"{open_key}.") for open_key in stage.open_keys)


def _stage_names(ladder: Stages) -> str:
    return " → ".join(ladder.names)
