"""One training of a multilingual embedder from a teacher, in a folder of its own, from which a killed run goes on.

FOLDER/plan.json          what is trained on and how; a run that goes on must want the same, but for its steps
FOLDER/vocabulary.json    the tokenizer, which takes minutes to learn
FOLDER/start.npz          where its embeddings start, and the wrong passages of the questions
FOLDER/checkpoint-N/      the trainer's own
FOLDER/embedder/          the result: a sentence-transformers model with its card and curves
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell.embed import shipped
from citewell.embed.sentence import weights_hash
from citewell.embed.tokens import uncut_tokenizer
from citewell.errors import BadInput
from citewell.ports import Embedder
from citewell.train.alignment import Floats
from citewell.train.blend import blend, weights_of
from citewell.train.course import Tell
from citewell.train.distil import MEAN, Distilling, make_trainer
from citewell.train.embedder_card import write_embedder
from citewell.train.figures import dense
from citewell.train.judged import Given, JudgedSet, Parallel, hashes_of, read_judged
from citewell.train.lessons import Batches, Lesson, Texts, shares
from citewell.train.marked import licence_and_source
from citewell.train.negatives import lexical_negatives
from citewell.train.parallel import read_parallel, without
from citewell.train.student import TOKENIZER, check_base, encode, student_of, words_of
from citewell.train.vocabulary import learn, start

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_VOCABULARY, _START = "vocabulary.json", "start.npz"
# Texts that the vocabulary is learned from, of each language, and texts of one call of the teacher.
_LEARNED_FROM = 25_000
_AT_ONCE = 1024


@dataclass(frozen=True)
class EmbedderCourse:
    """What is trained on (`parallel`, `pairs`), what is measured with (`dev`), and where.

    `base` is the folder of a trained embedder that it begins with, in place of the teacher's own network.
    """

    parallel: tuple[Path, ...]
    pairs: tuple[Path, ...]
    dev: tuple[Path, ...]
    folder: Path
    plan: Distilling
    base: Path | None = None


def train_embedder(course: EmbedderCourse, teacher: Embedder, encoder: Path, *, resume: bool, tell: Tell) -> Path:
    """Train, and give the folder of the result. `encoder` is the folder of the teacher's own model.

    `tell` hears of every step in plain values. Raises `BadInput` for files that cannot be used and for a folder with
    another run in it, `EmbedderUnavailable` for a base that is not whole, `TrainingFailed` when the disk or the numbers
    give out.
    """
    with shipped.opened(str(course.base or encoder)) as begun:
        return _train(course, teacher, Path(begun), resume=resume, tell=tell)


def _train(course: EmbedderCourse, teacher: Embedder, begun: Path, *, resume: bool, tell: Tell) -> Path:
    from transformers.utils import logging

    from citewell.train.runs import failures_told, opened

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if course.base is not None:
        check_base(course.base, begun, teacher)
    given = read(course, tell)
    free = ("steps", "fall", "check_minutes", "blend")
    checkpoints = opened(course.folder, _described(course), resume=resume, free=free)
    with failures_told(course.folder):
        tokenizer = _vocabulary(course, given, teacher, tell)
        rows, wrong = _started(course, given, tokenizer, begun, tell)
        texts, lessons = material(given, wrong, tokenizer, teacher, course.plan, tell)
        tell({"lessons": dict(shares(lessons))})
        batches = Batches(texts, lessons, course.plan.steps, course.plan.tokens, course.plan.seed)
        student = student_of(begun, rows)
        before = weights_of(student) if course.plan.blend != 1.0 else {}
        cut = _cut(tokenizer, course.plan.longest)
        sets = [one.reduced(course.plan.dev_questions, course.plan.dev_texts) for one in given.dev]

        def figures(network: Any) -> dict[str, float]:
            return dense(lambda some: encode(network, cut, some), sets)

        trainer = make_trainer(student, batches, figures, course.plan, course.folder, tell)
        begin = figures(student) if not checkpoints else {}
        if begin:
            tell({"step": 0, "steps": course.plan.steps, **{f"eval_{name}": value for name, value in begin.items()}})
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        history = list(trainer.state.log_history)
        best = max((row for row in history if MEAN in row), key=lambda row: float(row[MEAN]))
        if before:
            blend(student, before, course.plan.blend)
            best = {"step": best["step"], **trainer.evaluate()}
        made = course.folder / "embedder"
        about = {"command": _command(course), "plan": dataclasses.asdict(course.plan), "best": best}
        write_embedder(made, student, tokenizer, given, history, about, course.base)
    return made


def read(course: EmbedderCourse, tell: Tell) -> Given:
    """All files, less what is in a development set; `tell` hears how many texts that took away."""
    dev = [read_judged(path) for path in course.dev]
    if not dev:
        raise BadInput("nothing is left to measure with", remedy="Name development sets with --dev.")
    held = hashes_of(dev)
    translations = []
    named = []
    for path in course.parallel:
        whole = read_parallel(path)
        kept = without(whole, held)
        tell({"set": path.name, "translations": len(kept), "left_out": len(whole) - len(kept)})
        translations += kept
        licence, source = licence_and_source(path if path.is_dir() else path.parent)
        named.append(Parallel(path.name, licence, source, Counter(one.lang for one in kept)))
    pairs = []
    for path in course.pairs:
        one = read_judged(path)
        pairs.append(one.without(held))
        left = len(one.questions) - len(pairs[-1].questions)
        tell({"set": one.name, "questions": len(pairs[-1].questions), "left_out": left})
    if not translations:
        raise BadInput("every translation is in a development set", remedy="Name others with --parallel.")
    return Given(translations, pairs, dev, named)


def _vocabulary(course: EmbedderCourse, given: Given, teacher: Embedder, tell: Tell) -> Tokenizer:
    from tokenizers import Tokenizer

    file = course.folder / _VOCABULARY
    if not file.is_file():
        tell({"doing": f"learning a vocabulary of {course.plan.pieces} pieces"})
        old = uncut_tokenizer(teacher.describe().tokenizer)
        made = learn(_read_from(given), course.plan.pieces, old, given.languages)
        whole = file.with_suffix(".new")
        made.save(str(whole))
        whole.replace(file)
    return Tokenizer.from_file(str(file))


def _read_from(given: Given) -> list[str]:
    """Texts of every language alike: what has most would take most of the pieces."""
    texts: dict[str, list[str]] = {"en": list(dict.fromkeys(one.teacher for one in given.translations))}
    for one in given.translations:
        texts.setdefault(one.lang, []).append(one.other)
    for each in given.pairs:
        texts.setdefault(each.lang, []).extend(text.whole for text in each.texts.values())
    return [text for some in texts.values() for text in some[:: max(1, len(some) // _LEARNED_FROM)]]


def _started(
    course: EmbedderCourse, given: Given, tokenizer: Tokenizer, begun: Path, tell: Tell
) -> tuple[Floats, list[list[int]]]:
    """Where the embeddings start, and by set the wrong passage of each question; found once and kept in a file."""
    file = course.folder / _START
    if not file.is_file():
        tell({"doing": "aligning the vocabularies"})
        old = uncut_tokenizer((begun / TOKENIZER).read_text("utf-8"))
        rows, kinds = start(tokenizer, old, words_of(begun), given.translations, course.plan.seed)
        tell({"started": kinds})
        tell({"doing": "looking for wrong passages"})
        wrong = {f"wrong_{n}": np.array(_wrong(one, tokenizer)) for n, one in enumerate(given.pairs)}
        whole = file.with_suffix(".new.npz")
        np.savez(whole, rows=rows, **wrong)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
        whole.replace(file)
    with np.load(file) as kept:
        return kept["rows"], [kept[f"wrong_{n}"].tolist() for n in range(len(given.pairs))]


def _wrong(one: JudgedSet, tokenizer: Tokenizer) -> list[int]:
    places = {key: place for place, key in enumerate(one.texts)}

    def tokens(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return lexical_negatives(
        tokens([question.text for question in one.questions]),
        tokens([text.whole for text in one.texts.values()]),
        [{places[key] for key in question.grades} for question in one.questions],
    )


def material(
    given: Given, wrong: Sequence[Sequence[int]], tokenizer: Tokenizer, teacher: Embedder, plan: Distilling, tell: Tell
) -> tuple[Texts, list[Lesson]]:
    """Every text as tokens, the teacher's vectors of its own language's, and what is shown of them."""
    texts = Texts(tokenizer, plan.longest)
    lessons: list[Lesson] = []
    taught: list[str] = list(dict.fromkeys(one.teacher for one in given.translations))
    for lang, source in dict.fromkeys((one.lang, one.source) for one in given.translations):
        some = [one for one in given.translations if (one.lang, one.source) == (lang, source)]
        own, other = texts.add([one.teacher for one in some]), texts.add([one.other for one in some])
        lessons.append(texts.lesson("translations", lang, list(zip(own, other, strict=True))))
    for one, wrongs in zip(given.pairs, wrong, strict=True):
        items = _answers(one, wrongs, texts)
        lessons.append(texts.lesson("answers", one.lang, items))
        if one.lang == "en":
            lessons.append(texts.lesson("ciphers", one.lang, items))
            taught += [question.text for question in one.questions] + [text.whole for text in one.texts.values()]
            taught += [text.title for text in one.texts.values() if text.title]
    taught = list(dict.fromkeys(taught))
    lessons.append(texts.lesson("alone", "en", [(n,) for n in texts.add(taught)]))
    texts.teach(taught, _vectors(teacher, taught, tell))
    return texts, lessons


def _answers(one: JudgedSet, wrongs: Sequence[int], texts: Texts) -> list[tuple[int, ...]]:
    """Questions with the passage and a wrong one, and titles with the first passage under them."""
    keys = list(one.texts)
    places = dict(zip(keys, texts.add([text.whole for text in one.texts.values()]), strict=True))
    asked = texts.add([question.text for question in one.questions])
    items: list[tuple[int, ...]] = []
    for number, question, wrong in zip(asked, one.questions, wrongs, strict=True):
        best = max(question.grades, key=question.grades.__getitem__)
        items.append((number, places[best], places[keys[wrong]] if wrong >= 0 else -1))
    titled = {text.title: text.text for text in reversed(one.texts.values()) if text.title}
    items += [(n, m, -1) for n, m in zip(texts.add(list(titled)), texts.add(list(titled.values())), strict=True)]
    return items


def _vectors(teacher: Embedder, texts: list[str], tell: Tell) -> Any:
    """The teacher's, in half precision; its own cache keeps them from one start of a run to the next."""
    parts = []
    for begin in range(0, len(texts), _AT_ONCE):
        parts.append(teacher.embed_passages(texts[begin : begin + _AT_ONCE]).astype(np.float16))
        if begin % (_AT_ONCE * 16) == 0:
            tell({"doing": "asking the teacher", "done": begin, "of": len(texts)})
    return np.concatenate(parts)


def _cut(tokenizer: Tokenizer, longest: int) -> Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer.to_str())
    made.enable_truncation(longest)
    return made


def _described(course: EmbedderCourse) -> dict[str, Any]:
    names = {key: [path.name for path in getattr(course, key)] for key in ("parallel", "pairs", "dev")}
    begun = {"from": weights_hash(course.base)} if course.base else {}
    return names | begun | dataclasses.asdict(course.plan)


def _command(course: EmbedderCourse) -> str:
    words = ["citewell train embedder", "--teacher packaged"]
    for key in ("parallel", "pairs", "dev"):
        words += [f"--{key} {path.name}" for path in getattr(course, key)]
    words += [f"--from {course.base.name}"] if course.base else []
    plan = dataclasses.asdict(course.plan)
    words += [f"--{k.replace('_', '-')} {v}" for k, v in plan.items() if v != getattr(Distilling(), k)]
    return " ".join(words)
