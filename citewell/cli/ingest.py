"""`citewell ingest`: files and folders into the index."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from citewell.cli.options import AsJson, Key, Url, connection
from citewell.cli.output import clean, console, emit_json, show_line, table
from citewell.cli.source_options import Map, MaxPages, Pause, Query, Since, source_options
from citewell.errors import CitewellError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from citewell.client import Client
    from citewell.engine import Engine
    from citewell.ingest.sources import Item, Known, SourceOptions
    from citewell.records import Outcome

STATUSES = ("added", "changed", "unchanged", "failed")


@dataclass
class Report:
    """What became of a load; `failed` is kept for programs alone, people read each as it happens."""

    keep: bool
    counts: Counter[str] = field(default_factory=Counter)
    passages: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.status] += 1
        self.passages[outcome.status] += outcome.passages
        if outcome.status == "failed" and self.keep:
            self.failed.append(outcome.model_dump(include={"doc_id", "source", "code", "reason", "remedy"}))

    def to_dict(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        return {
            "counts": {status: self.counts[status] for status in STATUSES},
            "failed": self.failed,
            "seconds": round(seconds, 3),
            "documents_per_second": round(self.counts.total() / seconds, 1) if seconds else 0.0,
        }


def ingest(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Files, folders and addresses to load.")],
    query: Query = "",
    columns: Map = None,
    since: Since = "",
    max_pages: MaxPages = 10_000,
    pause: Pause = 0.5,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Load documents from files, folders, databases, another Elasticsearch index and web pages.

    Takes JSONL (also .gz) with _id or id, title, text, url, lang, metadata and groups; JSON, CSV, Markdown, HTML and
    plain text; and folders of them. What is unchanged since the last load is skipped, so a load that was interrupted
    goes on when it is run again. A bad document is named with its reason, never stops the load, and makes the exit
    status 1.

    Examples:

    ```
    citewell ingest examples/shop
    citewell ingest handbook.md articles.jsonl.gz faq/ --json
    citewell ingest 'postgresql://reader@db/shop' --query 'select id, title, body from articles' --map text=body
    citewell ingest elasticsearch://search:9200/articles --since updated
    citewell ingest https://help.example/sitemap.xml
    citewell ingest faq/ --url http://127.0.0.1:8080
    ```
    """
    options = source_options(query, columns, since, pages=max_pages, pause=pause)
    with connection(url, key, "ingest") as engine:
        report = Report(keep=as_json)
        try:
            _load(engine, sources, options, report)
        except KeyboardInterrupt:
            _show(report, as_json)
            show_line("interrupted", "what is counted above is loaded; run the same command again to go on")
            raise typer.Exit(130) from None
        except CitewellError as error:
            error.detail = {**error.detail, **report.to_dict()}
            if not as_json and report.counts:
                _show(report, as_json)
            raise
    _show(report, as_json)
    if report.counts["failed"]:
        raise typer.Exit(1)


def _load(engine: Engine | Client, sources: Sequence[str], options: SourceOptions, report: Report) -> None:
    from citewell.config import load_settings
    from citewell.ingest.sources import Limits, open_source, read_sources, size_of, spelled

    settings = load_settings()
    limits = Limits.of(settings)
    paths = [source for source in sources if "://" not in source]
    opened = [open_source(source, limits, options) for source in sources]  # refuses options before anything is loaded
    with _Bar(size_of(paths)) as bar:
        if paths:
            _put(engine, read_sources(paths, limits, bar.tell), spelled(", ".join(paths)), bar, report)
        for source in (source for source, argument in zip(opened, sources, strict=True) if argument not in paths):
            _put(engine, source.items(_known(engine, source.name), bar.tell), source.name, bar, report)


def _known(engine: Engine | Client, name: str) -> Known:
    """What the index knows of a source; through a service nothing, so that everything is read."""
    from citewell.client import Client
    from citewell.ingest.known import known_of
    from citewell.ingest.sources import Known

    return Known() if isinstance(engine, Client) else known_of(engine.library.index(), name)


def _put(engine: Engine | Client, items: Iterable[Item], name: str, bar: _Bar, report: Report) -> None:
    from citewell.client import Client

    watched = bar.watch(items)
    outcomes = engine.put(watched) if isinstance(engine, Client) else engine.put(watched, source=name)
    with contextlib.closing(cast("Generator[Outcome]", outcomes)):  # an interrupted load flushes what it wrote
        for outcome in outcomes:
            report.add(outcome)
            bar.step()
            if not report.keep:
                _name(outcome)


def _name(outcome: Outcome) -> None:
    """Name a document that failed, or that something is to be said about."""
    if outcome.status == "failed":
        show_line("failed", f"{outcome.doc_id}: {outcome.reason} {outcome.remedy}".rstrip(), style="red")
    elif outcome.reason:
        show_line("note", f"{outcome.doc_id}: {outcome.reason}")


def _show(report: Report, as_json: bool) -> None:
    facts = report.to_dict()
    if as_json:
        emit_json(facts)
        return
    screen = console()
    built = table(screen, "outcome", ">documents", ">passages")
    for status in STATUSES:
        built.add_row(status, str(report.counts[status]), str(report.passages[status]))
    screen.print(built)
    total, seconds, rate = report.counts.total(), facts["seconds"], facts["documents_per_second"]
    screen.print(clean(f"{total} documents in {seconds:.1f} s, {rate:g} documents/s"))


class _Bar:
    """Bytes read, documents done, documents a second and the time that remains, on a terminal's stderr.

    Outcomes come in the order of the items but a batch later, so each item remembers how far the reading was.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._read = 0
        self._positions: deque[int] = deque()
        self._done = 0
        self._started = time.perf_counter()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        screen = console(stderr=True)
        if screen.is_terminal:
            from rich import progress

            self._progress = progress.Progress(
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[done]} documents, {task.fields[rate]}/s"),
                progress.TextColumn("left"),
                progress.TimeRemainingColumn(),
                console=screen,
                transient=True,
            )
            self._task = self._progress.add_task("", total=self._total, done=0, rate="-")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, count: int) -> None:
        self._read += count

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self._positions.append(self._read)
            yield item

    def step(self) -> None:
        self._done += 1
        position = self._positions.popleft() if self._positions else self._read
        if self._progress is not None and self._task is not None:
            rate = self._done / max(time.perf_counter() - self._started, 1e-9)
            self._progress.update(self._task, completed=position, done=self._done, rate=f"{rate:.0f}")
