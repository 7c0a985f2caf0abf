"""Support by words, cosine and entailment: each can refuse, none lets through what another refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from citewell.bars import ELSEWHERE, Bar, bar_for
from citewell.cite import cite
from citewell.citing import Citing
from citewell.config import Settings
from citewell.entail import CrossEncoderEntailment
from citewell.errors import EntailmentUnavailable
from citewell.ports import EmbedderCard, Vectors
from citewell.records import Evidence, Hit, Passage
from citewell.support import Claim, judge, verbatim
from tests.hashing import HashingEmbedder
from tests.tiny_entailment import CONTRADICTS, FOLLOWS, SPAN, build_entailment
from tests.tiny_models import EVIDENCE, PASSAGE, build_cross_encoder


class CountingEmbedder(HashingEmbedder):
    """The hashing embedder, which says how often it was asked for what."""

    def __init__(self, *languages: str) -> None:
        super().__init__()
        self.batches: list[Sequence[str]] = []

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(texts)
        return super().embed_passages(texts)


def citing(bar: Bar, embedder: HashingEmbedder | None = None) -> Citing:
    return Citing(embedder or HashingEmbedder(), None, Settings(citation_bars={"en": bar}))


def words(least: float) -> Bar:
    return Bar(least=least)


def joined(least: float, cosine: float = 0.5, embedder: str = "hashing") -> Bar:
    return Bar(least=least, cosine=cosine, embedder=embedder)


def test_support_is_words_and_cosine_by_their_weights() -> None:
    draft = citing(joined(0.3))(FOLLOWS + " [1]", EVIDENCE, "en")
    (citation,) = draft.citations
    assert citation.quote == SPAN
    assert citation.cosine is not None
    assert 0 < citation.cosine < 1
    assert citation.support == pytest.approx(0.5 * citation.cosine + 0.5, abs=1e-3)


def test_the_bar_is_what_decides() -> None:
    reached = citing(joined(0.0))(FOLLOWS + " [1]", EVIDENCE, "en").citations[0].support
    assert citing(joined(reached - 0.01))(FOLLOWS + " [1]", EVIDENCE, "en").citations
    refused = citing(joined(reached + 0.01))(FOLLOWS + " [1]", EVIDENCE, "en")
    assert refused.citations == ()
    assert refused.sentences[0].unsupported == f"passage 1: support of {reached:.2f} is below {reached + 0.01:.2f}"


def test_a_bar_with_another_embedder_s_cosine_is_not_used() -> None:
    assert citing(joined(0.99, embedder="other")).bar("en") == bar_for("en", "hashing")
    assert bar_for("xx", "hashing") == ELSEWHERE
    own = words(0.7)
    assert bar_for("en", "hashing", own) == own


def test_all_sentences_of_an_answer_are_embedded_at_once_and_quotes_not_at_all() -> None:
    embedder = CountingEmbedder()
    by = citing(joined(0.3), embedder)
    by(f"{FOLLOWS} [1] Nine is when the shop opens. [1]", EVIDENCE, "en")
    assert len(embedder.batches) == 1
    assert len(set(embedder.batches[0])) == len(embedder.batches[0])
    by(f"{SPAN} [1]", EVIDENCE, "en")
    assert len(embedder.batches) == 1


def test_vectors_of_any_length_give_the_same_cosines() -> None:
    class Longer(HashingEmbedder):
        def describe(self) -> EmbedderCard:
            return super().describe()

        def embed_passages(self, texts: Sequence[str]) -> Vectors:
            return super().embed_passages(texts) * 7

    pairs = [(FOLLOWS, SPAN), (CONTRADICTS, SPAN)]
    assert citing(words(0.5), Longer()).cosines(pairs) == pytest.approx(citing(words(0.5)).cosines(pairs), abs=1e-5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_entailment(tmp_path_factory.mktemp("entailment"))


def test_the_entailment_model_refuses_what_words_alone_let_through(model: Path) -> None:
    settings = Settings(entailment=str(model), device="cpu", citation_bars={"en": words(0.6)})
    by = Citing(HashingEmbedder(), CrossEncoderEntailment(settings), settings)
    draft = by(f"{FOLLOWS} [1] {CONTRADICTS} [1]", EVIDENCE, "en")
    assert [s.supported for s in draft.sentences] == [True, False]
    assert (draft.citations[0].entailment or 0) > 0.5
    assert "entailment of 0." in draft.sentences[1].unsupported
    plain = cite(f"{FOLLOWS} [1] {CONTRADICTS} [1]", EVIDENCE, "en")
    assert [s.supported for s in plain.sentences] == [True, True]


def test_the_entailment_model_admits_nothing_that_the_bar_refused(model: Path) -> None:
    settings = Settings(entailment=str(model), device="cpu", citation_bars={"en": words(1.0)}, entailment_least=0.0)
    by = Citing(HashingEmbedder(), CrossEncoderEntailment(settings), settings)
    assert by(f"{FOLLOWS} [1]", EVIDENCE, "en").citations == ()


def test_a_model_without_that_label_or_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = build_cross_encoder(tmp_path / "ranker")
    with pytest.raises(EntailmentUnavailable, match="no `entailment`"):
        CrossEncoderEntailment(Settings(entailment=str(folder), device="cpu")).load()
    with pytest.raises(EntailmentUnavailable, match="nowhere"):
        CrossEncoderEntailment(Settings(entailment=str(tmp_path / "nowhere"), device="cpu")).load()


def passage(text: str, title: str = "", heading: str = "", lang: str = "en") -> Passage:
    return Passage(
        id="d#0", doc_id="d", ordinal=0, start=0, end=len(text), text=text, title=title, heading=heading, lang=lang
    )


def test_names_may_stand_in_the_title_numbers_in_the_span_or_there() -> None:
    text = "The team won the title in 2016. It lost it a year later, in front of 70,000 people."
    (held,) = judge([Claim("The Broncos won the title in 2016.", passage(text, title="Denver Broncos"))], "en")
    assert held.span is not None
    (lost,) = judge([Claim("The Broncos won the title in 2016.", passage(text))], "en")
    assert (lost.span, lost.reason) == (None, "`Broncos` is not there")
    (held,) = judge([Claim("The team of 50 won the title in 2016.", passage(text, title="Super Bowl 50"))], "en")
    assert held.span is not None


def test_numbers_that_never_stand_together_are_no_support() -> None:
    text = "It costs 10 euros. " + "Nothing else is said here. " * 4 + "It takes 30 days."
    (found,) = judge([Claim("It costs 10 euros, takes 30 days.", passage(text))], "en")
    assert (found.span, found.reason) == (None, "its numbers and dates do not stand together")


@pytest.mark.parametrize(
    ("sentence", "text", "at"),
    [
        ("No", "Nobody says No.", 12),
        ("ten", "The tent is often there.", -1),
        ("30", "300 or 30 days", 7),
        ("東京", "私は東京都に住む", 2),
        ("", "text", -1),
    ],
)
def test_word_for_word_means_whole_words(sentence: str, text: str, at: int) -> None:
    span = verbatim(sentence, text)
    assert (span.start if span else -1) == at


def evidence(*texts: str) -> Evidence:
    return Evidence(hits=tuple(Hit(passage=passage(text), rank=n, score=1.0) for n, text in enumerate(texts, start=1)))


def test_a_missing_marker_is_added_only_where_the_sentence_really_stands() -> None:
    found = evidence("We sell lamps.", "The shop opens at nine. Come early.")
    draft = cite("The shop opens at nine. The shop opens at seven. Early the shop opens.", found, "en")
    assert draft.text == "The shop opens at nine. [2] The shop opens at seven. Early the shop opens."
    assert [(c.sentence, c.marker, c.added, c.quote) for c in draft.citations] == [
        (0, 2, True, "The shop opens at nine.")
    ]
    assert [s.unsupported for s in draft.sentences] == ["", "it names no passage", "it names no passage"]


def test_a_wrong_marker_is_not_mended_and_one_common_word_is_no_proof() -> None:
    draft = cite("The shop opens early. [1] Early. [7]", evidence("We sell lamps.", PASSAGE.text), "en")
    assert draft.citations == ()
    assert draft.sentences[0].unsupported == f"passage 1: support of 0.00 is below {bar_for('en', '').least:.2f}"
    assert draft.sentences[1].unsupported == "there is no passage 7"
    assert cite("Early", evidence("Come Early", PASSAGE.text), "en").citations == ()
