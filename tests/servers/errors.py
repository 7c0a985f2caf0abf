"""What can go wrong with a test server.

ServerError
├── ServerUnavailableError  this machine lacks something the server needs: a visible skip
│   └── ServerStartError    the server was started and did not become ready: tells its log's tail
├── ServerUnreachableError  an address given by the environment does not answer: never a skip
└── ChecksumError           a file is not the pinned one: never a skip
"""


class ServerError(Exception):
    """Anything that keeps a test from its server. The text says what to do."""


class ServerUnavailableError(ServerError):
    """The machine lacks what the server needs.

    The first line of the text is the reason of the skip; tests are grouped by it.
    """

    @property
    def reason(self) -> str:
        """The first line of the text."""
        return str(self).partition("\n")[0]


class ServerStartError(ServerUnavailableError):
    """The server's process ended, or was not ready in time."""


class ServerUnreachableError(ServerError):
    """The address that the environment gives does not answer as that kind of server."""


class ChecksumError(ServerError):
    """A file differs from the one whose digest is pinned here; it is never used."""
