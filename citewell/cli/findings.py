"""What `citewell doctor` found when it compared the parts: counted, shown, and repaired where that was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from citewell.cli.output import clean, console, table
from citewell.errors import CitewellError

if TYPE_CHECKING:
    from citewell.checkup import Result
    from citewell.engine import Engine
    from citewell.ports import Inspection

# Findings that are told one by one; the rest is counted.
_SHOWN = 200


class Findings:
    """A bounded list of results, with complete counts by kind."""

    def __init__(self, fix: bool) -> None:
        self._fix = fix
        self._shown: list[Result] = []
        self._counts: Counter[str] = Counter()
        self._fixed = 0
        self.wrong = 0
        self.half_made = ""

    def of_versions(self, engine: Engine) -> None:
        from citewell.checkup import Twice, look
        from citewell.index.roles import HALF_MADE

        try:
            for result in look(Twice(engine.library.versions().inspection()), fix=self._fix):
                self._add(result)
                if result.finding.kind == HALF_MADE and not result.fixed:
                    self.half_made = result.finding.name
        except CitewellError as error:
            # Most often the check of the index says the same; a problem told twice is better than one not told.
            self._unseen("index versions", error)

    def of_documents(self, engine: Engine) -> None:
        from citewell.checkup import documents

        self._look(documents(engine.library), "index")

    def of_answers(self, engine: Engine) -> None:
        self._look([engine.store.inspection()], "answers")

    def of_loads(self, engine: Engine) -> None:
        from citewell import parts

        batches = parts.batches(engine.settings)
        self._look([batches.inspection()], "queue")
        batches.close()

    def to_dict(self) -> dict[str, Any]:
        return {
            "findings": [_told(result) for result in self._shown],
            "counts": dict(sorted(self._counts.items())),
            "fixed": self._fixed,
        }

    def show(self) -> None:
        from rich.text import Text

        screen = console()
        if self._shown:
            built = table(screen, "finding", "where", "state", "detail")
            for result in self._shown:
                finding = result.finding
                told = Text.assemble(clean(result.problem or finding.reason))
                if not result.fixed:
                    told.append("\nremedy: ", "bold").append(clean(result.remedy or finding.remedy))
                where = clean(f"{finding.place} {finding.name}" if finding.name != finding.place else finding.place)
                built.add_row(finding.kind, where, _state(result), told)
            screen.print(built)
        if left := self._counts.total() - len(self._shown):
            screen.print(f"and {left} more: " + ", ".join(f"{n} {kind}" for kind, n in sorted(self._counts.items())))
        if not self._counts:
            screen.print("the parts agree with each other")
        elif self._fix:
            screen.print(f"{self._fixed} of {self._counts.total()} findings repaired")
        elif self.wrong:
            screen.print(f"{self.wrong} findings; `citewell doctor --fix` repairs those that say so")

    def _look(self, inspections: Iterable[Inspection], place: str) -> None:
        from citewell.checkup import look

        try:
            for inspection in inspections:
                for result in look(inspection, fix=self._fix):
                    self._add(result)
        except CitewellError as error:
            self._unseen(place, error)

    def _unseen(self, place: str, error: CitewellError) -> None:
        from citewell.checkup import Result
        from citewell.ports import Finding

        reason = f"not looked through to the end: {error.message}"
        self._add(Result(Finding("not_looked_through", place, place, reason, error.remedy, fixable=False)))

    def _add(self, result: Result) -> None:
        self._counts[result.finding.kind] += 1
        self._fixed += result.fixed
        self.wrong += result.wrong
        if len(self._shown) < _SHOWN:
            self._shown.append(result)


def _told(result: Result) -> dict[str, Any]:
    finding = result.finding
    return {
        "kind": finding.kind,
        "place": finding.place,
        "name": finding.name,
        "reason": result.problem or finding.reason,
        "remedy": result.remedy or finding.remedy,
        "fixable": finding.fixable,
        "note": finding.note,
        "fixed": result.fixed,
    }


def _state(result: Result) -> Any:
    from rich.text import Text

    if result.fixed:
        return Text("repaired", "green")
    return Text("note") if result.finding.note else Text("problem", "bold red")
