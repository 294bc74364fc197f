"""Check the feature spaces of a configuration: their names, and the keys of each source against one another. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from giblet_train.schema.config import COMPONENTS, MODALITIES, SPACE_PATTERN, DataConfig, FeatureSource, nearest

_WORDS = (
    "add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches eval "
    "expansion extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys "
    "load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop "
    "register_buffer register_module register_parameter requires_grad_ set_extra_state set_submodule share_memory "
    "smart_apply spaces state_dict to to_empty train training type update values xpu zero_grad "
    "frames learnt mixed nonlinear rectified total"
)
RESERVED = frozenset(_WORDS.split())
"""Names that the network or a table uses for something else."""

ONLY_WITH = {
    "rows_per_s": (("file",), "is the rate of a file"),
    "reads": (("model",), "says what a model is shown"),
    "context_words": (("model",), "is for models of text"),
    "layer": (("model", "file"), "is for models and files with several layers"),
    "codes": (("extractor", "file"), "is for extractors and files"),
}
"""Key -> the kinds of source that it belongs to, and why."""


class Problem(NamedTuple):
    """One reason why a configuration is refused."""

    key: str
    """Dotted key that it concerns; "" if it concerns the whole configuration."""
    sentence: str
    """What is wrong."""
    remedy: str = ""
    """What to do about it."""


def space_problems(data: DataConfig) -> Iterator[Problem]:
    """Yield everything that is wrong with the feature spaces of a study."""
    groups = {"data.features": data.features}
    groups |= {f"data.stimuli.{name}.features": stimulus.features for name, stimulus in data.stimuli.items()}
    for path, group in groups.items():
        for space, source in group.items():
            yield from _name_problems(f"{path}.{space}", space)
            if source is not None:
                yield from _source_problems(f"{path}.{space}", space, source)
    yield from _weight_problems(groups)
    yield from _shared_file_problems(data)
    yield from _choice_problems(data)


def _name_problems(key: str, space: str) -> Iterator[Problem]:
    if not re.fullmatch(SPACE_PATTERN, space) or "_x_" in space:
        yield Problem(
            key,
            f"{key}: {space!r} is no name of a feature space.",
            "Use at most 30 of a-z, 0-9 and _, beginning with a letter, without _x_.",
        )
    elif space in RESERVED or space in set(COMPONENTS) - set(MODALITIES) or space.startswith("register_"):
        yield Problem(key, f"{key}: the name {space} means something else in giblet.", "Choose another one.")


def _source_problems(key: str, space: str, source: FeatureSource) -> Iterator[Problem]:
    kinds = [kind for kind in ("extractor", "file", "model") if getattr(source, kind) is not None]
    if len(kinds) != 1:
        kind_list = " and ".join(kinds) if kinds else "none"
        yield Problem(key, f"{key} names one of extractor, file and model; here: {kind_list}.")
        return
    if isinstance(source.layer, tuple) and len(set(source.layer)) < max(1, len(source.layer)):
        yield Problem(f"{key}.layer", f"{key}.layer names no layer or one twice.", "Name each layer once.")
    for name, (owners, reason) in ONLY_WITH.items():
        if getattr(source, name) is not None and kinds[0] not in owners:
            yield Problem(f"{key}.{name}", f"{key}.{name} {reason}; {space} comes from {_article(kinds[0])}.")


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _weight_problems(groups: Mapping[str, Mapping[str, FeatureSource | None]]) -> Iterator[Problem]:
    """Yield each space with two weights."""
    weights: dict[str, float] = {}
    for path, group in groups.items():
        for space, source in group.items():
            weight = None if source is None else source.weight
            if weight is not None and weights.setdefault(space, weight) != weight:
                key = f"{path}.{space}.weight"
                yield Problem(key, f"{key} is {weight:g}, elsewhere {weights[space]:g}.", "State it once.")


def _shared_file_problems(data: DataConfig) -> Iterator[Problem]:
    """Yield each file that several stimuli would share, although a file describes one stimulus."""
    for space, source in data.features.items():
        sharing = [name for name, stimulus in data.stimuli.items() if space not in stimulus.features]
        if source is not None and source.file is not None and len(sharing) > 1 and "{stimulus}" not in source.file:
            key = f"data.features.{space}.file"
            yield Problem(key, f"{key} is one file for {len(sharing)} stimuli.", "Write {stimulus} for their names.")


def _choice_problems(data: DataConfig) -> Iterator[Problem]:
    if data.spaces is None:
        return
    more_spaces = (m for group in (data.features, *(s.features for s in data.stimuli.values())) for m in group)
    names = [*dict.fromkeys([*MODALITIES, *more_spaces])]
    for space in data.spaces:
        if space not in names:
            yield Problem(
                "data.spaces", f"data.spaces: there is no feature space {space}{nearest(space, names) or '.'}"
            )
    if len(set(data.spaces)) < len(data.spaces):
        yield Problem("data.spaces", "data.spaces names a space twice.", "Name each once.")
    if not data.spaces:
        yield Problem("data.spaces", "data.spaces is empty, so there is nothing to predict brains from.")
