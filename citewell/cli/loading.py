"""What `citewell ingest` shows and counts: progress while a load runs, and what became of it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from citewell.cli.output import clean, console, emit_json, show_line, table
from citewell.ingest.around import Around

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from citewell.ingest.sources import Item, Known, Source, Tell
    from citewell.records import Outcome

STATUSES = ("added", "changed", "unchanged", "failed")


@dataclass
class Report:
    """What became of a load. `keep` is for programs; people read each failure as it happens.

    `deletes` shows that count, too; `dry` lists every id by what would become of it.
    """

    keep: bool
    deletes: bool = False
    dry: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    passages: Counter[str] = field(default_factory=Counter)
    failed: list[dict[str, str]] = field(default_factory=list)
    deleted: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, list[str]] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @property
    def statuses(self) -> tuple[str, ...]:
        return (*STATUSES[:3], "deleted", "failed") if self.deletes else STATUSES

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.status] += 1
        self.passages[outcome.status] += outcome.passages
        if self.dry:
            self.documents.setdefault(outcome.status, []).append(outcome.doc_id)
        if outcome.status == "failed" and self.keep:
            self.failed.append(outcome.model_dump(include={"doc_id", "source", "code", "reason", "remedy"}))
        if outcome.status == "deleted" and outcome.receipt is not None and self.keep:
            self.deleted.append(outcome.model_dump(include={"doc_id", "source", "receipt"}))

    def to_dict(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        facts: dict[str, Any] = {
            "counts": {status: self.counts[status] for status in self.statuses},
            "failed": self.failed,
            "seconds": round(seconds, 3),
            "documents_per_second": round(self.counts.total() / seconds, 1) if seconds else 0.0,
        }
        if self.deletes and not self.dry:
            facts["deleted"] = self.deleted
        if self.dry:
            facts |= {
                "dry_run": True,
                "documents": {status: self.documents.get(status, []) for status in self.statuses},
            }
        return facts

    def show(self, as_json: bool) -> None:
        facts = self.to_dict()
        if as_json:
            emit_json(facts)
            return
        screen = console()
        built = table(screen, "outcome", ">documents", *([] if self.dry else [">passages"]))
        for status in self.statuses:
            built.add_row(status, str(self.counts[status]), *([] if self.dry else [str(self.passages[status])]))
        screen.print(built)
        total, seconds, rate = self.counts.total(), facts["seconds"], facts["documents_per_second"]
        line = f"{total} documents in {seconds:.1f} s, {rate:g} documents/s"
        screen.print(clean("nothing was written: this was a dry run" if self.dry else line))


def name_outcome(outcome: Outcome) -> None:
    """Name a document that failed, or that something is to be said about."""
    if outcome.status == "failed":
        show_line("failed", f"{outcome.doc_id}: {outcome.reason} {outcome.remedy}".rstrip(), style="red")
    elif outcome.reason:
        show_line("note", f"{outcome.doc_id}: {outcome.reason}")


class Watched(Around):
    """A source whose reading a bar follows."""

    def __init__(self, source: Source, bar: Bar) -> None:
        super().__init__(source)
        self._bar = bar

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        def both(count: int) -> None:
            self._bar.tell(count)
            tell(count)

        for item in self._source.items(known, both):
            self._bar.read()
            yield item


class Bar:
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

    def __enter__(self) -> Bar:
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

    def read(self) -> None:
        """An item was read."""
        self._positions.append(self._read)

    def step(self) -> None:
        self._done += 1
        position = self._positions.popleft() if self._positions else self._read
        if self._progress is not None and self._task is not None:
            rate = self._done / max(time.perf_counter() - self._started, 1e-9)
            self._progress.update(self._task, completed=position, done=self._done, rate=f"{rate:.0f}")
