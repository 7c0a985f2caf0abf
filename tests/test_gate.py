"""The rule by which an embedder may take the packaged one's place."""

from __future__ import annotations

from citewell.evaluate.gate import Compared, as_markdown, report

ENGLISH = Compared("en-set", "en", 100, True, bm25=0.9, before=0.8, dense=0.791, tuned=0.92)
KOREAN = Compared("ko-set", "ko", 100, False, bm25=0.9, before=0.05, dense=0.5, tuned=0.901)


def test_it_passes_where_english_is_kept_and_the_others_gain() -> None:
    found = report({"name": "new"}, [ENGLISH, KOREAN])
    assert found["passes"]
    assert found["collections"]["en-set"]["passes"]
    assert "# new in place of the packaged embedder: yes" in as_markdown(found)


def test_a_loss_in_english_fails_it_however_good_its_hybrid_is() -> None:
    worse = Compared("en-set", "en", 100, True, bm25=0.9, before=0.8, dense=0.789, tuned=0.95)
    found = report({"name": "new"}, [worse, KOREAN])
    assert not found["passes"]
    assert "no: dense 0.789, -0.011 (at least -0.01)" in as_markdown(found)


def test_a_hybrid_that_is_no_better_than_bm25_fails_it() -> None:
    same = Compared("ko-set", "ko", 100, False, bm25=0.9, before=0.05, dense=0.8, tuned=0.9)
    assert not report({"name": "new"}, [ENGLISH, same])["passes"]


def test_it_cannot_pass_on_one_kind_of_language_alone() -> None:
    assert report({}, [ENGLISH])["missing"] == ["other"]
    assert not report({}, [ENGLISH])["passes"]
    assert "language of the kind `spoken`" in as_markdown(report({}, [KOREAN]))
