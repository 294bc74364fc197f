"""Map the names that training programs print to what they mean: which loss, of which split, of which component."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Tuple

from giblet_train.diagnosis.log_reader.loss_parts import NOT_PARTS


def _words(text: str) -> Tuple[str, ...]:
    return tuple(text.split())


COMPONENT_NAMES = {
    "fmri": ("fmri", "bold", "brain", "voxel", "voxels", "neural", "cortex"),
    "video": ("video", "visual", "vision", "frame", "frames", "image", "images", "img", "pixel", "vid"),
    "audio": ("audio", "sound", "mel", "speech", "spectrogram", "encodec", "aud"),
    "text": ("text", "language", "caption", "captions", "word", "words", "embedding", "txt"),
}
_COMPONENT = {alias: name for name, aliases in COMPONENT_NAMES.items() for alias in aliases}
SPLIT_NAMES = {
    "train": (
        *("train", "training", "tr", "trn", "tl", "trainings", "learn"),
        *("entrainement", "apprentissage", "entrenamiento", "addestramento"),
    ),
    "validation": (
        *(
            "val",
            "valid",
            "validation",
            "eval",
            "evaluation",
            "validate",
            "validating",
            "dev",
            "heldout",
            "va",
            "vl",
            "vali",
        ),
        *("validierungs", "validierung", "validacion", "validazione"),
    ),
    "test": ("test", "testing"),
}
_SPLIT = {alias: name for name, aliases in SPLIT_NAMES.items() for alias in aliases}
_ONLY_IN_NAMES = ("tr", "trn", "tl", "va", "vl", "learn")
"""Splits that mean something else outside a name."""
_LOSS = frozenset(_words("loss losses nll objective cost verlust fehler perte pertes perdida coste erreur perdita"))
_ERROR = frozenset(
    (
        *("mse", "rmse", "mae", "mape", "rmsle", "bce", "xent", "crossentropy", "logloss", "mlogloss", "deviance"),
        *("nce", "infonce", "ntxent"),
    )
)
_SPELT_OUT = tuple(
    map(
        frozenset,
        (("cross", "entropy"), ("squared", "error"), ("absolute", "error"), ("reconstruction", "error")),
    )
)
_PLAIN_ERROR = frozenset({"error", "err", "ctc", "rnnt", "ce"})
_PERPLEXITY = frozenset({"ppl", "perplexity"})
"""Errors that training minimises, for logs that print no loss."""
ADVERSARIAL = frozenset(
    _words("d g gen generator disc discriminator dis adv adversarial gan netd netg actor critic policy")
)
"""Words of losses that balance each other, so that neither they nor their sum must fall."""
REINFORCEMENT = frozenset(_words("policy critic actor surrogate pi td bellman vf qf"))
"""The same for reinforcement learning, where also a total that is printed need not fall."""
_REWARD = frozenset(_words("reward rewards rew return returns ret"))
SCORES = frozenset(_words("score scores points r"))
"""Words that name the reward only in a log of episodes: elsewhere they are another metric or a correlation."""
_OF_REWARDS = _REWARD | frozenset(
    (
        *_words("mean avg average total episode episodic ep rollout train training eval evaluation test score scores"),
        *_words("objective rlhf env per cumulative sum raw extrinsic discounted undiscounted running smoothed last ma"),
        *_words("moving points r current episodes games charts s ms sec"),
    )
)
"""Words of the reward that a training raises. Preference losses print `rewards/chosen`, and fall."""
_NETWORK = re.compile(r"(?:net)?[DG](?:_[A-Za-z]\w*)?\Z")
_OF_NETWORKS = re.compile(r"(?:cycle|idt|rec|kl|z)_[A-Z]\w*\Z")
_NETWORK_PAIR = re.compile(r"(?<![\w.])(?:net)?([DG])(?:_[A-Za-z]\w*)?\s?[:=]\s?[-\d.ni]")
_PLAYERS = frozenset(("critic", "disc", "discriminator", "gen", "generator"))
_PLAYER_PAIR = re.compile(r"(?<![\w.])(?:(critic|disc(?:riminator)?)|gen(?:erator)?)\s?[:=]\s?[-\d.ni]", re.IGNORECASE)
FAKE_SCORE = "fake_score"
_FAKE_SCORE_WORDS = frozenset({"d", "fake", "score"})
OTHER = "other"
MOST_WORDS = 3
_RATE = frozenset({"lr", "learningrate", "lernrate"})
_RATE_WORDS = tuple(
    frozenset(_words(name)) for name in ("learning rate", "learn rate", "taux apprentissage", "tasa aprendizaje")
)
_RATE_ABBREVIATION = re.compile(r"l\.\s?r\.?\Z", re.IGNORECASE)
"""The learning rate as `L.r.`; `L_r` is a loss."""
_CORRELATION = frozenset({"corr", "correlation", "pearson", "pearsonr", "pcc", "r"})


_FILLER = _LOSS | frozenset(
    _words(
        "total tot overall avg ave aver ava average averaged mean epoch step batch running current global sum all "
        "value final lm "
        "smoothed avr mvg moving ema de di du sur en for iter mini minibatch the is e dataloader idx and with of s ms "
        "sec took after done finished complete completed "
        "results set model network net now at end on in info"
    )
)
"""Words that do not make a loss another quantity."""
OTHER_QUANTITY = frozenset(
    _words(
        "best worst min minimum lowest max maximum scale scaler scaling weight weights ratio patience delta prev "
        "previous target coef coefficient lambda tolerance threshold early improved decreased increased from std var "
        "sd variance median count fn type name func function time n num"
    )
)
"""Words that turn the number after them into something other than the loss itself."""
OTHER_SCRIPTS = (
    *(
        ("训练", " train "),
        ("验证", " val "),
        ("测试", " test "),
        ("损失", " loss "),
        ("学习率", " lr "),
        ("轮", " epoch "),
        ("合計", " total "),
        ("平均", " average "),
        ("准确率", " accuracy "),
        ("正解率", " accuracy "),
        ("精度", " accuracy "),
        ("最佳", " best "),
        ("最优", " best "),
        ("最良", " best "),
        ("最小", " min "),
        ("最高", " max "),
        ("总", " total "),
    ),
    *(("訓練", " train "), ("検証", " val "), ("損失", " loss "), ("学習率", " lr "), ("エポック", " epoch ")),
    *(
        ("훈련", " train "),
        ("학습률", " lr "),
        ("학습", " train "),
        ("검증", " val "),
        ("손실", " loss "),
        ("에포크", " epoch "),
    ),
    *(("Эпоха", " epoch "), ("эпоха", " epoch "), ("потери", " loss "), ("Потери", " loss ")),
    *(("обучение", " train "), ("обучения", " train "), ("валидация", " val "), ("валидации", " val ")),
)
"""Words of other scripts -> English, the longer first."""
_SHORT_LOSSES: Dict[Tuple[str, ...], Tuple[str, ...]] = {
    (*prefix, *suffix): (split, "loss")
    for prefix, split in ((("t",), "train"), (("v",), "val"), (("tr",), "train"), (("va",), "val"))
    for suffix in (("loss",), ("l",))
}
"""Abbreviations of the losses of training and validation, such as `t_loss` and `va_l`."""
_OF_DURATIONS = frozenset({"data", "batch", "reader", "time"})
"""Words of a cost that is a duration, such as `batch_cost`."""
_NORM_NAME = re.compile(r"(?<![a-z0-9])l_([12])(?![a-z0-9])")
"""`l1` or `l2`, of which `words_of` makes two words."""
_NORMS = frozenset({("l", "inf"), ("l", "infinity")})
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"(?<![a-z])[tv](?=loss\b)|[a-z]+|[^\W\d_a-z]+|\d+")
_JOINED = re.compile(
    r"(trainings?|train|tr|trn|val|valid|validation|va|validierungs|test|eval|evaluation|dev)"
    r"(loss|cost|error|corr|lr|r?mse|mae|verlust|fehler)\Z"
)


class Quantity(NamedTuple):
    """Meaning of a printed name."""

    kind: str
    """`loss`, `lr`, `r` (correlation), `grad_norm`, `reward`, `fake_score`; without a loss, `error` (`rmse`), `term`
    (`kl`), `bare` (`val: 1`) or `nameless` (`0.6 / 0.7`); `other` for a number that may be a part of the loss."""
    split: Optional[str] = None
    """`train`, `validation` or `test`; None if the name does not contain it."""
    part: Optional[str] = None
    """Component, or another named part of the loss; None for the total."""
    per: Optional[str] = None
    """`step` or `epoch` if the name contains it."""


@lru_cache(maxsize=4096)
def quantity_of(name: str) -> Optional[Quantity]:
    """Return the meaning of a printed name, such as `Train Loss` or `val/fmri_loss`; None if it is of no use here."""
    words = words_of(name)
    words = _SHORT_LOSSES.get(words, words)
    bag = frozenset(words)
    if not words or (bag & OTHER_QUANTITY and not _is_of_value(words)) or ("cost" in bag and bag & _OF_DURATIONS):
        return None
    split = next((_SPLIT[word] for word in words if word in _SPLIT), None)
    if bag & _RATE or any(rate <= bag for rate in _RATE_WORDS) or _RATE_ABBREVIATION.match(name):
        return Quantity("lr")
    if {"grad", "norm"} <= bag or {"gradient", "norm"} <= bag or bag & {"gnorm", "gradnorm"}:
        return Quantity("grad_norm")
    if bag == _FAKE_SCORE_WORDS:
        return Quantity(FAKE_SCORE)
    if bag & _REWARD and all(word in _OF_REWARDS or word.isdigit() for word in words):
        return Quantity("reward")
    if bag & _CORRELATION and not bag & _LOSS:
        return _correlation(bag, split)
    if words[:2] in _NORMS:
        return None
    if len(words) > 1 and words[0] == "l" and words[1].isalpha():
        return _loss(words[1:], bag, split)  # BasicSR: l_pix, l_g_gan
    if bag & _LOSS and _is_of_value(words):
        return Quantity("loss", split, "value_critic")
    if bag & _LOSS:
        return _loss(words, bag, split)
    if bag & _PERPLEXITY:
        return Quantity("perplexity", split) if bag <= _PERPLEXITY | _FILLER | frozenset(_SPLIT) else None
    return Quantity("error", split) if _is_error(words, bag, split) else None


def is_score(name: str) -> bool:
    """Return True for a name that means the reward in a log of episodes, such as `Average Score` or `R`."""
    words = words_of(name)
    return bool(SCORES & set(words)) and all(word in _OF_REWARDS or word.isdigit() for word in words)


def other_of(name: str) -> Optional[Quantity]:
    """Return the quantity of a name that is no loss, but may be a part of one; None if it cannot be."""
    words = words_of(name)
    rest = [word for word in words if word not in _FILLER and word not in _SPLIT]
    own_name = _NORM_NAME.sub(r"l\1", "_".join(rest))
    if not rest or len(rest) > MOST_WORDS or set(words) & (OTHER_QUANTITY | NOT_PARTS) or rest[0].isdigit():
        return None
    split = next((_SPLIT[word] for word in words if word in _SPLIT), None)
    return Quantity(OTHER, split, own_name)


def component_of(name: str) -> Optional[str]:
    """Return the loss component that a name consists of, such as `fMRI` or `video`; None for any other name."""
    words = [word for word in words_of(name) if word not in _SPLIT]
    return _COMPONENT.get(words[0]) if len(words) == 1 else None


def names_networks(text: str) -> bool:
    """Return True if a line prints numbers of two networks, as `D_A: 0.2 G_A: 0.3` or `critic: -3.1 gen: 0.2`."""
    return len(set(_NETWORK_PAIR.findall(text))) == 2 or len(set(_PLAYER_PAIR.findall(text))) == 2


def network_part(name: str) -> Optional[str]:
    """Return the part of the loss that a name means in a line of two networks; None if it is no such name."""
    return name.lower() if name.lower() in _PLAYERS or _NETWORK.match(name) or _OF_NETWORKS.match(name) else None


def split_of(text: str) -> Optional[str]:
    """Return the last split named in a text; None if it names none."""
    splits = [_SPLIT[word] for word in words_of(text) if word in _SPLIT and word not in _ONLY_IN_NAMES]
    return splits[-1] if splits else None


def single_split(name: str) -> Optional[str]:
    """Return the split that is all of a name, such as `train` or `Validation`; None for any other name."""
    words = words_of(name)
    return _SPLIT.get(words[0]) if len(words) == 1 else None


def names_a_loss(name: str) -> bool:
    """Return True if a name contains the word, also where the number is not the loss itself, as in `best loss`."""
    return bool(frozenset(words_of(name)) & _LOSS)


def words_of(name: str) -> Tuple[str, ...]:
    """Split a name into lower-case words."""
    spaced_name = _CAMEL.sub(" ", name.replace("fMRI", "fmri").replace("FMRI", "fmri")).lower()
    words: List[str] = []
    for word in _WORD.findall(spaced_name):
        joined_match = _JOINED.match(word)
        words += joined_match.groups() if joined_match else (word,)
    return tuple(words)


def _correlation(bag: FrozenSet[str], split: Optional[str]) -> Optional[Quantity]:
    rest = bag - _CORRELATION - _FILLER - frozenset(_SPLIT) - frozenset(COMPONENT_NAMES["fmri"])
    return Quantity("r", split) if not rest and split != "train" else None


def _is_of_value(words: Tuple[str, ...]) -> bool:
    """Return True for the loss of a value function, as of reinforcement learning: `value_loss`, not `loss value`."""
    return words[-2:] == ("value", "loss") or words[-3:] == ("value", "function", "loss")


def _is_error(words: Tuple[str, ...], bag: FrozenSet[str], split: Optional[str]) -> bool:
    """Return True for the name of an error; `l2` counts with a split only, because it may be a weight decay."""
    is_distance = words[-2:] in (("l", "1"), ("l", "2"))
    is_plain = bool(bag & _PLAIN_ERROR) and split is not None and bag <= _FILLER | frozenset(_SPLIT) | _PLAIN_ERROR
    is_spelt_out = any(name <= bag for name in _SPELT_OUT)
    return bool(bag & _ERROR) or is_plain or is_spelt_out or (is_distance and split is not None)


def _loss(words: Tuple[str, ...], bag: FrozenSet[str], split: Optional[str]) -> Quantity:
    component = next((_COMPONENT[word] for word in words if word in _COMPONENT), None)
    name_parts = _NORM_NAME.sub(r"l\1", "_".join(words)).split("_")
    others = [word for word in name_parts if word not in _FILLER and word not in _SPLIT and not word.isdigit()]
    part = component or ("_".join(others) if others else None)
    per = "step" if "step" in bag else "epoch" if "epoch" in bag else None
    return Quantity("loss", split, part, per)
