"""What every index promises, on LanceDB and on a real Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citewell.config import load_settings
from citewell.errors import FingerprintMismatch
from citewell.index.elastic import ElasticIndex
from citewell.index.lance import LanceIndex
from citewell.ports import DocumentWrite, Index
from citewell.records import Filters, Fingerprint, Range
from tests.contracts.index_material import FINGERPRINT, ask, documents, write

Opener = Callable[[Fingerprint], Index]


@pytest.fixture(params=["lance", "elastic"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the test's own place again and again, with any fingerprint."""
    opened: list[Index] = []

    def start(fingerprint: Fingerprint = FINGERPRINT) -> Index:
        index: Index
        if request.param == "lance":
            index = LanceIndex(load_settings(data_dir=tmp_path), fingerprint)
        else:
            url, name = request.getfixturevalue("elasticsearch_url"), request.getfixturevalue("index_name")
            index = ElasticIndex(load_settings(elasticsearch_url=url, index_name=name), fingerprint)
        index.load()
        opened.append(index)
        return index

    yield start
    for index in opened:
        index.close()


@pytest.fixture
def index(opener: Opener) -> Index:
    return opener(FINGERPRINT)


def store(index: Index, *writes: DocumentWrite) -> None:
    assert [result.error for result in index.put(writes)] == [""] * len(writes)
    index.flush()


def found(index: Index, text: str, **fields: Any) -> list[str]:
    return documents(index.legs(ask(text, **fields)), "bm25")


class TestDocuments:
    def test_an_empty_index_answers_with_nothing(self, index: Index) -> None:
        legs = index.legs(ask("hello", angle=0))
        assert legs.ranked == {"bm25": [], "dense": []}
        assert legs.passages == {}
        assert index.ledger(["a"]) == {}
        assert index.ledger([]) == {}
        index.flush()

    def test_a_passage_comes_back_as_it_was_written(self, index: Index) -> None:
        fields: dict[str, Any] = {
            "title": "T",
            "url": "https://x/?a=1",
            "lang": "en",
            "metadata": {"n": 1, "deep": {"x": [1, "2"]}},
        }
        sent = write("a", ["first words", "second words"], groups=("g",), **fields)
        store(index, sent)
        legs = index.legs(ask("second", angle=0))
        assert [legs.passages[p.id] for p in sent.passages] == list(sent.passages)
        assert [passage_id for passage_id, _ in legs.ranked["bm25"]] == ["a#1"]

    def test_the_ledger_keeps_the_entry_and_the_document(self, index: Index) -> None:
        sent = write("a", metadata={"k": None}, lang="en")
        index.put([sent, write("b")])
        plain = index.ledger(["a", "b", "a", "nobody"])
        assert sorted(plain) == ["a", "b"]
        assert plain["a"] == sent.entry.model_copy(update={"document": None})
        assert index.ledger(["a"], with_document=True) == {"a": sent.entry}

    def test_a_document_is_replaced_whole(self, index: Index) -> None:
        store(index, write("a", ["alpha", "beta", "gamma"]), write("b", ["alpha"]))
        store(index, write("a", ["delta"]))
        assert [found(index, word) for word in ("alpha", "beta", "gamma", "delta")] == [["b"], [], [], ["a"]]
        assert index.ledger(["a"])["a"].passages == 1
        assert (index.info()["documents"], index.info()["passages"]) == (2, 2)

    def test_known_and_new_documents_mix_in_a_batch(self, index: Index) -> None:
        store(index, write("a", ["alpha", "beta"]))
        store(index, write("new", ["alpha"]), write("a", []), write("a", ["gamma"]))
        assert [found(index, word) for word in ("alpha", "beta", "gamma")] == [["new"], [], ["a"]]

    def test_a_document_may_become_empty(self, index: Index) -> None:
        store(index, write("a", ["alpha"]))
        store(index, write("a", []))
        assert found(index, "alpha") == []
        assert index.ledger(["a"])["a"].passages == 0

    def test_deleting_says_what_was_there(self, index: Index) -> None:
        store(index, write("a", ["alpha", "beta"]), write("b", ["alpha"]))
        gone, never = index.delete(["a", "nobody"])
        index.flush()
        assert (gone.doc_id, gone.found, gone.passages, gone.error) == ("a", True, 2, "")
        assert (never.doc_id, never.found, never.error) == ("nobody", False, "")
        assert found(index, "alpha") == ["b"]
        assert sorted(index.ledger(["a", "b"])) == ["b"]
        assert index.delete([]) == []

    def test_one_bad_document_does_not_stop_the_others(self, index: Index) -> None:
        misshapen = DocumentWrite(write("bad").entry, write("bad").passages, np.zeros((1, 3), dtype=np.float32))
        infinite = DocumentWrite(write("inf").entry, write("inf").passages, np.full((1, 8), np.inf, dtype=np.float32))
        half = write("half", ["x"], metadata={"k": "\ud800"})
        results = index.put([misshapen, write("good"), infinite, half])
        assert [bool(result.error) for result in results] == [True, False, True, True]
        assert "shape" in results[0].error
        assert sorted(index.ledger(["bad", "good", "inf", "half"])) == ["good"]

    def test_a_write_that_was_cut_short_is_unfinished_and_heals(self, index: Index) -> None:
        store(index, write("a", ["alpha", "beta"]))
        cut_short(index, write("a", ["gamma"]))
        index.flush()
        assert index.ledger(["a"])["a"].content_hash == ""
        assert index.info()["unfinished"] == 1
        store(index, write("a", ["gamma"]))
        assert [found(index, word) for word in ("alpha", "beta", "gamma")] == [[], [], ["a"]]
        assert index.ledger(["a"])["a"].content_hash == write("a", ["gamma"]).entry.content_hash

    def test_a_first_write_that_was_cut_short_leaves_no_doubles(self, index: Index) -> None:
        cut_short(index, write("a", ["alpha", "beta"]))
        store(index, write("a", ["alpha", "beta"]))
        assert index.legs(ask("alpha", angle=0)).ranked["bm25"][0][0] == "a#0"
        assert index.info()["passages"] == 2

    def test_reopening_finds_everything(self, index: Index, opener: Opener) -> None:
        store(index, write("a", ["alpha"]))
        again = opener(FINGERPRINT)
        again.load()
        assert found(again, "alpha") == ["a"]
        assert again.ledger(["a"]).keys() == {"a"}
        store(again, write("b", ["alpha"]))
        assert sorted(found(index, "alpha")) == ["a", "b"]

    def test_another_fingerprint_is_refused(self, index: Index, opener: Opener) -> None:
        other = FINGERPRINT.model_copy(update={"embedder": "other", "dimension": 16})
        with pytest.raises(FingerprintMismatch) as refused:
            opener(other)
        assert FINGERPRINT.describe() in refused.value.message
        assert other.describe() in refused.value.message
        assert "index_name" in refused.value.remedy
        assert index.ledger([]) == {}

    def test_info_says_what_it_is(self, index: Index) -> None:
        info = index.info()
        assert info["index_version"].startswith(info["index"])
        assert info["fingerprint"] == FINGERPRINT.to_dict()
        assert {"backend", "documents", "passages", "unfinished"} <= info.keys()


def cut_short(index: Index, sent: DocumentWrite) -> None:
    """A put that ends after its passages are written, as a kill would leave it."""
    unfinished = sent.entry.model_copy(update={"content_hash": ""})
    index.put([DocumentWrite(unfinished, sent.passages, sent.vectors)])


class TestRanking:
    def test_bm25_ranks_by_words(self, index: Index) -> None:
        texts = {
            "two": "refund refund policy",
            "one": "refund for the late parcel of a customer",
            "none": "opening hours",
        }
        store(index, *(write(doc_id, [text]) for doc_id, text in texts.items()))
        legs = index.legs(ask("refund"))
        assert documents(legs, "bm25") == ["two", "one"]
        scores = [score for _, score in legs.ranked["bm25"]]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] > 0
        assert "dense" not in legs.ranked

    def test_the_title_counts(self, index: Index) -> None:
        store(index, write("titled", ["some words"], title="Warranty"), write("other", ["some words"]))
        assert found(index, "warranty") == ["titled"]

    def test_dense_scores_are_cosines(self, index: Index) -> None:
        angles = {"near": 10, "side": 90, "far": 170, "middle": 45}
        store(index, *(write(doc_id, [doc_id], angle=angle) for doc_id, angle in angles.items()))
        legs = index.legs(ask(angle=0))
        assert documents(legs, "dense") == ["near", "middle", "side", "far"]
        expected = [np.cos(np.radians(angles[doc_id])) for doc_id in documents(legs, "dense")]
        np.testing.assert_allclose([score for _, score in legs.ranked["dense"]], expected, atol=0.02)

    def test_depth_bounds_each_leg(self, index: Index) -> None:
        store(index, *(write(f"d{n}", ["refund"], angle=n) for n in range(12)))
        legs = index.legs(ask("refund", angle=0, depth=5))
        assert {leg: len(ranked) for leg, ranked in legs.ranked.items()} == {"bm25": 5, "dense": 5}
        assert documents(legs, "dense") == [f"d{n}" for n in range(5)]

    def test_searches_see_what_was_written_before_and_after_a_flush(self, index: Index) -> None:
        store(index, write("a", ["refund"]))
        index.put([write("b", ["refund"], angle=3)])
        index.flush()
        index.put([write("c", ["refund"], angle=6)])
        index.flush()
        legs = index.legs(ask("refund", angle=0))
        assert sorted(documents(legs, "bm25")) == ["a", "b", "c"]
        assert documents(legs, "dense") == ["a", "b", "c"]

    @pytest.mark.parametrize(
        ("lang", "text", "question"),
        [
            ("en", "Parcels are returned within ten days.", "returning a parcel"),
            ("es", "La devolución del pedido es gratuita.", "devoluciones"),
            ("ja", "東京都に住んでいるお客様の返品について説明します。", "返品"),
            ("ja", "家には猫がいます。", "猫"),
            ("ko", "고객은 주문을 취소할 수 있습니다.", "주문 취소"),
            ("zh", "客户可以在十天内退货。", "退货"),
            ("", "東京都 refunds", "refunds"),
            ("xx", "東京都 refunds", "refunds"),
        ],
    )
    def test_each_language_finds_its_words(self, index: Index, lang: str, text: str, question: str) -> None:
        noise = {"n1": "Nothing of that kind.", "n2": "Otra cosa.", "n3": "今日は天気がいい。", "n4": "날씨가 좋다."}
        store(index, write("wanted", [text], lang=lang), *(write(name, [words]) for name, words in noise.items()))
        assert found(index, question, lang=lang) == ["wanted"]

    def test_a_question_in_the_wrong_language_still_finds_its_words(self, index: Index) -> None:
        store(index, write("a", ["La devolución del pedido es gratuita."], lang="es"), write("b", ["otra cosa"]))
        assert found(index, "pedido", lang="en") == ["a"]

    @pytest.mark.parametrize("question", ["the of and", "", "   ", "¿? !!", "zzzqqq"])
    def test_a_question_without_words_finds_nothing(self, index: Index, question: str) -> None:
        store(index, write("a", ["the king of the hill and the queen"]))
        assert index.legs(ask(question or " ", angle=0)).ranked["bm25"] == []

    def test_a_very_long_question_is_answered(self, index: Index) -> None:
        store(index, write("a", ["refund"]))
        assert found(index, "refund " + " ".join(f"word{n}" for n in range(20_000))) == ["a"]


class TestFilters:
    @pytest.fixture
    def loaded(self, index: Index) -> Index:
        store(
            index,
            write(
                "en1",
                ["refund"],
                lang="en",
                url="https://x/1",
                metadata={"year": 2024, "ok": True, "tag": ["a", "b"], "low": -2.5, "day": "2026-05-01T08:00:00Z"},
            ),
            write(
                "en2",
                ["refund"],
                angle=5,
                lang="en",
                metadata={
                    "year": "2023",
                    "deep": {"er": 1.5},
                    "tag": "c",
                    "many": [1, "5.5", "x"],
                    "low": 3,
                    "day": "2025-12-31",
                },
            ),
            write(
                "es1",
                ["refund"],
                angle=9,
                lang="es",
                url="https://x/2",
                metadata={"year": 2025, "ok": False, "day": "2026-11-24"},
            ),
        )
        return index

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            (Filters(), ["en1", "en2", "es1"]),
            (Filters(lang=("es",)), ["es1"]),
            (Filters(lang=("es", "en")), ["en1", "en2", "es1"]),
            (Filters(doc_id=("en2", "nobody")), ["en2"]),
            (Filters(url=("https://x/1", "https://x/2")), ["en1", "es1"]),
            (Filters(metadata={"year": (2024, 2025)}), ["en1", "es1"]),
            (Filters(metadata={"year": ("2024",)}), ["en1"]),
            (Filters(metadata={"year": (2023,)}), ["en2"]),
            (Filters(metadata={"ok": (True,)}), ["en1"]),
            (Filters(metadata={"ok": (False,)}), ["es1"]),
            (Filters(metadata={"tag": ("b",)}), ["en1"]),
            (Filters(metadata={"deep.er": (1.5,)}), ["en2"]),
            (Filters(metadata={"year": (2024,), "ok": (False,)}), []),
            (Filters(lang=("en",), metadata={"year": (2024, 2025)}), ["en1"]),
            (Filters(metadata={"nothing": ("x",)}), []),
            (Filters(url_prefix=("https://x/",)), ["en1", "es1"]),
            (Filters(url_prefix=("https://x/2", "no")), ["es1"]),
            (Filters(url_prefix=("https://_/%",)), []),
            (Filters(ranges={"year": Range(gte=2024)}), ["en1", "es1"]),
            (Filters(ranges={"year": Range(gt=2024)}), ["es1"]),
            (Filters(ranges={"year": Range(lt="2024")}), ["en2"]),
            (Filters(ranges={"year": Range(gte=2023.5, lte=2024)}), ["en1"]),
            (Filters(ranges={"deep.er": Range(gt=1.4, lt=1.6)}), ["en2"]),
            (Filters(ranges={"deep.er": Range(gt=1.5)}), []),
            (Filters(ranges={"low": Range(lt=0)}), ["en1"]),
            (Filters(ranges={"low": Range(gte=-3, lt=-1)}), ["en1"]),
            (Filters(ranges={"day": Range(gte="2026-01-01")}), ["en1", "es1"]),
            (Filters(ranges={"day": Range(gt="2026-05-01T10:00:00+02:00")}), ["es1"]),
            (Filters(ranges={"day": Range(lt=9e18)}), []),
            (Filters(ranges={"many": Range(gte=5, lte=6)}), ["en2"]),
            (Filters(ranges={"many": Range(gte=2, lte=4)}), []),
            (Filters(lang=("en",), ranges={"year": Range(gte=0)}), ["en1", "en2"]),
            (Filters(ranges={"year": Range(gte=2024), "low": Range(lt=0)}), ["en1"]),
        ],
        ids=str,
    )
    def test_both_legs_obey(self, loaded: Index, filters: Filters, expected: list[str]) -> None:
        legs = loaded.legs(ask("refund", angle=0, filters=filters))
        assert sorted(documents(legs, "bm25")) == expected
        assert sorted(documents(legs, "dense")) == expected

    @pytest.mark.parametrize(
        ("groups", "expected"),
        [
            (None, ["all", "both", "hr", "it"]),
            ((), ["all"]),
            (("hr",), ["all", "both", "hr"]),
            (("it", "hr"), ["all", "both", "hr", "it"]),
            (("h",), ["all"]),
        ],
    )
    def test_groups_decide_what_is_visible(self, index: Index, groups: Any, expected: list[str]) -> None:
        members = {"all": (), "hr": ("hr",), "it": ("it",), "both": ("hr", "it")}
        store(index, *(write(doc_id, ["refund"], groups=group) for doc_id, group in members.items()))
        legs = index.legs(ask("refund", angle=0, groups=groups))
        assert sorted(documents(legs, "bm25")) == expected
        assert sorted(documents(legs, "dense")) == expected

    def test_a_rare_filter_still_fills_the_legs(self, index: Index) -> None:
        """Filtered before ranking: the eight rare passages are the furthest of four hundred."""
        common = [write(f"c{n}", ["refund refund refund"], angle=n % 40, lang="en") for n in range(400)]
        rare = [write(f"r{n}", ["a refund among many other words"], angle=150 + n, lang="es") for n in range(8)]
        store(index, *common, *rare)
        legs = index.legs(ask("refund", angle=0, depth=8, filters=Filters(lang=("es",))))
        assert documents(legs, "dense") == [f"r{n}" for n in range(8)]
        assert sorted(documents(legs, "bm25")) == [f"r{n}" for n in range(8)]


NASTY = [
    "it's",
    'say "hi"',
    "100%_",
    "back\\slash",
    "line\nbreak",
    "😀 emoji",
    "') OR 1=1 --",
    "a,b;c",
    "*",
    "日本#1",
    "a" * 512,
    "語" * 512,
]
# Words with what query languages give a meaning to.
OPERATORS = ['"refund', "refund AND (", "refund~2 ^ :*", "text: refund", "re\\fund refund", "refund'--"]


class TestQuoting:
    def test_ids_are_only_names(self, index: Index) -> None:
        store(index, *(write(doc_id, ["alpha", "beta"]) for doc_id in NASTY))
        assert sorted(index.ledger(NASTY)) == sorted(NASTY)
        for doc_id in NASTY:
            assert found(index, "alpha", filters=Filters(doc_id=(doc_id,))) == [doc_id]
        store(index, *(write(doc_id, ["gamma"]) for doc_id in NASTY))
        assert sorted(found(index, "gamma")) == sorted(NASTY)
        assert found(index, "alpha beta") == []
        assert [result.found for result in index.delete(NASTY)] == [True] * len(NASTY)
        index.flush()
        assert (index.info()["passages"], index.info()["documents"]) == (0, 0)

    @pytest.mark.parametrize("value", NASTY)
    def test_values_are_only_values(self, index: Index, value: str) -> None:
        fields: dict[str, Any] = {"url": value, "groups": (value,), "metadata": {value: value, "k": value}}
        store(index, write("a", ["refund"], **fields), write("b", ["refund"], groups=("other",)))
        for filters in (Filters(url=(value,)), Filters(metadata={"k": (value,)}), Filters(metadata={value: (value,)})):
            legs = index.legs(ask("refund", angle=0, filters=filters))
            assert (documents(legs, "bm25"), documents(legs, "dense")) == (["a"], ["a"])
        assert found(index, "refund", groups=(value,)) == ["a"]

    @pytest.mark.parametrize("key", [*NASTY[:-2], "a.b", "a+b(c)[d]{2}$^|?", "ключ"])
    def test_keys_of_ranges_are_only_names(self, index: Index, key: str) -> None:
        store(index, write("a", ["refund"], metadata={key: 5}), write("b", ["refund"], metadata={key + "x": 5, "y": 5}))
        legs = index.legs(ask("refund", angle=0, filters=Filters(ranges={key: Range(gte=4, lt=6)})))
        assert (documents(legs, "bm25"), documents(legs, "dense")) == (["a"], ["a"])
        assert found(index, "refund", filters=Filters(url_prefix=(key,))) == []

    @pytest.mark.parametrize(
        "question", ['"refund', "refund AND (", "refund~2 ^ :*", "text: refund", "re\\fund refund", "refund'--"]
    )
    def test_a_question_is_only_words(self, index: Index, question: str) -> None:
        store(index, write("a", ["a refund"]), write("b", ["other"]))
        assert found(index, question) == ["a"]
