"""Finding a JDK that can run Elasticsearch and build its plugin."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers import environment
from tests.servers.accounts import Account
from tests.servers.errors import ServerUnavailableError

OLDEST_JAVA = 21
_INSTALLED = Path("/usr/lib/jvm")
# The server asks for these at start; packages named "headless JRE" often lack them.
_MODULES = ("jdk.incubator.vector", "jdk.jdi", "jdk.jlink")


def find_jdk(account: Account) -> Path:
    """The home of a JDK that `account` can run: JAVA_HOME, then PATH, then /usr/lib/jvm.

    Raises:
        ServerUnavailableError: none fits; the text tells what was wrong with each one found.
    """
    refused = []
    for home in dict.fromkeys(_candidates()):
        fault = _fault(home, account)
        if fault is None:
            return home
        refused.append(f"{home} ({fault})")
    raise ServerUnavailableError(
        f"no JDK of version {OLDEST_JAVA} or later found; install one or set JAVA_HOME. "
        f"Looked at: {', '.join(refused) or 'JAVA_HOME, PATH and /usr/lib/jvm, all empty'}"
    )


def _candidates() -> Iterator[Path]:
    named = environment.java_home()
    if named:
        yield named.resolve()
    compiler = shutil.which("javac")
    if compiler:
        yield Path(compiler).resolve().parent.parent
    if _INSTALLED.is_dir():
        # Ascending: the oldest version that fits is the one the server supports the longest.
        yield from sorted({home.resolve() for home in _INSTALLED.iterdir()}, key=_number)


def _number(home: Path) -> tuple[int, str]:
    found = re.search(r"\d+", home.name)
    return (int(found.group()) if found else 0, home.name)


def _fault(home: Path, account: Account) -> str | None:
    missing = [tool for tool in ("java", "javac") if not (home / "bin" / tool).exists()]
    if missing:
        return f"lacks {', '.join(missing)}"
    listing = subprocess.run(
        account.command(str(home / "bin" / "java"), "--list-modules"),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    modules = dict(line.partition("@")[::2] for line in listing.stdout.split())
    found = re.match(r"\d+", modules.get("java.base", ""))
    if listing.returncode != 0 or found is None:
        return f"does not run as user {account.user}" if account.user else "does not run"
    if int(found.group()) < OLDEST_JAVA:
        return f"is version {found.group()}"
    absent = [module for module in _MODULES if module not in modules]
    return f"lacks module {', '.join(absent)}" if absent else None
