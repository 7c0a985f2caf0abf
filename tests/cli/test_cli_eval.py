"""`citewell eval retrieval` and `citewell tune`, on the shop."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from citewell.config import Tuned, load_settings
from tests.cli.terminal import SHOP, Terminal

JUDGED = ("--queries", str(SHOP / "queries.jsonl"), "--qrels", str(SHOP / "qrels" / "test.tsv"))


@pytest.fixture(scope="module")
def measured(shop_load: tuple[Terminal, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A report of the shop's index, as a file and as it was printed."""
    file = tmp_path_factory.mktemp("report") / "report.json"
    return file, shop_load[0].json("eval", "retrieval", *JUDGED, "--out", str(file))


def test_the_default_is_as_good_as_the_better_leg(measured: tuple[Path, Any]) -> None:
    file, found = measured
    assert json.loads(file.read_text("utf-8")) == found
    figures = {mode: langs["all"]["nDCG@10"]["value"] for mode, langs in found["figures"].items()}
    assert found["questions"] == 80
    assert figures["hybrid"] >= max(figures["bm25"], figures["dense"]) - 0.02
    assert figures["hybrid"] >= 0.88
    for lang in ("es", "ja", "ko"):
        assert found["figures"]["hybrid"][lang] != found["figures"]["bm25"][lang], "the embedder speaks all four"


def test_where_the_embedder_is_of_no_use_the_default_is_bm25(english_shop: Terminal) -> None:
    found = english_shop.json("eval", "retrieval", *JUDGED)
    for lang in ("ja", "ko"):
        assert found["figures"]["hybrid"][lang] == found["figures"]["bm25"][lang], "the embedder speaks English alone"
    assert found["figures"]["hybrid"]["en"] != found["figures"]["bm25"]["en"]


def test_the_gate_holds_and_falls(shop: Terminal, measured: tuple[Path, Any], tmp_path: Path) -> None:
    some = (*JUDGED, "--mode", "bm25")
    file, found = measured
    only = {"figures": {"bm25": found["figures"]["bm25"]}}
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(only), "utf-8")
    assert "bm25" in shop.run("eval", "retrieval", *some, "--baseline", str(kept)).stdout
    only["figures"]["bm25"]["all"]["nDCG@10"]["value"] += 0.05
    kept.write_text(json.dumps(only), "utf-8")
    fell = shop.run("eval", "retrieval", *some, "--baseline", str(kept), status=1)
    assert "nDCG@10 of bm25, all" in fell.stderr
    assert file.exists()


def test_a_collection_is_loaded_by_itself(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "set" / "qrels").mkdir(parents=True)
    rows = [
        {"_id": f"d{n}", "title": "", "text": f"The {word} is red."} for n, word in enumerate(("fox", "hen", "cow"))
    ]
    (tmp_path / "set" / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "set" / "queries.jsonl").write_text('{"_id": "q", "text": "Is the hen red?"}\n', "utf-8")
    (tmp_path / "set" / "qrels" / "test.tsv").write_text("q\td1\t1\n", "utf-8")
    found = terminal.json("eval", "retrieval", "--corpus", str(tmp_path / "set"), "--mode", "bm25,rrf,minmax:0.3")
    assert {mode: langs["all"]["nDCG@10"]["value"] for mode, langs in found["figures"].items()} == {
        "bm25": 1.0,
        "rrf": 1.0,
        "minmax:0.3": 1.0,
    }
    assert not terminal.folder.exists(), "the user's own index is left alone"
    said = terminal.json("tune", "--corpus", str(tmp_path / "set"), status=1)["error"]
    assert "1 judged questions" in said["message"]


def test_two_stacks_are_measured_side_by_side(terminal: Terminal, elasticsearch_url: str, tmp_path: Path) -> None:
    there = terminal.with_settings(elasticsearch_url=elasticsearch_url)
    files = [tmp_path / "reports" / name for name in ("r.json", "r.md", "r.html")]
    named = [word for file in files for word in ("--out", str(file))]
    found = there.json(
        *("eval", "retrieval", "--corpus", str(SHOP), "--stack", "elasticsearch,embedded", "--mode", "dense"), *named
    )
    assert json.loads(files[0].read_text("utf-8")) == found
    assert list(found["stacks"]) == ["served", "embedded"]
    assert list(found["figures"]) == ["served dense", "embedded dense"]
    parity = found["parity"]["embedded - served"]["dense"]
    assert abs(parity["value"]) < 0.01, "both search the same vectors"
    assert parity["overlap@10"] > 0.95
    value = f"{found['figures']['served dense']['ja']['nDCG@10']['value']:.3f}"
    row = next(line for line in files[1].read_text("utf-8").splitlines() if line.startswith("| served dense | ja |"))
    assert value in row
    page = files[2].read_text("utf-8")
    assert value in page
    assert "<svg" in page
    assert not re.search(r"(?:src|href)=|https?://", page), "the page needs nothing else"
    left = httpx.get(f"{elasticsearch_url}/_cat/indices/eval-*", params={"format": "json"}).json()
    assert [index for index in left if index["index"].startswith("eval-")] == []


def test_a_named_index_is_searched(shop: Terminal) -> None:
    found = shop.json("eval", "retrieval", *JUDGED, "--index", "citewell", "--mode", "bm25", "--limit", "5")
    assert found["questions"] == 5
    said = shop.json("eval", "retrieval", *JUDGED, "--index", "another", "--mode", "bm25", status=1)["error"]
    assert said["code"] == "index_unavailable", "an empty index of that name is no measurement"


def test_a_file_may_hold_the_figures_of_several_collections(shop: Terminal, tmp_path: Path) -> None:
    some = (*JUDGED, "--mode", "bm25", "--limit", "5")
    expected = tmp_path / "expected.yaml"
    form = "collections:\n  {name}:\n    figures:\n      bm25:\n        all: {{nDCG@10: {value}}}\n"
    name = shop.json("eval", "retrieval", *some)["collection"]
    expected.write_text(form.format(name=name, value=0.1), "utf-8")
    shop.run("eval", "retrieval", *some, "--baseline", str(expected))
    expected.write_text(form.format(name=name, value=1.1), "utf-8")
    assert "1.1000" in shop.run("eval", "retrieval", *some, "--baseline", str(expected), status=1).stderr
    expected.write_text(form.format(name="another", value=0.1), "utf-8")
    said = shop.json("eval", "retrieval", *some, "--baseline", str(expected), status=1)["error"]
    assert name in said["message"]


def test_reranking_needs_a_reranker(shop: Terminal) -> None:
    said = shop.json("eval", "retrieval", *JUDGED, "--mode", "hybrid+rerank", status=1)["error"]
    assert "`reranker`" in said["remedy"]


def test_an_unknown_stack_and_form_are_told(shop: Terminal, tmp_path: Path) -> None:
    said = shop.json("eval", "retrieval", *JUDGED, "--stack", "solr", status=2)["error"]
    assert "embedded, elasticsearch" in said["message"]
    out = ("--out", str(tmp_path / "report.pdf"))
    said = shop.json("eval", "retrieval", *JUDGED, "--mode", "bm25", "--limit", "2", *out, status=1)["error"]
    assert ".html" in said["remedy"]


@pytest.mark.parametrize("mode", ["best", "minmax:2", "minmax:x", "bm25:1"])
def test_an_unknown_mode_is_told(shop: Terminal, mode: str) -> None:
    assert "minmax:0.3" in shop.json("eval", "retrieval", *JUDGED, "--mode", mode, status=1)["error"]["remedy"]


def test_what_is_missing_is_told(shop: Terminal, tmp_path: Path) -> None:
    assert "--corpus" in shop.json("eval", "retrieval", status=2)["error"]["message"]
    assert "--corpus" in shop.json("tune", "--queries", str(SHOP / "queries.jsonl"), status=2)["error"]["message"]
    broken = tmp_path / "b.json"
    broken.write_text("[]", "utf-8")
    said = shop.json("eval", "retrieval", *JUDGED, "--baseline", str(broken), status=1)["error"]
    assert "is no report" in said["message"]


def test_tuning_writes_only_what_is_sure(
    english_shop: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a start that is plainly wrong (the blind dense leg for Japanese), and on one that is right (English)."""
    file = tmp_path / "citewell.toml"
    file.write_text('# ours\n[tuned.ja]\nfusion = "dense"\n', "utf-8")
    there = english_shop.with_settings(config=str(file))
    before = file.read_text("utf-8")
    found = there.json("tune", *JUDGED, "--no-write")
    assert found["written"] == []
    assert file.read_text("utf-8") == before
    choices = {choice["lang"]: choice for choice in found["choices"]}
    assert choices["ja"]["sure"]
    assert choices["ja"]["gain"] > 0.2
    text = there.run("tune", *JUDGED).stdout
    assert "cross-validated" in text
    monkeypatch.setenv("CITEWELL_CONFIG", str(file))
    tuned = load_settings().tuned
    assert tuned["ja"] != Tuned(fusion="dense")
    assert set(tuned) == {lang for lang, choice in choices.items() if choice["sure"]}
    assert "# ours" in file.read_text("utf-8")
