"""The closing lines of a run: which servers were used, and what was skipped for want of one."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests.servers.choice import ChosenServer
from tests.servers.errors import ServerUnavailableError


@dataclass
class ServerReport:
    """Filled by the fixtures as servers are chosen or found missing."""

    used: list[ChosenServer] = field(default_factory=list)
    missing: dict[str, ServerUnavailableError] = field(default_factory=dict)

    def lines(self, skip_reasons: list[str]) -> list[str]:
        """What to print, given the reason of every skipped test; pure."""
        told = [str(server) for server in self.used]
        for reason, count in Counter(skip_reasons).items():
            if reason in self.missing:
                noun = "test" if count == 1 else "tests"
                told.append(f"{count} {noun} skipped: {self.missing[reason]}")
        return told


SERVER_REPORT = pytest.StashKey[ServerReport]()


def write_summary(terminal: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report; nothing when no test asked for a server."""
    skipped = [report.longrepr for report in terminal.stats.get("skipped", [])]
    reasons = [where[2].removeprefix("Skipped: ") for where in skipped if isinstance(where, tuple)]
    lines = config.stash[SERVER_REPORT].lines(reasons)
    if lines:
        terminal.section("servers")
        for line in lines:
            terminal.line(line)
