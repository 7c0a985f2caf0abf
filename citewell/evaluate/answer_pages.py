"""A report on answers as lines of Markdown, and what its HTML page shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from citewell.evaluate.scoring import CITATIONS, OVERLAP, REFUSALS

# Columns of the tables of figures; BLEU and chrF are in [0, 100], all others in [0, 1].
TABLES = {
    "Overlap with the reference answers": (*OVERLAP, "BLEU"),
    "Citations": CITATIONS,
    "Refusals": REFUSALS,
}
PLOTTED = ("F1", "holds", "supported", "citation precision")
_IN_HUNDREDS = ("BLEU", "chrF")
MEANINGS = {
    "EM": "the answer is a reference answer, but for case, punctuation and articles",
    "F1": "overlap of words with the best reference (of characters in Japanese, Korean and Chinese)",
    "holds": "a reference stands in the answer as a whole",
    "ROUGE-1, -2, -L": "F of words, pairs of words and order",
    "chrF, BLEU": "by sacrebleu, 0 to 100; chrF an answer at a time, BLEU of all together",
    "citation precision": "of the passages an answer cites, those judged relevant",
    "citation recall": "of the relevant ones, those that an answer cites",
    "supported": "of an answer's sentences, those with a citation that holds",
    "evidence recall": "of the relevant ones, those among the passages that were read",
    "wrong refusals": "refused although the documents answer",
    "right refusals": "refused where they do not",
}


def answer_lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Answers: {report['collection']}\n"
    yield from (f"- {sentence}" for sentence in report["verdict"])
    yield f"\n{asked(report)}\n"
    for title, measures in TABLES.items():
        if not any(figures[name] for _, _, figures in rows(report) for name in measures):
            continue
        yield f"## {title}\n"
        yield f"| generator, condition | language | questions | {' | '.join(measures)} |"
        yield f"|---|---|---:|{'---:|' * len(measures)}"
        for cell, lang, figures in rows(report):
            told = " | ".join(figure(figures[name], name, interval=lang == "all") for name in measures)
            yield f"| {cell} | {lang} | {figures['questions']} | {told} |"
        yield ""
    yield "## Time and tokens\n"
    yield "| generator, condition | asked | failed | p50 ms | p95 ms | tokens read | tokens written | counted |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for cell, about in report["cells"].items():
        counts = f"{about['asked']} | {about['failed']} | {about['ms']['p50']} | {about['ms']['p95']}"
        tokens = about["tokens"]
        told = f"{tokens['read']} | {tokens['written']} | {tokens['counted']} of {about['asked']}"
        yield f"| {cell} | {counts} | {told} |"
    for measure, pairs in report["differences"].items():
        if pairs:
            yield f"\n## Differences in {measure}\n\n| pair | difference | 95 % | p |\n|---|---:|---|---:|"
        for pair, gap in pairs.items():
            yield f"| {pair} | {gap['value']:+.3f} | {gap['low']:+.3f} to {gap['high']:+.3f} | {gap['p']:.4f} |"
    yield from _read("The worst questions", report["worst"])
    yield from _read("Answers with citations, drawn at random", report["sample"])


def _read(title: str, shown: list[dict[str, Any]]) -> Iterator[str]:
    if shown:
        yield f"\n## {title}"
    for one in shown:
        right = " / ".join(one["answers"]) or ("(see its relevant documents)" if one["answerable"] else "(no answer)")
        yield f"\n### {_flat(one['question'])}\n\nRight: {_flat(right)}; in {', '.join(one['relevant']) or 'none'}\n"
        for given in one["given"]:
            yield f"- {given['cell']}: {_flat(given['text'] or given['error'] or given['state'])}"
            for cited in given["citations"]:
                yield f"  - [{cited['marker']}] {cited['passage_id']}: “{_flat(cited['quote'])}”"


def _flat(text: str) -> str:
    """Text on one line, without what Markdown would take for its own."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")


def answer_page(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs beside the report."""
    return {
        "tables": TABLES,
        "plots": {name: _bars(report, name) for name in PLOTTED},
        "meanings": MEANINGS,
        "rows": list(rows(report)),
        "figure": figure,
        "asked": asked(report),
    }


def _bars(report: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, float]]]:
    return [
        (cell, langs["all"][name]) for cell, langs in report["figures"].items() if "all" in langs and langs["all"][name]
    ]


def rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(cell, language, figures), all languages together first; one language alone is told once."""
    for cell, langs in report["figures"].items():
        for lang, figures in langs.items():
            if lang == "all" or len(langs) > 2:
                yield cell, lang, figures


def figure(value: Mapping[str, float] | None, name: str, *, interval: bool = False) -> str:
    if value is None:
        return "–"
    digits = 1 if name in _IN_HUNDREDS else 3
    told = f"{value['value']:.{digits}f}"
    return f"{told} ({value['low']:.{digits}f} to {value['high']:.{digits}f})" if interval else told


def asked(report: Mapping[str, Any]) -> str:
    told = f"{report['questions']} questions"
    if report["unanswerable"]:
        told += f", {report['unanswerable']} of them without an answer in the documents"
    if report["without_relevant"]:
        told += (
            f"; {report['without_relevant']} name no relevant document and are left out of `oracle` and of citations"
        )
    mixed = [cell for cell, about in report["cells"].items() if len(about["made_by"]) > 1]
    if mixed:
        told += f"; the generator changed while {', '.join(mixed)} was measured"
    return told + "."
