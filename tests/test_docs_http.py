"""The HTTP pages say what the code does: a heading for every route, a line for every error."""

import re
from pathlib import Path

import pytest

from citewell.config import load_settings
from citewell.errors import CitewellError, all_errors
from citewell.service.app import create_app
from tests.service.small import small_engine

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def routes(tmp_path: Path) -> set[str]:
    settings = load_settings(data_dir=tmp_path)
    app = create_app(settings, small_engine(settings))
    found = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?\w+>", "ID", rule.rule)
        found |= {f"{method} {path}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return found


def test_every_route_has_a_heading_and_every_heading_a_route(routes: set[str]) -> None:
    page = (DOCS / "http-api.md").read_text("utf-8")
    headings = set(re.findall(r"^### `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)`$", page, re.MULTILINE))
    assert headings == routes


def test_every_route_has_an_example(routes: set[str]) -> None:
    page = (DOCS / "http-api.md").read_text("utf-8")
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        assert "```" in section, section.splitlines()[0]


def test_every_error_is_explained_with_its_status() -> None:
    page = (DOCS / "errors.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", page, re.MULTILINE))
    expected = {code: str(cls.status) for code, cls in all_errors().items() if cls.__module__.startswith("citewell.")}
    assert {code: rows.get(code) for code in expected} == expected


def test_every_class_has_a_code_of_its_own() -> None:
    pending, codes = [CitewellError], []
    while pending:
        cls = pending.pop()
        codes.append(cls.code)
        pending.extend(cls.__subclasses__())
    assert len(codes) == len(set(codes))
