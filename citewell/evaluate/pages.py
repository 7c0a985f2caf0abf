"""A report as JSON, as Markdown, and as one HTML page that needs nothing else: of retrieval, or of answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from citewell.errors import BadInput
from citewell.evaluate.answer_pages import answer_lines, answer_page
from citewell.evaluate.measures import MEASURES

_PLOTTED = ("nDCG@10", "R@10")


def save(
    report: Mapping[str, Any], file: Path, forms: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None
) -> None:
    """Write the report in the form that the file's name asks for: by default .json, .md or .html."""
    forms = forms or {".json": as_json, ".md": as_markdown, ".html": as_html}
    check_name(file, forms)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(forms[file.suffix](report), "utf-8")
    except OSError as error:
        raise BadInput(f"the report {file} cannot be written: {error}", remedy="Name another file.") from None


def check_name(file: Path, forms: Collection[str] = (".json", ".md", ".html")) -> None:
    """Raises `BadInput` for a name that says no form of a report."""
    if file.suffix not in forms:
        raise BadInput(f"a report cannot be written as {file.name}", remedy=f"End the name in {' or '.join(forms)}.")


def as_json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, ensure_ascii=False, indent=2) + "\n"


def as_markdown(report: Mapping[str, Any]) -> str:
    lines = answer_lines(report) if report.get("kind") == "answers" else _markdown(report)
    return "\n".join(lines) + "\n"


def _markdown(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Retrieval: {report['collection']}"
    yield f"\n{report['questions']} judged questions; {report['unjudged']} without a relevant document left out.\n"
    yield f"| mode | language | questions | {' | '.join(MEASURES)} | nDCG@10, 95 % |"
    yield f"|---|---|---:|{'---:|' * len(MEASURES)}---|"
    for mode, langs in report["figures"].items():
        for lang, figures in langs.items():
            cells = " | ".join(f"{figures[name]['value']:.3f}" for name in MEASURES)
            sure = figures["nDCG@10"]
            yield f"| {mode} | {lang} | {figures['questions']} | {cells} | {sure['low']:.3f} to {sure['high']:.3f} |"
    if report["differences"]:
        yield "\n| difference in nDCG@10 | value | 95 % | p |\n|---|---:|---|---:|"
        for pair, gap in report["differences"].items():
            yield f"| {pair} | {gap['value']:+.3f} | {gap['low']:+.3f} to {gap['high']:+.3f} | {gap['p']:.4f} |"
    for pair, modes in report["parity"].items():
        yield f"\n| parity, {pair} | nDCG@10 | 95 % | overlap@10 |\n|---|---:|---|---:|"
        for mode, gap in modes.items():
            span = f"{gap['low']:+.3f} to {gap['high']:+.3f}"
            yield f"| {mode} | {gap['value']:+.3f} | {span} | {gap['overlap@10']:.3f} |"


def as_html(report: Mapping[str, Any]) -> str:
    from jinja2 import Environment

    answers = report.get("kind") == "answers"
    name = "answers.html.j2" if answers else "report.html.j2"
    source = resources.files("citewell.evaluate").joinpath(name).read_text("utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    shown = answer_page(report) if answers else {"measures": MEASURES, "plotted": _PLOTTED}
    return template.render(report=report, **shown)
