"""Parse numbers as people print them: `1,950.12`, `0,4512`, `1'950`, `-.0012`, `3e-04`, `nan`, `nan.0`."""

from __future__ import annotations

import re
from typing import Iterable, Optional

SPACES = "\u00a0\u202f\u2009"
NUMBER = (
    r"[-+\u2212]?(?:(?:\d|[.,](?=\d))(?:\d|[.,'_" + SPACES + r"](?=\d))*\.?(?:[eE][-+]?\d+)?"
    r"|(?:nan|inf(?:inity)?)(?:\.0+(?!\d))?)"
    r"(?![\w%]|[.,'_]\d)"
)
"""A number in any of these formats. A unit or suffix directly after it (`1.2k`, `45%`) means that it is not one."""
_GROUPS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?\Z")
_POINT_GROUPS = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+\Z|\d{1,3}(?:\.\d{3}){2,}\Z")
_LIST = re.compile(r"(\d*\.\d+),")
_IGNORED = re.compile("['_" + SPACES + "]")


def parse_number(text: str, decimal_comma: bool = False) -> Optional[float]:
    """Return the number in a text, which may be nan or infinite; None if it is not a number.

    Args:
        text: A match of NUMBER.
        decimal_comma: Read an ambiguous comma (`1,950`) as a decimal comma, not as a thousands separator.
    """
    body = _IGNORED.sub("", text.strip().lower().replace("\u2212", "-"))
    sign, digits = (body[:1], body[1:]) if body[:1] in ("-", "+") else ("", body)
    if digits.startswith(("nan", "inf")):
        digits = digits.partition(".")[0]  # a progress bar of tqdm pads `nan` to `nan.0`
    mantissa, exponent = re.match(r"([\d.,]*)(.*)", digits).groups()  # type: ignore[union-attr]
    try:
        return float(sign + _plain(mantissa.rstrip("."), bool(exponent), decimal_comma) + exponent)
    except ValueError:
        return None


def uses_decimal_comma(tokens: Iterable[str]) -> Optional[bool]:
    """Return True if the numbers show decimal commas, False if they show decimal points, None if neither."""
    for token in tokens:
        body = _IGNORED.sub("", token.strip().lower()).lstrip("-+\u2212")
        mantissa = body.partition("e")[0]
        if "," in mantissa and not _GROUPS.match(mantissa) and "." not in mantissa and mantissa.count(",") == 1:
            return True
        if _POINT_GROUPS.match(mantissa) or ("," in mantissa and "e" in body and "." not in mantissa):
            return True
        if re.match(r"\d*\.\d+\Z", mantissa) or (_GROUPS.match(mantissa) and "." in mantissa):
            return False
    return None


def _plain(mantissa: str, has_exponent: bool, decimal_comma: bool) -> str:
    """Return a mantissa with a decimal point and without thousands separators."""
    if "," not in mantissa:
        return mantissa.replace(".", "") if mantissa.count(".") > 1 else mantissa
    if _POINT_GROUPS.match(mantissa):
        return mantissa.replace(".", "").replace(",", ".")
    first_of_list = _LIST.match(mantissa)
    if first_of_list:
        return first_of_list[1]
    is_grouped = _GROUPS.match(mantissa) and not mantissa.startswith("0") and not has_exponent
    if is_grouped and ("." in mantissa or mantissa.count(",") > 1 or not decimal_comma):
        return mantissa.replace(",", "")
    return mantissa.replace(",", ".", 1)
