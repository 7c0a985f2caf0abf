"""The documents of another Elasticsearch index: `elasticsearch://host:9200/index`, `elasticsearch+https://…`.

A point in time holds the index still while it is read page by page, so that nothing is missed or read twice, and each
request keeps it alive. A page is bounded in documents and, by the size of the one before, in bytes.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import urllib.parse
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from citewell.errors import BadInput, CitewellError, InvalidDocument, SourceUnavailable
from citewell.index.elastic_errors import explain, transport_reason
from citewell.ingest.sources import Item, Known, Limits, Tell, checked, failed
from citewell.ingest.sources.columns import Columns, default_columns
from citewell.ingest.sources.options import SourceOptions
from citewell.ingest.sources.revisions import Value, encode, greatest

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

log = structlog.get_logger(__name__)

_PORT = 9200
_FIRST_PAGE = 100
_LARGEST_PAGE = 500
_PAGE_BYTES = 8_000_000
# Between two requests a page is embedded; on a slow machine that takes minutes.
_KEEP_ALIVE = "15m"
_ISO = "strict_date_optional_time_nanos"
_NUMBERS = ("long", "integer", "short", "byte", "double", "float", "half_float", "scaled_float", "unsigned_long")


@dataclass(frozen=True)
class _Address:
    base: str
    index: str
    name: str
    credentials: dict[str, Any]


class ElasticSource:
    """One index, or several by a pattern. `_id` is the document's id; credentials are in no name and no message."""

    def __init__(self, address: str, limits: Limits, options: SourceOptions) -> None:
        self._limits = limits
        self._options = options
        self._body = _body(options.query)
        self._address = _address(address, options)
        self._usual = default_columns(dict(options.columns)) | (
            {} if "id" in dict(options.columns) else {"id": ("_id",)}
        )

    @property
    def name(self) -> str:
        return self._address.name

    @property
    def size(self) -> int:
        return 0

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        """Every document, or since a value those at or above it; a server that fails is one failure, where it fails."""
        from elasticsearch import ApiError, TransportError

        count = 0
        try:
            with (
                contextlib.closing(self._client()) as client,
                contextlib.closing(self._documents(client, known)) as documents,
            ):
                for item in documents:
                    count += 1
                    yield item
        except CitewellError as error:
            yield failed(self.name, self.name, error)
        except (ApiError, TransportError) as error:
            yield failed(self.name, self.name, self._translated(error, count))

    def _documents(self, client: Elasticsearch, known: Known) -> Generator[Item]:
        passes = list(self._passes(client, known))
        reading = _Reading(client, self._address.index, self._body.get("_source", True))
        try:
            for query, sort in passes:
                for hit in reading.hits(query, sort):
                    yield self._item(hit, sort)
        finally:
            reading.close()

    def _passes(self, client: Elasticsearch, known: Known) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """(query, order) of each walk over the index: one, or with `since` first what has no value of that field."""
        wanted = self._body.get("query", {"match_all": {}})
        since = self._options.since
        if not since:
            yield wanted, []
            return
        kind = self._kind(client, since)
        floor = None if known.unfinished() else greatest(known.revisions())
        bound: dict[str, Any] = {"exists": {"field": since}}
        yield {"bool": {"filter": [wanted], "must_not": [bound]}}, []
        if (value := _as_bound(floor, kind)) is not None:
            bound = {"range": {since: {"gte": value} | ({"format": _ISO} if kind == "date" else {})}}
        order: dict[str, Any] = {"order": "asc"} | ({"format": _ISO} if kind == "date" else {})
        yield {"bool": {"filter": [wanted, bound]}}, [{since: order}]

    def _kind(self, client: Elasticsearch, since: str) -> str:
        """`date`, `number` or `text`; raises `BadInput` for a field that is absent or has no order."""
        answer = client.field_caps(index=self._address.index, fields=[since])
        kinds = set(answer["fields"].get(since, {})) - {"unmapped"}
        found = {"date" if kind.startswith("date") else "number" if kind in _NUMBERS else kind for kind in kinds}
        if found <= {"date"} or found <= {"number"} or found <= {"keyword"}:
            if found:
                return found.pop().replace("keyword", "text")
            raise BadInput(
                f"no field `{since}` in {self.name}", remedy="Name a field of dates, numbers or keywords for `since`."
            )
        raise BadInput(
            f"the field `{since}` of {self.name} is {' and '.join(sorted(kinds))}, which has no order to go on from",
            remedy="Name a field of dates, numbers or keywords; text often has one, as in `title.keyword`.",
        )

    def _item(self, hit: dict[str, Any], sort: list[dict[str, Any]]) -> Item:
        row = hit.get("_source", {}) | ({"_id": hit["_id"]} if "_id" in self._usual["id"] else {})
        try:
            if "_source" not in hit:
                raise InvalidDocument("the index does not keep the documents' source", remedy="Load from where it had.")
            mapped = dict(self._options.columns)
            found = {
                field: next((name for name in usual if name in mapped.values() or name in row), "")
                for field, usual in self._usual.items()
            }
            columns = Columns({field: name for field, name in found.items() if name}, dotted=True)
            if "text" not in columns.of or columns.value(row, "text") is None:
                wanted = " or ".join(f"`{name}`" for name in self._usual["text"])
                raise InvalidDocument(
                    f"the document has no field {wanted}: it has {', '.join(row)}",
                    remedy="Say where its text is: `--map text=FIELD`.",
                )
            return checked(columns.document(row, self._revision(hit, sort)), self.name, self._limits)
        except CitewellError as error:
            return failed(str(hit["_id"]), self.name, error)

    def _revision(self, hit: dict[str, Any], sort: list[dict[str, Any]]) -> str:
        if not sort:
            return ""
        value, since = hit["sort"][0], self._options.since
        dated = "format" in sort[0][since]
        return encode(datetime.datetime.fromisoformat(value) if dated else value, since)

    def _client(self) -> Elasticsearch:
        from elasticsearch import Elasticsearch

        return Elasticsearch(
            self._address.base,
            request_timeout=self._options.timeout,
            max_retries=3,
            retry_on_timeout=True,
            **self._address.credentials,
        )

    def _translated(self, error: Exception, count: int) -> CitewellError:
        from elasticsearch import ApiError, UnsupportedProductError

        place = self.name.partition("#")[0]
        after = f" after {count} documents" if count else ""
        if isinstance(error, UnsupportedProductError):
            return SourceUnavailable(f"what answers at {place} is not Elasticsearch", remedy="Correct the address.")
        if not isinstance(error, ApiError):
            return SourceUnavailable(f"{place} does not answer{after}: {transport_reason(error)}")
        body = error.body.get("error") if isinstance(error.body, dict) else None
        return _refusal(place, after, error.meta.status, body if isinstance(body, dict) else {})


class _Reading:
    """A point in time of an index, which its owner closes."""

    def __init__(self, client: Elasticsearch, index: str, source: Any) -> None:
        self._client = client
        self._source = source
        self._id: str = client.open_point_in_time(index=index, keep_alive=_KEEP_ALIVE)["id"]

    def hits(self, query: dict[str, Any], sort: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Every hit in the order of `sort`, and where that ties in the order of the shards."""
        size, after = _FIRST_PAGE, None
        while True:
            answer = self._client.search(
                pit={"id": self._id, "keep_alive": _KEEP_ALIVE},
                query=query,
                sort=[*sort, {"_shard_doc": "asc"}],
                search_after=after,
                size=size,
                source=self._source,
                track_total_hits=False,
            )
            self._id = answer.get("pit_id", self._id)
            if answer["_shards"]["failed"] or answer["timed_out"]:
                raise SourceUnavailable(f"{answer['_shards']['failed']} shards of the index did not answer")
            hits = answer["hits"]["hits"]
            yield from hits
            if not hits:
                return
            after = hits[-1]["sort"]
            each = int(answer.meta.headers.get("content-length") or 0) / len(hits)
            size = max(1, min(_LARGEST_PAGE, int(_PAGE_BYTES / each))) if each else _FIRST_PAGE

    def close(self) -> None:
        from elasticsearch import ApiError, TransportError

        try:
            self._client.close_point_in_time(id=self._id)
        except (ApiError, TransportError) as error:
            # What is being told already may be the reason; the server lets go by itself in a while.
            log.debug("point_in_time_left", reason=type(error).__name__)


def _refusal(place: str, after: str, status: int, cause: dict[str, Any]) -> CitewellError:
    """The error for what the server answers; `after` says how far the reading was."""
    reason = explain(cause) or f"status {status}"
    if "search_context_missing" in str(cause):
        return SourceUnavailable(
            f"{place} has let go of the point in time{after}: it restarted, or a page took more than {_KEEP_ALIVE}",
            remedy="Run the load again: what was loaded is skipped.",
        )
    if cause.get("type") == "index_not_found_exception":
        return BadInput(f"there is no index at {place}", remedy="Check the index's name.")
    if status in (401, 403):
        return SourceUnavailable(
            f"{place} refuses access: {reason}",
            remedy="Set `source_api_key`, or write elasticsearch://USER:PASSWORD@…; `read` on the index is needed.",
        )
    if status == 400:
        return BadInput(f"{place} refuses the search{after}: {reason}", remedy="Mend the query or the field names.")
    return SourceUnavailable(f"{place} answered with status {status}{after}: {reason}")


def _as_bound(floor: Value | None, kind: str) -> str | int | float | None:
    """The value as a range query writes it; None where it is not of the field's kind, so that all is asked for."""
    if isinstance(floor, decimal.Decimal) and kind == "number":
        return int(floor) if floor == floor.to_integral_value() else float(floor)
    if isinstance(floor, datetime.datetime) and kind == "date":
        return floor.isoformat()
    return floor if isinstance(floor, str) and kind == "text" else None


def _body(query: str) -> dict[str, Any]:
    """`query` and `_source` of a search's body; raises `BadInput` for anything else."""
    if not query:
        return {}
    example = '--query \'{"query": {"term": {"lang": "en"}}, "_source": ["title", "body"]}\''
    try:
        body = json.loads(query)
    except ValueError as error:
        raise BadInput(f"the query is no JSON: {error}", remedy=f"Write a search's body: {example}.") from None
    if not isinstance(body, dict) or not body or not set(body) <= {"query", "_source"}:
        raise BadInput(
            "the query is not a search's body with `query` and `_source` alone", remedy=f"Write it so: {example}."
        )
    return body


def _address(address: str, options: SourceOptions) -> _Address:
    """Where it is and who asks: `USER:PASSWORD@`, or an API key in their place or as the setting."""
    try:
        parts = urllib.parse.urlsplit(address)
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:  # its words repeat a part of the address
        host, port, parts = "", 0, urllib.parse.urlsplit("")
    index = urllib.parse.unquote(parts.path.strip("/"))
    if not host or not index or "/" in index or parts.query or parts.fragment:
        raise BadInput(
            "the address of the Elasticsearch source is not whole",
            remedy="Write elasticsearch://HOST:PORT/INDEX, or elasticsearch+https://… .",
        )
    place = f"{f'[{host}]' if ':' in host else host}:{port}"
    scheme = "https" if parts.scheme.endswith("+https") else "http"
    user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
    credentials: dict[str, Any] = {}
    if password:
        credentials["basic_auth"] = (user, password)
    elif user or options.api_key:
        credentials["api_key"] = user or options.api_key
    chosen = "#" + hashlib.sha256(options.query.encode()).hexdigest()[:12] if options.query else ""
    return _Address(f"{scheme}://{place}", index, f"{parts.scheme}://{place}/{index}{chosen}", credentials)
