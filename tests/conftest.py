"""Fixtures and hooks that every test module shares."""

import pytest
import structlog

from tests.servers import fixtures
from tests.servers.processes import end_in_order_on_sigterm
from tests.servers.report import SERVER_REPORT, ServerReport, write_summary

compose_services = fixtures.compose_services
elasticsearch_url = fixtures.elasticsearch_url
index_name = fixtures.index_name
local_elasticsearch = fixtures.local_elasticsearch
local_postgresql = fixtures.local_postgresql
local_redis = fixtures.local_redis
postgresql_db_url = fixtures.postgresql_db_url
postgresql_url = fixtures.postgresql_url
redis_db_url = fixtures.redis_db_url
redis_url = fixtures.redis_url


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what the fixtures fill in, and stop servers even when the run is told to end."""
    config.stash[SERVER_REPORT] = ServerReport()
    # Log lines of background threads go where pytest shows them with a failure, not between its dots.
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), cache_logger_on_first_use=False)
    end_in_order_on_sigterm()


@pytest.hookimpl(trylast=True)  # after every plugin that drops or reorders tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first test that needs a server wait for downloads and images, too."""
    fixtures.extend_first_timeouts(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell which servers the run used, and what it skipped for want of one."""
    write_summary(terminalreporter, config)
