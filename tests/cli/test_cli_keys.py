"""Keys as an operator makes them, with the settings file that they end in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from citewell.config import load_settings
from citewell.keys import caller_of
from tests.cli.terminal import Terminal


def test_what_is_printed_is_what_the_settings_want(terminal: Terminal) -> None:
    made = terminal.run("keys", "new", "shop", "--scopes", "query, ingest", "--groups", 'staff,hr "x"')
    key = made.stdout.strip()
    assert len(key) > 40, "the key alone is on stdout"
    assert key not in made.stderr
    table = tomllib.loads(made.stderr.partition("citewell.toml:")[2])
    found = caller_of(key.encode(), "", load_settings(**table).keys)
    assert found is not None
    assert (found.name, found.scopes, found.groups) == ("shop", ("query", "ingest"), ('hr "x"', "staff"))
    assert caller_of(key[:-1].encode(), "", load_settings(**table).keys) is None


def test_each_key_is_another_one_and_json_has_it_whole(terminal: Terminal) -> None:
    made = [terminal.json("keys", "new", "shop") for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    for one in made:
        assert set(one) == {"name", "key", "hash", "scopes", "groups"}
        assert (one["scopes"], one["groups"]) == (["query"], [])


@pytest.mark.parametrize("words", [("shop", "--scopes", "all"), ("shop", "--scopes", ""), ("a b",), ("a.b",)])
def test_what_would_stop_the_service_is_refused_here(terminal: Terminal, words: tuple[str, ...]) -> None:
    error = terminal.json("keys", "new", *words, status=1)["error"]
    assert error["code"] == "config"
    assert error["remedy"]


def test_the_settings_show_no_key(terminal: Terminal, tmp_path: Path) -> None:
    made = terminal.json("keys", "new", "shop", "--groups", "staff")
    file = tmp_path / "citewell.toml"
    file.write_text(f'[keys.shop]\nhash = "{made["hash"]}"\ngroups = ["staff"]\n')
    shown = terminal.with_settings(config=str(file)).run("config", "keys").stdout
    assert "staff" in shown
    assert made["key"] not in shown
