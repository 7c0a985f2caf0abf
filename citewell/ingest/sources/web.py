"""A web page, or the pages that a sitemap lists: `https://host/page`, `https://host/sitemap.xml`.

What the address gives decides: a sitemap or an index of sitemaps (packed or not) stands for its pages, anything else is
one document. A page's revision is its entity tag and date, with which the next run asks whether it has changed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import urllib.parse
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

from citewell.errors import BadInput, CitewellError, Gone, SourceUnavailable, UnsupportedMedia
from citewell.ingest import binary
from citewell.ingest.parser import SMALL, Parser
from citewell.ingest.parser_child import parsed
from citewell.ingest.sources import Item, Known, Limits, Tell, failed, spelled
from citewell.ingest.sources.fetch import Fetcher, Page, Site, bounded, joined, without_credentials
from citewell.ingest.sources.options import SourceOptions
from citewell.ingest.sources.sitemap import is_sitemap, locations
from citewell.parse import MEDIA_TYPES
from citewell.records import Document, Outcome

_HEAD = 4096
_DEPTH = 3
_SITEMAPS = 1000
# Kinds of files by the type that a server names.
_KINDS = {
    **{media_type: suffix for suffix, media_type in binary.MEDIA_TYPES.items()},
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "text/plain": ".txt",
    "application/x-pdf": ".pdf",
}
# Types that say little: the address's ending tells more.
_VAGUE = ("", "application/octet-stream", "application/zip", "text/plain", "binary/octet-stream")


class WebSource:
    """One address of one host. User and password of the address are sent to that host and shown nowhere."""

    def __init__(self, address: str, limits: Limits, options: SourceOptions) -> None:
        options.refuse("web pages", "query", "columns", "since")
        try:
            self._site = Site.of(address)
        except ValueError:  # its words repeat a part of the address
            raise BadInput("that is no address of a web page", remedy="Write https://HOST/PAGE.") from None
        parts = urllib.parse.urlsplit(address)
        user, password = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
        self._auth = (user, password) if user or password else None
        self._url = without_credentials(address if parts.path else urllib.parse.urljoin(address, "/"))
        self._limits = limits
        self._options = options

    @property
    def name(self) -> str:
        return spelled(self._url)

    @property
    def size(self) -> int:
        return 0

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        """A document a page, `unchanged` where the server says so, `gone` for 404 and 410.

        A sitemap that cannot be read to its end is one failure under the source's name.
        """
        options = self._options
        fetcher = Fetcher(self._site, pause=options.pause, timeout=options.timeout, auth=self._auth)
        with contextlib.closing(fetcher), contextlib.closing(Parser(self._limits)) as parser:
            yield from _Walk(_Reading(self.name, self._limits, parser, options.pages), fetcher, known).of(self._url)


@dataclass(frozen=True)
class _Reading:
    """What reading the pages of a source of this name takes."""

    name: str
    limits: Limits
    parser: Parser
    pages: int


class _Walk:
    """One run over a source."""

    def __init__(self, reading: _Reading, fetcher: Fetcher, known: Known) -> None:
        self._name = reading.name
        self._limits = reading.limits
        self._parser = reading.parser
        self._pages = reading.pages
        self._fetcher = fetcher
        self._known = known
        self._seen: set[int] = set()
        self._sitemaps = 0
        self._count = 0

    def of(self, url: str) -> Iterator[Item]:
        """Everything behind the source's address."""
        try:
            with self._opened(url, self._conditions(url)) as page:
                body, sitemap = _peeked(page)
                if sitemap:
                    yield from self._listed(page.url, body, depth=1)
                else:
                    yield self._page(url, page, body)
        except Gone as error:
            yield failed(url, self._name, _lost(error) if _named_sitemap(url) else error)
        except CitewellError as error:
            yield failed(url, self._name, error)

    def _listed(self, url: str, body: Iterator[bytes], depth: int) -> Iterator[Item]:
        """The pages of a sitemap. The list is read first: a server need not wait while pages are loaded.

        What of it cannot be read is a failure of the source, and the rest is loaded.
        """
        found: list[tuple[str, bool]] = []
        try:
            for location in self._locations(url, body):
                found.append(location)  # noqa: PERF402 - what came before an error is kept
        except CitewellError as error:
            yield failed(self._name, self._name, error)
        for address, inner in found:
            if inner:
                yield from self._inner(address, depth + 1)
            else:
                yield self._one(address)

    def _inner(self, url: str, depth: int) -> Iterator[Item]:
        """A sitemap that another one lists."""
        try:
            if depth > _DEPTH:
                raise BadInput(f"{url} is a sitemap more than {_DEPTH} deep", remedy="List its pages higher up.")
            with self._opened(url) as page:
                yield from self._listed(page.url, page.body, depth)
        except Gone as error:
            yield failed(self._name, self._name, _lost(error))
        except CitewellError as error:
            yield failed(self._name, self._name, error)

    def _locations(self, url: str, body: Iterator[bytes]) -> Iterator[tuple[str, bool]]:
        """Addresses that did not come before, whole; raises `BadInput` beyond the bounds."""
        for location, inner in locations(body):
            target = joined(url, location)
            key = hash(target)
            if not location or key in self._seen:
                continue
            self._seen.add(key)
            self._sitemaps += inner
            self._count += not inner
            if self._count > self._pages or self._sitemaps > _SITEMAPS:
                raise BadInput(
                    f"the sitemap lists more than {self._pages} pages, or {_SITEMAPS} sitemaps",
                    remedy="Load its parts one by one, or raise `--max-pages`.",
                )
            yield target, inner

    def _one(self, url: str) -> Item:
        try:
            with self._opened(url, self._conditions(url)) as page:
                body, _ = _peeked(page)
                return self._page(url, page, body)
        except CitewellError as error:
            return failed(url, self._name, error)

    @contextlib.contextmanager
    def _opened(self, url: str, conditions: dict[str, str] | None = None) -> Generator[Page]:
        """A page that may be read: of this host, and not forbidden by robots.txt, also where it was moved to."""
        if not self._fetcher.site.has(url):
            raise BadInput(
                f"{without_credentials(url)} is on another host",
                remedy="Load that address as a source of its own: a source stays on the host that it names.",
            )
        self._ask_robots(url)
        with self._fetcher.page(url, conditions) as page:
            if page.url != url:
                self._ask_robots(page.url)
            yield page

    def _ask_robots(self, url: str) -> None:
        if not self._fetcher.allowed(url):
            raise BadInput(f"robots.txt of the host forbids {url}", remedy="Ask the site's owner, or leave it out.")

    def _conditions(self, url: str) -> dict[str, str]:
        """What asks for the page only if it is not as it was."""
        try:
            state = json.loads(self._known.revision(url) or "{}")
        except ValueError:  # a revision that another kind of source wrote
            return {}
        if not isinstance(state, dict):
            return {}
        names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
        # A header holds ASCII; a server that says otherwise is asked for the whole page.
        return {names[key]: value for key, value in state.items() if key in names and str(value).isascii()}

    def _page(self, url: str, page: Page, body: Iterator[bytes]) -> Item:
        if page.status == 304:
            return Outcome(doc_id=url, status="unchanged", source=self._name)
        kind, charset = _kind(page)
        data = bounded(body, self._limits.file_bytes)
        item = self._read(_utf8(data, charset), kind, url)
        if isinstance(item, Outcome):
            return item.model_copy(update={"source": self._name})
        state = {"etag": page.headers.get("etag", ""), "modified": page.headers.get("last-modified", "")}
        revision = json.dumps({key: value for key, value in state.items() if value})
        update = {"url": self._link(item, page.url), "revision": revision if any(state.values()) else ""}
        return item.model_copy(update=update)

    def _read(self, data: bytes, kind: str, url: str) -> Item:
        """The document; what is binary, or large enough to keep a parser busy, is read in the child process."""
        if kind in MEDIA_TYPES and len(data) <= SMALL:
            (item,) = parsed(data, kind, url, self._limits)
            return item
        with tempfile.NamedTemporaryFile(prefix="citewell-") as copy:
            copy.write(data)
            copy.flush()
            (item,) = self._parser.items(Path(copy.name), kind, url)
            return item

    def _link(self, document: Document, url: str) -> str:
        """What the page calls its address, where that is on this host."""
        canonical = joined(url, document.url)
        return canonical if document.url and self._fetcher.site.has(canonical) else url


def _peeked(page: Page) -> tuple[Iterator[bytes], bool]:
    """The body, and whether it is a sitemap."""
    head: list[bytes] = []
    body = page.body
    while sum(map(len, head)) < _HEAD and (piece := next(body, None)) is not None:
        head.append(piece)
    return itertools.chain(head, body), page.status == 200 and is_sitemap(b"".join(head))


def _kind(page: Page) -> tuple[str, str]:
    """(suffix of such files, character set); the address's ending speaks where the server says little.

    Raises `UnsupportedMedia`.
    """
    header = Message()
    header["content-type"] = page.headers.get("content-type", "")
    named = page.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = _KINDS.get(named, "")
    suffix = PurePosixPath(urllib.parse.urlsplit(page.url).path).suffix.lower()
    if named in _VAGUE and (suffix in MEDIA_TYPES or suffix in binary.MEDIA_TYPES):
        kind = suffix
    if not kind:
        raise UnsupportedMedia(
            f"{page.url} is {named or 'of no kind that the server names'}",
            remedy=f"Pages are read as {', '.join(_KINDS)}.",
        )
    return kind, str(header.get_param("charset", "") or "") if kind in MEDIA_TYPES else ""


def _utf8(data: bytes, charset: str) -> bytes:
    """Text in the character set that the server names, as UTF-8; what the page itself declares is the parser's."""
    if not charset or charset.lower().replace("_", "-") in ("utf-8", "utf8"):
        return data
    try:
        return data.decode(charset).encode()
    except (LookupError, UnicodeDecodeError) as error:
        raise BadInput(
            f"the page is not in the character set `{charset}` that the server names", remedy="Correct the header."
        ) from error


def _lost(error: Gone) -> SourceUnavailable:
    """A sitemap that is gone says nothing about its pages."""
    return SourceUnavailable(error.message, remedy="Correct the address of the sitemap.")


def _named_sitemap(url: str) -> bool:
    path = urllib.parse.urlsplit(url).path.lower()
    return path.endswith((".xml", ".xml.gz"))
