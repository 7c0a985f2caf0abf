"""Callbacks: the final record of an answer, posted to the address that its asker named.

Addresses are bounded before anything is sent: the host must be one of `callback_hosts`, and what it resolves to must be
public, unless `callback_private` is set. The request goes to the very address that was looked at, so that a name that
resolves to something else a moment later changes nothing; redirects are not followed.

Requests are signed as Standard Webhooks (https://www.standardwebhooks.com) has it: `webhook-signature` is `v1,` and the
base64 of HMAC-SHA256 over `webhook-id`.`webhook-timestamp`.body.

What is owed is in the answer store, so that a process that dies between the final state and the post, or after the
post and before it is noted, leaves it to be posted again: at least once, never in a certain order.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult, urlsplit

import certifi
import httpx
import structlog

from citewell import __version__
from citewell.config import Settings
from citewell.errors import CitewellError, InvalidCallback
from citewell.ports import Outbox
from citewell.records import Answer

log = structlog.get_logger("citewell.callbacks")

# Posted at a time by one process, and so the most that a receiver that hangs holds up.
_AT_ONCE = 8
# `POST_S` is longer than these together.
_TIMEOUT = httpx.Timeout(8.0, connect=4.0)
_LONGEST_URL = 2000
_LONGEST_REASON = 300
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SECRET_PREFIX = "whsec_"  # noqa: S105 - how Standard Webhooks marks a secret that is written as base64


class Postman:
    """Posts what the outbox owes. Safe to share between threads."""

    def __init__(self, outbox: Outbox, settings: Settings) -> None:
        self._outbox = outbox
        self._hosts = settings.callback_hosts
        self._private = settings.callback_private
        self._secret = secret_bytes(settings.callback_secret.get_secret_value())

    def check(self, url: str) -> None:
        """Raises `InvalidCallback` for an address that will not be posted to; looks up no name."""
        parts = _split(url)
        host = parts.hostname or ""
        if not any(_matches(host, allowed) for allowed in self._hosts):
            raise InvalidCallback(
                f"the service does not post to the host {host!r}",
                remedy="Name an address on one of its `callback_hosts`, or leave `callback_url` out.",
            )
        if _is_literal(host) and not self._private and not is_public(host):
            raise _not_public(host, host)

    def post_due(self) -> int:
        """Post what is due, several at a time, until nothing is; says how many were posted or tried."""
        count = 0
        while letters := self._outbox.letters(_AT_ONCE):
            with ThreadPoolExecutor(len(letters), "callback") as pool:
                for answer, reason in zip(letters, pool.map(self._tried, letters), strict=True):
                    self._note(answer, reason)
            count += len(letters)
        return count

    @functools.cached_property
    def _trusted(self) -> ssl.SSLContext:
        """Certificates that the system trusts (`SSL_CERT_FILE` names others), and certifi's."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context

    def _note(self, answer: Answer, reason: str) -> None:
        noted = self._outbox.posted(answer.id, reason)
        if noted is not None and noted.callback is not None:
            state, attempts = noted.callback.state, noted.callback.attempts
            log.info("callback_tried", answer=answer.id, state=state, attempts=attempts, reason=reason)

    def _tried(self, answer: Answer) -> str:
        """Why the record did not reach its receiver; "" when it did."""
        try:
            return self._post(answer)
        except CitewellError as error:
            return error.message[:_LONGEST_REASON]
        except Exception as error:  # whatever it is, it is this receiver's, and others wait for their records
            log.exception("callback_crashed", answer=answer.id)
            return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]

    def _post(self, answer: Answer) -> str:
        assert answer.callback is not None
        url = answer.callback.url
        self.check(url)
        parts = _split(url)
        host = parts.hostname or ""
        body = answer.to_json().encode()
        headers = {"Content-Type": "application/json", "Host": parts.netloc, "User-Agent": f"citewell/{__version__}"}
        headers |= signed(self._secret, answer.id, int(time.time()), body)
        reason = ""
        with httpx.Client(verify=self._trusted, timeout=_TIMEOUT, trust_env=False, follow_redirects=False) as client:
            for address in self._addresses(host, parts):
                pinned = httpx.URL(url).copy_with(host=address)
                options = {"sni_hostname": host}
                try:
                    with client.stream("POST", pinned, content=body, headers=headers, extensions=options) as response:
                        status = response.status_code
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    reason = f"{host} at {address} cannot be reached: {error}"[:_LONGEST_REASON]
                    continue
                except httpx.HTTPError as error:
                    return f"{host} broke off: {type(error).__name__}: {error}"[:_LONGEST_REASON]
                return "" if 200 <= status < 300 else f"{host} answered with status {status}"
        return reason

    def _addresses(self, host: str, parts: SplitResult) -> list[str]:
        """What the name resolves to now, each address once; raises `InvalidCallback` where one may not be posted to."""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise InvalidCallback(f"{host} does not resolve: {error}") from error
        addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
        if not self._private:
            for address in addresses:
                if not is_public(address):
                    raise _not_public(host, address)
        return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where it is spelt within another."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def secret_bytes(secret: str) -> bytes:
    """The key of the signature: what follows `whsec_` is base64, anything else is taken as it is."""
    if secret.startswith(_SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:  # a secret that only looks like one
            return secret.encode()
    return secret.encode()


def signed(secret: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers with which a receiver tells ours from others', and old ones from new."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{digest}"}


def _split(url: str) -> SplitResult:
    """Raises `InvalidCallback` for what is no plain address of a web server."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        # What httpx would read in another way than the check of the host did must not get through.
        agreed = plain and httpx.URL(url).host == parts.hostname
    except (ValueError, httpx.InvalidURL):
        agreed = False
    if not agreed or parts.fragment or len(url) > _LONGEST_URL:
        raise InvalidCallback(
            "`callback_url` is no address that can be posted to",
            remedy=f"Send http:// or https://, a host and a path, no user, no fragment, {_LONGEST_URL} signs at most.",
        )
    return parts


def _matches(host: str, allowed: str) -> bool:
    """`*.example.org` is every name below example.org, and not that itself."""
    allowed = allowed.lower()
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _not_public(host: str, address: str) -> InvalidCallback:
    where = address if host == address else f"{host}, which resolves to {address},"
    return InvalidCallback(
        f"{where} is no address of the open internet", remedy="Set `callback_private` where receivers are inside."
    )
