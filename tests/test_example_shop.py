"""Checks of the demonstration collection in examples/shop (standard library only)."""

from __future__ import annotations

import csv
import html.parser
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent / "examples" / "shop"
CORPUS = ROOT / "corpus"
LANGUAGES = {"en", "es", "ja", "ko"}
FORMATS = {"md", "html", "jsonl"}


class _Text(html.parser.HTMLParser):
    """Collect the character data of a page, or only that inside its <main>."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.main: list[str] = []
        self.seen: list[str] = []
        self.lang = ""
        self.canonical = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.seen.append(tag)
        if tag == "html":
            self.lang = values.get("lang") or ""
        if tag == "link" and values.get("rel") == "canonical":
            self.canonical = values.get("href") or ""
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.seen.append("/" + tag)
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
        if "main" in self.seen and "/main" not in self.seen:
            self.main.append(data)


def _parse(raw: str) -> _Text:
    parser = _Text()
    parser.feed(raw)
    parser.close()
    return parser


def _collapse(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _plain(kind: str, raw: str) -> str:
    if kind == "html":
        return _collapse("".join(_parse(raw).main))
    if kind == "md":
        body = raw.split("---\n", 2)[2]
        return _collapse(re.sub(r"[*_`]|^#+ |^\s*(?:-|\d+\.) ", "", body, flags=re.MULTILINE))
    return _collapse(raw)


def _documents() -> list[dict[str, Any]]:
    """Every document as id, lang, kind, raw text and plain text."""
    rows: list[dict[str, Any]] = []
    for path in sorted(CORPUS.rglob("*")):
        if not path.is_file():
            continue
        kind = path.suffix.lstrip(".")
        raw = path.read_text(encoding="utf-8")
        lang = path.parent.name
        if kind != "jsonl":
            name = path.relative_to(CORPUS).as_posix()
            rows.append({"id": name, "lang": lang, "kind": kind, "raw": raw})
            continue
        for line in raw.splitlines():
            item = json.loads(line)
            assert item["lang"] == lang
            rows.append({"id": item["_id"], "lang": lang, "kind": kind, "raw": item["text"]})
    for row in rows:
        row["plain"] = _plain(row["kind"], row["raw"])
    return rows


def _queries() -> list[dict[str, Any]]:
    lines = (ROOT / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _qrels() -> list[dict[str, str]]:
    with (ROOT / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


DOCUMENTS = _documents()
BY_ID = {row["id"]: row for row in DOCUMENTS}
QUERIES = _queries()
QUERY_BY_ID = {query["_id"]: query for query in QUERIES}
QRELS = _qrels()
ANSWERABLE = [query for query in QUERIES if query["answerable"]]
UNANSWERABLE = [query for query in QUERIES if not query["answerable"]]


def test_document_counts() -> None:
    assert len(DOCUMENTS) >= 48
    per_lang = Counter(row["lang"] for row in DOCUMENTS)
    assert set(per_lang) == LANGUAGES
    assert min(per_lang.values()) >= 12
    per_kind = Counter(row["kind"] for row in DOCUMENTS)
    assert set(per_kind) == FORMATS
    assert min(per_kind.values()) >= 10


def test_question_counts() -> None:
    assert len(QUERIES) >= 68
    per_lang = Counter(query["lang"] for query in QUERIES)
    assert set(per_lang) == LANGUAGES
    assert min(per_lang.values()) >= 17
    without = Counter(query["lang"] for query in UNANSWERABLE)
    assert set(without) == LANGUAGES
    assert min(without.values()) >= 4


def test_ids_are_unique() -> None:
    assert len(BY_ID) == len(DOCUMENTS)
    assert len(QUERY_BY_ID) == len(QUERIES)
    assert len({query["text"] for query in QUERIES}) == len(QUERIES)
    pairs = [(row["query-id"], row["corpus-id"]) for row in QRELS]
    assert len(set(pairs)) == len(pairs)


def test_urls_are_unique() -> None:
    urls: list[str] = []
    for row in DOCUMENTS:
        if row["kind"] == "md":
            urls += re.findall(r"^url: (\S+)$", row["raw"], flags=re.MULTILINE)
        elif row["kind"] == "html":
            urls.append(_parse(row["raw"]).canonical)
    for path in CORPUS.rglob("*.jsonl"):
        urls += [json.loads(line)["url"] for line in path.read_text("utf-8").splitlines()]
    assert len(urls) == len(set(urls)) == len(DOCUMENTS)
    assert all(url.startswith("https://help.tidewater.example/") for url in urls)


def test_markdown_has_front_matter_and_a_title() -> None:
    for row in DOCUMENTS:
        if row["kind"] != "md":
            continue
        start, front, body = row["raw"].split("---\n", 2)
        assert start == "", row["id"]
        fields = dict(line.split(": ", 1) for line in front.splitlines())
        assert {"title", "url", "lang"} <= set(fields), row["id"]
        assert fields["lang"] == row["lang"], row["id"]
        assert body.lstrip().startswith("# " + fields["title"] + "\n"), row["id"]


def test_html_pages_are_complete() -> None:
    for row in DOCUMENTS:
        if row["kind"] != "html":
            continue
        page = _parse(row["raw"])
        assert page.lang == row["lang"], row["id"]
        assert page.canonical, row["id"]
        assert {"title", "nav", "main", "h1", "h2", "footer"} <= set(page.seen), row["id"]
        opened = Counter(tag for tag in page.seen if tag[0] != "/")
        closed = Counter(tag[1:] for tag in page.seen if tag[0] == "/")
        for tag in ("meta", "link"):
            del opened[tag]
        assert opened == closed, row["id"]


def test_document_lengths() -> None:
    long_ones: set[str] = set()
    for row in DOCUMENTS:
        if row["lang"] in {"en", "es"}:
            size, low, high = len(row["plain"].split()), 120, 450
        else:
            size, low, high = len(row["plain"].replace(" ", "")), 400, 1200
        assert size >= low, (row["id"], size)
        if size > high:
            long_ones.add(row["lang"])
    assert long_ones == LANGUAGES


def test_every_qrel_points_to_a_question_and_a_document() -> None:
    assert QRELS
    for row in QRELS:
        assert set(row) == {"query-id", "corpus-id", "score"}
        query = QUERY_BY_ID[row["query-id"]]
        document = BY_ID[row["corpus-id"]]
        assert query["lang"] == document["lang"], row
        assert row["score"] in {"1", "2"}, row


def test_every_answerable_question_has_a_qrel() -> None:
    judged = {row["query-id"] for row in QRELS}
    assert judged == {query["_id"] for query in ANSWERABLE}


def test_unanswerable_questions_have_no_qrel_but_near_documents() -> None:
    judged = {row["query-id"] for row in QRELS}
    for query in UNANSWERABLE:
        assert query["_id"] not in judged
        assert query["answers"] == []
        assert "quote" not in query
        assert query["context_ids"], query["_id"]
        for name in query["context_ids"]:
            assert BY_ID[name]["lang"] == query["lang"], query["_id"]


def test_every_answer_occurs_in_its_quote() -> None:
    for query in ANSWERABLE:
        assert query["answers"], query["_id"]
        for answer in query["answers"]:
            assert answer in query["quote"], (query["_id"], answer)


def test_every_quote_occurs_in_its_best_document() -> None:
    best: dict[str, tuple[int, str]] = {}
    for row in QRELS:
        entry = (int(row["score"]), row["corpus-id"])
        best[row["query-id"]] = max(best.get(row["query-id"], (0, "")), entry)
    for query in ANSWERABLE:
        name = best[query["_id"]][1]
        assert _collapse(query["quote"]) in BY_ID[name]["plain"], (query["_id"], name)


def test_every_quote_stands_in_the_raw_text_without_markup() -> None:
    for query in ANSWERABLE:
        assert query["quote"] == _collapse(query["quote"]), query["_id"]
        names = [row["corpus-id"] for row in QRELS if row["query-id"] == query["_id"]]
        assert any(query["quote"] in BY_ID[name]["raw"] for name in names), query["_id"]


def test_questions_do_not_copy_their_quote() -> None:
    for query in ANSWERABLE:
        assert query["text"].rstrip("?\uff1f\u3002.") not in query["quote"], query["_id"]


def test_meta_counts_match_the_files() -> None:
    meta = json.loads((ROOT / "meta.json").read_text(encoding="utf-8"))
    assert meta["licence"] == "Apache-2.0"
    assert set(meta["languages"]) == LANGUAGES
    counts = meta["counts"]
    documents = Counter(row["lang"] for row in DOCUMENTS)
    assert counts["documents"] == {**documents, "total": len(DOCUMENTS)}
    assert counts["formats"] == dict(Counter(row["kind"] for row in DOCUMENTS))
    questions = Counter(query["lang"] for query in QUERIES)
    assert counts["questions"] == {**questions, "total": len(QUERIES)}
    assert counts["answerable"] == len(ANSWERABLE)
    assert counts["unanswerable"] == len(UNANSWERABLE)
