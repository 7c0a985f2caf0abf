"""Embedders beside sentence-transformers: pairs of DPR encoders, and models behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citewell.config import Settings, load_settings
from citewell.embed.endpoint import EndpointEmbedder
from citewell.embed.pair import PairEmbedder
from citewell.engine import build
from citewell.errors import CitewellError, ConfigError, EmbedderUnavailable, FingerprintMismatch
from citewell.ingest.sources import Item
from citewell.records import Document, Question
from tests.embeddings_endpoint import KEY, Endpoint, endpoint
from tests.hashing import HashingEmbedder
from tests.tiny_models import build_dpr

TEXTS = ["The shop opens at nine.", "It closes at seven on Fridays.", "Kettles may be returned within thirty days."]
DOCUMENTS: list[Item] = [Document(id=f"d{n}", text=text, lang="en") for n, text in enumerate(TEXTS)]


@pytest.fixture
def served() -> Iterator[Endpoint]:
    with endpoint() as running:
        yield running


def settings(served: Endpoint, **more: Any) -> Settings:
    return Settings(**{"embedder": "openai:small", "embedder_url": served.url, "embedder_api_key": KEY} | more)


def test_the_endpoint_s_vectors_come_in_order_and_of_unit_length(served: Endpoint) -> None:
    embedder = EndpointEmbedder(settings(served, embed_batch=2))
    assert np.allclose(embedder.embed_passages(TEXTS), HashingEmbedder().embed_passages(TEXTS), atol=1e-6)
    assert embedder.embed_queries([]).shape == (0, 64)
    assert [len(request["input"]) for request in served.requests] == [1, 2, 1]  # the first asks for the dimension
    assert {request["model"] for request in served.requests} == {"small"}


def test_prefixes_are_put_before_and_the_passages_one_is_in_the_fingerprint(served: Endpoint) -> None:
    plain = EndpointEmbedder(settings(served))
    prefixed = EndpointEmbedder(
        settings(served, embedder_query_prefix="query: ", embedder_passage_prefix="passage: ", embedder_languages="en")
    )
    prefixed.embed_queries(["a"])
    prefixed.embed_passages(["b"])
    assert [request["input"] for request in served.requests[-2:]] == [["query: a"], ["passage: b"]]
    assert prefixed.describe().weights != plain.describe().weights
    assert prefixed.describe().languages == ("en",)


def test_a_busy_endpoint_is_asked_again(served: Endpoint) -> None:
    served.answers = [(429, {"Retry-After": "0"}, {}), (503, {}, "starting")]
    assert EndpointEmbedder(settings(served)).describe().dimension == 64
    assert len(served.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message", "remedy"),
    [
        ((401, {}, {"error": {"message": "no such key"}}), "401: no such key", "embedder_api_key"),
        ((404, {}, {"object": "error", "message": "model small not found"}), "model small not found", "embedder_url"),
        ((400, {}, {"error": "too long"}), "400: too long", "passage_tokens"),
        ((418, {}, "a teapot"), "418: a teapot", "log"),
        ((200, {}, "<html>"), "not an embeddings answer", "embedder_url"),
        (lambda body: body | {"data": body["data"][:1]}, "1 vectors for 2 texts", "embedder_url"),
        (lambda body: body | {"data": [{"index": n, "embedding": [0.0] * 64} for n in (0, 1)]}, "zero", "embedder"),
        (lambda body: body | {"data": [{"index": n, "embedding": [1.0]} for n in (0, 1)]}, "1 dimensions", "embedder"),
        (lambda body: body | {"data": [{"index": n} for n in (0, 1)]}, "not an embeddings answer", "embedder"),
    ],
)
def test_a_wrong_answer_is_an_error_that_says_what_to_do(
    served: Endpoint, answer: Any, message: str, remedy: str
) -> None:
    embedder = EndpointEmbedder(settings(served))
    embedder.describe()
    served.answers = [answer]
    with pytest.raises(EmbedderUnavailable, match=message) as raised:
        embedder.embed_passages(TEXTS[:2])
    assert remedy in raised.value.remedy


def test_an_endpoint_that_is_not_there_is_named_without_the_key() -> None:
    with pytest.raises(EmbedderUnavailable, match="does not answer") as raised:
        EndpointEmbedder(Settings(embedder="openai:m", embedder_url="http://127.0.0.1:9", embedder_api_key=KEY)).info()
    assert KEY not in str(raised.value.to_json())
    with pytest.raises(ConfigError, match="embedder_url"):
        EndpointEmbedder(Settings(embedder="openai:m")).load()


def test_a_whole_search_needs_no_model_library(served: Endpoint, tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from citewell.config import load_settings\n"
        "from citewell.engine import build\n"
        "from citewell.records import Document, Question\n"
        "with build(load_settings()) as engine:\n"
        f"    list(engine.put([Document(id='d', text={TEXTS[0]!r}, lang='en')]))\n"
        "    answer = engine.ask(Question(text='When does the shop open?', lang='en'))\n"
        "heavy = sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules))\n"
        "print(json.dumps([answer.answer, sorted(answer.evidence.hits[0].legs), heavy]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CITEWELL_")} | {
        "CITEWELL_EMBEDDER": "openai:small",
        "CITEWELL_READER": "auto",
        "CITEWELL_EMBEDDER_URL": served.url,
        "CITEWELL_EMBEDDER_API_KEY": KEY,
        "CITEWELL_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    text, legs, heavy = json.loads(done.stdout.splitlines()[-1])
    assert text == "The shop opens at nine. [1]"
    assert legs == ["bm25", "dense"]
    assert heavy == []


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_dpr(tmp_path_factory.mktemp("dpr"))


@pytest.mark.parametrize("stack", ["embedded", "served"])
def test_a_dpr_pair_ranks_by_dot_product(pair: str, stack: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    more: dict[str, Any] = {"stack": stack}
    if stack == "served":
        more["elasticsearch_url"] = request.getfixturevalue("elasticsearch_url")
        more["index_name"] = request.getfixturevalue("index_name")
    configured = Settings(embedder=pair, data_dir=tmp_path, device="cpu", vector_index="flat", **more)
    embedder = PairEmbedder(configured)
    passages, (question,) = embedder.embed_passages(TEXTS), embedder.embed_queries(["When does it open?"])
    lengths = np.linalg.norm(passages, axis=1)
    assert lengths.max() > 1.01 * lengths.min(), "the lengths differ, so cosine and dot product are not the same"
    with build(configured, "ingest") as engine:
        assert {outcome.status for outcome in engine.put(DOCUMENTS)} == {"added"}
        found = engine.search(Question(text="When does it open?", lang="en", mode="dense"))
        assert engine.fingerprint().similarity == "dot"
    expected = passages @ question
    scores = {hit.passage.doc_id: hit.legs["dense"].score for hit in found.hits}
    assert scores == pytest.approx({f"d{n}": float(expected[n]) for n in range(3)}, rel=1e-3, abs=1e-3)
    assert [hit.passage.doc_id for hit in found.hits] == [f"d{n}" for n in np.argsort(-expected)]


def test_a_pair_s_order_of_texts_is_kept_whatever_the_batches(pair: str, tmp_path: Path) -> None:
    whole = PairEmbedder(Settings(embedder=pair, device="cpu"))
    single = PairEmbedder(Settings(embedder=pair, device="cpu", embed_batch=1))
    assert np.allclose(whole.embed_passages(TEXTS), single.embed_passages(TEXTS), atol=1e-5)
    assert not np.allclose(whole.embed_passages(TEXTS), whole.embed_queries(TEXTS), atol=1e-2), "two encoders"


@pytest.mark.parametrize(
    ("embedder", "error"), [("dpr:one", ConfigError), ("dpr:a,,b", ConfigError), ("dpr:nowhere,nothing", CitewellError)]
)
def test_a_pair_that_is_none_is_named(embedder: str, error: type[CitewellError]) -> None:
    with pytest.raises(error, match=embedder.removeprefix("dpr:").split(",", maxsplit=1)[0]):
        PairEmbedder(Settings(embedder=embedder, device="cpu")).load()


def test_an_index_made_by_another_embedder_is_refused(served: Endpoint, tmp_path: Path) -> None:
    with build(settings(served, data_dir=tmp_path), "ingest") as engine:
        list(engine.put(DOCUMENTS))
    other = build(settings(served, data_dir=tmp_path, embedder="openai:large"), "ingest")
    with pytest.raises(FingerprintMismatch, match=r"openai:small.*openai:large"):
        other.load()


def test_languages_are_listed_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITEWELL_LANGUAGES", "ja, en")
    monkeypatch.setenv("CITEWELL_EMBEDDER_LANGUAGES", '["en", "fr"]')
    assert load_settings().languages == ("en", "ja")
    assert load_settings().embedder_languages == ("en", "fr")
    monkeypatch.setenv("CITEWELL_LANGUAGES", '["en"')
    with pytest.raises(ConfigError, match="languages"):
        load_settings()
