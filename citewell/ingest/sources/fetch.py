"""Pages of one web server: politely, within bounds, and from no other host.

A request follows redirects only to the host that the source names, waits between two requests, obeys robots.txt (RFC
9309), and is bounded in time and bytes. An answer that may be better later (429, 5xx, a time-out) is tried again.
"""

from __future__ import annotations

import contextlib
import email.utils
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

import httpx
import protego

from citewell import __version__
from citewell.errors import BadInput, Gone, SourceUnavailable, TooLarge

AGENT = "citewell"
_ROBOTS_BYTES = 500 * 1024  # RFC 9309, 2.5
_ATTEMPTS = 3
_BACK_OFF_S = 1.0
_LONGEST_WAIT_S = 60.0
_REDIRECTS = 5
# A server that sends a byte now and then is within every single time limit.
_WHOLE_S = 300.0
_MOVED = (301, 302, 303, 307, 308)
_LATER = (429, 500, 502, 503, 504)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Site:
    """The host that a source names. The same host under `https` is the same site; another port is not."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Site:
        """Raises `ValueError` for an address that is none."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("no address of a web server")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    def has(self, url: str) -> bool:
        try:
            other = Site.of(url)
        except ValueError:  # the answer: it is nowhere
            return False
        upgraded = (self.scheme, other.scheme) == ("http", "https") and (self.port, other.port) == (80, 443)
        return self.host == other.host and (upgraded or (self.scheme, self.port) == (other.scheme, other.port))


@dataclass(frozen=True)
class Page:
    """An answer that is being read. `status` is 200, or 304 where it has not changed; `body` raises what goes wrong."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes]


class Fetcher:
    """One client for one site, with its robots.txt."""

    def __init__(
        self,
        site: Site,
        *,
        pause: float,
        timeout: float,
        auth: tuple[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.site = site
        self._pause = pause
        self._sleep = sleep
        self._next = 0.0
        self._robots: protego.Protego | None = None
        self._client = httpx.Client(
            headers={"User-Agent": f"{AGENT}/{__version__}", "Accept": "text/html, text/*;q=0.9, */*;q=0.5"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            auth=auth,
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def allowed(self, url: str) -> bool:
        """Whether robots.txt lets us read it; it is fetched once. Raises `SourceUnavailable` when it cannot be."""
        if self._robots is None:
            self._robots = protego.Protego.parse(self._robots_text())
            self._pause = max(self._pause, float(self._robots.crawl_delay(AGENT) or 0.0))
        return self._robots.can_fetch(url, AGENT)

    @contextlib.contextmanager
    def page(self, url: str, headers: Mapping[str, str] | None = None) -> Generator[Page]:
        """The answer for an address of this site.

        Raises `Gone` for 404 and 410, `SourceUnavailable` for what may be better later, and `BadInput` for an answer
        that will stay as it is: a redirect to another host, a refusal.
        """
        deadline = time.monotonic() + _WHOLE_S
        for _ in range(_REDIRECTS + 1):
            with contextlib.closing(self._answer(url, headers or {}, deadline)) as response:
                if response.status_code not in _MOVED:
                    _check(url, response)
                    yield Page(url, response.status_code, response.headers, _body(url, response, deadline))
                    return
                url = self._moved(url, response.headers.get("location", ""))
        raise BadInput(f"{url} redirects more than {_REDIRECTS} times", remedy="Name the address where it ends.")

    def _robots_text(self) -> str:
        """Nothing where there is none; what is beyond the bound counts for nothing, too."""
        url = urllib.parse.urlunsplit((self.site.scheme, _place(self.site), "/robots.txt", "", ""))
        try:
            with self.page(url) as page:
                text = b""
                for piece in page.body:
                    text += piece
                    if len(text) > _ROBOTS_BYTES:
                        break
                return text[:_ROBOTS_BYTES].decode("utf-8-sig", "replace")
        except (Gone, BadInput):
            # RFC 9309, 2.3.1.3: what the server refuses for good allows everything.
            return ""

    def _moved(self, url: str, location: str) -> str:
        target = joined(url, location)
        if not location or not self.site.has(target):
            raise BadInput(
                f"{url} redirects to another host: {target}",
                remedy="Load that address, if it is meant: a source stays on the host that it names.",
            )
        return target

    def _answer(self, url: str, headers: Mapping[str, str], deadline: float) -> httpx.Response:
        """The server's answer, its body still to be read; tried again where that can help."""
        for attempt in range(1, _ATTEMPTS + 1):
            self._sleep(max(0.0, self._next - time.monotonic()))
            wait = _BACK_OFF_S * 2 ** (attempt - 1)
            try:
                response = self._client.send(self._client.build_request("GET", url, headers=dict(headers)), stream=True)
            except httpx.InvalidURL as error:
                raise BadInput(f"{url} is no address: {error}", remedy="Correct it.") from error
            except httpx.TransportError as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                problem = SourceUnavailable(f"{url} does not answer: {reason}")
            else:
                if response.status_code not in _LATER:
                    return response
                wait = max(wait, _retry_after(response.headers.get("retry-after", "")))
                problem = SourceUnavailable(f"{url} answered with status {response.status_code}")
                response.close()
            finally:
                self._next = time.monotonic() + self._pause
            if attempt == _ATTEMPTS or wait > _LONGEST_WAIT_S or time.monotonic() + wait > deadline:
                raise problem
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def without_credentials(url: str) -> str:
    """The address as people may see it; without a fragment, too. What is no address is shown up to its credentials."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


def joined(base: str, reference: str) -> str:
    """The address that a page or sitemap at `base` means; as it is written where it makes none."""
    try:
        return without_credentials(urllib.parse.urljoin(base, reference))
    except ValueError:
        return without_credentials(reference)


def bounded(pieces: Iterator[bytes], limit: int) -> bytes:
    """All of a body; raises `TooLarge` as soon as it is over the limit."""
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > limit:
            raise TooLarge(
                f"the page has more than {limit} bytes", remedy="Load it as a file, or raise the setting `file_limit`."
            )
    return bytes(data)


def _check(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status in (200, 304):
        return
    if status in (404, 410):
        raise Gone(f"{url} is not there: the server answered with status {status}")
    if status in (401, 403, 407):
        raise BadInput(
            f"{url} is not for us: the server answered with status {status}", remedy="Check who may read it."
        )
    raise (SourceUnavailable if status >= 500 else BadInput)(f"{url} answered with status {status}")


def _body(url: str, response: httpx.Response, deadline: float) -> Iterator[bytes]:
    try:
        for piece in response.iter_bytes():
            if time.monotonic() > deadline:
                raise SourceUnavailable(f"{url} took longer than {_WHOLE_S:g} seconds")
            yield piece
    except httpx.HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceUnavailable(f"{url} broke off: {reason}") from error


def _place(site: Site) -> str:
    host = f"[{site.host}]" if ":" in site.host else site.host
    return host if site.port == _PORTS[site.scheme] else f"{host}:{site.port}"


def _retry_after(value: str) -> float:
    """Seconds from now; 0 where the header says nothing that can be understood."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:  # also an empty one
        return 0.0
