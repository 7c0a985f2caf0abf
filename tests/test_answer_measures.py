"""Measures of answers: equal to the libraries that define them, and right for languages that those cannot cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from citewell.evaluate import bleu as by_sacrebleu
from citewell.evaluate.overlap import exact_match, f1, holds
from citewell.evaluate.rouge import rouge, tokens

PAIRS = [
    ("The lamp has a warranty of two years.", ["two years", "The warranty of a lamp is two years."]),
    ("Returns are free within 30 days for members", ["30 days"]),
    ("We do not ship to islands.", ["Parcels go to every island, but it takes longer."]),
    ("", ["two years"]),
    ("One two three four five six.", ["Six five four three two one.", "one three five six"]),
    ("a b a b a b", ["b a b a"]),
]
LONGER = [(f"{a} " * 3, [f"{r} " * 2 for r in refs]) for a, refs in PAIRS if a]


class Cut:
    """Our tokens, for the library's scorer."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def tokenize(self, text: str) -> list[str]:
        return tokens(text, self._lang)


@pytest.mark.parametrize(("answer", "references"), PAIRS + LONGER)
def test_rouge_is_the_librarys(answer: str, references: list[str]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    found = rouge(answer, references)
    for scorer in (RougeScorer(["rouge1", "rouge2", "rougeL"]), RougeScorer(["rouge1", "rougeL"], tokenizer=Cut("en"))):
        for name, score in scorer.score_multi(references, answer).items():
            assert found[name.replace("rouge", "ROUGE-")] == pytest.approx(score.fmeasure), name


@pytest.mark.parametrize(
    ("lang", "answer", "references"),
    [
        ("ja", "返品は商品到着後30日以内に承ります。", ["30日以内", "到着から30日以内です"]),
        ("ko", "반품은 상품을 받은 날부터 30일 이내에 할 수 있습니다.", ["30일 이내", "받은 날부터 삼십 일"]),
    ],
)
def test_rouge_counts_characters_where_words_have_no_spaces(lang: str, answer: str, references: list[str]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    found = rouge(answer, references, lang)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Cut(lang))
    for name, score in scorer.score_multi(references, answer).items():
        assert found[name.replace("rouge", "ROUGE-")] == pytest.approx(score.fmeasure)
    assert found["ROUGE-1"] > 0.3
    assert RougeScorer(["rouge1"]).score_multi(["以内"], "以内")["rouge1"].fmeasure == 0, (
        "why its own tokens are no use"
    )


@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_bleu_is_sacrebleus_over_all_answers(tokenizer: str) -> None:
    lang = "ja" if tokenizer == "char" else "en"
    answers = [answer for answer, _ in PAIRS + LONGER]
    given = [references for _, references in PAIRS + LONGER]
    streams: Any = [[refs[place] if place < len(refs) else None for refs in given] for place in range(2)]
    counts = np.array([by_sacrebleu.counts(a, r, lang) for a, r in zip(answers, given, strict=True)])
    assert by_sacrebleu.bleu(counts) == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(answers, streams).score)
    sure = by_sacrebleu.bleu_mean(counts)
    assert sure.low < sure.value < sure.high


def test_chrf_is_sacrebleus() -> None:
    for answer, references in PAIRS:
        assert by_sacrebleu.chrf(answer, references) == CHRF().sentence_score(answer, references).score


@pytest.mark.parametrize(
    ("lang", "answer", "reference", "expected"),
    [
        ("en", "You can return it within 30 days.", "30 days", 1),
        ("en", "You can return it within 130 days.", "30 days", 0),
        ("es", "Tiene un plazo de 30 días.", "los 30 días", 1),
        ("ja", "返品は30日以内です。", "30日以内", 1),
        ("ko", "30일 이내에 반품", "30 일", 1),
        ("en", "anything", "", 0),
    ],
)
def test_an_answer_in_sentences_holds_its_reference(lang: str, answer: str, reference: str, expected: int) -> None:
    assert holds(answer, [reference], lang) == expected


def test_words_and_characters_of_each_language() -> None:
    assert exact_match("The Two Years!", ["two years"]) == 1
    assert exact_match("Los dos años", ["dos años"], "es") == 1
    assert f1("東京都", ["東京"], "ja") == pytest.approx(0.8)
    assert f1("東京都", ["東京"], "en") == 0
    assert f1("서울특별시", ["서울"], "ko") == pytest.approx(4 / 7)
