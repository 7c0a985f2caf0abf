"""`embedder = "auto"`: by the documents' languages where there is no index, by the index where there is one."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from citewell.choosing import by_documents, settled
from citewell.config import Settings, load_settings
from citewell.engine import build
from citewell.errors import IndexUnavailable
from citewell.ingest.items import Limits
from citewell.ingest.peek import Peeked
from citewell.ingest.sources import Item, Known, Tell, open_source
from citewell.records import Document

ENGLISH = "Goods can be returned within thirty days of arrival, and the postage is yours."
OTHERS = {
    "es": "Los artículos se pueden devolver en treinta días, y el envío corre por su cuenta.",
    "ja": "商品は到着後三十日以内であれば返品できます。送料はお客様の負担です。",
    "ko": "상품은 도착 후 삼십일 이내에 반품할 수 있으며 배송비는 고객 부담입니다.",
}


class Listed:
    """Documents by number, and how many were taken."""

    name, size = "listed", 100

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.taken = 0

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        for number, text in enumerate(self.texts):
            self.taken += 1
            tell(1)
            yield Document(id=f"{number:03}", text=text)


@pytest.mark.parametrize("lang", OTHERS)
def test_a_tenth_of_the_documents_in_another_language_is_enough(lang: str) -> None:
    assert by_documents([Listed([ENGLISH] * 20)]) == "packaged"
    assert by_documents([Listed([ENGLISH] * 19 + [OTHERS[lang]])]) == "packaged"
    assert by_documents([Listed([ENGLISH] * 18 + [OTHERS[lang]] * 2)]) == "multilingual"
    assert by_documents([Listed([ENGLISH] * 9), Listed([OTHERS[lang]])]) == "multilingual"


def test_languages_that_neither_speaks_and_no_documents_leave_the_packaged_one() -> None:
    assert (
        by_documents([Listed(["Die Waren können innerhalb von dreißig Tagen zurückgegeben werden, so ist es."])])
        == "packaged"
    )
    assert by_documents([Listed([])]) == "packaged"


def test_a_look_takes_few_documents_and_they_come_again_once() -> None:
    listed = Listed([ENGLISH] * 500)
    source = Peeked(listed)
    assert by_documents([source]) == "packaged"
    assert listed.taken < 100
    told: list[int] = []
    ids = [item.id for item in source.items(Known(), told.append) if isinstance(item, Document)]
    assert ids == [f"{number:03}" for number in range(500)]
    assert sum(told) == 500
    assert len([*source.items(Known(), told.append)]) == 500  # a second round, of `--every`


def test_long_documents_are_looked_at_less() -> None:
    listed = Listed([ENGLISH * 2000] * 50)
    by_documents([Peeked(listed)])
    assert listed.taken < 5


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "".join(f'{{"id": "{number}", "text": "{OTHERS["ja"]}"}}\n' for number in range(90))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), "utf-8"))
    settings = load_settings(data_dir=tmp_path)
    source = Peeked(open_source("-", Limits.of(settings)))
    with build(settings, "ingest", sources=[source]) as engine:
        assert engine.settings.embedder == "multilingual"
        assert [outcome.status for outcome in engine.ingest([source])] == ["added"] * 90


def test_what_a_source_cannot_do_is_said_when_it_is_loaded(tmp_path: Path) -> None:
    source = Peeked(open_source(str(tmp_path / "nothing"), Limits.of(Settings())))
    assert by_documents([source]) == "packaged"
    with build(load_settings(data_dir=tmp_path), "ingest", sources=[source]) as engine:
        outcomes = list(engine.ingest([source]))
    assert [outcome.status for outcome in outcomes] == ["failed"]
    assert "nothing" in outcomes[0].reason


def test_an_index_keeps_its_embedder_and_the_settings_follow_it(tmp_path: Path) -> None:
    japanese, english = [Listed([OTHERS["ja"]])], [Listed([ENGLISH] * 40)]
    settings = load_settings(data_dir=tmp_path)
    with build(settings, "ingest", sources=japanese) as engine:
        assert [outcome.status for outcome in engine.ingest(japanese)] == ["added"]
    for sources in ((), english):
        opened = build(settings, "ingest", sources=sources)
        assert opened.settings.embedder == "multilingual"
        assert opened.settings.recipe()["embedder"] == "multilingual"
        opened.close()
    assert settled(load_settings(data_dir=tmp_path, embedder="packaged")).embedder == "packaged"


def test_an_empty_index_gives_way_under_another_number(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with build(settings, "ingest") as engine:
        assert engine.library.index().version == "citewell-000001"
        assert engine.settings.embedder == "packaged"
    japanese = [Listed([OTHERS["ja"]])]
    with build(settings, "ingest", sources=japanese) as engine:
        assert engine.settings.embedder == "multilingual"
        assert [outcome.status for outcome in engine.ingest(japanese)] == ["added"]
        versions = engine.library.versions().all(counted=True)
    assert [(version.name, version.role, version.documents) for version in versions] == [
        ("citewell-000002", "current", 1)
    ]


def test_an_index_made_with_something_else_is_not_followed(tmp_path: Path) -> None:
    """The packaged one, so that opening it says what is the matter."""
    settings = load_settings(data_dir=tmp_path, embedder_languages=("en",))
    with build(settings, "ingest") as engine:
        list(engine.ingest([Listed([ENGLISH])]))
        name = engine.library.index().version
    found = settled(load_settings(data_dir=tmp_path), [Listed([OTHERS["ja"]])])
    assert (found.embedder, name) == ("packaged", "citewell-000001")


def test_several_processes_have_the_packaged_one(tmp_path: Path) -> None:
    served = load_settings(data_dir=tmp_path, stack="served")
    assert settled(served, [Listed([OTHERS["ja"]])]).embedder == "packaged"
    assert served.recipe()["embedder"] == "packaged"


def test_an_index_that_cannot_be_read_is_told_by_who_opens_it(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    with build(settings, "ingest") as engine:
        list(engine.ingest([Listed([ENGLISH])]))
    (tmp_path / "citewell.lancedb" / "versions.json").write_text("{", "utf-8")
    japanese = [Listed([OTHERS["ja"]])]
    assert settled(settings, japanese).embedder == "packaged"
    engine = build(settings, "ingest", sources=japanese)
    with pytest.raises(IndexUnavailable, match="cannot be read"):
        engine.load()
    engine.close()
