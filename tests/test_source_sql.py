"""Databases as sources, on SQLite and on a real PostgreSQL: rows, increments, and everything that can be wrong."""

from __future__ import annotations

import datetime
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from citewell.errors import BadInput
from citewell.ingest.sources import Known, Limits, SourceOptions, incomplete, open_source
from citewell.records import Document, Outcome
from tests.servers.fixtures import LocalServer
from tests.servers.postgresql import PostgresqlServer

LIMITS = Limits(file_bytes=100_000, text_characters=2_000)
NOTHING = Known()
SELECT = "select id, title, body, section, updated from articles"


class Database:
    """A database with the table `articles`, written to by the test and read by the source."""

    def __init__(self, url: str) -> None:
        self.url = url
        driver = url.replace("postgresql:", "postgresql+psycopg:")
        self.engine = sqlalchemy.create_engine(driver, poolclass=sqlalchemy.NullPool)
        self.run("create table articles (id integer, title text, body text, section text, updated integer)")

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def fill(self, count: int, first: int = 1) -> None:
        rows = [
            {"id": n, "title": f"T{n}", "body": f"Body {n}.", "section": "a", "updated": n}
            for n in range(first, first + count)
        ]
        columns = ", ".join(f":{name}" for name in rows[0])
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.text(f"insert into articles values ({columns})"), rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path / 'shop.db'}")
    else:
        yield Database(request.getfixturevalue("postgresql_db_url"))


def read(url: str, query: str = SELECT, known: Known = NOTHING, **options: Any) -> tuple[list[Document], list[Outcome]]:
    items = list(open_source(url, LIMITS, SourceOptions(query=query, **options)).items(known, lambda _: None))
    return [i for i in items if isinstance(i, Document)], [i for i in items if isinstance(i, Outcome)]


def knows(documents: list[Document]) -> Known:
    return Known(revisions=lambda: (document.revision for document in documents))


def test_rows_become_documents_with_other_columns_as_metadata(database: Database) -> None:
    database.fill(3)
    documents, failures = read(database.url)
    assert not failures
    assert sorted(documents, key=lambda d: d.id)[0] == Document(
        id="1", title="T1", text="Body 1.", metadata={"section": "a", "updated": 1}
    )
    assert len(documents) == 3


def test_columns_are_mapped_by_name(database: Database) -> None:
    database.run("insert into articles values (7, 'https://x/7', 'Chosen.', 'es', 1)")
    query = "select id as number, title as link, body as words, section, 'left' as text, 'a|b' as groups from articles"
    columns = (("id", "number"), ("text", "words"), ("url", "link"), ("lang", "section"))
    documents, failures = read(database.url, query, columns=columns)
    assert not failures
    assert documents == [
        Document(id="7", text="Chosen.", url="https://x/7", lang="es", metadata={"text": "left"}, groups=("a", "b"))
    ]


def test_a_query_with_colons_percents_and_comments_is_run_as_it_is(database: Database) -> None:
    database.fill(1)
    query = """-- what :the /* shop
    /* :sells */ select id, body, '12:30 100% :x' as note, 7 % 4 as rest
    from articles where title like 'T%' -- :end
    ;"""
    for since in ("", "rest"):
        (document,), failures = read(database.url, query, since=since)
        assert not failures
        assert document.metadata == {"note": "12:30 100% :x", "rest": 3}


def test_only_what_is_new_is_asked_for(database: Database) -> None:
    database.fill(5)
    first, failures = read(database.url, since="updated")
    assert not failures
    assert [d.revision for d in first] == [f"number:{n}" for n in range(1, 6)], "in the column's order"
    database.fill(2, first=6)
    database.run("update articles set body = 'New.', updated = 8 where id = 2", "delete from articles where id = 1")
    database.run("insert into articles values (99, '', 'No time.', '', null)")
    second, failures = read(database.url, known=knows(first), since="updated")
    assert not failures
    assert sorted(d.id for d in second) == ["2", "5", "6", "7", "99"], "the greatest itself, and what has no value"
    assert [d.text for d in second if d.id == "2"] == ["New."]
    everything = Known(revisions=lambda: (d.revision for d in first), unfinished=lambda: True)
    assert len(read(database.url, known=everything, since="updated")[0]) == 7


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("timestamptz", ["2026-01-01 10:00:00+02", "2026-01-01 09:00:00+00", "2026-01-01 09:00:00.000001+00"]),
        ("timestamp", ["2026-01-01 10:00:00", "2026-01-01 10:00:00.5", "2026-01-02"]),
        ("date", ["2025-12-31", "2026-01-01", "2026-02-01"]),
        ("numeric", ["2", "10", "10.000000000000000000001"]),
        ("double precision", ["-1", "2.5", "10"]),
        ("text", ["10", "2", "b"]),
    ],
)
def test_the_greatest_is_found_by_type(postgresql_db_url: str, kind: str, values: list[str]) -> None:
    database = Database(postgresql_db_url)
    rows = ", ".join(f"('{n}', 'Body.', '{value}'::{kind})" for n, value in enumerate(values))
    query = f"select * from (values {rows}) as t(id, body, stamp)"
    documents, failures = read(database.url, query, since="stamp")
    assert not failures
    assert [d.id for d in documents] == ["0", "1", "2"]
    again, failures = read(database.url, query, known=knows(documents), since="stamp")
    assert not failures
    assert [d.id for d in again] == ["2"]
    again, _ = read(database.url, query, known=knows(documents[:2]), since="stamp")
    assert [d.id for d in again] == ["1", "2"]


def test_kinds_of_values_that_do_not_compare_mean_everything(database: Database) -> None:
    database.fill(3)
    known = Known(revisions=lambda: iter(["number:3", "text:a"]))
    assert len(read(database.url, known=known, since="updated")[0]) == 3
    tags = Known(revisions=lambda: iter(['{"etag": "x"}', "", "number:x", "number:2"]))
    assert [d.id for d in read(database.url, known=tags, since="updated")[0]] == ["2", "3"]


def test_values_become_json(postgresql_db_url: str) -> None:
    query = """select 1 as id, 'Text.' as text, date '2026-01-31' as day, timestamptz '2026-01-31 10:00+00' as moment,
        12.50 as price, 12.00 as whole, '{"a": [1, null]}'::jsonb as more, array['x', 'y'] as list, true as yes,
        '00000000-0000-0000-0000-000000000001'::uuid as mark, inet '10.0.0.1' as address, null as nothing,
        interval '90 seconds' as took, '{"lang": "inner", "price": 1}'::jsonb as metadata"""
    (document,), failures = read(postgresql_db_url, query)
    assert not failures
    moment = document.metadata.pop("moment")  # in the zone of the session
    assert datetime.datetime.fromisoformat(moment) == datetime.datetime(2026, 1, 31, 10, tzinfo=datetime.UTC)
    assert document.metadata == {
        **{"lang": "inner", "day": "2026-01-31", "price": 12.5, "whole": 12},
        **{"more": {"a": [1, None]}, "list": ["x", "y"], "yes": True, "mark": str(uuid.UUID(int=1))},
        **{"address": "10.0.0.1", "took": 90.0},
    }


def test_a_bad_row_costs_itself_alone(database: Database) -> None:
    database.fill(2)
    long = "x" * 3000
    database.run(
        "insert into articles values (null, 'n', 'No id.', '', 3)",
        "insert into articles values (4, 'e', null, '', 4)",
        f"insert into articles values (5, 'l', '{long}', '', 5)",
        "insert into articles values (6, 'after', 'After.', '', 6)",
    )
    documents, failures = read(database.url, SELECT + " order by updated")
    assert [d.id for d in documents] == ["1", "2", "6"]
    assert [(f.doc_id, f.reason.partition(",")[0]) for f in failures] == [
        ("row 3", "the column `id` holds None"),
        ("4", "the document has no text"),
        ("5", "the text has 3000 characters"),
    ]
    assert all(
        f.remedy
        and f.source == open_source(database.url, LIMITS, SourceOptions(query=SELECT + " order by updated")).name
        for f in failures
    )


@pytest.mark.parametrize(
    ("column", "reason"),
    [("x'00ff' as photo", "the column `photo` holds bytes"), ("1e999 as ratio", "the column `ratio` holds float inf")],
)
def test_values_without_a_word_in_json_are_refused_by_name(tmp_path: Path, column: str, reason: str) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")
    database.fill(1)
    documents, (failure,) = read(database.url, f"select id, body, {column} from articles")
    assert not documents
    assert failure.doc_id == "1"
    assert reason in failure.reason


def test_bytes_of_postgresql_and_text_that_is_no_text(postgresql_db_url: str) -> None:
    query = r"select 1 as id, 'T.' as body, '\x00'::bytea as photo union all select 2, 'U.', null"
    documents, (failure,) = read(postgresql_db_url, query)
    assert [d.id for d in documents] == ["2"]
    assert "`photo` holds bytes" in failure.reason
    _, (failure,) = read(postgresql_db_url, "select 1 as id, 5 as body")
    assert "`body` holds int, not text" in failure.reason


def test_text_that_is_no_utf8_spoils_its_own_row(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")
    database.fill(1)
    database.run("insert into articles values (2, '', cast(x'636166e9' as text), '', 2)")
    database.fill(1, first=3)
    documents, (failure,) = read(database.url)
    assert [d.id for d in documents] == ["1", "3"]
    assert (failure.doc_id, "no Unicode" in failure.reason) == ("2", True)


@pytest.mark.parametrize(
    ("query", "options", "reason"),
    [
        ("select title, body from articles", {}, "no column for `id`: it has `title`, `body`"),
        ("select id, title from articles", {}, "no column for `text`: it has `id`, `title`"),
        ("select id, body from articles", {"columns": (("text", "bodie"),)}, "mapped to the column `bodie`"),
        ("select id, body, body from articles", {}, "two columns named `body`"),
        ("select id, body from absent", {}, "absent"),
        ("select id, body from articles where", {}, "refuses the query"),
        ("select id, body from articles", {"since": "updated"}, "updated"),
    ],
)
def test_a_query_that_cannot_be_used_is_one_failure_of_the_source(
    database: Database, query: str, options: dict[str, Any], reason: str
) -> None:
    database.fill(2)
    documents, (failure,) = read(database.url, query, **options)
    name = open_source(database.url, LIMITS, SourceOptions(query=query, **options)).name
    assert not documents
    assert incomplete(failure, name)
    assert reason in failure.reason
    assert failure.code == "bad_input"
    assert failure.remedy


def test_a_since_column_that_is_not_selected(database: Database) -> None:
    database.fill(1)
    _, (failure,) = read(database.url, "select id, body, updated as u from articles", since="U")
    assert "U" in failure.reason


@pytest.mark.parametrize(
    "query",
    ["delete from articles", "update articles set id = 1", "-- select\ndrop table articles", "pragma x", "", "; "],
)
def test_only_a_select_is_run(query: str) -> None:
    with pytest.raises(BadInput) as raised:
        open_source("sqlite:///x.db", LIMITS, SourceOptions(query=query))
    assert "--query" in raised.value.remedy or "select" in raised.value.remedy


def test_a_select_that_writes_is_refused_by_the_database(postgresql_db_url: str) -> None:
    database = Database(postgresql_db_url)
    database.fill(2)
    query = "with gone as (delete from articles returning *) select id, body from gone"
    documents, (failure,) = read(database.url, query)
    assert not documents
    assert failure.code == "bad_input"
    database.run("create function wipe() returns integer language sql as 'delete from articles; select 1'")
    _, (failure,) = read(database.url, "select wipe() as id, 'x' as body")
    assert "read-only" in failure.reason
    assert len(read(database.url)[0]) == 2
    _, (failure,) = read(database.url, "select id, body from articles; drop table articles")
    assert failure.code == "bad_input"
    assert len(read(database.url)[0]) == 2


def test_sqlite_is_opened_for_reading_and_never_made(tmp_path: Path) -> None:
    missing = tmp_path / "absent.db"
    _, (failure,) = read(f"sqlite:///{missing}")
    assert failure.code == "source_unavailable"
    assert "unable to open" in failure.reason
    assert not missing.exists()
    (tmp_path / "no.db").write_bytes(b"no database at all" * 100)
    _, (failure,) = read(f"sqlite:///{tmp_path / 'no.db'}")
    assert "not a database" in failure.reason


def test_an_unknown_kind_and_a_missing_driver() -> None:
    with pytest.raises(BadInput, match="`mongodb://` is no kind of source"):
        open_source("mongodb://host/db", LIMITS, SourceOptions(query=SELECT))
    with pytest.raises(BadInput, match="is no address of a database") as raised:
        open_source("postgresql://u:p4ssw0rd@host:port/db", LIMITS, SourceOptions(query=SELECT))
    assert "p4ssw0rd" not in str(raised.value)
    _, (failure,) = read("mysql+pymysql://u:p4ssw0rd@127.0.0.1/db")
    assert failure.code == "missing_dependency"
    assert failure.remedy == "Install it: pip install pymysql."


def test_options_that_contradict_or_mean_nothing() -> None:
    with pytest.raises(BadInput, match="cannot tell which were deleted"):
        SourceOptions(query=SELECT, since="updated", sync=True)
    with pytest.raises(BadInput, match="files and folders take no `query`"):
        open_source("folder", LIMITS, SourceOptions(query=SELECT))


def test_no_password_is_ever_shown(postgresql_db_url: str, caplog: pytest.LogCaptureFixture) -> None:
    wrong = postgresql_db_url.replace("citewell:", "nobody:s3cr3t%2Fword-", 1) + "?sslpassword=h1dden"
    source = open_source(wrong, LIMITS, SourceOptions(query=SELECT))
    (failure,) = source.items(Known(), lambda _: None)
    assert isinstance(failure, Outcome)
    assert failure.code == "source_unavailable"
    assert "password authentication failed" in failure.reason
    assert failure.doc_id == source.name
    told = f"{source.name} {failure} {source!r} {caplog.text}"
    for secret in ("s3cr3t", "h1dden", postgresql_db_url.split(":")[2].split("@", maxsplit=1)[0]):
        assert secret not in told


def test_the_name_is_the_same_at_every_run_and_tells_queries_apart(tmp_path: Path) -> None:
    def name(url: str, query: str = SELECT) -> str:
        return open_source(url, LIMITS, SourceOptions(query=query)).name

    assert name("postgresql://u:p@h/db") == name("postgresql+psycopg://other:q@h/db", f" {SELECT}\n;")
    assert name("postgresql://h/db") != name("postgresql://h/db", SELECT + " where true")
    assert name(f"sqlite:///{tmp_path}/a.db").startswith(f"sqlite:///{tmp_path}/a.db#")
    assert name("sqlite:///a.db").startswith(f"sqlite:///{Path.cwd()}/a.db#")


def test_a_connection_that_is_lost_half_way(local_postgresql: LocalServer[PostgresqlServer]) -> None:
    server = local_postgresql()
    database = Database(server.url)
    database.fill(5000)
    source = open_source(server.url, LIMITS, SourceOptions(query=SELECT, since="updated"))
    items = source.items(Known(), lambda _: None)
    loaded = [next(items) for _ in range(300)]
    server.kill()
    rest = list(items)
    failure = rest[-1]
    documents = [item for item in [*loaded, *rest] if isinstance(item, Document)]
    assert isinstance(failure, Outcome)
    assert incomplete(failure, source.name)
    assert failure.code == "source_unavailable"
    assert f"was lost after {len(documents)} rows" in failure.reason
    assert 300 <= len(documents) < 5000
    (down,) = list(source.items(Known(), lambda _: None))
    assert isinstance(down, Outcome)
    assert (down.code, down.doc_id) == ("source_unavailable", source.name)
    server.start()
    again, failures = read(server.url, known=knows(documents), since="updated")
    assert not failures
    assert {d.id for d in [*documents, *again]} == {str(n) for n in range(1, 5001)}
    assert len(again) == 5000 - len(documents) + 1


def test_a_session_that_an_operator_ends(postgresql_db_url: str) -> None:
    database = Database(postgresql_db_url)
    database.fill(2000)
    source = open_source(postgresql_db_url, LIMITS, SourceOptions(query=SELECT))
    items = source.items(Known(), lambda _: None)
    next(items)
    database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'citewell' and datname = current_database()"
    )
    last = list(items)[-1]
    assert isinstance(last, Outcome)
    assert last.code == "source_unavailable"


def test_a_reader_that_stops_leaves_no_session(postgresql_db_url: str) -> None:
    database = Database(postgresql_db_url)
    database.fill(1000)
    items = open_source(postgresql_db_url, LIMITS, SourceOptions(query=SELECT)).items(Known(), lambda _: None)
    next(items)
    sessions = (
        "select count(*) from pg_stat_activity where application_name = 'citewell' and datname = current_database()"
    )
    with psycopg.connect(postgresql_db_url, autocommit=True) as connection:
        assert connection.execute(sessions).fetchone() == (1,)
        items.close()  # type: ignore[attr-defined]
        assert connection.execute(sessions).fetchone() == (0,)


READER = """
import resource, sys
from citewell.ingest.sources import Known, Limits, SourceOptions, open_source
source = open_source(sys.argv[1], Limits(10**6, 10**6), SourceOptions(query=sys.argv[2]))
items = source.items(Known(), lambda _: None)
for _ in range(1000):
    next(items)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 1000 + sum(1 for _ in items)
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted in KiB there alone")
@pytest.mark.parametrize("since", [False, True])
def test_memory_is_flat(database: Database, since: bool) -> None:
    """100,000 rows of 4 KB are 400 MB; reading them takes less than 40 MiB more than the first 1,000 did."""
    rows = "select n as id, %s as body from {} where n <= 100000"
    if database.url.startswith("sqlite"):
        series = "(with recursive s(n) as (select 1 union all select n + 1 from s where n < 100000) select n from s)"
        query = rows % "hex(zeroblob(2000)) || n"
    else:
        series = "generate_series(1, 100000) as n"
        query = rows % "repeat('text', 1000) || n"
    reader = READER.replace("query=sys.argv[2]", "query=sys.argv[2], since='id'" if since else "query=sys.argv[2]")
    words = [sys.executable, "-c", reader, database.url, query.format(series)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=250)
    count, grown = map(int, done.stdout.split())
    assert count == 100_000
    assert grown < 40, f"{grown} MiB"
