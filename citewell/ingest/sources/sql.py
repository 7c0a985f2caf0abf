"""The rows of a database's query, by SQLAlchemy: `postgresql://host/shop` with `select id, title, body …`.

Rows come through a cursor on the server, so memory is flat. The transaction is read-only and nothing is committed.
With `since` the query is asked for the rows at or above the greatest value that is known of that column, and in its
order: a load that was killed has then loaded everything below what it loaded last.
"""

from __future__ import annotations

import contextlib
import decimal
import hashlib
import re
import sqlite3
import urllib.parse
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell.errors import BadInput, CitewellError, InvalidDocument, MissingDependency, SourceUnavailable
from citewell.ingest.sources import Item, Known, Limits, Tell, checked, failed, spelled
from citewell.ingest.sources.columns import Columns, choose_columns
from citewell.ingest.sources.options import SourceOptions
from citewell.ingest.sources.revisions import encode, greatest

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Executable, Select

_ROWS_AT_ONCE = 200
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_READS = ("select", "with", "values", "table")
_SECRET = ("pass", "secret", "token", "key")
# libpq's own words: a server that vanishes is noticed within about a minute.
_POSTGRESQL = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "citewell",
}


class SqlSource:
    """One query of one database. Its name has neither user nor password; `#` and a hash tell queries apart."""

    def __init__(self, address: str, limits: Limits, options: SourceOptions) -> None:
        self._url = _url(address)
        self._limits = limits
        self._options = options
        self._query = _select(options.query)
        self._name = _name(self._url, self._query)

    @property
    def name(self) -> str:
        return self._name

    @property
    def size(self) -> int:
        return 0

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        """The documents of the rows; a database that fails is one failure under the source's name, where it fails."""
        from sqlalchemy.exc import SQLAlchemyError

        count = 0
        try:
            engine = _engine(self._url)
            try:
                with engine.connect() as connection, contextlib.closing(self._rows(connection, known)) as rows:
                    for item in rows:
                        count += 1
                        yield item
            finally:
                engine.dispose()
        except CitewellError as error:
            yield failed(self.name, self.name, error)
        except SQLAlchemyError as error:
            yield failed(self.name, self.name, self._translated(error, count))

    def _rows(self, connection: Connection, known: Known) -> Generator[Item]:
        since = self._options.since
        floor = None if not since or known.unfinished() else greatest(known.revisions())
        streaming = connection.execution_options(stream_results=True, yield_per=_ROWS_AT_ONCE)
        with streaming.execute(self._statement(connection, floor)) as result:
            names = list(result.keys())
            columns = choose_columns(names, dict(self._options.columns))
            if since and since not in names:
                raise BadInput(
                    f"the query has no column `{since}` for `since`: it has {', '.join(names)}",
                    remedy="Select that column as well.",
                )
            for number, cells in enumerate(result, start=1):
                yield self._item(dict(zip(names, cells, strict=True)), columns, number)

    def _item(self, row: dict[str, Any], columns: Columns, number: int) -> Item:
        since, column = self._options.since, columns.of["id"]
        identity = columns.identity(row)
        try:
            if not identity:
                raise InvalidDocument(
                    f"the column `{column}` holds {row[column]!r:.60}, which is no id",
                    remedy="Select a column that is never null, as text or a whole number.",
                )
            revision = encode(row[since], since) if since else ""
            return checked(columns.document(row | {column: identity}, revision), self.name, self._limits)
        except CitewellError as error:
            return failed(identity or f"row {number}", self.name, error)

    def _statement(self, connection: Connection, floor: Any) -> Executable:
        from sqlalchemy import bindparam, column, literal_column, or_, select, text
        from sqlalchemy.types import NullType

        # A colon of the query is no parameter, and a comment at its end ends there.
        query = text(self._query.replace(":", r"\:") + "\n")
        since = self._options.since
        if not since:
            return query
        rows = query.columns(column(since)).subquery("citewell")
        statement: Select[Any] = select(literal_column("*")).select_from(rows).order_by(rows.c[since])
        if floor is None:
            return statement
        if isinstance(floor, decimal.Decimal):
            exact = floor == floor.to_integral_value()
            floor = int(floor) if exact else float(floor) if connection.dialect.name == "sqlite" else floor
        # Sent as it is: a cast to the type of the value here could miss the type of the column there.
        bound = rows.c[since] >= bindparam("floor", floor, NullType())
        # Rows without a value are asked for each time: nothing says whether they changed.
        return statement.where(or_(bound, rows.c[since].is_(None)))

    def _translated(self, error: Exception, count: int) -> CitewellError:
        """The driver's words without the statement, and without anything secret of the address."""
        from sqlalchemy.exc import DBAPIError

        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        words = _without_secrets(" ".join(str(cause).split())[:400], self._url)
        lost = isinstance(error, DBAPIError) and (error.connection_invalidated or _is_outage(cause))
        if lost and not count:
            return SourceUnavailable(f"the database {self._place} cannot be read: {words}")
        if lost:
            return SourceUnavailable(f"the database {self._place} was lost after {count} rows: {words}")
        return BadInput(
            f"the database {self._place} refuses the query: {words}", remedy="Mend the query; try it in its own shell."
        )

    @property
    def _place(self) -> str:
        return self._name.partition("#")[0]


def _url(address: str) -> URL:
    """The address, with `psycopg` as PostgreSQL's driver unless it names one. Connects to nothing."""
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError as error:
        raise MissingDependency(
            "reading a database needs SQLAlchemy", remedy="Install it: pip install 'citewell[sql]'."
        ) from error
    scheme = address.partition("://")[0]
    try:
        url = make_url(address)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except NoSuchModuleError:
        raise BadInput(
            f"`{scheme}://` is no kind of source",
            remedy="Give a file or folder, http(s)://, elasticsearch://, or a database that SQLAlchemy knows, such as "
            "postgresql:// or sqlite:///FILE.",
        ) from None
    except (ArgumentError, ValueError):  # its words repeat the address as given, with the password
        raise BadInput(
            f"what follows `{scheme}://` is no address of a database",
            remedy="Write postgresql://USER:PASSWORD@HOST/DATABASE, with special characters of the password as %XX.",
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith((":memory:", "file:")):
        url = url.set(database=str(Path(url.database).resolve()))
    return url


def _select(query: str) -> str:
    """The query without its closing semicolon; raises `BadInput` for anything but a SELECT."""
    if not query.strip():
        raise BadInput(
            "a database needs a query that says which rows are documents",
            remedy="Add it: --query 'select id, title, body from articles'.",
        )
    words = _COMMENTS.sub("", query).lstrip("( \t\r\n")
    first = re.match(r"\w*", words)
    if first is None or first[0].lower() not in _READS:
        raise BadInput(
            f"the query begins with `{first[0] if first and first[0] else words[:20]}`; only a SELECT is run",
            remedy="Give a query that reads: select … from ….",
        )
    return query.strip().rstrip(";").rstrip()


def _name(url: URL, query: str) -> str:
    digest = hashlib.sha256(" ".join(query.split()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host or ""
    place = f"{host}:{url.port}" if url.port else host
    return spelled(f"{url.get_backend_name()}://{place}/{url.database or ''}#{digest}")


def _engine(url: URL) -> Engine:
    """An engine whose connections only read."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    backend = url.get_backend_name()
    arguments: dict[str, Any] = {}
    if backend == "postgresql" and url.get_driver_name() in ("psycopg", "psycopg2"):
        arguments = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
    elif backend == "sqlite" and url.database and not url.database.startswith((":memory:", "file:")):
        # Opened as it is: SQLite would make a file that does not exist.
        url = url.set(database=f"file:{urllib.parse.quote(url.database)}", query={"mode": "ro", "uri": "true"})
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
    except ModuleNotFoundError as error:
        package = "'citewell[sql]'" if backend == "postgresql" else str(error.name)
        raise MissingDependency(
            f"reading {backend} needs the driver `{error.name}`", remedy=f"Install it: pip install {package}."
        ) from error
    if backend == "postgresql":
        return engine.execution_options(postgresql_readonly=True)
    if backend == "sqlite":
        event.listen(engine, "connect", _sqlite_reads)
    return engine


def _sqlite_reads(connection: Any, _: object) -> None:
    # Text that is no UTF-8 spoils its own row and not the rest.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    connection.execute("pragma query_only = on")


def _is_outage(cause: BaseException) -> bool:
    """Whether the server, and not the statement, is at fault, as far as the driver's class says."""
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError) and any(
            word in str(cause) for word in ("unable to open", "locked", "disk I/O", "malformed")
        )
    state = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
    # Classes of SQLSTATE: 08 connection, 28 authorization, 3D no such database, 53 resources, 57 operator, 58 system.
    return type(cause).__name__ in ("OperationalError", "InterfaceError", "AdminShutdown") and (
        not state or state[:2] in ("08", "28", "3D", "53", "57", "58")
    )


def _without_secrets(words: str, url: URL) -> str:
    parameters: Mapping[str, Any] = url.query
    secrets = [url.password, *(v for k, v in parameters.items() if any(word in k.lower() for word in _SECRET))]
    for secret in secrets:
        for spelling in (str(secret or ""), urllib.parse.quote(str(secret or ""), safe="")):
            if spelling:
                words = words.replace(spelling, "***")
    return words
