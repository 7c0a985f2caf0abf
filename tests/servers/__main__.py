"""`python -m tests.servers`: every server for development, until Ctrl-C.

Prints their addresses as shell exports; their data and logs are deleted at the end.
"""

import signal
import sys

from tests.servers.elasticsearch import ElasticsearchNode
from tests.servers.environment import SERVER_URL_VARIABLES
from tests.servers.errors import ServerError
from tests.servers.postgresql import PostgresqlServer
from tests.servers.processes import end_in_order_on_sigterm
from tests.servers.redis import RedisServer


def main() -> int:
    """Start, print, wait; the exit status is 1 when a server could not be started."""
    end_in_order_on_sigterm()
    try:
        with RedisServer() as redis, PostgresqlServer() as postgresql, ElasticsearchNode() as node:
            print(f"export {SERVER_URL_VARIABLES['elasticsearch']}={node.url}")
            print(f"export {SERVER_URL_VARIABLES['redis']}={redis.url}")
            print(f"export {SERVER_URL_VARIABLES['postgresql']}={postgresql.url}", flush=True)
            signal.pause()
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # how this command is meant to end
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
