"""`citewell index`: the versions of an index, from a migration to a rollback, and its backups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import console, emit_json, show_line, table, waiting

if TYPE_CHECKING:
    from citewell.library import Library
    from citewell.migrate import Progress
    from citewell.ports import IndexVersion

group = typer.Typer(
    name="index",
    help="Look after the versions of the index. `citewell index migrate` builds it anew while it stays in use.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `citewell index status` names it.")]
Force = Annotated[bool, typer.Option("--force", help="Do it although documents are missing there.")]


@group.command()
def status(
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare each version's ledger with the current one's, document by document."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the versions with their roles, counts and what they were made with.

    Examples:

    ```
    citewell index status
    citewell index status --check
    ```
    """
    with _library() as library, waiting("reading the versions"):
        found = library.versions().all(counted=True)
        rows = [_row(version) for version in found]
        if check:
            for row, lag in zip(rows, library.behind(found) if found else [], strict=True):
                row["behind"] = lag
    if as_json:
        emit_json({"versions": rows})
        return
    screen = console()
    columns = [
        "version",
        "role",
        ">documents",
        ">passages",
        ">unfinished",
        *([">behind"] if check else []),
        "made with",
    ]
    built = table(screen, *columns)
    for version, row in zip(found, rows, strict=True):
        counts = [str(row[name]) for name in ("documents", "passages", "unfinished", *(["behind"] if check else []))]
        built.add_row(version.name, version.role, *counts, version.fingerprint.describe())
    screen.print(built if rows else "there is no index yet; `citewell ingest FOLDER` makes one")


@group.command()
def create(as_json: AsJson = False) -> None:
    """Make the empty next version for the present settings; `migrate` does so by itself.

    Example:

    ```
    CITEWELL_VECTOR_INDEX=bbq_hnsw citewell index create
    ```
    """
    with _library() as library:
        made = library.versions().create(library.fingerprint())
        _roles(library, made.name, as_json)


@group.command()
def migrate(
    gate: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--gate", metavar="QUERIES QRELS", help="Promote only if these judged questions do not fall."),
    ] = None,
    min_delta: Annotated[
        float,
        typer.Option(
            "--min-delta", min=-1, max=1, metavar="X", help="Least change in nDCG@10 that --gate lets through."
        ),
    ] = -0.005,
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Make the new version current when it is complete.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Build the index anew with the present settings while it stays in use, and swap it in.

    Reads and writes go on; writes go to both versions. After an interrupt or a kill, run it again: it goes on.

    Examples:

    ```
    CITEWELL_EMBEDDER=intfloat/multilingual-e5-small citewell index migrate
    citewell index migrate --gate questions.jsonl judgements.tsv --min-delta -0.005
    ```
    """
    with _library() as library:
        target, steps = library.migrate(library.fingerprint())
        last = _shown(steps, f"building {target.name}")
        _complete(last, target)
        report: dict[str, Any] = {"version": target.name, "copied": last.copied, "deleted": last.deleted}
        if gate is not None:
            report["gate"] = _gated(library.current(), target, gate, min_delta)
        if promote:
            former = library.promote(target.name)
            report["previous"] = former
    if as_json:
        emit_json(report)
        return
    if gate is not None:
        show_line("gate", f"nDCG@10 {report['gate']['value']:+.4f} ({report['gate']['questions']} questions)")
    show_line("built", f"{target.name}: {last.copied} documents copied, {last.deleted} deleted")
    if promote:
        show_line("current", f"{target.name}; start services with the present settings")
        show_line("previous", f"{report['previous']}: `citewell index rollback` returns, `citewell index drop` lets go")


@group.command()
def promote(version: Version, force: Force = False, as_json: AsJson = False) -> None:
    """Make a version current, in one step; the current one becomes previous.

    Example:

    ```
    citewell index promote citewell-000002
    ```
    """
    with _library() as library:
        library.promote(version, complete=not force)
        _roles(library, version, as_json)


@group.command()
def rollback(force: Force = False, as_json: AsJson = False) -> None:
    """Go back to the previous version, in one step; what it lacks is brought up first.

    Example:

    ```
    citewell index rollback
    ```
    """
    with _library() as library:
        previous = library.previous()
        if not force:
            steps = library.follow(library.current(), previous)
            _complete(_shown(steps, f"bringing up {previous.name}"), previous)
        library.promote(previous.name, complete=not force)
        _roles(library, previous.name, as_json)


@group.command()
def drop(version: Version, as_json: AsJson = False) -> None:
    """Delete a version that is not current. This cannot be undone.

    Example:

    ```
    citewell index drop citewell-000001
    ```
    """
    with _library() as library:
        library.versions().drop(version)
    if as_json:
        emit_json({"dropped": version})
    else:
        show_line("dropped", version)


@group.command()
def backup(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="A new folder; with Elasticsearch a snapshot repository, or REPOSITORY/SNAPSHOT."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Copy the current version elsewhere while it stays in use.

    Examples:

    ```
    citewell index backup /backups/citewell-monday
    CITEWELL_STACK=served citewell index backup nightly
    ```
    """
    with _library() as library, waiting("copying"):
        made = library.versions().backup(place)
    if as_json:
        emit_json({"backup": made})
    else:
        show_line("backup", f"{made}; `citewell index restore {made}` brings it back")


@group.command()
def restore(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="What `citewell index backup` printed.")],
    as_json: AsJson = False,
) -> None:
    """Make a backup the current version. The version that was current stays, retired, until it is dropped.

    Example:

    ```
    citewell index restore /backups/citewell-monday
    ```
    """
    with _library() as library:
        with waiting("copying"):
            made = library.versions().restore(place)
        _roles(library, made.name, as_json)


# Steps


@contextlib.contextmanager
def _library() -> Iterator[Library]:
    """The versions alone: no index is opened, and none is made."""
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.engine import build

    with for_a_person():
        engine = build(load_settings(), "ingest")
        try:
            yield engine.library
        finally:
            engine.close()


def _row(version: IndexVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "role": version.role,
        "documents": version.documents,
        "passages": version.passages,
        "unfinished": version.unfinished,
        "fingerprint": version.fingerprint.to_dict(),
        "recipe": version.recipe,
    }


def _shown(steps: Iterable[Progress], what: str) -> Progress:
    """Run to the end with a line of progress on a terminal; the last step."""
    from citewell.migrate import Progress

    last = Progress(settled=True)
    screen = console(stderr=True)
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(screen.status(what)) if screen.is_terminal else None
        for last in steps:
            if line is not None:
                line.update(f"{what}: {last.copied} copied, {last.deleted} deleted, pass {last.passes}")
    return last


def _complete(last: Progress, target: IndexVersion) -> None:
    from citewell.errors import Conflict

    if last.failed:
        some = "; ".join(f"{doc_id}: {reason}" for doc_id, reason in list(last.failed.items())[:5])
        raise Conflict(
            f"{len(last.failed)} documents cannot be written to {target.name}: {some}",
            remedy=f"Mend or delete them and run this again, or `citewell index promote {target.name} --force`.",
        )
    if not last.settled:
        raise Conflict(
            f"the index changes faster than {target.name} follows: {last.copied} documents in {last.passes} passes",
            remedy="Pause the loads and run this again; it goes on where it stopped.",
        )


def _gated(current: IndexVersion, target: IndexVersion, files: tuple[Path, Path], least: float) -> dict[str, float]:
    """The change in nDCG@10 from the current version to the new one; raises `Conflict` below the least."""
    from citewell.config import load_settings
    from citewell.engine import build
    from citewell.errors import Conflict
    from citewell.evaluate.collection import from_files
    from citewell.evaluate.retrieval import change

    collection, settings = from_files(*files), load_settings()
    before = build(settings.with_recipe(current.recipe), "ingest", version=current.name)
    after = build(settings, "ingest", version=target.name)
    with waiting("measuring"), before, after:
        found = change(before, after, collection)
    if found["value"] < least:
        span = f"{found['low']:+.4f} to {found['high']:+.4f}"
        raise Conflict(
            f"nDCG@10 changes by {found['value']:+.4f} ({span}) from {current.name} to {target.name}; "
            f"the least is {least:+g}",
            remedy=f"`citewell index drop {target.name}` gives it up; `citewell index promote {target.name}` takes it.",
        )
    return found


def _roles(library: Library, version: str, as_json: bool) -> None:
    """What a command left behind: the version it was about, and the version of each role."""
    found = {one.role: one.name for one in library.versions().all() if one.role != "retired"}
    if as_json:
        emit_json({"version": version, **found})
        return
    for role, name in found.items():
        show_line(role, name)
