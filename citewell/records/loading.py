"""What travels between a process that reads documents and the workers that load them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from citewell.records.base import SCHEMA_VERSION, Record
from citewell.records.documents import Document, Outcome


class Batch(Record):
    """Documents that one worker loads together, in the order in which their source has them; no id stands twice.

    `number` counts within the run; `source` is where documents come from that do not say it themselves.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    number: int
    source: str = ""
    documents: tuple[Document, ...] = ()
    max_attempts: int = 3


class BatchMessage(Record):
    """What lies in the queue of the ingest workers; the batch itself is with the run."""

    schema_version: int = SCHEMA_VERSION
    run: str
    number: int


class BatchResult(Record):
    """One outcome for each document of a batch, in their order; or an `error` that ends the load, in its JSON shape."""

    schema_version: int = SCHEMA_VERSION
    outcomes: tuple[Outcome, ...] = ()
    error: dict[str, Any] = Field(default_factory=dict)


class SourceMessage(Record):
    """A run of a source of the settings is due."""

    schema_version: int = SCHEMA_VERSION
    name: str
