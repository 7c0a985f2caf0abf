"""`citewell eval abstention`: whether `extractive` refuses what it should, as risk and coverage."""

from __future__ import annotations

from typing import Any

from citewell.cli.eval import group
from citewell.cli.eval_citations import MarkedSets, Most, OutJson, check_out, show_report
from citewell.cli.options import AsJson
from citewell.cli.output import console, table, waiting

_COLUMNS = {
    "threshold": "score",
    "coverage": "coverage",
    "risk": "risk",
    "answered_rightly": "answered rightly",
    "refused_rightly": "refused rightly",
    "treated_rightly": "both",
}


@group.command()
def abstention(sets: MarkedSets, questions: Most = 600, out: OutJson = None, as_json: AsJson = False) -> None:
    """Risk and coverage of `extractive` on questions with an answer and without one, and what thresholds are worth.

    Each question is asked of its own passages and of two others like it.

    Examples:

    ```
    citewell eval abstention my-questions
    citewell eval abstention squad2-en-dev squad2-es-dev --questions 600 --out curve.json
    ```
    """
    from citewell import parts
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.evaluate.abstention import measure
    from citewell.generate.extractive import ExtractiveGenerator

    settings = load_settings()
    check_out(out)
    embedder = parts.embedder(settings)
    generator = parts.generators(settings, embedder, ["extractive"])["extractive"]
    assert isinstance(generator, ExtractiveGenerator)
    try:
        with for_a_person(), waiting("measuring"):
            generator.load()
            found = measure(sets, questions, generator)
    finally:
        generator.close()
        embedder.close()
    show_report(found, out, as_json, _show)


def _show(found: dict[str, Any]) -> None:
    screen = console()
    built = table(screen, "language", ">questions", ">answerable", ">area", ">ideal", ">excess")
    for lang, row in found["languages"].items():
        asked = row["questions"]
        figures = [f"{row[name]:.3f}" for name in ("aurc", "ideal", "excess")]
        built.add_row(lang, str(asked["all"]), str(asked["answerable"]), *figures)
    screen.print(built)
    built = table(screen, "language", "threshold", *(f">{name}" for name in _COLUMNS.values()))
    for lang, row in found["languages"].items():
        for name in ("present", "chosen"):
            built.add_row(lang, name, *(_shown(row[name][key]) for key in _COLUMNS))
    screen.print(built)
    built = table(screen, "language", ">coverage", ">risk", ">down to score")
    for lang, row in found["languages"].items():
        for point in row["curve"][1::2]:
            built.add_row(lang, *(_shown(point[key]) for key in ("coverage", "risk", "threshold")))
    screen.print(built)
    screen.print(f"Thresholds are measured on one half. Chosen on the other: {found['rule']}.", style="dim")
    reader = found["generator"].get("reader", {})
    how = f"with the reader {reader['name']}" if "name" in reader else f"ranking sentences {reader.get('left_out', '')}"
    screen.print(f"{', '.join(found['sets'])}, {how.strip()}", style="dim")
    for lang, row in found["languages"].items():
        gain = row["gain"]
        screen.print(f"{lang}: chosen less present {gain['low']:+.3f} to {gain['high']:+.3f} of both", style="dim")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
