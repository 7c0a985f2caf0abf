"""Ranges over numbers and dates as ranges over strings, which is all that both backends can compare. Pure.

`sortable` turns a value into a letter for its kind and 16 hex digits whose order is that of the values: the bits of an
IEEE 754 double, with all of them turned for a negative number and the first alone for a positive one.
"""

from __future__ import annotations

import datetime
import math
import re
import struct

from citewell.errors import InvalidFilter
from citewell.records import FilterValue, Range

_DIGITS = "0123456789abcdef"
_LENGTH = 16
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")


def sortable(value: FilterValue) -> str:
    """`n` or `d` and 16 hex digits, ordered as the numbers or dates are; "" for what is neither.

    Numbers and dates may be written as text, as a CSV file or a URL has them; a time without a zone is UTC.
    """
    if isinstance(value, bool):
        return ""
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            moment = datetime.datetime.fromisoformat(value)
            return "d" + _ordered_hex((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            return ""
        number = float(value)
    except (ValueError, OverflowError):  # 2023-02-30, 10**400
        return ""
    return "n" + _ordered_hex(number) if math.isfinite(number) else ""


def _ordered_hex(number: float) -> str:
    (bits,) = struct.unpack(">Q", struct.pack(">d", number + 0.0))  # -0.0 is 0.0
    return f"{bits ^ ((1 << 64) - 1) if bits >> 63 else bits | (1 << 63):016x}"


def bounds(name: str, wanted: Range) -> tuple[str, str]:
    """Least and greatest `sortable` code of the range, both inside it, of one kind.

    Raises `InvalidFilter`: no bound, two of one side, a bound that is no number or date, different kinds, none between.
    """
    given = {key: value for key, value in wanted.model_dump().items() if value is not None}
    if not given or {"gte", "gt"} <= given.keys() or {"lte", "lt"} <= given.keys():
        raise InvalidFilter(
            f"the range of filter `{name}` takes one lower bound (gte or gt), one upper bound (lte or lt), or both"
        )
    codes = {key: sortable(value) for key, value in given.items()}
    for key, code in codes.items():
        if not code:
            raise InvalidFilter(
                f"filter `{name}`: {key} {given[key]!r} is neither a number nor a date",
                remedy="Write numbers like 12.5, dates like 2026-11-24 or 2026-11-24T09:30:00+01:00.",
            )
    kinds = {code[0] for code in codes.values()}
    if len(kinds) > 1:
        raise InvalidFilter(f"filter `{name}` has a number for one bound and a date for the other")
    kind = kinds.pop()
    low = codes.get("gte") or (_step(codes["gt"], 1) if "gt" in codes else kind + "0" * _LENGTH)
    high = codes.get("lte") or (_step(codes["lt"], -1) if "lt" in codes else kind + "f" * _LENGTH)
    if low > high:
        raise InvalidFilter(f"filter `{name}` has no value between its bounds")
    return low, high


def _step(code: str, by: int) -> str:
    return f"{code[0]}{int(code[1:], 16) + by:016x}"


def hex_range(low: str, high: str) -> str:
    """A regular expression for the strings of `low`'s length between `low` and `high`, both included."""
    if low == high:
        return low
    first, last = low[0], high[0]
    if first == last:
        return first + f"(?:{hex_range(low[1:], high[1:])})"
    rest = len(low) - 1
    parts = []
    if low[1:] != "0" * rest:
        parts.append(first + (f"(?:{hex_range(low[1:], 'f' * rest)})" if rest else ""))
        first = _DIGITS[_DIGITS.index(first) + 1]
    upper = ""
    if high[1:] != "f" * rest:
        upper = last + (f"(?:{hex_range('0' * rest, high[1:])})" if rest else "")
        last = _DIGITS[_DIGITS.index(last) - 1]
    if first <= last:
        between = _DIGITS[_DIGITS.index(first) : _DIGITS.index(last) + 1]
        parts.append(f"[{between}]" + (f"[{_DIGITS}]{{{rest}}}" if rest else ""))
    return "|".join([*parts, upper] if upper else parts)
