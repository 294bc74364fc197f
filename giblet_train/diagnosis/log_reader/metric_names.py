"""Names of metrics of known direction, such as accuracies and error rates."""

from __future__ import annotations

import re
from typing import Optional

from giblet_train.diagnosis.log_reader.key_names import words_of
from giblet_train.diagnosis.log_reader.number_format import NUMBER

_RISING = (
    r"acc(?:uracy)?(?:[@_]?(?:top)?[_-]?1)?|balanced[_ ]acc(?:uracy)?|top[@_-]?1(?:[_ ]acc(?:uracy)?)?|prec@1|acc@1"
    r"|au(?:ro|pr)?c|roc[_-]auc|pr[_-]auc|average[_ ]precision|dice(?:[_ ]score)?|m?iou|mean[_ ]iou|jaccard"
    r"|f1(?:[_-](?:score|macro|micro|weighted))?|macro[_-]f1|micro[_-]f1|m?ap(?:@?\d\d(?:[:-]\d\d)?)?"
    r"|r2(?:[_ ]score)?|kappa|mcc|psnr|ssim|bleu(?:-?4)?|ndcg(?:@\d{1,3})?|recall@\d{1,3}|hits?@\d{1,3}|mrr"
    r"|knn(?:@\d{1,3})?(?:[_ -]?acc(?:uracy)?)?|linear[_ -]probe|probe[_ -]acc(?:uracy)?|exact[_ ]match|pck"
    r"|precision(?:[_ ](?:at[_ ])?(?:k\s?=\s?)?\d{1,3})?|recall|elbo"
    r"|inception[_ ]score|(?-i:IS)(?=\s?[:=])"
)
_FALLING = (
    r"[wcp]er|eer|[fk]id(?:@\d{1,3}k)?|[rs]?mse|mae|mape|log[_-]?loss|perplexity|ppl|error(?:[_ ]rate)?|err"
    r"|rel(?:ative)?[_ ]?l2(?:[_ ]err(?:or)?)?|l2[_ ]err(?:or)?"
    r"|top1[_-]err(?:or)?|misclass\w{0,12}"
)
PAIR = re.compile(
    rf"(?<![\w@])(?P<name>(?P<before>(?:[A-Za-z]+[_/ .-]){{0,3}}(?:train|valid|val|test|eval)?)"
    rf"(?:(?P<rising>{_RISING})|(?P<falling>{_FALLING}))"
    rf"(?P<after>[_/ ](?:train|val|valid|test|eval)|\s(?:of|on|over)\s(?:[a-z]{{2,12}}\s){{0,4}}\d{{1,9}}"
    rf"(?:\s[a-z]{{1,12}}){{1,2}}(?=\s?[:=]))?)['\"]?(?![\w@])\s{{0,3}}(?:[:=]|is\b)?\s{{0,8}}['\"\[(]{{0,2}}"
    rf"(?P<number>(?:{NUMBER})|[-+]?\d+(?:\.\d+)?(?=\s?%))",
    re.IGNORECASE,
)
METRIC = re.compile(_RISING + "|" + _FALLING, re.IGNORECASE)
NO_POINT = re.compile(r"\b(?:best|target|prev\w*|class|improved|from|chance|baseline|threshold)\b", re.IGNORECASE)
"""Words of a line whose numbers are no points of the course."""
NO_MEAN = re.compile(r"\b(?:max|min|std)\b", re.IGNORECASE)
"""Words in front of a number that is no point of the course."""
_RISING_WORDS = frozenset(
    ("reward", "rewards", "rew", "return", "returns", "corr", "correlation", "pearson", "pearsonr")
)
_FMRI_R = frozenset(("fmri", "r"))
_OF_RISING = _RISING_WORDS | frozenset(
    (
        *("mean", "avg", "average", "episode", "ep", "eval", "train", "training", "val", "valid", "validation", "test"),
        *("total", "cumulative", "median", "smoothed", "running"),
    )
)


def is_metric(name: str) -> bool:
    """Return True for the name of a metric, such as `val_acc`."""
    match = PAIR.fullmatch(f"{name} 0")
    return match is not None and not NO_POINT.search(name) and not NO_MEAN.search(name)


def rises(name: str) -> Optional[bool]:
    """Return True if more of a metric is better by its name, False if less is, None if its name does not say so."""
    words = frozenset(words_of(name))
    if (words & _RISING_WORDS and words <= _OF_RISING) or words == _FMRI_R:
        return True
    match = PAIR.fullmatch(f"{name} 0")
    if match is None or NO_POINT.search(name) or NO_MEAN.search(name):
        return None
    return match["rising"] is not None
