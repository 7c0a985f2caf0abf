"""Bulk writing: cut by bytes, every item's status looked at, busy items tried again.

An item is one action on one document; what comes back is a reason per document whose items did not all succeed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from citewell.index.elastic_errors import explain, from_answer, translated, transport_reason
from citewell.index.writes import Later

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

# Elasticsearch takes 100 MB; smaller requests spread its memory, lose less when one fails, and are on their way while
# the next one is made.
CHUNK_BYTES = 500_000
# Requests on their way at once.
_REQUESTS = 3
# Elasticsearch refuses ids above 512 bytes.
_MAX_ID_BYTES = 480
# What Elasticsearch calls an update of a document that is not there.
MISSING = "document_missing_exception"
_BUSY = (429, 503)
_CONFLICT = "version_conflict_engine_exception"
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


def passing(error: Exception) -> str:
    """Why a request may succeed a little later: a busy server, a connection that broke; "" for what stays as it is."""
    from elastic_transport import ApiError, ConnectionError, ConnectionTimeout

    if isinstance(error, ConnectionError | ConnectionTimeout):
        return transport_reason(error)
    if not isinstance(error, ApiError) or error.meta.status not in _BUSY:
        return ""
    # A full disk blocks the index with 429, for long; a node that has just started says 503 for a moment.
    blocked = error.meta.status == 429 and "cluster_block" in str(error.body)
    return "" if blocked else f"status {error.meta.status}"


class Budget:
    """Seconds for which a server may take nothing. They run from the first request that it took nothing of until one
    that it takes something of, and are shared by all requests of a kind: a load waits for a dead server once, and not
    again for each of its batches.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since = math.inf

    def took(self, something: bool) -> None:
        """What became of a request."""
        self._since = math.inf if something else min(self._since, time.monotonic())

    def until(self) -> float:
        """The moment of `time.monotonic` at which they are over, as far as is known now."""
        return self._since + self.seconds


class Patience:
    """Pauses between attempts, ever longer and spread by chance, until a moment of `time.monotonic` or the budget's."""

    def __init__(self, deadline: float, budget: Budget) -> None:
        self._deadline = deadline
        self._budget = budget
        self._pause = _FIRST_PAUSE_S

    def lasts(self) -> bool:
        """Pause before another attempt; False at once when no time is left for one."""
        if time.monotonic() + self._pause > min(self._deadline, self._budget.until()):
            return False
        time.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
        return True


def stored_id(name: str) -> str:
    """The `_id` of a document or passage: its name, or a hash of a name that is too long."""
    encoded = name.encode("utf-8")
    return name if len(encoded) <= _MAX_ID_BYTES else "sha256:" + hashlib.sha256(encoded).hexdigest()


@dataclass(frozen=True)
class Token:
    """One state of a ledger entry: its sequence number, which grows with every write, and its primary's term."""

    seq_no: int
    term: int


@dataclass(frozen=True)
class Item:
    """One bulk action: `op` is create, index, update or delete; `source` its JSON line. `doc_id` owns it.

    `only_at` writes only what is still in that state; `version` only over what has no greater one. An item that this
    (or `create`) refuses is a conflict, not an error. `ending` is added to the `_id`.
    """

    doc_id: str
    op: str
    index: str
    name: str
    source: bytes = b""
    only_at: Token | None = None
    version: int | None = None
    ending: str = ""

    @property
    def fenced(self) -> bool:
        return self.op == "create" or self.only_at is not None or self.version is not None

    def lines(self) -> list[bytes]:
        # Without `require_alias`, writing to an index that was deleted would make one with a guessed mapping.
        name = stored_id(self.name) + self.ending
        action: dict[str, Any] = {"_index": self.index, "_id": name, "require_alias": True}
        if self.only_at is not None:
            action |= {"if_seq_no": self.only_at.seq_no, "if_primary_term": self.only_at.term}
        elif self.op == "update":
            action["retry_on_conflict"] = 3
        if self.version is not None:
            action |= {"version": self.version, "version_type": "external_gte"}
        line = orjson.dumps({self.op: action})
        return [line, self.source] if self.source else [line]

    def size(self) -> int:
        """Bytes, about: those of the action line are guessed."""
        return len(self.source) + len(self.name) + 120


def index_item(doc_id: str, index: str, name: str, source: Mapping[str, Any]) -> Item:
    return Item(doc_id, "index", index, name, spelled(source))


def spelled(fields: Mapping[str, Any]) -> bytes:
    """As JSON. Numbers of a vector, an array of float32, have the fewest digits that give them back: half the bytes."""
    try:
        return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # a whole number of more than 64 bits, which only Python's own writer takes
        return json.dumps(fields, default=lambda array: array.tolist()).encode()


def amend_item(doc_id: str, index: str, name: str, fields: Mapping[str, Any]) -> Item:
    """Set these fields of a document that is there; one that is not is refused as `MISSING`."""
    return Item(doc_id, "update", index, name, spelled({"doc": fields}))


class Bulk:
    """Sends items, which may overtake each other.

    `budget` bounds the seconds spent on trying busy items again: for a server that takes nothing over all who share it,
    for some items that it does not take per call of `send`.
    `conflicts` are the documents of which a fenced item was refused; `tokens` the states that fenced items have made,
    by document, the last one's of each.
    """

    def __init__(self, client: Elasticsearch, address: str, budget: Budget) -> None:
        # Items are idempotent, so what broke off is sent again: by us, with pauses.
        self._client = client.options(retry_on_timeout=False, max_retries=0, retry_on_status=())
        self._address = address
        self._budget = budget
        self.conflicts: set[str] = set()
        self.tokens: dict[str, Token] = {}

    def send(self, items: Iterable[Item]) -> dict[str, str]:
        """Reasons by document id, for documents of which an item failed.

        Raises `IndexUnavailable` when the server is full or has lost the index.
        """
        errors: dict[str, str] = {}
        deadline = time.monotonic() + self._budget.seconds
        chunks = _chunks(items)
        first, second = next(chunks, []), next(chunks, [])
        if not second:
            return self._sent(first, deadline)
        waiting: deque[Future[dict[str, str]]] = deque()
        with ThreadPoolExecutor(_REQUESTS, "citewell-bulk") as pool:
            for chunk in itertools.chain([first, second], chunks):
                waiting.append(pool.submit(self._sent, chunk, deadline))
                if len(waiting) > _REQUESTS:
                    errors |= waiting.popleft().result()
            for sent in waiting:
                errors |= sent.result()
        return errors

    def _sent(self, pending: list[Item], deadline: float) -> dict[str, str]:
        """Send one request until nothing in it has to be tried again."""
        errors: dict[str, str] = {}
        patience = Patience(deadline, self._budget)
        while pending:
            before = len(pending)
            pending, failed, busy = self._once(pending)
            self._budget.took(len(pending) < before)
            errors |= failed
            if pending and not patience.lasts():
                return errors | {item.doc_id: Later(f"the server stayed busy: {busy}") for item in pending}
        return errors

    def _once(self, items: list[Item]) -> tuple[list[Item], dict[str, str], str]:
        """Send once: the items that the server was too busy for, reasons by document, why it was busy."""
        from elastic_transport import ApiError, TransportError

        lines: list[Any] = [line for item in items for line in item.lines()]
        with translated(self._address):
            try:
                answer = self._client.bulk(operations=lines)
            except (ApiError, TransportError) as error:
                if reason := passing(error):
                    return items, {}, reason
                if isinstance(error, ApiError) and error.meta.status == 413:
                    return self._halves(items)
                raise
        again: list[Item] = []
        errors: dict[str, str] = {}
        busy = ""
        for item, outcome in zip(items, answer["items"], strict=True):
            result = outcome[item.op]
            status, fault = int(result["status"]), result.get("error") or {}
            if not fault:  # also a delete of what is not there
                if item.fenced:
                    self.tokens[item.doc_id] = Token(int(result["_seq_no"]), int(result["_primary_term"]))
                continue
            if item.fenced and fault.get("type") == _CONFLICT:
                self.conflicts.add(item.doc_id)
                continue
            blocked = fault.get("type") == "cluster_block_exception" and status != 503
            if blocked or fault.get("type") == "index_not_found_exception":
                raise from_answer(self._address, status, fault)
            if status in _BUSY:
                again.append(item)
                busy = explain(fault)
            else:
                errors[item.doc_id] = f"Elasticsearch refused it ({fault.get('type')}): {explain(fault)}"
        return again, errors, busy

    def _halves(self, items: list[Item]) -> tuple[list[Item], dict[str, str], str]:
        """A server or proxy with a lower limit than ours: send less at a time."""
        if len(items) == 1:
            return [], {items[0].doc_id: f"{items[0].size()} bytes are more than the server takes in one request"}, ""
        middle = len(items) // 2
        again, errors, busy = self._once(items[:middle])
        more_again, more_errors, more_busy = self._once(items[middle:])
        return again + more_again, errors | more_errors, busy or more_busy


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    size = 0
    for item in items:
        if chunk and size + item.size() > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size()
    if chunk:
        yield chunk
