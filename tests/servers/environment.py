"""Every environment variable that the test servers read, in one place.

CITEWELL_TEST_ELASTICSEARCH_URL  a running Elasticsearch to use instead of starting one
CITEWELL_TEST_REDIS_URL          a running Redis to use instead of starting one
CITEWELL_TEST_POSTGRESQL_URL     a running PostgreSQL to use instead of starting one
CITEWELL_TEST_CACHE              where the Elasticsearch distribution and the prepared node are kept
CITEWELL_REQUIRE_SERVERS         1: a missing server fails the tests that need it, instead of a skip

`XDG_CACHE_HOME`, `JAVA_HOME` and `PATH` have their usual meaning.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SERVER_URL_VARIABLES: Mapping[str, str] = {
    "elasticsearch": "CITEWELL_TEST_ELASTICSEARCH_URL",
    "redis": "CITEWELL_TEST_REDIS_URL",
    "postgresql": "CITEWELL_TEST_POSTGRESQL_URL",
}
CACHE_VARIABLE = "CITEWELL_TEST_CACHE"
REQUIRE_VARIABLE = "CITEWELL_REQUIRE_SERVERS"


def server_url(kind: str) -> str | None:
    """The address that the environment gives for one kind of server; None when unset."""
    return os.environ.get(SERVER_URL_VARIABLES[kind]) or None


def servers_required() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get(REQUIRE_VARIABLE, "") == "1"


def cache_directory() -> Path:
    """Where downloads and prepared nodes live, outside the checkout.

    Root gets a place in /var/cache: the node runs as another user, who cannot enter root's home.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    if os.geteuid() == 0:
        return Path("/var/cache/citewell-tests")
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "citewell-tests"


def java_home() -> Path | None:
    """The JDK that JAVA_HOME names; None when unset."""
    value = os.environ.get("JAVA_HOME")
    return Path(value) if value else None


def child_environment(**extra: str) -> dict[str, str]:
    """A small environment for a server: nothing of the caller's but PATH, so every run is alike."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **extra}
