"""What was calibrated, as data: how much support a citation needs, by language, and who found that out.

A bar with a cosine counts for one embedder alone: another one's cosines lie elsewhere. `citewell eval citations`
chooses them; `citation_bars` in the settings has an operator's own.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Bar(BaseModel):
    """What support has to reach: `cosine` is the weight of the cosine, in [0, 1], the words have the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: float = Field(ge=0, le=1)
    cosine: float = Field(0.0, ge=0, le=1)
    embedder: str = ""
    source: str = ""


# The first of a language is by words alone, for embedders that no cosine was calibrated with (docs/quality.md).
BARS: dict[str, tuple[Bar, ...]] = {
    "en": (
        Bar(least=0.7, source="squad1-en-train: 312 claims"),
        Bar(least=0.65, cosine=0.3, embedder="all-MiniLM-L6-v2", source="squad1-en-train: 312 claims"),
    ),
    "es": (Bar(least=0.7, source="squad1-es-dev, the half that chooses: 405 claims"),),
    "ja": (Bar(least=0.7, source="jaquad-ja-train: 256 claims"),),
    "ko": (Bar(least=0.55, source="korquad1-ko, the half that chooses: 269 claims"),),
}
# By words alone, in a language that nobody has calibrated.
ELSEWHERE = Bar(least=0.6, source="chosen by hand")


def bar_for(lang: str, embedder: str, own: Bar | None = None) -> Bar:
    """The operator's own bar, else the calibrated one: with the cosine of this embedder where there is one."""
    known = ([own] if own else []) + sorted(BARS.get(lang, ()), key=lambda bar: -bar.cosine)
    return next((bar for bar in known if not bar.cosine or bar.embedder == embedder), ELSEWHERE)
