"""The concrete classes behind the ports, by setting: the only place that names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from citewell.catalogue import GeneratorTable, OpenAiTable, RagTable, TransformersTable
from citewell.citing import Citing
from citewell.config import Settings, config_file
from citewell.errors import ConfigError
from citewell.generate.reader import Reader, folder_of
from citewell.ingest.load import Shelf
from citewell.library import Access, Library
from citewell.ports import Answers, Embedder, Generator, JobQueue, Reranker
from citewell.prompt import PACKAGED, Template
from citewell.records import JobMessage

if TYPE_CHECKING:
    from citewell.ingest.distributed_store import RedisBatches
    from citewell.ingest.scheduled import RedisSources


def generators(settings: Settings, model: Embedder, only: Sequence[str] = ()) -> dict[str, Generator]:
    """What can be asked for by name: the catalogue, or `only` some of it. Raises `ConfigError` for an unknown name.

    `model` is without a cache: sentences of evidence come once.
    """
    tables = settings.catalogue()
    if unknown := [name for name in only if name not in tables]:
        raise ConfigError(
            f"there is no generator `{unknown[0]}`",
            remedy=f"Choose among {', '.join(sorted(tables))}, or add a table [generators.{unknown[0]}].",
        )
    return {name: _generator(settings, name, tables[name], model) for name in (only or tables)}


def _generator(settings: Settings, name: str, table: GeneratorTable, model: Embedder) -> Generator:
    if isinstance(table, TransformersTable):
        from citewell.generate.transformers import TransformersGenerator

        return TransformersGenerator(settings, name, table, _template(name, table))
    if isinstance(table, OpenAiTable):
        from citewell.generate.openai import OpenAiGenerator

        return OpenAiGenerator(settings, name, table, _template(name, table))
    if isinstance(table, RagTable):
        from citewell.generate.rag import RagGenerator

        return RagGenerator(settings, name, table)
    from citewell.generate.extractive import ExtractiveGenerator

    return ExtractiveGenerator(model, reader(settings), optional=settings.reader in ("auto", "packaged"))


def _template(name: str, table: TransformersTable | OpenAiTable) -> Template:
    """The packaged wordings, or those of the table's file. Raises `ConfigError`."""
    if not table.prompt:
        return PACKAGED
    from citewell.generate.prompt_file import read_template

    file = config_file()
    return read_template((file.parent if file else Path()) / table.prompt, f"generators.{name}.prompt")


def reader(settings: Settings) -> Reader | None:
    """The reader that the setting of this name means; it reads with the packaged embedder's encoder.

    `auto` is none where texts are embedded elsewhere: such a process loads no model of its own.
    """
    name = settings.reader
    if name == "auto":
        name = "" if _kind(settings) == "openai" else "packaged"
    if not name:
        return None
    from citewell.embed.sentence import packaged_folder

    return Reader(folder_of(name), packaged_folder(), settings.device)


def reranker(settings: Settings) -> Reranker | None:
    from citewell.rerank import CrossEncoderReranker

    return CrossEncoderReranker(settings) if settings.reranker else None


def citing(settings: Settings, model: Embedder) -> Citing:
    """`model` is without a cache: sentences of answers come once."""
    from citewell.entail import CrossEncoderEntailment

    return Citing(model, CrossEncoderEntailment(settings) if settings.entailment else None, settings)


def answers(settings: Settings) -> Answers:
    if settings.stack == "served":
        from citewell.answers.redis import RedisAnswers

        return RedisAnswers(settings)
    from citewell.answers.sqlite import SqliteAnswers

    return SqliteAnswers(settings)


def queue(
    settings: Settings,
    run: Callable[[JobMessage], object],
    store: Answers,
    names: Sequence[str],
    beside: Callable[[], object],
) -> JobQueue:
    """`names` are the generators whose queues are counted, and whose messages threads of this process take.

    `beside` is called again and again in one process.
    """
    if settings.stack == "served":
        from citewell.jobs import CeleryQueue

        return CeleryQueue(settings, names)
    from citewell.jobs import InlineQueue

    return InlineQueue(run, store.due, threads=settings.threads_for(names), own=names, beside=beside)


def batches(settings: Settings) -> RedisBatches:
    """Runs of distributed loads, for readers and workers; the served stack alone has them."""
    from citewell.ingest.distributed_store import RedisBatches

    return RedisBatches(settings)


def scheduled(settings: Settings) -> RedisSources:
    """When sources of the settings are due, and who loads them; the served stack alone has them."""
    from citewell.ingest.scheduled import RedisSources

    return RedisSources(settings)


def spread(settings: Settings, library: Library, sources: Sequence[str], note: Callable[[str], None]) -> Shelf:
    """What a load writes to when workers do the work; `note` is told what it has to wait for."""
    from citewell.ingest.distributed import DistributedShelf
    from citewell.ingest.distributed_queue import IngestQueue
    from citewell.ingest.distributed_sender import Sending
    from citewell.ingest.distributed_store import new_run

    sending = Sending(settings.ingest_window, settings.max_attempts)
    return DistributedShelf(library, batches(settings), IngestQueue(settings), new_run(sources), sending, note)


def access(settings: Settings) -> Access:
    """The stack's versions; another version's embedder is cached as the own one is."""

    def of_version(of: Settings) -> Embedder:
        return cached(of, embedder(of))

    if settings.stack == "served":
        from citewell.index.elastic import ElasticIndex
        from citewell.index.elastic_versions import ElasticVersions

        return Access(
            lambda fingerprint, version: ElasticIndex(settings, fingerprint, version),
            lambda: ElasticVersions(settings),
            of_version,
        )
    from citewell.index.lance import LanceIndex
    from citewell.index.lance_versions import LanceVersions

    return Access(
        lambda fingerprint, version: LanceIndex(settings, fingerprint, version),
        lambda: LanceVersions(settings),
        of_version,
    )


def cached(settings: Settings, model: Embedder) -> Embedder:
    from citewell.embed.cache import CachedEmbedder

    file = settings.data_dir / "embeddings.sqlite" if settings.embed_cache else None
    return CachedEmbedder(model, file=file, questions=settings.query_cache)


def packaged_embedder(settings: Settings) -> Embedder:
    """The default embedder, whatever the setting says."""
    return embedder(settings.model_copy(update={"embedder": "packaged"}))


def _kind(settings: Settings) -> str:
    """What an embedder's name has before its colon."""
    return settings.embedder.partition(":")[0] if ":" in settings.embedder else ""


def embedder(settings: Settings) -> Embedder:
    """The embedder that the setting of this name means."""
    kind = _kind(settings)
    if kind == "openai":
        from citewell.embed.endpoint import EndpointEmbedder

        return EndpointEmbedder(settings)
    if kind == "dpr":
        from citewell.embed.pair import PairEmbedder

        return PairEmbedder(settings)
    from citewell.embed.sentence import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(settings)
