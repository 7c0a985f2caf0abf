"""`embedder = "auto"`: which of the embedders that come with the product a library's documents are for.

What an index was made with stays its embedder. Where no document is yet, the first ones that are to be loaded decide:
the packaged embedder speaks English alone, the multilingual one takes a little longer for it. Only one process can
decide, so on the served stack, where several have an embedder before there is a document, `auto` is the packaged one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from citewell import language, parts
from citewell.config import Settings
from citewell.embed import shipped
from citewell.embed.sentence import AUTO, MULTILINGUAL, PACKAGED, PACKAGED_LANGUAGES, card_languages
from citewell.errors import CitewellError
from citewell.index.roles import with_role
from citewell.ingest.peek import Peeked
from citewell.ingest.sources import Source
from citewell.library import fingerprint_of
from citewell.ports import IndexVersion

# What is looked at: documents, or characters of them, of all sources together.
_MOST, _CHARACTERS = 60, 300_000
# From this share of documents on in languages that only the multilingual embedder speaks it is worth its time.
_SHARE = 0.1


def settled(settings: Settings, sources: Sequence[Source] = ()) -> Settings:
    """The settings with the embedder that `auto` means; others as they are.

    `sources` are what will be loaded into an index that has no document. An empty index that was made with the other
    embedder goes.
    """
    if settings.embedder != AUTO:
        return settings
    name = PACKAGED
    if settings.stack == "embedded":
        try:
            name = _chosen(settings, sources)
        except CitewellError as error:  # whoever opens the index says it again, and what to do
            structlog.get_logger(__name__).warning("embedder_not_chosen", reason=error.message, embedder=name)
    return settings.model_copy(update={"embedder": name})


def settled_for(settings: Settings, sources: Sequence[Source]) -> Settings:
    """The settings with the embedder that `auto` means for these documents, on any stack: one process has the index."""
    if settings.embedder != AUTO:
        return settings
    return settings.model_copy(update={"embedder": by_documents(sources)})


def _chosen(settings: Settings, sources: Sequence[Source]) -> str:
    found = _versions(settings, counted=bool(sources))
    current = with_role(found, "current")
    made_with = str(current.recipe.get("embedder", PACKAGED)) if current else ""
    if current and (not sources or len(found) > 1 or current.documents or current.unfinished):
        return made_with if made_with in (PACKAGED, MULTILINGUAL) else PACKAGED
    name = by_documents(sources) if sources else PACKAGED
    if current and made_with != name:
        _made_anew(settings.model_copy(update={"embedder": name}), current)
    return name


def _versions(settings: Settings, *, counted: bool) -> list[IndexVersion]:
    versions = parts.access(settings).versions()
    try:
        return versions.all(counted=counted)
    finally:
        versions.close()


def _made_anew(settings: Settings, empty: IndexVersion) -> None:
    """Another version for one that is empty: not its tables again, as a service that has them open would ask these with
    the other embedder's vectors.
    """
    embedder, versions = parts.embedder(settings), parts.access(settings).versions()
    try:
        made = versions.create(fingerprint_of(settings, embedder.describe()))
        versions.promote(made.name)
        versions.drop(empty.name)
    finally:
        versions.close()
        embedder.close()


def by_documents(sources: Sequence[Source]) -> str:
    """The embedder for what these sources have; their first documents come again when they are read, if they are
    `Peeked`.
    """
    if not shipped.is_shipped(shipped.MULTILINGUAL):
        return PACKAGED
    found: Counter[str] = Counter()
    characters = _CHARACTERS
    for source in sources:
        if found.total() >= _MOST or characters <= 0:
            break
        looking = source if isinstance(source, Peeked) else Peeked(source)
        for document in looking.look(_MOST - found.total(), characters):
            found[language.normalize(document.lang) or language.detect(document.text)] += 1
            characters -= len(document.text)
    gained = sum(found[lang] for lang in set(card_languages(shipped.MULTILINGUAL)) - set(PACKAGED_LANGUAGES))
    name = MULTILINGUAL if gained and gained >= _SHARE * found.total() else PACKAGED
    structlog.get_logger(__name__).info("embedder_chosen", embedder=name, languages=dict(found.most_common()))
    return name
