"""One database a test, in Redis or PostgreSQL, on a server that other runs may use at the same time."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

from tests.servers.errors import ServerError

_CLAIM = "citewell-tests:database:{number}"
_OURS = "citewell-tests:databases"
_CLAIM_SECONDS = 3600


@contextmanager
def claimed_database(server_url: str) -> Iterator[str]:
    """The address of an empty database that no other test has; emptied again at the end.

    Claims are kept in database 0. A database with data that no test has put there is left alone.

    Raises:
        ServerError: every database is claimed or in use.
    """
    with redis.Redis.from_url(_database_url(server_url, 0), decode_responses=True) as registry:
        number = _claim(registry, server_url)
        address = _database_url(server_url, number)
        try:
            _empty(address)
            yield address
            _empty(address)
        finally:
            registry.delete(_CLAIM.format(number=number))


@contextmanager
def made_database(server_url: str) -> Iterator[str]:
    """The address of an empty PostgreSQL database with a name of its own; dropped at the end with who is in it."""
    name = f"citewell_test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _claim(registry: redis.Redis, server_url: str) -> int:
    token = secrets.token_hex(8)
    setting = cast(dict[str, str], registry.config_get("databases"))
    count = int(setting["databases"])
    for number in range(1, count):
        claim = _CLAIM.format(number=number)
        if not registry.set(claim, token, nx=True, ex=_CLAIM_SECONDS):
            continue
        if registry.sismember(_OURS, str(number)) or _is_empty(_database_url(server_url, number)):
            registry.sadd(_OURS, str(number))
            return number
        registry.delete(claim)
    raise ServerError(
        f"none of the {count - 1} Redis databases is free: each has data of somebody else's, or a "
        "claim less than an hour old; give the tests a Redis of their own"
    )


def _is_empty(address: str) -> bool:
    with redis.Redis.from_url(address) as client:
        return bool(client.dbsize() == 0)


def _empty(address: str) -> None:
    with redis.Redis.from_url(address) as client:
        client.flushdb()


def _database_url(server_url: str, number: int) -> str:
    return urlsplit(server_url)._replace(path=f"/{number}").geturl()
