"""Bars of citations and thresholds of refusals, measured on small sets: claims, choices, curves, and bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from citewell.cite import abstention
from citewell.citing import Citing
from citewell.cli import app
from citewell.config import Settings
from citewell.errors import BadInput
from citewell.evaluate import abstention as refusing
from citewell.evaluate import citations
from citewell.evaluate.abstention import Order, Tried
from citewell.generate.extractive import ExtractiveGenerator
from citewell.records import Evidence, Hit, Job, Passage, Question
from citewell.train.marked import Marked
from tests.hashing import HashingEmbedder
from tests.tiny_reader import write_rows, write_set


def question(text: str, lang: str, answer: str) -> Marked:
    return Marked("q", text, lang, (answer,), (), ("p",))


@pytest.mark.parametrize(
    ("text", "lang", "answer", "claim"),
    [
        ("When was the mill built?", "en", "in 1450", "in 1450 was the mill built."),
        ("The mill has how many floors?", "en", "three", "The mill has three floors."),
        ("¿Quién construyó el molino?", "es", "Ana", "Ana construyó el molino."),
        ("水車は何年に作られましたか？", "ja", "1450年", "水車は1450年に作られました."),
        ("누가 지었습니까?", "ko", "왕", "누가 지었습니까 왕."),
        ("물레방아는 언제 지어졌나?", "ko", "1450년", "물레방아는 1450년 지어졌나."),
        ("Wann entstand sie?", "de", "1450", "Wann entstand sie 1450."),
        ("Who?", "en", r"\1", r"\1."),
    ],
)
def test_a_claim_is_the_question_with_its_answer(text: str, lang: str, answer: str, claim: str) -> None:
    assert citations.claim_of(question(text, lang, answer)) == claim


def test_a_claim_is_held_against_its_passage_the_likest_other_and_what_is_left_of_its_own(tmp_path: Path) -> None:
    (cases,) = citations.cases_of(write_set(tmp_path / "set", towns=slice(2)), 0).values()
    assert len(cases) == 16
    for case in cases:
        assert case.gold.sentence == case.distractor.sentence
        thing, town = case.gold.passage.title.split()[::-1]
        assert thing in case.distractor.passage.title or town in case.distractor.passage.title
        year = case.gold.sentence.split()[0]
        assert year in case.gold.passage.text
        assert year not in case.distractor.passage.text
        assert case.rest is not None
        assert case.rest.passage.text == f"People of {town} like their {thing}. It stands there still."


def test_few_questions_are_spread_over_a_set(tmp_path: Path) -> None:
    (cases,) = citations.cases_of(write_set(tmp_path / "set"), 4).values()
    assert [case.gold.passage.id for case in cases] == ["Arlen-mill", "Delm-mill", "Gant-mill", "Jarl-mill"]


def test_the_least_bar_with_that_precision_throughout_is_chosen() -> None:
    gold = np.array([0.5] * 20 + [0.8] * 20)
    assert citations.choose(gold, np.array([0.5] + [0.0] * 39))[0] == 0.25
    least, reached = citations.choose(gold, np.array([0.5] * 10 + [-1.0] * 30))
    assert least == 0.55
    assert (reached["precision"], reached["recall"], reached["supported_by_distractor"]) == (1.0, 0.5, 0)


def test_where_no_bar_is_precise_enough_the_greatest_f1_is() -> None:
    gold = np.array([0.5] * 8 + [0.95] * 2)
    distractor = np.array([0.4] * 5 + [0.95] * 5)
    least, reached = citations.choose(gold, distractor)
    assert least == 0.45
    assert reached["precision"] == pytest.approx(10 / 15, abs=1e-4)


def test_figures_by_hand() -> None:
    row = citations.figures(3, 1, 4)
    assert (row["precision"], row["recall"], row["f1"]) == (0.75, 0.75, 0.75)
    assert citations.figures(0, 0, 4)["precision"] is None


def calibrated(folder: Path, *speaks: str) -> dict[str, Any]:
    return citations.measure([folder], 0, Citing(HashingEmbedder(), None, Settings()), speaks or ("zxx",), "hashing")


def test_a_report_has_a_bar_for_the_settings_that_decides_as_it_was_measured(tmp_path: Path) -> None:
    found = calibrated(write_set(tmp_path / "set"))
    row, bar = found["languages"]["en"], found["citation_bars"]["en"]
    assert [one["cosine"] for one in row["weights"]] == [0.0]
    assert row["claims"] + row["weights"][0]["chosen_on"]["claims"] == 96
    assert row["precision"] == 1.0
    assert row["recall"] == 1.0
    assert Settings(citation_bars={"en": bar}).citation_bars["en"].least == row["least"]
    again = citations.measure(
        [tmp_path / "set"], 0, Citing(HashingEmbedder(), None, Settings(citation_bars={"en": bar})), ("zxx",), "hashing"
    )
    own = again["languages"]["en"]
    assert {key: own[key] for key in own["present"]} == own["present"]


def test_cosines_are_tried_where_the_embedder_speaks(tmp_path: Path) -> None:
    found = calibrated(write_set(tmp_path / "set"), "en")
    assert [one["cosine"] for one in found["languages"]["en"]["weights"]] == [0.0, 0.3, 0.5]
    assert found["citation_bars"]["en"]["cosine"] == 0.0, "words alone are as good here"


def rewritten(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [change(json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    write_rows(file, rows)
    return rows


def with_unanswerable(folder: Path) -> Path:
    """The made-up set, its answers in sentences that name their subject, and as many questions that none answers."""
    write_set(folder)

    def named(row: dict[str, Any]) -> dict[str, Any]:
        town, thing = row["title"].split()
        return row | {"text": row["text"].replace("It was built", f"The {thing} of {town} was built")}

    rewritten(folder / "corpus.jsonl", named)
    asked = rewritten(folder / "queries.jsonl", lambda row: row | {"starts": None})
    for row in list(asked):
        key = row["_id"].removeprefix("q-")
        town, thing = key.split("-")
        text = f"Who paints the {thing} of {town}?" if len(key) % 2 else f"Which painter from {town} sold pictures?"
        nothing = {"answers": [], "answerable": False, "context_ids": [key]}
        asked.append({"_id": f"n-{key}", "text": text, "lang": "en"} | nothing)
    write_rows(folder / "queries.jsonl", asked)
    return folder


def test_refusals_are_measured_by_language(tmp_path: Path) -> None:
    generator = ExtractiveGenerator(HashingEmbedder())
    found = refusing.measure([with_unanswerable(tmp_path / "set")], 0, generator)
    row = found["languages"]["en"]
    assert row["questions"]["all"] == 2 * row["questions"]["answerable"] == 192
    assert row["curve"][-1] == {"coverage": 1.0, "risk": 0.5, "threshold": row["curve"][-1]["threshold"]}
    assert row["excess"] == pytest.approx(row["aurc"] - row["ideal"], abs=2e-4)
    assert row["present"]["threshold"] == 0.44
    assert row["chosen"]["treated_rightly"] >= row["present"]["treated_rightly"]


def test_an_attempt_and_the_answer_are_one() -> None:
    text = "You can return a lamp within 30 days of delivery. Our founder likes to sail."
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=len(text), text=text, lang="en")
    generator = ExtractiveGenerator(HashingEmbedder())
    for asked in ("Within how many days can I return a lamp?", "Who painted the founder of Uruguay in oil?"):
        hits = (Hit(passage=passage, rank=1, score=1.0),)
        job = Job(answer_id="a", question=Question(text=asked, lang="en"), evidence=Evidence(hits=hits))
        found = generator.attempt(job)
        said = "".join(piece.text for piece in generator.generate([job], lambda _: False))
        assert said == (found.text if found.score >= found.threshold else abstention("en"))
        assert found.text in (f"{part}. [1]" for part in text.removesuffix(".").split(". "))
    nothing = generator.attempt(job.model_copy(update={"evidence": Evidence()}))
    assert (nothing.text, nothing.sure, nothing.score) == ("", False, -math.inf)


def order(*rows: tuple[float, str]) -> Order:
    """Scores with `r`: right, `w`: wrong, `n`: nothing answers it."""
    return Order.of([Tried(0, kind != "n", kind == "r", score, 0.5) for score, kind in rows])


def test_risk_and_its_area_by_hand() -> None:
    one = order((0.9, "r"), (0.7, "n"), (0.8, "r"), (0.6, "r"))
    assert refusing.risks(one).tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    found = refusing.areas(one)
    assert found == {"aurc": round((1 / 3 + 1 / 4) / 4, 4), "ideal": 0.0625, "excess": round(1 / 12, 4)}


def test_questions_of_one_score_share_their_errors() -> None:
    assert refusing.risks(order((0.5, "r"), (0.5, "w"))).tolist() == [0.5, 0.5]
    assert refusing.risks(order((0.5, "w"), (0.5, "r"))).tolist() == [0.5, 0.5]
    nothing = order((0.5, "r"), (-math.inf, "w"))
    assert refusing.curve(nothing)[-1] == {"coverage": 1.0, "risk": 0.5, "threshold": None}


def test_the_threshold_that_treats_most_rightly_is_chosen() -> None:
    one = order((0.9, "r"), (0.8, "n"), (0.7, "r"), (0.6, "r"), (0.3, "n"), (0.2, "w"))
    assert refusing.choose(one) == 0.6
    told = refusing.at(one, 0.6)
    assert (told["coverage"], told["risk"]) == (round(4 / 6, 4), 0.25)
    assert (told["answered_rightly"], told["refused_rightly"], told["treated_rightly"]) == (0.75, 0.5, round(4 / 6, 4))
    hopeless = order((0.9, "n"), (0.8, "n"), (0.7, "r"))
    assert refusing.at(hopeless, refusing.choose(hopeless))["coverage"] == 0.0
    assert refusing.at(hopeless, 1.0)["risk"] is None


def one_passage(folder: Path, **question: Any) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", [{"_id": "p", "title": "Mill", "text": "The mill was built in 1450."}])
    write_rows(folder / "queries.jsonl", [{"_id": "q", "text": "When?", "lang": "en", "context_ids": ["p"]} | question])
    return folder


def refused(command: str, *folders: Path) -> str:
    found = CliRunner().invoke(app, ["eval", command, *map(str, folders), "--json"])
    assert found.exit_code == 1, found.output
    error = json.loads(found.stdout)["error"]
    assert error["remedy"]
    return str(error["message"])


def test_sets_that_tell_nothing_are_named(tmp_path: Path) -> None:
    answered = one_passage(tmp_path / "answered", answers=["1450"])
    hollow = one_passage(tmp_path / "hollow", answerable=False)
    empty = one_passage(tmp_path / "empty")
    (empty / "queries.jsonl").write_text("", "utf-8")
    for command in ("citations", "abstention"):
        assert refused(command, empty) == f"no question of {empty} can be used: there is no question"
    assert refused("citations", hollow) == f"no question of {hollow} has a marked answer"
    assert (
        refused("citations", answered) == f"no question of {answered} has another passage like it that lacks its answer"
    )
    assert refused("abstention", answered) == f"each of the 1 questions of {answered} has an answer"
    assert refused("abstention", hollow) == f"none of the 1 questions of {hollow} has an answer"


def one_half(tried: Sequence[int]) -> list[Tried]:
    return [Tried(half, True, True, 0.5, 0.4) for half in tried]


def test_one_title_cannot_be_halved(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="all in one half"):
        refusing.report(one_half([1, 1]), "en")
    assert refusing.report(one_half([0, 1]), "en")["questions"]["measuring"] == 1
    folder = write_set(tmp_path / "set")
    rewritten(folder / "corpus.jsonl", lambda row: row | {"title": "Towns"})
    assert "the 96 claims in `en` are all in one half" in refused("citations", folder)


def test_the_commands_show_and_save_what_they_found(tmp_path: Path) -> None:
    folder, out = with_unanswerable(tmp_path / "set"), tmp_path / "report.json"
    run = CliRunner().invoke(app, ["eval", "citations", str(folder), "--questions", "40", "--out", str(out)])
    assert run.exit_code == 0, run.output
    report = json.loads(out.read_text("utf-8"))
    least = report["citation_bars"]["en"]["least"]
    assert f"[citation_bars.en]\nleast = {least}\n" in run.stdout
    assert report["languages"]["en"]["thresholds"][0]["least"] == 0.25
    run = CliRunner().invoke(app, ["eval", "abstention", str(folder), "--questions", "60", "--json", "--out", str(out)])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert found == json.loads(out.read_text("utf-8"))
    assert found["languages"]["en"]["questions"]["all"] == 60
    wrong = CliRunner().invoke(app, ["eval", "abstention", str(folder), "--out", str(tmp_path / "report.html")])
    assert wrong.exit_code == 1
