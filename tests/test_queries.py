"""Filters and search bodies as values: no server."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citewell.config import INDEXED
from citewell.errors import InvalidFilter
from citewell.index import elastic_layout, filters, queries, words
from citewell.index.analysis import LANGUAGES, language_of, plugins
from citewell.records import Filters, Fingerprint
from tests.contracts.index_material import FINGERPRINT, ask

EVERYTHING = Filters(lang=("en",), doc_id=("a", "b"), url=("u",), metadata={"year": (2024, "x"), "ok": (True,)})


class TestParseFilters:
    @pytest.mark.parametrize(
        ("raw", "parsed"),
        [
            ({}, Filters()),
            ({"lang": "en"}, Filters(lang=("en",))),
            ({"doc_id": ["a", "b"], "url": "u"}, Filters(doc_id=("a", "b"), url=("u",))),
            ({"metadata.year": 2024}, Filters(metadata={"year": (2024,)})),
            ({"metadata.a.b": [1.5, True, "x"]}, Filters(metadata={"a.b": (1.5, True, "x")})),
        ],
    )
    def test_scalars_and_lists(self, raw: dict[str, Any], parsed: Filters) -> None:
        found = filters.parse_filters(raw)
        assert found == parsed
        assert [type(value) for value in found.metadata.get("a.b", ())] in ([], [float, bool, str])

    @pytest.mark.parametrize("name", ["language", "metadata", "metadata.", "groups", "", "vector"])
    def test_an_unknown_field_is_named_with_the_known_ones(self, name: str) -> None:
        with pytest.raises(InvalidFilter, match=f"`{name}`") as refused:
            filters.parse_filters({name: "x"})
        assert all(field in refused.value.remedy for field in ("lang", "doc_id", "url", "metadata.KEY"))

    @pytest.mark.parametrize("value", [None, [], {}, [None], {"a": 1}, [["x"]], float("nan"), "\ud800", ["x"] * 1001])
    def test_a_value_that_could_not_filter_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidFilter, match="k"):
            filters.parse_filters({"metadata.k": value})

    @pytest.mark.parametrize("value", [1, True, ["en", 2]])
    def test_names_are_strings(self, value: Any) -> None:
        with pytest.raises(InvalidFilter, match="lang"):
            filters.parse_filters({"lang": value})

    @pytest.mark.parametrize("raw", [None, [], "lang=en", 3])
    def test_filters_are_an_object(self, raw: Any) -> None:
        with pytest.raises(InvalidFilter, match="object"):
            filters.parse_filters(raw)


class TestConditions:
    def test_nothing_asked_is_no_condition(self) -> None:
        assert queries.elastic_filter(Filters(), None) == []
        assert queries.sql_filter(Filters(), None) == ""

    def test_all_fields_must_hold(self) -> None:
        assert queries.elastic_filter(EVERYTHING, None) == [
            {"terms": {"lang": ["en"]}},
            {"terms": {"doc_id": ["a", "b"]}},
            {"terms": {"url": ["u"]}},
            {"terms": {"metadata.year": ["2024", "x"]}},
            {"terms": {"metadata.ok": ["true"]}},
        ]
        assert queries.sql_filter(EVERYTHING, None) == (
            "lang IN ('en') AND doc_id IN ('a', 'b') AND url IN ('u')"
            " AND array_has_any(meta_terms, ['year\x1f2024', 'year\x1fx'])"
            " AND array_has_any(meta_terms, ['ok\x1ftrue'])"
        )

    def test_without_groups_only_what_everyone_may_see(self) -> None:
        assert queries.elastic_filter(Filters(), ()) == [
            {"bool": {"should": [{"bool": {"must_not": [{"exists": {"field": "groups"}}]}}], "minimum_should_match": 1}}
        ]
        assert queries.sql_filter(Filters(), ()) == "array_has_any(readers, ['everyone'])"

    def test_groups_add_what_they_may_see(self) -> None:
        ((clause,),) = [queries.elastic_filter(Filters(), ("hr", "it"))]
        assert clause["bool"]["should"][1] == {"terms": {"groups": ["hr", "it"]}}
        assert queries.sql_filter(Filters(), ("h'r",)) == "array_has_any(readers, ['everyone', 'group:h''r'])"
        assert filters.readers(("everyone",)) == ["group:everyone"], "no group's name opens a passage to all"

    @given(st.text())
    def test_a_quoted_text_ends_where_it_should(self, text: str) -> None:
        literal = queries.sql_text(text)
        assert literal[0] == literal[-1] == "'"
        assert "'" not in literal[1:-1].replace("''", "")
        assert literal[1:-1].replace("''", "'") == text

    def test_metadata_terms_are_what_filters_ask_for(self) -> None:
        metadata = {"a": 1, "b": {"c": [True, "x", None], "d": 1.5}, "long": "y" * 1025, "e": None, "f": []}
        assert [term.replace("\x1f", "=") for term in filters.metadata_terms(metadata)] == [
            "a=1",
            "b.c=true",
            "b.c=x",
            "b.d=1.5",
        ]

    @given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
    def test_a_value_is_compared_as_json_writes_it(self, value: float | bool) -> None:
        assert filters.canonical(value) == json.dumps(value)


class TestBodies:
    def test_both_legs_leave_in_one_msearch(self) -> None:
        lines = queries.msearch(ask("refunds", angle=0, depth=7, filters=EVERYTHING, groups=()), "citewell")
        header, bm25, again, dense = lines
        assert header == again == {"index": "citewell", "allow_partial_search_results": False}
        condition = queries.elastic_filter(EVERYTHING, ())
        matching, veils = bm25["query"]["bool"]["should"]
        assert matching["bool"]["filter"] == condition
        assert veils == dense["query"], "each leg brings the veils that its refresh shows"
        assert dense["knn"]["filter"] == condition
        assert dense["knn"]["k"] == bm25["size"] == dense["size"] == 7 + queries.SPARE
        assert bm25["version"] is dense["version"] is True
        assert dense["knn"]["num_candidates"] >= 2 * 7
        assert all("vector" in body["_source"]["excludes"] for body in (bm25, dense))
        json.dumps(lines)

    @pytest.mark.parametrize(("lang", "field"), [("ko", "text.ko"), ("ja-JP", "text.ja"), ("JA", "text.ja")])
    def test_the_question_s_language_picks_the_field(self, lang: str, field: str) -> None:
        matching = queries.bm25_body(ask("refunds", lang=lang))["query"]["bool"]
        assert matching["must"][0]["combined_fields"]["fields"][0] == field
        assert matching["should"][0]["match"]["words"]["query"] == "refunds"

    @pytest.mark.parametrize(
        ("lang", "topic"), [("en-GB", "refund"), ("de", "the refund"), ("", "the refunds"), ("nl", "the refunds")]
    )
    def test_a_language_without_an_analyzer_is_stemmed_here(self, lang: str, topic: str) -> None:
        matching = queries.bm25_body(ask("the refunds", lang=lang))["query"]["bool"]
        assert [clause["match"].popitem()[0] for clause in matching["should"]] == ["stems", "words"]
        assert matching["minimum_should_match"] == 1
        assert words.stems("the refunds", lang) == topic

    def test_an_analyzer_that_the_index_leaves_out_is_not_asked(self) -> None:
        matching = queries.bm25_body(ask("返品", lang="ja"), ("en",))["query"]["bool"]
        assert "must" not in matching

    def test_candidates_stay_below_the_server_s_limit(self) -> None:
        assert queries.dense_body(ask(angle=0, depth=9000))["knn"]["num_candidates"] == 10_000

    def test_only_legs_that_can_run_do(self) -> None:
        assert queries.runnable_legs(ask("x", angle=0)) == ["bm25", "dense"]
        assert queries.runnable_legs(ask("  ", angle=0, legs=("bm25", "dense"))) == ["dense"]
        assert queries.runnable_legs(ask("x", legs=("bm25", "dense"))) == ["bm25"]
        assert queries.runnable_legs(ask("x", angle=0, legs=("dense",))) == ["dense"]
        with pytest.raises(ValueError, match="vector"):
            queries.dense_body(ask("x"))

    @given(st.text(alphabet=string.printable + "返品", max_size=5000))
    def test_bm25_reads_a_bounded_part(self, text: str) -> None:
        read = queries.bm25_text(text)
        assert len(read) <= queries.MAX_BM25_CHARS
        assert len(read.split()) <= queries.MAX_BM25_WORDS
        assert " ".join(text.split()).startswith(read)


class TestLayout:
    def test_every_language_has_its_field(self) -> None:
        properties = elastic_layout.body("passages", FINGERPRINT)["mappings"]["properties"]
        for name in ("text", "title"):
            analyzers = {code: field["analyzer"] for code, field in properties[name]["fields"].items()}
            assert analyzers == {"ja": "kuromoji", "ko": "nori"}
        assert tuple(LANGUAGES) == INDEXED, "the setting `languages` knows the table"
        assert plugins() == ["analysis-kuromoji", "analysis-nori"]
        assert (language_of("pt-BR"), language_of("nl")) == ("pt", "")

    @pytest.mark.parametrize("kind", ["passages", "documents"])
    def test_the_mapping_is_strict_and_carries_the_fingerprint(self, kind: str) -> None:
        mappings = elastic_layout.body(kind, FINGERPRINT)["mappings"]
        assert mappings["dynamic"] == "strict"
        assert Fingerprint.model_validate(mappings["_meta"]["citewell"]) == FINGERPRINT

    def test_vectors_are_sized_and_quantised(self) -> None:
        vector = elastic_layout.body("passages", FINGERPRINT)["mappings"]["properties"]["vector"]
        assert (vector["dims"], vector["similarity"]) == (FINGERPRINT.dimension, "cosine")
        assert vector["index_options"]["type"] == "int8_hnsw"

    @pytest.mark.parametrize("kind", ["bbq_hnsw", "flat"])
    def test_how_vectors_are_kept_can_be_chosen(self, kind: str) -> None:
        chosen = FINGERPRINT.model_copy(update={"vector_index": kind})
        vector = elastic_layout.body("passages", chosen)["mappings"]["properties"]["vector"]
        assert vector["index_options"]["type"] == kind

    def test_an_overlong_group_is_refused_rather_than_dropped(self) -> None:
        """A group that is left out of the index would make its passages visible to everyone."""
        properties = elastic_layout.body("passages", FINGERPRINT)["mappings"]["properties"]
        assert "ignore_above" not in properties["groups"]


class TestWords:
    @pytest.mark.parametrize(
        ("lang", "text", "expected"),
        [
            ("en", "Returning os.path parcels", "return os path parcel"),
            ("es", "Las devoluciones de pedidos", "devolu ped"),
            ("de", "Die Rückgaben der Sendungen", "ruckgab sendung"),
            ("ko", "고객은 주문을 취소한다", "고객 주문 취소"),
            ("ja", "返品の送料", "返品 送料"),
            ("en", "the of and", ""),
        ],
    )
    def test_stems_are_the_topic(self, lang: str, text: str, expected: str) -> None:
        assert words.stems(text, lang).split() == expected.split()

    def test_a_lone_chinese_character_is_a_word(self) -> None:
        assert "猫" in words.words("家には猫がいます").split()
        assert "猫" not in words.words("猫舎").split()

    def test_words_stand_as_they_are(self) -> None:
        assert words.words("The MAX_retries of os.path") == "the max retries of os path"
        assert words.words("the performer’s father, a boss's") == "the performer father a boss"
        assert words.question_words("the parcel", "en") == "the parcel"
        assert words.question_words("the of", "en") == ""
        assert words.question_words("the parcel", "") == "the parcel"
