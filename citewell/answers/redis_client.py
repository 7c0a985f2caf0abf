"""The connection to Redis, and its errors in the product's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from citewell.errors import StoreUnavailable, Unavailable

_TIMEOUT_S = 5.0


def address_of(url: str) -> str:
    """The address in a Redis URL, without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str) -> redis.Redis:
    """A client that gives up within seconds; opens its first connection on first use."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 1),
    )


@contextmanager
def translated(url: str, what: str, error: type[Unavailable] = StoreUnavailable) -> Iterator[None]:
    """Turn redis-py's exceptions into ours, naming the action and the address."""
    try:
        yield
    except redis.exceptions.AuthenticationError as cause:
        raise error(
            f"Redis at {address_of(url)} refused the login and could not {what}: {cause}",
            remedy="Correct user and password in the setting `redis_url`.",
        ) from cause
    except (redis.RedisError, OSError) as cause:
        if "maxmemory" in str(cause):  # within a transaction it is no OutOfMemoryError
            raise error(
                f"Redis at {address_of(url)} is full and could not {what}",
                remedy="Give Redis more memory (maxmemory), or shorten the setting `answer_ttl`.",
            ) from cause
        raise error(
            f"Redis at {address_of(url)} could not {what}: {type(cause).__name__}: {cause}",
            remedy="Check that Redis runs and that the setting `redis_url` names it, then try again.",
        ) from cause
