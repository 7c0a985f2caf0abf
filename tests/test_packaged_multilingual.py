"""The multilingual embedder that comes with the product: whole, small, of clean data, and of use in each language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citewell import parts
from citewell.config import load_settings
from citewell.embed.shipped import MOST_BYTES, MULTILINGUAL
from citewell.train.distil import Distilling
from citewell.train.embedder import EmbedderCourse, read
from citewell.train.marked import text_hash
from tests.judged import SHARED, shared_sets

# A passage, and a question on it in each language; of the translations' field, which is documentation.
ASKED = {
    "The list is sorted in place, and nothing is returned.": {
        "en": "How can the order of a list be changed?",
        "es": "¿Cómo se ordena una lista?",
        "ja": "リストをソートするにはどうすればよいですか。",
        "ko": "리스트를 정렬하려면 어떻게 하나요?",
    },
    "The file is opened for reading, and closed at the end of the with statement.": {
        "en": "How is a file read?",
        "es": "¿Cómo se abre un archivo para leerlo?",
        "ja": "ファイルを開いて読むにはどうしますか。",
        "ko": "파일을 열어서 읽으려면 어떻게 하나요?",
    },
    "A function is defined with the keyword def, followed by its name and its parameters.": {
        "en": "How do I write a function?",
        "es": "¿Cómo se define una función?",
        "ja": "関数はどのように定義しますか。",
        "ko": "함수는 어떻게 정의하나요?",
    },
    "An exception that is raised in the block is handled by the except clause.": {
        "en": "How are errors caught?",
        "es": "¿Cómo se manejan las excepciones?",
        "ja": "例外はどのように処理されますか。",
        "ko": "예외는 어떻게 처리되나요?",
    },
}


def test_its_files_are_small_and_say_what_they_are() -> None:
    files = [file for file in MULTILINGUAL.rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in files) <= MOST_BYTES
    made = json.loads((MULTILINGUAL / "figures.json").read_text("utf-8"))
    card = (MULTILINGUAL / "README.md").read_text("utf-8")
    assert made["command"] in card
    for licence in ("PSF-2.0", "CC BY-SA 4.0", "CC BY-SA 3.0"):
        assert licence in card
    model = parts.embedder(load_settings(embedder="multilingual"))
    described = model.describe()
    assert (described.name, described.dimension) == ("citewell-multilingual", 384)
    assert described.languages == ("en", "es", "ja", "ko")
    assert described.weights != parts.packaged_embedder(load_settings()).describe().weights
    model.close()


@pytest.mark.parametrize("lang", ["en", "es", "ja", "ko"])
def test_a_question_in_each_language_is_nearest_to_its_passage_in_english(lang: str) -> None:
    model = parts.embedder(load_settings(embedder="multilingual"))
    found = model.embed_queries([asked[lang] for asked in ASKED.values()]) @ model.embed_passages(list(ASKED)).T
    assert found.argmax(axis=1).tolist() == list(range(len(ASKED)))
    model.close()


def test_nothing_it_is_measured_with_was_in_its_training(tmp_path: Path) -> None:
    """As its command says: what is read of the files shares no question and no text with a development set.

    What a program made of them is compared where it is in `build` (`bench/translations.py`); the training left out the
    texts of the development sets from it by the same code.
    """
    if not SHARED.is_dir():
        pytest.skip("the test collections are not there")
    command = json.loads((MULTILINGUAL / "figures.json").read_text("utf-8"))["command"]
    parallel, pairs, dev = (shared_sets(command, option) for option in ("--parallel", "--pairs", "--dev"))
    course = EmbedderCourse(parallel, pairs, dev, tmp_path, Distilling())
    given = read(course, lambda _: None)
    trained = {text_hash(text) for one in given.translations for text in (one.teacher, one.other)}
    trained |= set[str]().union(*(one.hashes() for one in given.pairs))
    assert len(trained) > 200_000
    for one in given.dev:
        assert len(one.hashes()) > 500, one.name
        assert not trained & one.hashes(), one.name
