"""The user that a server runs as: Elasticsearch and PostgreSQL refuse root, so root lends them an account."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import ServerUnavailableError

NODE_USER = "citewell-es"


@dataclass(frozen=True)
class Account:
    """Who runs a server. `user` is None for the current user, who is not root."""

    user: str | None

    def command(self, *words: str) -> list[str]:
        """The command line that runs these words as this account."""
        if self.user is None:
            return list(words)
        return ["runuser", "-u", self.user, "--", *words]

    def own(self, directory: Path) -> None:
        """Give the directory and everything under it to this account."""
        if self.user is None:
            return
        for parent, directories, files in os.walk(directory):
            for name in (".", *directories, *files):
                shutil.chown(Path(parent) / name, self.user, self.user)

    def require_access(self, path: Path) -> None:
        """Raise ServerUnavailableError unless this account can read the path."""
        test = self.command("test", "-r", str(path))
        if subprocess.run(test, capture_output=True, check=False).returncode != 0:
            raise ServerUnavailableError(
                f"user {self.user or 'running the tests'} cannot read {path}; choose a cache and "
                "a temporary directory (CITEWELL_TEST_CACHE, TMPDIR) that every user may enter"
            )


def node_account(server: str = "Elasticsearch") -> Account:
    """The account for a server; root makes the user `citewell-es` on first use.

    Raises:
        ServerUnavailableError: we are root, and the machine cannot make or become another user.
    """
    if os.geteuid() != 0:
        return Account(None)
    if shutil.which("runuser") is None:
        raise ServerUnavailableError(
            f"{server} refuses to run as root and runuser is not installed; run the tests as another user"
        )
    if not _exists(NODE_USER):
        _make(NODE_USER, server)
    return Account(NODE_USER)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:  # the answer: no such user yet
        return False
    return True


def _make(user: str, server: str) -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--shell", "/usr/sbin/nologin", user]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if _exists(user):  # another test run made it at the same moment
            return
        detail = getattr(error, "stderr", None) or error
        raise ServerUnavailableError(
            f"{server} refuses to run as root and user {user} could not be made "
            f"({str(detail).strip()}); run the tests as another user"
        ) from error
