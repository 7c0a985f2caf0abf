"""`citewell ingest`: sources into the index, once or again and again."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from citewell.cli.ingest_options import (
    Distributed,
    DryRun,
    Every,
    EveryOne,
    FailuresFile,
    IgnoreErrors,
    MostDeletes,
    Named,
    Sources,
    Sync,
)
from citewell.cli.loading import Bar, Report, Watched, name_outcome
from citewell.cli.options import AsJson, Key, Url, connection
from citewell.cli.output import show_error, show_line
from citewell.cli.source_options import Map, MaxPages, Pause, Query, Since, source_options
from citewell.errors import CitewellError, ConfigError

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.config import Settings
    from citewell.engine import Engine
    from citewell.ingest.load import Loading
    from citewell.ingest.sources import Known, Source, Tell
    from citewell.records import Outcome
    from citewell.schedule import SourceTable


@dataclass(frozen=True)
class Task:
    """What is loaded together; `every` is the seconds from the start of one round to that of the next, 0 for once."""

    name: str
    sources: Sequence[Source]
    plan: Loading
    every: float = 0.0


@dataclass(frozen=True)
class Way:
    """How the tasks are gone through: the options that are the same for all."""

    dry_run: bool
    as_json: bool
    repeated: bool


def ingest(
    sources: Sources = None,
    every_one: EveryOne = False,
    named: Named = None,
    sync: Sync = False,
    max_delete: MostDeletes = None,
    ignore_errors: IgnoreErrors = False,
    dry_run: DryRun = False,
    every: Every = "",
    query: Query = "",
    columns: Map = None,
    since: Since = "",
    max_pages: MaxPages = 10_000,
    pause: Pause = 0.5,
    failures: FailuresFile = None,
    distributed: Distributed = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Load documents from files, databases, another Elasticsearch index and web pages, and keep the index in step.

    Takes JSONL (also .gz) with _id or id, title, text, url, lang, metadata and groups; JSON, CSV, Markdown, HTML and
    plain text; folders of them. What is unchanged is skipped, so a load that was interrupted goes on when it is run
    again. A bad document is named with its reason, never stops the load, and makes the exit status 1.

    Examples:

    ```
    citewell ingest examples/shop
    citewell ingest handbook.md articles.jsonl.gz faq/ --json
    citewell ingest faq/ --sync --dry-run
    citewell ingest faq/ --sync --every 10m
    citewell ingest --all
    citewell ingest 'postgresql://reader@db/shop' --query 'select id, title, body from articles' --map text=body
    citewell ingest elasticsearch://search:9200/articles --since updated
    citewell ingest https://help.example/sitemap.xml
    citewell ingest faq/ --url http://127.0.0.1:8080
    citewell ingest corpus.jsonl.gz --distributed
    ```
    """
    from citewell.config import load_settings
    from citewell.ingest.load import opened

    _check(sources, every_one, named, failures, url, sync or dry_run or distributed)
    bounded = _bounded(max_delete)
    settings = load_settings()
    tables = _tables(settings, every_one, named or [])
    plan = _plan(settings, sync, bounded, ignore_errors, failures)
    plan = _spread(plan, settings, as_json) if distributed else plan
    period = _period(every)
    tasks = [_task(settings, name, table, plan, period) for name, table in tables.items()]
    if sources:
        options = source_options(query, columns, since, sync=sync, pages=max_pages, pause=pause)
        tasks.insert(0, Task("", opened(sources, settings, options), plan, period))
    way = Way(dry_run, as_json, bool(period))
    with _loading(url, key, tasks, way) as (engine, readable):
        status = _all(engine, readable, way)
    if status:
        raise typer.Exit(status)


# From the command line to tasks


def _check(
    sources: list[str] | None,
    every_one: bool,
    named: list[str] | None,
    failures: Path | None,
    url: str | None,
    needs_index: bool,
) -> None:
    from citewell.config import service_url

    if not (sources or every_one or named):
        raise typer.BadParameter("name a source, or take those of the settings with --all or --named")
    if needs_index and (service_url() if url is None else url):
        raise typer.BadParameter(
            "--sync, --dry-run and --distributed need the index itself, not a service: leave out --url, and set what "
            "the service has"
        )
    if failures is not None and (every_one or len(named or ()) > 1):
        raise typer.BadParameter("several sources would share the file: set `failures` of each in the settings")


def _bounded(max_delete: str | None) -> str | None:
    from citewell.schedule import bound_of

    try:
        return None if max_delete is None else bound_of(max_delete).text
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-delete") from None


def _period(every: str) -> float:
    from citewell.schedule import seconds_of

    try:
        return seconds_of(every) if every else 0.0
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--every") from None


def _tables(settings: Settings, every_one: bool, named: list[str]) -> dict[str, SourceTable]:
    if every_one and not settings.sources:
        raise ConfigError("setting `sources`: there is none", remedy="Write [sources.NAME] into citewell.toml.")
    for wanted in named:
        if wanted not in settings.sources:
            known = ", ".join(settings.sources) or "none"
            raise ConfigError(f"setting `sources`: there is no `{wanted}`", remedy=f"The settings have: {known}.")
    return {name: table for name, table in settings.sources.items() if every_one or name in named}


def _plan(
    settings: Settings, sync: bool, max_delete: str | None, ignore_errors: bool, failures: Path | None
) -> Loading:
    from citewell.ingest.load import Loading

    return Loading(sync, max_delete or settings.max_delete, ignore_errors, failures)


def _spread(plan: Loading, settings: Settings, as_json: bool) -> Loading:
    """The work left to workers; what it has to wait for is told to a person."""
    spread = replace(plan, distributed=True, note=lambda text: None if as_json else show_line("note", text))
    spread.check(settings)
    return spread


def _task(settings: Settings, name: str, table: SourceTable, plan: Loading, period: float) -> Task:
    """A source of the settings: what it says of itself comes before the options, but for how often."""
    from citewell.ingest.load import source_of

    source, own = source_of(table, settings, plan)
    return Task(name, [source], own, (table.every or period) if period else 0.0)


@contextlib.contextmanager
def _loading(
    url: str | None, key: str | None, tasks: list[Task], way: Way
) -> Iterator[tuple[Engine | Client, list[Task]]]:
    """What they are loaded into, and the tasks; their sources were looked at where documents choose the embedder."""
    from citewell.client import Client
    from citewell.ingest.peek import Peeked

    if way.dry_run:
        with connection(url, key, "ingest", load=False) as engine:
            yield engine, tasks
        return
    each = [[Peeked(source) for source in task.sources] for task in tasks]
    given = list(chain.from_iterable(each))
    with connection(url, key, "ingest", sources=given) as engine:
        if not way.as_json and not isinstance(engine, Client) and any(source.looked for source in given):
            show_line("note", f"the embedder for these documents is `{engine.settings.embedder}`")
        yield engine, [replace(task, sources=sources) for task, sources in zip(tasks, each, strict=True)]


# Rounds


def _all(engine: Engine | Client, tasks: Sequence[Task], way: Way) -> int:
    """Every task once, or each again and again; the exit status."""
    if way.repeated:
        return _again_and_again(engine, tasks, way)
    worst = 0
    for task in tasks:
        try:
            worst = max(worst, _round(engine, task, way))
        except CitewellError as error:
            if len(tasks) == 1:
                raise
            show_error(error.to_json()["error"], way.as_json)
            worst = 1
    return worst


def _again_and_again(engine: Engine | Client, tasks: Sequence[Task], way: Way) -> int:
    """Until SIGTERM or SIGINT; a round that went wrong is told, and the next one is tried."""
    due = {task.name: time.monotonic() for task in tasks}
    try:
        with _ended_by(signal.SIGTERM):
            while True:
                task = min(tasks, key=lambda task: due[task.name])
                time.sleep(max(0.0, due[task.name] - time.monotonic()))
                due[task.name] = time.monotonic() + task.every
                try:
                    _round(engine, task, way)
                except CitewellError as error:
                    _tell_error(error, way)
    except KeyboardInterrupt:
        show_line("stopped", "what was counted is loaded")
        return 0


@contextlib.contextmanager
def _ended_by(number: int) -> Iterator[None]:
    """The signal ends the block as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)


def _tell_error(error: CitewellError, way: Way) -> None:
    if way.as_json:
        typer.echo(json.dumps(error.to_json(), ensure_ascii=False))
    else:
        show_error(error.to_json()["error"], as_json=False)


def _round(engine: Engine | Client, task: Task, way: Way) -> int:
    """One load; the exit status that it makes."""
    report = Report(keep=way.as_json, deletes=task.plan.sync, dry=way.dry_run)
    if task.name and not way.as_json:
        show_line("source", task.name)
    try:
        _load(engine, task, report)
    except KeyboardInterrupt:
        if way.repeated:
            raise
        report.show(way.as_json)
        show_line("interrupted", "what is counted above is loaded; run the same command again to go on")
        raise typer.Exit(130) from None
    except CitewellError as error:
        error.detail = {**error.detail, **report.to_dict()}
        if not way.as_json and report.counts:
            report.show(as_json=False)
        raise
    if way.repeated and way.as_json:
        typer.echo(json.dumps({"source": task.name} | report.to_dict(), ensure_ascii=False))
    else:
        report.show(way.as_json)
    return 1 if report.counts["failed"] else 0


def _load(engine: Engine | Client, task: Task, report: Report) -> None:
    with Bar(sum(source.size for source in task.sources)) as bar:
        watched = [Watched(source, bar) for source in task.sources]
        outcomes = _outcomes(engine, watched, task.plan, report.dry)
        with contextlib.closing(cast("Generator[Outcome]", outcomes)):  # an interrupted load flushes what it wrote
            for outcome in outcomes:
                report.add(outcome)
                bar.step()
                if not report.keep:
                    name_outcome(outcome)


def _outcomes(engine: Engine | Client, sources: Sequence[Source], plan: Loading, dry: bool) -> Iterator[Outcome]:
    from citewell.client import Client

    if not isinstance(engine, Client):
        return engine.preview(sources, plan) if dry else engine.ingest(sources, plan)
    return _sent(engine, sources, plan)


def _sent(client: Client, sources: Sequence[Source], plan: Loading) -> Iterator[Outcome]:
    """Read here, loaded by the service, whose ledger says `api` for where they come from."""
    from citewell.ingest.failures import Failures
    from citewell.ingest.sources import Known

    tell: Tell = lambda _: None  # noqa: E731 - the bar hears it from the source
    known: Known = Known()
    items = chain.from_iterable(source.items(known, tell) for source in sources)
    put: Callable[..., Any] = client.put
    if plan.failures is None:
        yield from put(items)
        return
    with Failures(plan.failures) as file:
        yield from file.of(put, items)
