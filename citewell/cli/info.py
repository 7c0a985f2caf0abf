"""`citewell info`: what works here, and how questions of each language are searched."""

from __future__ import annotations

from typing import Any

from citewell.cli.options import AsJson, Key, Url, connection
from citewell.cli.output import clean, console, emit_json, table, waiting

_COUNTED = ("documents", "passages")


def info(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show the versions of everything, what the index holds, and how each language is searched.

    Says so where the embedder cannot help: in a language that it does not speak, words alone rank.

    Examples:

    ```
    citewell info
    citewell info --url http://127.0.0.1:8080 --json
    ```
    """
    with connection(url, key, "ingest") as engine, waiting("looking"):
        found = engine.info()
    if as_json:
        emit_json(found)
        return
    screen = console()
    facts = table(screen, "part", "what it is")
    facts.add_row("citewell", f"{found['version']}, stack {found['stack']}")
    for name in ("embedder", "reranker", "index", "answers", "queue"):
        if name in found:
            facts.add_row(name, clean(_described(name, found[name])))
    facts.add_row("generators", ", ".join(found["generators"]))
    facts.add_row("reader", clean(_reader(found.get("extractive", {}))))
    screen.print(facts)
    plans = table(screen, "language", "fusion", ">depth", "why")
    for lang, plan in found["retrieval"]["languages"].items():
        chosen = f"{plan['method']} {plan.get('alpha', plan.get('k', ''))}".strip()
        plans.add_row(lang, chosen, str(plan["depth"]), clean(plan["source"]))
    screen.print(plans)


def _reader(extractive: dict[str, Any]) -> str:
    if not extractive.get("ok"):
        return f"does not work: {extractive.get('message', 'the service does not say')}"
    reader = extractive.get("reader")
    if reader is None:
        return "none: `extractive` ranks sentences"
    if "left_out" in reader:
        return f"left out, `extractive` ranks sentences: {reader['left_out']}"
    return f"{reader['name']}, weights {reader['weights']}; reads {', '.join(reader['languages'])}"


def _described(name: str, part: dict[str, Any]) -> str:
    if not part["ok"]:
        return f"does not work: {part['message']}"
    if name == "embedder":
        spoken = part.get("languages", "all")
        speaks = "any language, or does not say" if spoken == "all" else ", ".join(spoken)
        return f"{part['name']}, {part['dimension']} dimensions; speaks {speaks}"
    if name == "index":
        counts = ", ".join(f"{part[kind]} {kind}" for kind in _COUNTED)
        return f"{part['backend']} {part['index_version']}: {counts}; {_made_with(part['fingerprint'])}"
    return ", ".join(f"{key} {value}" for key, value in part.items() if key != "ok" and isinstance(value, str | int))


def _made_with(fingerprint: dict[str, Any]) -> str:
    return f"made with {fingerprint['embedder']}, {fingerprint['splitter']}, vectors {fingerprint['vector_index']}"
