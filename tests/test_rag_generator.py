"""The `rag` generator on small RAG models with weights from a seed, against the library's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citewell.catalogue import RagTable
from citewell.config import Settings
from citewell.errors import ConfigError
from citewell.generate.rag import RagGenerator, document_scores
from citewell.records import Evidence, Hit, Job, LegRank, Passage, Question, Tokens
from tests import tiny_models

TEXTS = ("The shop opens at nine.", "It closes at seven on Fridays.", "The shop closes when it closes.")


def hit(number: int, score: float, dense: float | None) -> Hit:
    passage = Passage(id=f"d{number}#0", doc_id=f"d{number}", ordinal=0, start=0, end=9, text=TEXTS[number], title="T")
    legs = {} if dense is None else {"dense": LegRank(rank=number + 1, score=dense)}
    return Hit(passage=passage, rank=number + 1, score=score, legs=legs)


EVIDENCE = Evidence(hits=(hit(0, 1.0, 71.0), hit(1, 0.6, None), hit(2, 0.2, 69.5)), embedder="dpr:a,b", lang="en")
JOB = Job(answer_id="a", question=Question(text="When does the shop open?", lang="en"), evidence=EVIDENCE)


def generator(folder: Path, **options: Any) -> RagGenerator:
    table = RagTable(kind="rag", model=str(folder), max_new_tokens=12, **options)
    return RagGenerator(Settings(device="cpu"), "rag", table)


@pytest.fixture(scope="module", params=["token", "sequence"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_rag(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def marginal_greedy(writer: RagGenerator, scores: Any) -> list[int]:
    """RAG-Token by hand: the library's forward pass over the whole prefix, one likeliest token after the other."""
    import torch

    read, ids = writer._read(JOB, EVIDENCE.hits), [3]
    while len(ids) < 13 and (len(ids) == 1 or ids[-1] != 3):
        logits = writer._model(
            context_input_ids=read["input_ids"], context_attention_mask=read["attention_mask"], doc_scores=scores,
            decoder_input_ids=torch.tensor([ids]), n_docs=3, do_marginalize=True, use_cache=False,
        ).logits  # fmt: skip
        ids.append(int(logits[0, -1].argmax()))
    return ids


def losses(writer: RagGenerator, scores: Any, candidates: Any) -> list[float]:
    """RAG-Sequence by hand: how unlikely each candidate is when all passages are asked."""
    import torch

    read, found = writer._read(JOB, EVIDENCE.hits), []
    weights = scores[0].log_softmax(-1)
    for candidate in candidates:
        given = candidate[None].repeat(3, 1)
        logits = writer._model.generator(**read, decoder_input_ids=given, use_cache=False).logits.log_softmax(-1)
        own = logits[:, :-1].gather(-1, given[:, 1:, None])[..., 0] * (given[:, 1:] != 0)
        found.append(-torch.logsumexp(own.sum(-1) + weights, 0).item())
    return found


def written(writer: RagGenerator) -> str:
    pieces = list(writer.generate([JOB], lambda _: False))
    assert pieces[-1].last
    return "".join(piece.text for piece in pieces)


def test_it_writes_what_the_librarys_forward_pass_finds_likeliest(model: Path) -> None:
    import torch

    writer = generator(model)
    writer.load()
    with torch.inference_mode():
        scores = torch.tensor([document_scores(EVIDENCE, 3, 5.0)])
        if "token" in model.name:
            ids = marginal_greedy(writer, scores)
        else:
            read = writer._read(JOB, EVIDENCE.hits)
            candidates = writer._model.generator.generate(**read, max_new_tokens=12, do_sample=False, num_beams=1)
            by_hand = losses(writer, scores, candidates)
            assert writer._loss(read, scores, candidates).tolist() == pytest.approx(by_hand, rel=1e-4)
            assert losses(writer, scores.flip(1), candidates) != pytest.approx(by_hand, rel=1e-4)
            ids = candidates[by_hand.index(min(by_hand))].tolist()
    expected = writer._tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert expected
    assert written(writer) == expected
    counted = list(writer.generate([JOB], lambda _: False))[-1].tokens
    alone = [writer._read(JOB, [one])["input_ids"].shape[1] for one in EVIDENCE.hits]
    assert counted == Tokens(read=sum(alone), written=len([token for token in ids[1:] if token not in (0, 3)]))
    writer.close()


def test_cancel_stops_at_the_next_step(model: Path) -> None:
    asked: list[str] = []
    writer = generator(model)

    def cancelled(answer_id: str) -> bool:
        asked.append(answer_id)
        return len(asked) > 2

    assert list(writer.generate([JOB], cancelled)) == []
    assert len(asked) == 3
    writer.close()


def test_without_evidence_it_abstains(model: Path) -> None:
    writer = generator(model)
    job = JOB.model_copy(update={"evidence": Evidence(lang="en")})
    text = "".join(piece.text for piece in writer.generate([job], lambda _: False))
    assert text == "The documents do not answer this question."
    writer.close()


def test_scores_are_those_of_the_model_where_the_embedder_is_of_its_kind() -> None:
    assert document_scores(EVIDENCE, 3, 5.0) == [71.0, 69.5, 69.5]
    other = EVIDENCE.model_copy(update={"embedder": "all-MiniLM-L6-v2"})
    assert document_scores(other, 2, 5.0) == [5.0, 3.0]


def test_it_says_what_it_is_and_what_is_missing(model: Path, tmp_path: Path) -> None:
    card = generator(model).describe()
    assert (card.kind, len(card.revision), card.sampling["method"]) == ("rag", 16, "greedy")
    with pytest.raises(ConfigError, match=r"generators\.rag\.model"):
        generator(tmp_path / "absent").load()
