"""The pages for operators are complete: a heading for every setting, a section for every command with its options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from citewell.cli import app
from citewell.config import Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
SETTINGS = (DOCS / "settings.md").read_text("utf-8")
CLI = (DOCS / "cli.md").read_text("utf-8")
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
GROUPED = [(name, sub) for name, group in COMMANDS.items() for sub in getattr(group, "commands", ())]


def _section(page: str, heading: str) -> str:
    """The text below a heading, up to the next of its level or above."""
    level = heading.split(" ", maxsplit=1)[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no heading `{heading}`"
    return found.group(1)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_heading_with_default_meaning_and_example(name: str) -> None:
    section = _section(SETTINGS, f"### {name}")
    default = Settings.model_fields[name].default
    if isinstance(default, str | int | float) and default != "":
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert section.startswith(f"Default: `{shown}`\n"), f"{name}: the default is {shown}"
    else:
        assert section.startswith("Default: "), name
    assert f"`CITEWELL_{name.upper()}=" in section, f"{name}: no example"


def test_no_heading_without_a_setting() -> None:
    assert re.findall(r"^### (\S+)$", SETTINGS, re.MULTILINE) == list(Settings.model_fields)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_its_page(name: str) -> None:
    section = _section(CLI, f"## citewell {name}")
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in section or f" {option} " in section, f"citewell {name}: {option}"


@pytest.mark.parametrize(("name", "sub"), GROUPED)
def test_every_command_of_a_group_is_on_its_page(name: str, sub: str) -> None:
    section, command = _section(CLI, f"## citewell {name}"), COMMANDS[name].commands[sub]
    assert f"`citewell {name} {sub}" in section
    assert f"citewell {name} {sub}" in command.help, "it teaches by example"
    for parameter in command.params:
        for option in (*parameter.opts, *parameter.secondary_opts):
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in section or f" {option} " in section, f"citewell {name} {sub}: {option}"


def test_no_section_without_a_command() -> None:
    assert set(re.findall(r"^## citewell (\S+)$", CLI, re.MULTILINE)) == set(COMMANDS)


def test_every_command_teaches_by_example() -> None:
    for name, command in COMMANDS.items():
        assert f"citewell {name}" in command.help, name
        assert all(p.help for p in command.params if p.name != "help"), name
