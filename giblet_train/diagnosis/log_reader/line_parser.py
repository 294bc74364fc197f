"""Parse one line of a log: its epoch, its step, and every quantity printed in it, whatever the layout."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from giblet_train.diagnosis.log_reader.box_table import BoxTable
from giblet_train.diagnosis.log_reader.key_names import (
    OTHER,
    OTHER_SCRIPTS,
    Quantity,
    component_of,
    is_score,
    names_a_loss,
    names_networks,
    network_part,
    other_of,
    quantity_of,
    single_split,
    split_of,
    words_of,
)
from giblet_train.diagnosis.log_reader.line_shape import LineShape
from giblet_train.diagnosis.log_reader.loss_parts import terms_of
from giblet_train.diagnosis.log_reader.number_format import NUMBER, parse_number, uses_decimal_comma
from giblet_train.diagnosis.log_reader.observation import Observation, Value
from giblet_train.diagnosis.log_reader.screen_table import Row, ScreenTable

_ACCENTS = str.maketrans(
    "àáâãäåçèéêëìíîïñòóôõöùúûüÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜ’ℒ", "aaaaaaceeeeiiiinooooouuuuAAAAAACEEEEIIIINOOOOOUUUU'L"
)
_ELISION = re.compile(r"\b[dl]'(?=\w)", re.IGNORECASE)
_WORD = r"(?!(?:nan|inf(?:inity)?)\b)[^\W\d_][\w@./]{0,80}"
"""Word of a name; `nan` in `loss nan acc 0.1` is a number."""
_PAIR = re.compile(
    rf"(?<!\w)(?<![^\W\d][@./])(?P<name>{_WORD}(?:[ -]{_WORD}){{0,4}})['\"]?"
    rf"\s{{0,3}}(?P<mark>[:=]+|->|→|-(?=\s)|is\b)?[\s\u00a0]{{0,8}}"
    rf"['\"\[(]{{0,2}}(?:tensor\(|array\(|np\.float\d+\()?(?P<number>{NUMBER})"
    rf"(?:\s?\((?P<average>{NUMBER})\))?",
    re.IGNORECASE,
)
_NUMBER = re.compile(NUMBER, re.IGNORECASE)
_NOT_A_HEADER = re.compile(
    r"(?:@|\b(?:from|at|since|until|for|every|of|in|to|total|num\w*|max\w*|resum\w*|load\w*|restor\w*|sav\w*|checkpoint\w*"
    r"|previous|last|stopp\w*|warm\w*|per))[\s:(=\"']*$|\b(?:best|improved|saved|saving)\b",
    re.IGNORECASE,
)
_EPOCH = re.compile(
    r"(?<![\w-])(?<!s/)(?:ep|epoche?|epoque|epocas?)\b(?:\((?P<mode>\w+)\))?\.?['\"]?\s*[:=#-]?\s*[\[(]?\s*(?P<epoch>\d{1,9}(?:\.\d{1,9})?)"
    r"(?:\s*(?:/|of|out of|von)\s*(?P<of>\d{1,9}))?\s*[\])]?(?!\d|\.[a-z]|\s*(?:%|s\b|min|h\b|:\d))"
    r"|(?<![\w.-])(?P<before>\d{1,9})epoch(?=:|\sresults)",
    re.IGNORECASE,
)
_FIRST_FRACTION = re.compile(r"\bep(?:och)?\b\W{0,4}0\.0+\b", re.IGNORECASE)
"""The beginning of epochs that are counted in fractions."""
_TIMM = re.compile(
    r"\s*(?:(?:Train|Test|Val\w*|Eval\w*):\s+(?:(?P<epoch>\d{1,9})\s+)?\[|\[(?P<first>\d{1,9}):)"
    r"\s*(?P<step>\d{1,12})/\s*(?P<steps>\d{1,12})\b",
    re.IGNORECASE,
)
_BRACKET_STEP = re.compile(r"\s*[:,|]?\s*[\[(]?\s*(?<!\d)(\d{1,12})\s*/\s*(\d{1,12})\b(?!\s?[%:/])")
_STEP = re.compile(
    r"(?<![\w-])(?:global[_ ])?(?:step|iter|iteration|batch|update|num_updates|episode)s?"
    r"(?:[_ ]?(?:id|idx|index|no|nr))?\b\s*[:=#]?\s*\[?\s*"
    r"(\d{1,12})(?!\d|\.\d)(?:\s*(?:/|\bof\b)\s*(\d{1,12}))?",
    re.IGNORECASE,
)
_STEPS_OF_EPOCH = re.compile(r"\W*steps\W{0,3}\d+", re.IGNORECASE)
"""Number of steps behind an epoch, which is no counter."""
_ESPNET_STEP = re.compile(r":\w+:\d{1,12}-(\d{1,12})batch:")
_ROUND = re.compile(r"\s*(?:\[(\d{1,12})\]|(\d{1,12}):)\s+(?=(?:train|learn|val|eval|test|cv)[\w' -]{0,40}:\s*[-\d.n])")
"""Round of a boosted model (XGBoost, LightGBM, CatBoost) in front of its errors."""
_DARKNET = re.compile(
    rf"\s*(?P<step>\d{{1,12}}):\s*{NUMBER},\s*(?P<loss>{NUMBER})\s+avg(?:\s+loss)?,\s*(?P<lr>{NUMBER})\s+rate\b",
    re.IGNORECASE,
)
_DARKNET_LAYER = re.compile(r"\s*(?:v3 \(|Region \d+ Avg)")
"""Line about one layer of darknet: it is nan wherever an image has no object."""
_UNNAMED_STEP = re.compile(rf"\s*(train|valid|val|test)\s+(\d{{1,9}})\s+({NUMBER})\s+{NUMBER}(?:\s+{NUMBER})?\s*$")
"""Step of DARTS and its many descendants: split, step, loss, accuracies."""
_OF_GROUP = re.compile(r"\b(learning[ _]rate|lr) of (?:param\w*[ _])?group \d+ (?:to|is|=|:) ?", re.IGNORECASE)
"""Group of parameters between a rate and its value, as PyTorch's schedulers print it."""
_POSSESSIVE = re.compile(r"\b(train(?:ing)?|val(?:id)?|test|eval)(?:_\d+)?'s\s")
"""Data set in front of an error of LightGBM, such as `valid_1's rmse`."""
_SUMMARY_FOLLOWS = re.compile(r"best iteration(?: is)?:?\s*$", re.IGNORECASE)
_SPLITS = r"train(?:ing)?|val(?:id|idation)?|dev|test"
_GROUP_NAME = r"(?<![\w-])([A-Za-z][\w-]{0,60})"
"""A name of bounded length that begins at its first letter: else a long line costs the square of its length."""
_GROUP = re.compile(
    rf"{_GROUP_NAME}\s{{0,8}}[:=]?\s{{0,8}}[({{\[]\s{{0,8}}((?:{_SPLITS})\b[^(){{}}\[\]]{{1,200}})[)}}\]]",
    re.IGNORECASE,
)
_SPLIT_OF_COUNTER = re.compile(
    rf"(?:{_SPLITS}|eval(?:uation)?)[ :]\s*(?:epoch|batch|step|iter(?:ation)?)\Z", re.IGNORECASE
)
"""A split in front of a counter, to which the losses behind it belong."""
_IN_GROUP = re.compile(rf"({_SPLITS})\s*[:=]?\s*({NUMBER})", re.IGNORECASE)
_SIDE_BY_SIDE = re.compile(
    rf"(?:{_GROUP_NAME}\s{{0,8}})?[(\[]?\s{{0,8}}({_SPLITS})\s{{0,8}}[/|,]\s{{0,8}}({_SPLITS})\s{{0,8}}[)\]]?\s{{0,8}}"
    rf"([A-Za-z][\w-]{{0,60}})?\s{{0,8}}[:=]\s{{0,8}}({NUMBER})\s{{0,8}}[/|,]\s{{0,8}}({NUMBER})",
    re.IGNORECASE,
)
_OTHER_METRIC = re.compile(r"acc|auc|f1|dice|iou|score|corr|r2|top|map\b|recall|precision|bleu|wer|cer|psnr|ssim", re.I)
_WITH_METRIC = re.compile(
    rf"\b(?:{_SPLITS})\s{{0,3}}[:=]?\s{{0,3}}(?:{NUMBER})[\s,;(/]{{1,4}}(?:acc|auc|f1|dice|iou|top|r2|corr)\w{{0,20}}[\s:=]{{1,3}}"
    r"[-+]?[\d.]",
    re.IGNORECASE,
)
"""A number that only its split names, with a named metric behind it: `train: 1.2 acc 51%`. It is the loss."""
_BARE_STEP = re.compile(r"^\s*\[\s*(\d{1,12})\s*/\s*(\d{1,12})\s*\]")
_FAKE_SCORE = re.compile(r"\bD\(G\(\w+\)\)")
_TWO_COUNTERS = re.compile(r"\s*\[\s*(\d{1,9})/\s*(\d{1,9})\s*\]\s*\[\s*(\d{1,12})/\s*(\d{1,12})\s*\]")
"""Epoch and step in front of a line, such as `[0/25][50/500]`."""
_LOSS_AFTER = re.compile(
    r"\b(loss|cost|error|reward|return)\s+(?:after|at|in|for)\s+(?:global[ _-])?"
    r"(epoch|iteration|step|iter|batch|episode)\s*[#=:]?\s*(\d{1,12})\s*[:=,-]?\s+(?:is\s+)?(?=[-\d.n])",
    re.IGNORECASE,
)
"""A loss in front of its counter, such as `Cost after iteration 100: 0.5`."""
_EXPLAINED = re.compile(
    r"\b(loss|cost|error|nll|elbo|mse|mae|verlust)\s?\((?!(?:train|val|test)\w*\b)[A-Za-z][\w ,*^-]{0,24}\)"
    r"(?=\s{0,3}[:=]?\s{0,8}(?:[-+.\d]|nan))",
    re.IGNORECASE,
)
"""A remark in parentheses behind the name of a loss, such as `loss (nats): 0.5`."""
_SUFFIX = re.compile(r"(?<![\w.])(\d{1,9}(?:\.\d{1,9})?)([kKMB])(?=$|\s|[,;|)\]])")
"""A number in thousands, millions or billions, such as `1.2k`."""
_POWERS = {"k": "e3", "m": "e6", "b": "e9"}
_JOINED_EPOCH = re.compile(r"(?<![\w-])(ep|epoche?|epoque|epocas?)(?=\d)", re.IGNORECASE)
_LEADING = re.compile(
    r"\s*(?:(?P<open>[(\[])\s*)?(?:\#\s?|[Ee]\s?[=:]?\s?(?=\d))?(?P<count>\d{1,9})(?:\s*/\s*(?P<of>\d{1,9}))?"
    r"(?(open)\s*[)\]]|(?=\s|[:|,)]))"
)
"""Counter at the beginning of a line, such as `(9)`, `[9/50]`, `#9` or `e9`, which counts epochs if losses follow."""
_SPLIT_BEHIND = re.compile(
    rf"\b(\w*(?:loss|verlust|fehler|error|mse|mae))\s?[(\[]({_SPLITS}|train\w*|valid\w*)[)\]]", re.IGNORECASE
)
"""A split in parentheses behind its loss, such as `loss (val)` or `Verlust (Training)`."""
_L_NAME = re.compile(
    r"(?<!\w)L_(?:tot(?:al)?|all|train|val|tr(?=\W.*(?<!\w)L_va)|fmri|rec\w*|kl\w*|adv\w*|gan|gen|disc|cls|reg|ce|bce|nll"
    r"|mse|mae|l1|l2|pix\w*|perc\w*|vq|commit\w*|nce|infonce|contr\w*|cons\w*|dice|seg|box|obj|sup|unsup|distill|aux)"
    r"\W{1,3}[-\d.n]",
    re.IGNORECASE,
)
"""A loss whose name begins with an L, such as `L_tot 0.5`. Others may be lengths or norms, such as `L_inf`."""
_ALONE = re.compile(r"(?<![a-z0-9])(?:ce|l1|huber|focal|ctc|bp[cb]|kl|elbo)\s?[:=]?\s{0,3}[-\d.n]", re.IGNORECASE)
"""A loss under the name of its function, in a line that need not call it a loss."""
_RISING_BOUND = frozenset({"kl", "elbo"})
"""Functions whose value may rise, so that only a fall shows that it is the loss."""
_FUNCTIONS = _RISING_BOUND | frozenset(("ce", "l1", "smooth_l1", "huber", "focal", "ctc", "bpc", "bpb"))
_LETTERS = re.compile(rf"(?<!\w)L\s?[=:]\s?({NUMBER}).*(?<!\w)V\s?[=:]\s?({NUMBER})", re.IGNORECASE)
"""Losses of training and validation that are called L and V."""
_LETTER = re.compile(r"(?<!\w)([A-Z])\s?[=:]\s?[-\d.n]")
_LETTERS_OF_LOSSES = frozenset("ELV")
"""Epoch and losses; next to another letter, as in `L=0.5 V=2.5 R=7`, V may be a value or a voltage."""
MOST_APART = 2.0
"""Ratio of the first validation and training loss up to which V is one."""
_BAR = re.compile(r"\d+%\|[^|]*\|\s*(\d{1,12})/(\d{1,12})\s*\[")
_EPOCH_BAR = re.compile(r"\s*(?:training\s+)?epochs?\s*:?\s*\d{1,3}%\|", re.IGNORECASE)
"""A progress bar over the epochs."""
_KERAS_BAR = re.compile(r"^\s*(\d{1,12})/(\d{1,12})\s+(?:\[[=>.\s]*\]|[━╸╺ ]+(?=\d|\s))")
_UNREADABLE = re.compile(r"\bloss['\"]?\s*[:=]+\s*['\"\[(]*[-+]?[\d.,]", re.IGNORECASE)
_INNER_COMMA = re.compile(r"\d,\d")
_KEYWORDS = (
    *("loss", "lr", "learning", "corr", "pearson", "pcc", "norm", "nll", "objective", "cost", "verlust", "fehler"),
    *("mse", "mae", "mape", "rmsle", "bce", "xent", "entropy", "deviance", "ppl", "perplexity", "lernrate"),
    *("perte", "perdida", "cout", "erreur", "taux", "perdita"),
    *("infonce", "ntxent", "reward", "recon", "kl", "perc", "vq", "nce", "rew", "return", "ret"),
)
"""At least one of them is in every line with a quantity, but for a correlation called `r`."""
_EPISODES = re.compile(
    r"\bepisodes?\b|\bep[_ ]?(?:rew|ret|len)|\beps(?:ilon)?\s?[=:]|\btd[_ ](?:loss|error)|\bq_?(?:values?|mean|loss)\b",
    re.IGNORECASE,
)
"""Words of a line of reinforcement learning."""
_SPLIT_WORDS = ("train", "trn", "val", "eval", "dev", "test", "heldout", "tr", "va")
_R = re.compile(r"\br\s*[:=]", re.IGNORECASE)
_AVERAGES = frozenset({"avg", "average", "averaged", "mean", "running", "smoothed"})
_PLANNED = frozenset({"total", "max", "num", "remaining", "n"})
"""Words of a number of steps that is planned, and not reached."""
_NOT_FINITE = re.compile(r"(?<![\w'\"])(-?)(nan|inf)(?![\w'\"])")
_MAX_DICT = 20_000
MOST_OTHERS = 16
MAX_COUNT = 1e12
"""Largest epoch or step that is believed."""


class LineParser:
    """Parses lines. Remembers whether the log uses decimal commas, and the split of the section that is being read."""

    def __init__(self) -> None:
        self._decimal_comma = False
        self._section: Optional[str] = None
        self._table = ScreenTable()
        self.row_text = ""
        """Names and numbers of the last line if it was a row of a table; empty for any other."""
        self._box = BoxTable()
        self._summary_follows = False
        self._names_epochs = False
        self._has_fractions = False
        """True if epochs are counted in fractions."""
        self._letters_agree: Optional[bool] = None
        self._n_epochs: Optional[int] = None

    @property
    def in_box(self) -> bool:
        """Return True if the next line may close a box, although it has no number."""
        return self._box.is_open

    def parse(self, text: str, shape: Optional[LineShape] = None, numbers: Sequence[str] = ()) -> Optional[Observation]:
        """Return what a line without prefixes shows; None if it shows nothing of a training.

        Args:
            text: the line.
            shape: its shape, with which lines like it are remembered.
            numbers: its numbers, as `shape_of` returns them.
        """
        reading = shape.reading(self._state) if shape is not None and self._is_plain(text) else None
        if reading is None:
            return self._parsed(text)
        is_read, observation = reading.read(numbers)
        if is_read:
            self.row_text = ""
            self._section, self._summary_follows, self._names_epochs, self._letters_agree = reading.state[:4]
            if observation is not None:
                self._n_epochs = observation.n_epochs or self._n_epochs
            return observation
        table = self._table.header
        observation = self._parsed(text)
        reading.learn(numbers, observation, self._state)
        is_of_table = self.row_text or self._box.is_open or self._table.header != table
        reading.is_fixed = reading.is_fixed and not is_of_table
        return observation

    @property
    def _state(self) -> Tuple[Any, ...]:
        """Return everything that earlier lines determine about the reading of the next one."""
        own = (self._section, self._summary_follows, self._names_epochs, self._letters_agree)
        return (*own, self._decimal_comma, self._has_fractions, *self._table.header)

    def _is_plain(self, text: str) -> bool:
        """Return False for a line whose reading depends on more than its names: of a bar, or with decimal commas."""
        return not (self._box.is_open or self._table.is_in_header or "%|" in text or _INNER_COMMA.search(text))

    def _parsed(self, text: str) -> Optional[Observation]:
        self.row_text = ""
        record = _mapping(text)
        if record is not None:
            return self.record(record)
        text = in_english(text)
        if self._box.read_row(text):
            return None
        box = self._box.close(text)
        if box is not None:
            return self.record(dict(box))
        row = self._table.read_row(text)
        if row is not None:
            self.row_text = str(row)
            return self._of_row(row)
        if self._table.read_header(text) or _DARKNET_LAYER.match(text):
            return None
        observation = _unnamed(text)
        if observation is not None:
            return observation
        text = _FAKE_SCORE.sub("d_fake_score", text) if "D(G(" in text else text
        text = _LOSS_AFTER.sub(r"\2 \3 \1: ", text)
        text = _JOINED_EPOCH.sub(r"\1 ", text)
        text = _EXPLAINED.sub(r"\1", text) if "(" in text else text
        text = _SUFFIX.sub(_without_suffix, text)
        text = _SPLIT_BEHIND.sub(r"\2 \1", text) if "(" in text or "[" in text else text
        text = _OF_GROUP.sub(r"\1: ", text) if " group " in text else text
        text = _ungrouped(_POSSESSIVE.sub(r"\1 ", text) if "'s" in text else text)
        position = self._position_of(text)
        if self._is_summary(position):
            return None
        self._section = None if position.epoch is not None else self._section
        values, unreadable = self._values(text, position)
        self._note_section(position, values)
        if position.epoch is None and position.step is None and not values and not unreadable:
            return None
        return self._counting_epochs(text, position._replace(values=values, unreadable=unreadable))

    def _counting_epochs(self, text: str, observation: Observation) -> Observation:
        """Take the counter of a progress bar over the epochs for the epoch."""
        self._n_epochs = observation.n_epochs or self._n_epochs
        if observation.kind != "bar" or observation.epoch is not None or observation.step is None:
            return observation
        splits = {value.quantity.split for value in observation.values if value.quantity.kind in ("loss", "error")}
        is_whole = "train" in splits and bool(splits & {"validation", "test"})
        counts_epochs = is_whole and (not self._names_epochs or observation.n_steps == self._n_epochs)
        if not counts_epochs and not (splits and _EPOCH_BAR.match(text)):
            return observation
        values = tuple(value._replace(average=None) for value in observation.values)
        epoch, n_epochs = float(observation.step), observation.n_steps
        return Observation(values, epoch, n_epochs)

    def record(self, record: Dict[str, Any]) -> Optional[Observation]:
        """Return what a dict, JSON object or table row shows; None if it shows nothing of a training."""
        values: List[Value] = []
        others: List[Value] = []
        epoch: Optional[float] = None
        step: Optional[int] = None
        fractional = False
        has_episodes = any(_EPISODES.search(name) for name, _ in _flatten(record))
        for name, item in _flatten(record):
            number = self.number(item)
            words = words_of(name)
            if number is None or not words:
                continue
            if words[-1] == "epoch" and not set(words) & {"loss", "num", "max", "total", "best"}:
                epoch = number if abs(number) < MAX_COUNT else epoch
                fractional = isinstance(item, float) or "." in str(item)
            elif words[-1] in ("step", "iter", "iteration", "steps") and len(words) <= 3 and abs(number) < MAX_COUNT:
                if set(words) & _PLANNED:
                    continue
                step = int(number)
            else:
                quantity = Quantity("reward") if has_episodes and is_score(name) else quantity_of(name)
                values += [in_nats(Value(quantity, number))] if quantity else []
                other = other_of(name) if quantity is None or quantity.kind == "error" else None
                others += [Value(other, number)] if other else []
        values = _with_others(values, others)
        if not any(value.quantity.kind in ("loss", "error", OTHER) for value in values):
            values += self._bare_values(record)
        if not values:
            return None
        is_final = "train_runtime" in record
        return Observation(tuple(values), epoch, None, step, None, "record", False, is_final, fractional)

    def _bare_values(self, record: Dict[str, Any]) -> List[Value]:
        """Return the numbers of a record that only their split names."""
        numbers = ((single_split(name), self.number(item)) for name, item in record.items())
        return [Value(Quantity("bare", split), number) for split, number in numbers if split and number is not None]

    def note_heading(self, text: str) -> None:
        """Remember the split that a short line without numbers announces for the lines after it."""
        self._summary_follows = bool(_SUMMARY_FOLLOWS.search(text))
        if not self._box.read_row(text) and not self._table.read_header(text) and len(text) < 60:
            self._section = split_of(text) or self._section

    def number(self, item: Any) -> Optional[float]:
        """Return a cell of a record as a number; None if it is not one."""
        if isinstance(item, bool) or item is None:
            return None
        if isinstance(item, (int, float)):
            return float(item)
        text = str(item).strip()
        return parse_number(text, self._decimal_comma) if _NUMBER.fullmatch(text) else None

    def learn_comma(self, text: str) -> None:
        """Take note of decimal commas or decimal points in a text."""
        style = uses_decimal_comma(match[0] for match in _NUMBER.finditer(text))
        self._decimal_comma = self._decimal_comma if style is None else style

    def _position_of(self, text: str) -> Observation:
        """Return epoch and step of a line; a counter at its beginning counts epochs where no epoch is ever named."""
        position = _position(text)
        self._names_epochs = self._names_epochs or position.epoch is not None
        if position.epoch is not None and (not position.epoch.is_integer() or _FIRST_FRACTION.search(text)):
            self._has_fractions = True
        if self._has_fractions and position.epoch is not None:
            return _of_fraction(position, text)
        if self._names_epochs or position.kind not in ("line", "step"):
            return position
        leading = _LEADING.match(text)
        if leading is None or not (self._has_letters(text) or _is_of_whole_epoch(text)):
            return position
        return Observation((), float(leading["count"]), int(leading["of"]) if leading["of"] else None)

    def _has_letters(self, text: str) -> bool:
        """Return True for a line with the losses L and V, if the first ones of the log are of one size."""
        match = _LETTERS.search(text)
        if match is None or not _LETTERS_OF_LOSSES.issuperset(_LETTER.findall(text)):
            return False
        if self._letters_agree is None:
            train, validation = (parse_number(number, self._decimal_comma) for number in match.groups())
            if train and validation and math.isfinite(train) and math.isfinite(validation):
                self._letters_agree = 1 / MOST_APART <= validation / train <= MOST_APART
        return self._letters_agree is not False

    def _of_row(self, row: Row) -> Optional[Observation]:
        observation = self.record(dict(row.record))
        if observation is None or not row.is_bar:
            return observation and observation._replace(n_epochs=row.n_epochs)
        values = tuple(value._replace(average=value.number) for value in observation.values)
        return observation._replace(values=values, n_epochs=row.n_epochs, kind="bar")

    def _is_summary(self, position: Observation) -> bool:
        """Return True for the best round of a boosted model, which is printed once more at its end."""
        follows, self._summary_follows = self._summary_follows, False
        return follows and position.kind == "round"

    def _values(self, text: str, position: Observation) -> Tuple[Tuple[Value, ...], bool]:
        """Return the quantities of a line, and whether a printed loss could not be read."""
        if not _may_have_values(text, position):
            return (), False
        if _INNER_COMMA.search(text):
            self.learn_comma(text)
        values: List[Value] = []
        has_episodes = _EPISODES.search(text) is not None
        context = _Context(None if position.epoch is not None else self._section, text, self._has_letters(text))
        others: List[Value] = []
        end, n_losses = 0, 0
        for match in _PAIR.finditer(text):
            context.read_gap(text[end : match.start("name")])
            end = match.end()
            is_reward = has_episodes and is_score(match["name"])
            quantity = Quantity("reward") if is_reward else context.meaning(match, position)
            if quantity is not None and any(value.quantity == quantity for value in values):
                quantity = quantity._replace(split=quantity.split or context.split_of_metric)
            number = parse_number(match["number"], self._decimal_comma)
            n_losses += names_a_loss(match["name"])
            other = context.other(match["name"]) if quantity is None or quantity.kind == "error" else None
            if other is not None and number is not None:
                others.append(Value(other, number))
            if quantity is None or number is None:
                continue
            average = parse_number(match["average"], self._decimal_comma) if match["average"] else None
            if average is not None and (average < 0) != (number < 0):
                average = None  # a change, not an average
            average = number if position.kind == "keras" else average
            value = in_nats(Value(quantity, number, average))
            if not (average is None and _is_average(match["name"]) and _add_average(values, value)):
                values.append(value)
        if any(value.quantity.kind == "bare" for value in values) and _WITH_METRIC.search(text):
            values = [_as_loss(value) for value in values]
        values += _functions(values, others) if position.epoch is not None or position.step is not None else []
        return tuple(_with_others(values, others)), not n_losses and bool(_UNREADABLE.search(text))

    def _note_section(self, position: Observation, values: Tuple[Value, ...]) -> None:
        """Remember the split of a progress line for the lines after it."""
        if values and position.kind != "line" and position.epoch is None:
            self._section = values[0].quantity.split


class _Context:
    """Split that applies to the names of a line: from the text between pairs, or from an earlier name."""

    def __init__(self, section: Optional[str], text: str, has_letters: bool) -> None:
        self._from_text = section
        self._names_networks = names_networks(text)
        self._has_letters = has_letters
        self._has_episodes = _EPISODES.search(text) is not None
        self._from_name: Optional[str] = None
        self.split_of_metric: Optional[str] = None
        """Split of the last metric, to which a second loss behind it belongs."""
        self._is_other = False

    def read_gap(self, text: str) -> None:
        """Read the text between two pairs."""
        lowercase = text.lower()
        group = re.split(r"[|;]", text)
        self._is_other = (self._is_other and len(group) == 1) or _OTHER_METRIC.search(group[-1]) is not None
        split = split_of(text) if any(word in lowercase for word in _SPLIT_WORDS) else None
        if split:
            self._from_text, self._from_name = split, None

    def other(self, name: str) -> Optional[Quantity]:
        """Return the quantity of a name that may be a part of the loss; None if it cannot be one."""
        quantity = other_of(name)
        split = self._from_name or self._from_text
        return quantity._replace(split=quantity.split or split) if quantity else None

    def meaning(self, match: "re.Match[str]", position: Observation) -> Optional[Quantity]:
        """Return the meaning of a printed pair; None if it is of no use here."""
        name = match["name"]
        quantity = quantity_of(name)
        if quantity is None and single_split(name) and _may_be_bare(position):
            # The number may be a loss, but in `Loss: 0.5, Train: 0.91, Val: 0.88` it is an accuracy.
            return None if self._is_other else Quantity("bare", single_split(name))
        self._is_other = quantity is None and _OTHER_METRIC.search(name) is not None
        if quantity is None and _SPLIT_OF_COUNTER.match(name):
            # `val Epoch 3 Batch 20 Loss 0.5`
            self._from_text, self._from_name = split_of(name), None
        self.split_of_metric = (split_of(name) if self._is_other else None) or self.split_of_metric
        part = network_part(name) if quantity is None and self._names_networks else None
        if part:
            return Quantity("loss", self._from_text, part)
        if quantity is None:
            last_word = name.rsplit(" ", 1)[-1]
            if last_word == "V" and self._has_letters:
                return Quantity("loss", "validation")
            component = component_of(last_word) if position.epoch is not None else None
            is_counted = position.epoch is not None or position.kind == "bar"
            is_loss = (
                component or (last_word in ("L", "l") and is_counted) or (last_word.lower() == "total" and is_counted)
            )
            split = split_of(name) or self._from_text
            return Quantity("loss", split, component) if is_loss and len(name.split()) <= 2 else None
        if quantity.kind == "reward" and match["mark"] is None and len(name) < 7 and position.step is None:
            # `return 1` is a line of a program.
            return quantity if position.epoch is not None or self._has_episodes else None
        if quantity.kind not in ("loss", "error"):
            # Without a mark, a lone `r` may be a word of a sentence; `val_r 0.2` and `pearson 0.2` may not.
            is_lone = quantity.kind == "r" and quantity.split is None and words_of(name)[-1] == "r"
            is_named = match["mark"] is not None or not is_lone
            return quantity if is_named and not (quantity.kind == "r" and self._from_text == "train") else None
        if quantity.split and " " in name:
            self._from_name = quantity.split
        split = quantity.split or self._from_name or self._from_text
        return quantity._replace(split=split)


def _may_be_bare(position: Observation) -> bool:
    """Return True if a number may stand for a loss that only its split names; in `Train: 3 [100/1251]` it does not."""
    return (position.kind == "step") == (position.epoch is None) or position.kind == "round"


def _may_have_values(text: str, position: Observation) -> bool:
    """Return False if a line certainly has no quantity; components alone count in a line of an epoch."""
    lowercase = text.lower()
    return (
        any(word in lowercase for word in _KEYWORDS)
        or _R.search(text) is not None
        or position.kind == "round"
        or (position.step is not None and "train" in lowercase and ("val" in lowercase or "test" in lowercase))
        or ((position.epoch is not None or position.step is not None) and _ALONE.search(text) is not None)
        or (position.epoch is not None and position.kind == "line")
        or (position.step is not None and (names_networks(text) or _L_NAME.search(text) is not None))
        or (position.kind == "bar" and "total:" in lowercase)
        or _EPISODES.search(text) is not None
    )


def _position(text: str) -> Observation:
    """Return epoch and step of a line, without values."""
    bar = _BAR.search(text)
    keras = None if bar else _KERAS_BAR.match(text)
    timm = _TIMM.match(text)
    if timm:
        number = timm["epoch"] or timm["first"]
        timm_epoch = float(number) if number else None
        return Observation((), timm_epoch, None, int(timm["step"]), int(timm["steps"]), "step")
    two = _TWO_COUNTERS.match(text)
    if two:
        return Observation((), float(two[1]), int(two[2]), int(two[3]), int(two[4]), "step")
    epoch, n_epochs, end = _epoch(text)
    if bar or keras:
        counts, kind = (bar, "bar") if bar else (keras, "keras")
        return Observation((), epoch, n_epochs, int(counts[1]), int(counts[2]), kind)  # type: ignore[index]
    round_match = _ROUND.match(text)
    if round_match:
        return Observation((), None, None, int(round_match[1] or round_match[2]), None, "round")
    bracket = (_BRACKET_STEP.match(text, end) or _ESPNET_STEP.match(text, end)) if end else None
    counter = bracket or _STEP.search(text, end) or (None if end else _BARE_STEP.match(text))
    if counter is None:
        return Observation((), epoch, n_epochs)
    if end and counter.re is _STEP and not counter[2] and _STEPS_OF_EPOCH.fullmatch(text, end, counter.end()):
        return Observation((), epoch, n_epochs)
    if end and counter[0].startswith("num_updates"):
        return Observation((), epoch, n_epochs)  # fairseq's summary of an epoch
    steps = int(counter[2]) if counter.re is not _ESPNET_STEP and counter[2] else None
    return Observation((), epoch, n_epochs, int(counter[1]), steps, "step")


def _of_fraction(position: Observation, text: str) -> Observation:
    """Return the position of a line that counts fractions of epochs, with a step that may precede them."""
    counter = _STEP.search(text) if position.step is None else None
    if counter is None:
        return position._replace(fractional=True)
    n_steps = int(counter[2]) if counter[2] else None
    return position._replace(fractional=True, step=int(counter[1]), n_steps=n_steps, kind="step")


def _without_suffix(match: "re.Match[str]") -> str:
    return match[1] + _POWERS[match[2].lower()]


def _functions(values: List[Value], others: List[Value]) -> List[Value]:
    """Return the only loss of each split that a line names by its function, as `ce 1.2`; none if it prints others."""
    if any(value.quantity.kind in ("loss", "error", "bare", "reward") for value in values):
        return []
    functions = [value for value in others if value.quantity.part in _FUNCTIONS]
    splits = [value.quantity.split for value in functions]
    has_terms = bool(terms_of({value.quantity.part or "": value.number for value in others}))
    if has_terms or len(set(splits)) < len(splits):
        return []
    return [
        value._replace(
            quantity=Quantity("bare" if value.quantity.part in _RISING_BOUND else "error", value.quantity.split)
        )
        for value in functions
    ]


def _with_others(values: List[Value], others: List[Value]) -> List[Value]:
    """Add the numbers that may be parts of a loss to a line with a loss, or with two parts that need no total."""
    has_loss = any(value.quantity.kind in ("loss", "error") for value in values)
    has_terms = bool(terms_of({value.quantity.part or "": value.number for value in others}))
    return values + others[:MOST_OTHERS] if has_loss or has_terms else values


def in_english(text: str) -> str:
    """Write the words of other scripts that name losses in English, and letters without accents."""
    if text.isascii():
        return text
    for word, english in OTHER_SCRIPTS:
        if word in text:
            text = text.replace(word, english)
    return _ELISION.sub("", text.translate(_ACCENTS))


def _is_average(name: str) -> bool:
    return not _AVERAGES.isdisjoint(words_of(name))


def _add_average(values: List[Value], average: Value) -> bool:
    """Take `avg_loss 0.6` behind `loss 0.5` for the average of the same loss. Return False if no such loss precedes."""
    for i, value in enumerate(values):
        if value.quantity == average.quantity and value.average is None:
            values[i] = value._replace(average=average.number)
            return True
    return False


def _as_loss(value: Value) -> Value:
    """Take a number that only its split names for a loss."""
    is_bare = value.quantity.kind == "bare"
    return value._replace(quantity=value.quantity._replace(kind="loss")) if is_bare else value


def in_nats(value: Value) -> Value:
    """Write a perplexity as the cross-entropy whose exponential it is."""
    if value.quantity.kind != "perplexity":
        return value
    number = math.log(value.number) if value.number > 0 else value.number
    return Value(value.quantity._replace(kind="error"), number)


def _is_of_whole_epoch(text: str) -> bool:
    """Return True for a line about the validation and the training, or about a loss of the validation."""
    splits = {single_split(word) for word in words_of(text)}
    return "validation" in splits and ("train" in splits or names_a_loss(text))


def _epoch(text: str) -> Tuple[Optional[float], Optional[int], int]:
    """Return (epoch, number of epochs, end of the match) of the first epoch header in a line."""
    for match in _EPOCH.finditer(text):
        if _NOT_A_HEADER.search(text[: match.start()]):
            continue
        epoch = float(match["epoch"] or match["before"])
        return epoch, int(match["of"]) if match["of"] else None, match.end()
    return None, None, 0


def _unnamed(text: str) -> Optional[Observation]:
    """Return what a line of darknet or DARTS shows, whose numbers have no names; None for any other line."""
    darknet = _DARKNET.match(text)
    if darknet:
        loss, lr = parse_number(darknet["loss"]), parse_number(darknet["lr"])
        values = [Value(Quantity("loss"), loss)] if loss is not None else []
        values += [Value(Quantity("lr"), lr)] if lr is not None else []
        return Observation(tuple(values), step=int(darknet["step"]), kind="step")
    step = _UNNAMED_STEP.match(text)
    number = parse_number(step[3]) if step else None
    if step is None or number is None:
        return None
    value = Value(Quantity("loss", split_of(step[1])), number, number)
    return Observation((value,), step=int(step[2]), kind="step")


def _ungrouped(text: str) -> str:
    """Write `loss=(train 1.2; valid 1.3)` and `loss (train/val): 1.2/1.3` as `train loss 1.2, valid loss 1.3`."""
    lowercase = text.lower()
    if "train" not in lowercase or not ("(" in text or "/" in text or "[" in text or "{" in text):
        return text
    text = _GROUP.sub(_pairs_of_group, text)
    return _SIDE_BY_SIDE.sub(lambda m: f"{m[2]} {m[1] or m[4] or ''} {m[5]}, {m[3]} {m[1] or m[4] or ''} {m[6]}", text)


def _pairs_of_group(match: "re.Match[str]") -> str:
    pairs = _IN_GROUP.findall(match[2])
    return ", ".join(f"{split} {match[1]} {number}" for split, number in pairs) if len(pairs) > 1 else match[0]


def _mapping(text: str) -> Optional[Dict[str, Any]]:
    """Return a Python dict or JSON object that fills the line, or ends it; None if there is none."""
    start = text.find("{")
    if start < 0 or not text.rstrip().endswith("}") or len(text) > _MAX_DICT or ":" not in text:
        return None
    body = text[start:].strip()
    for parse in (json.loads, _literal):
        try:
            value = parse(body)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return value
    return None


def _literal(body: str) -> Any:
    """Evaluate a Python literal; nan and inf become strings."""
    return ast.literal_eval(_NOT_FINITE.sub(r"'\1\2'", body))


def _flatten(record: Dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[Tuple[str, Any]]:
    for key, item in record.items():
        name = prefix + str(key)
        if isinstance(item, dict) and depth < 3:
            yield from _flatten(item, name + "/", depth + 1)
        else:
            yield name, item
