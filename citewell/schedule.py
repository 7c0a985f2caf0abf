"""Sources in the settings file, and the two small languages they use: durations and bounds on deletes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MAX_DELETE = "20%"


def seconds_of(text: object) -> float:
    """`90`, `90s`, `10m`, `2h` or `1d` as seconds; raises `ValueError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(text).strip())
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"`{text}` is no duration; write 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True)
class Bound:
    """How many of a source's documents one run may delete: a share of them in percent, or a number."""

    text: str
    value: float
    share: bool

    def of(self, total: int) -> int:
        """The most deletes of `total` documents; a share is rounded down."""
        return int(total * self.value / 100) if self.share else int(self.value)


def bound_of(text: object) -> Bound:
    """`20%` or `500`; raises `ValueError`."""
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", str(text).strip())
    if found is None or float(found[2] or 0) > 100:
        raise ValueError(f"`{text}` is no bound on deletes; write a share like 20% or a number like 500")
    return Bound(str(text).strip(), float(found[1] or found[2]), found[1] is None)


def _a_bound(text: str) -> str:
    bound_of(text)
    return text


MaxDelete = Annotated[str, BeforeValidator(str), AfterValidator(_a_bound)]


class SourceTable(BaseModel):
    """One `[sources.NAME]`: what `citewell ingest --all` loads, `every` so often (0: once).

    An empty `max_delete` is the setting of that name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[str, Field(min_length=1)]
    every: Annotated[float, BeforeValidator(lambda value: seconds_of(value) if value else 0.0)] = 0.0
    sync: bool = False
    max_delete: Annotated[str, BeforeValidator(str), AfterValidator(lambda text: _a_bound(text) if text else "")] = ""
    failures: str = ""
    query: str = ""
    since: str = ""
    map: dict[str, str] = Field(default_factory=dict)
