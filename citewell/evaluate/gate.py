"""Whether a candidate may take the packaged embedder's place: collection by collection, and why not. Pure.

In the languages that the packaged embedder speaks the candidate's dense leg may lose a little; in every other the
candidate has to be of use: the hybrid that `tune` finds, cross-validated, above BM25 alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The most that the dense leg's nDCG@10 may lose.
MOST_LOST = 0.01


@dataclass(frozen=True)
class Compared:
    """One collection under both embedders; figures are means of nDCG@10. `before` is the packaged one's dense leg.

    `tuned` is the candidate's cross-validated hybrid.
    """

    collection: str
    lang: str
    questions: int
    spoken: bool
    bm25: float
    before: float
    dense: float
    tuned: float

    @property
    def passes(self) -> bool:
        return self.dense >= self.before - MOST_LOST if self.spoken else self.tuned > self.bm25

    @property
    def reason(self) -> str:
        """What was asked of it, with the figures."""
        if self.spoken:
            return f"dense {self.dense:.3f}, {self.dense - self.before:+.3f} (at least -{MOST_LOST:g})"
        return f"tuned hybrid {self.tuned:.3f}, {self.tuned - self.bm25:+.3f} on BM25 alone (above 0)"


def report(candidate: Mapping[str, Any], rows: Sequence[Compared]) -> dict[str, Any]:
    """The verdict with every figure. Without a collection in a language it is not asked for, it cannot pass."""
    kinds = {True: "spoken", False: "other"}
    missing = [name for spoken, name in kinds.items() if not any(row.spoken == spoken for row in rows)]
    return {
        "candidate": dict(candidate),
        "passes": not missing and all(row.passes for row in rows),
        "missing": missing,
        "collections": {
            row.collection: {
                name: round(value, 4) if isinstance(value, float) else value for name, value in fields(row)
            }
            | {"passes": row.passes, "reason": row.reason}
            for row in rows
        },
    }


def fields(row: Compared) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(row).items() if name != "collection"]


def as_markdown(found: Mapping[str, Any]) -> str:
    lines = [
        f"# {found['candidate'].get('name', 'candidate')} in place of the packaged embedder: "
        + ("yes" if found["passes"] else "no"),
        "",
        "| collection | language | questions | BM25 | packaged, dense | dense | tuned hybrid | passes |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in found["collections"].items():
        figures = " | ".join(f"{row[key]:.3f}" for key in ("bm25", "before", "dense", "tuned"))
        verdict = "yes" if row["passes"] else f"no: {row['reason']}"
        lines.append(f"| {name} | {row['lang']} | {row['questions']} | {figures} | {verdict} |")
    lines += [f"\nNo collection was in a language of the kind `{kind}`." for kind in found["missing"]]
    return "\n".join(lines) + "\n"
