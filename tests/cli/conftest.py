"""One load of the example shop for all tests of the command line, and empty folders for those that write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import SHOP, Terminal


@pytest.fixture(scope="session")
def shop_load(tmp_path_factory: pytest.TempPathFactory) -> tuple[Terminal, Any]:
    """The folder with the shop in it, and what the load printed."""
    terminal = Terminal(tmp_path_factory.mktemp("shop") / "data")
    return terminal, terminal.json("ingest", str(SHOP))


@pytest.fixture
def shop(shop_load: tuple[Terminal, Any]) -> Terminal:
    """Questions alone go here: documents of other tests would change what it answers."""
    return shop_load[0]


@pytest.fixture(scope="session")
def english_shop(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """The shop under the embedder that speaks English alone."""
    terminal = Terminal(tmp_path_factory.mktemp("english") / "data", embedder="packaged")
    terminal.run("ingest", str(SHOP))
    return terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path / "data")
