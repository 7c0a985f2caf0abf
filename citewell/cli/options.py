"""Options that several commands share, and what becomes of them: a connection, a question, filters."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from citewell.cli.output import show_line, waiting

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.engine import Engine, Role
    from citewell.ingest.sources import Source
    from citewell.records import Evidence, Filters, Question

Mode = Literal["hybrid", "bm25", "dense"]

CacheOption = Annotated[
    Literal["none", "exact", "semantic"] | None,
    typer.Option("--cache", help="Whether an earlier answer may be given again. [default: the setting cache]"),
]
ExpiresIn = Annotated[
    float, typer.Option("--expires-in", min=0, metavar="SECONDS", help="Drop the question after this time; 0 never.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]
LogJson = Annotated[bool, typer.Option("--json", help="Write the log as one JSON object a line.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Use the running service at this address. [default: CITEWELL_URL, else embedded]"
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="API key for --url. [default: CITEWELL_API_KEY, which ps does not show]"),
]
K = Annotated[
    int | None, typer.Option("--k", min=1, max=1000, metavar="N", help="Passages to find. [default: the setting k]")
]
ModeOption = Annotated[
    Mode, typer.Option("--mode", help="Both legs fused, words alone (bm25), or meaning alone (dense).")
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME=VALUE",
        help="Only passages with lang, doc_id, url or metadata.KEY of this value. Repeat it: different names must all "
        "hold, several values of one name mean any of them. url^=PREFIX takes what begins so; metadata.KEY>=V (also >, "
        "<=, <) compares numbers and dates.",
    ),
]
Lang = Annotated[
    str,
    typer.Option("--lang", metavar="CODE", help="Language of the question: en, es, ja, ko, … [default: recognised]"),
]


After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        metavar="QUESTION",
        help="An earlier question, or the id of its answer; repeat it, oldest first. What leans on it is found by it.",
    ),
]

# The name ends at the first sign; a value may hold any of them.
_PAIR = re.compile(r"([^=<>^]+)(\^=|>=|<=|=|>|<)(.+)", re.DOTALL)
_ANSWER_ID = re.compile(r"[0-9a-f]{32}")
_BOUNDS = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}


@contextlib.contextmanager
def connection(
    url: str | None, key: str | None, role: Role, *, load: bool = True, sources: Sequence[Source] = ()
) -> Iterator[Engine | Client]:
    """The running service at `url`, or the engine in this process, loaded if asked; both take the same verbs.

    `sources` are what will be loaded.
    """
    from citewell.cli.logs import for_a_person
    from citewell.config import client_key, load_settings, service_url

    load_settings()  # a mistake in them is told before anything is asked
    address = service_url() if url is None else url
    if address:
        from citewell.client import Client

        with for_a_person(), Client(address, client_key() if key is None else key) as client:
            yield client
        return
    with own_engine(role, load=load, sources=sources) as engine:
        yield engine


def _tell_left_out(engine: Engine) -> None:
    """Who asks in this process sees no log, and is to know that answers are not as good as they could be."""
    extractive = engine.generators.get("extractive") if engine.role != "ingest" else None
    reader = extractive.info().get("reader", {}) if extractive is not None else {}
    if "left_out" in reader:
        show_line("note", f"answers are ranked sentences, because {reader['left_out']}")


@contextlib.contextmanager
def own_engine(role: Role, *, load: bool = True, sources: Sequence[Source] = ()) -> Iterator[Engine]:
    """The engine in this process, loaded if asked; `sources` are what will be loaded into it."""
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.engine import build

    settings = load_settings()
    with for_a_person():
        engine = build(settings, role, sources=sources)
        try:
            if load:
                with waiting("loading"):
                    engine.load()
                _tell_left_out(engine)
            yield engine
        finally:
            engine.close()


def question_of(text: str, k: int | None, mode: Mode, pairs: Sequence[str] | None, lang: str) -> Question:
    """The question of a command line; a limit that is not given comes from the settings."""
    from citewell.config import load_settings
    from citewell.records import Question

    limit = load_settings().k if k is None else k
    return Question(text=text, k=limit, mode=mode, lang=lang, filters=filters_of(pairs or ()))


def role_for(earlier: Sequence[str] | None) -> Role:
    """What a search needs: the answers too, where one of them stands for an earlier question."""
    return "api" if any(_ANSWER_ID.fullmatch(one) for one in earlier or ()) else "ingest"


def after(engine: Engine | Client, question: Question, earlier: Sequence[str] | None) -> Question:
    """The question with the conversation before it: questions, or ids of answers, whose text is looked up."""
    from citewell.records import Turn

    turns = []
    for one in earlier or ():
        if _ANSWER_ID.fullmatch(one):
            found = engine.answer(one)
            turns.append(Turn(question=found.question.standalone, answer=found.answer))
        else:
            turns.append(Turn(question=one))
    return question.model_copy(update={"conversation": tuple(turns)})


def filters_of(pairs: Sequence[str]) -> Filters:
    """`NAME=VALUE` pairs as filters; complaints are about the command line."""
    from citewell.errors import InvalidFilter
    from citewell.index.filters import parse_filters

    raw: dict[str, Any] = {}
    for pair in pairs:
        found = _PAIR.fullmatch(pair)
        if found is None:
            raise typer.BadParameter(
                f"`{pair}` is not NAME=VALUE, as in metadata.section=returns", param_hint="--filter"
            )
        name, sign, value = found.groups()
        if sign == "=":
            values = _values(value) if name.startswith("metadata.") else [value]
            raw[name] = raw.get(name, []) if isinstance(raw.get(name, []), list) else _twice(name)
            raw[name].extend(values)
        else:
            raw[name] = raw.get(name, {}) if isinstance(raw.get(name, {}), dict) else _twice(name)
            if sign != "^=" and _BOUNDS[sign] in raw[name]:
                raise typer.BadParameter(f"`{name}{sign}` is there twice", param_hint="--filter")
            if sign == "^=":
                raw[name].setdefault("prefix", []).append(value)
            else:
                raw[name][_BOUNDS[sign]] = value
    try:
        return parse_filters(raw)
    except InvalidFilter as error:
        raise typer.BadParameter(f"{error.message}. {error.remedy}", param_hint="--filter") from None


def _twice(name: str) -> Any:
    raise typer.BadParameter(f"`{name}` has both values and bounds; choose one", param_hint="--filter")


def _values(text: str) -> list[str | int | float | bool]:
    """What a value can mean: `true`, numbers and quoted strings as JSON has them, the bare text otherwise.

    A number that is not written as JSON would write it (`1.50`) means its text as well.
    """
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return [text]
    if not isinstance(value, str | int | float | bool):
        return [text]
    return [value] if isinstance(value, str) or json.dumps(value) == text else [value, text]


def refuse_when_empty(engine: Engine | Client, evidence: Evidence) -> None:
    """Raises `NotFound` when nothing was found because there is nothing to find."""
    from citewell.errors import NotFound

    if evidence.hits:
        return
    index = engine.check().get("index", {})
    if index.get("ok") and index.get("documents") == 0:
        raise NotFound(
            f"the index `{index.get('index', '')}` holds no documents",
            remedy="Load some first: `citewell ingest FOLDER`. If you did, see `citewell config data_dir index_name`.",
        )
