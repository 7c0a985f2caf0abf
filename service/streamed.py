"""Bodies that the app reads while they are still being received: NDJSON loads of any length, in constant memory.

waitress collects a body before the app sees its request. Here a request that loads lines goes to the app with its
headers, and a small buffer lies between the two: the app waits while it is empty, and the server stops reading the
connection while it is full. docs/decisions/0022 has the reasons.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

from citewell.errors import BadInput
from citewell.service.documents import LINES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PATH = "/v1/documents"
_BUFFER_BYTES = 1 << 20
# A client that sends nothing for so long has lost its place.
_SILENCE_S = 120.0


class Body(io.RawIOBase):
    """What of a body has come and was not read yet. One thread puts in and never waits, another one reads."""

    def __init__(self, room: Callable[[], None], silence_s: float = _SILENCE_S) -> None:
        self._room = room
        self._silence_s = silence_s
        self._parts: list[bytes] = []
        self._size = 0
        self._given_up = False
        self._problem = ""
        self._complete = False
        self._changed = threading.Condition()

    @property
    def full(self) -> bool:
        """Whether no more should be put in for now; `room` is called when that has changed."""
        return self._size >= _BUFFER_BYTES and not self._given_up

    def append(self, data: bytes) -> None:
        with self._changed:
            if data and not self._given_up:
                self._parts.append(bytes(data))
                self._size += len(data)
                self._changed.notify_all()

    def finish(self, problem: str = "") -> None:
        """Nothing more comes: the body is whole, or broke off for this reason."""
        with self._changed:
            if not self._complete:
                self._problem, self._complete = problem, True
                self._changed.notify_all()

    def give_up(self) -> None:
        """Nobody reads on; what still comes is thrown away."""
        with self._changed:
            self._given_up = True
            self._parts, self._size = [], 0
        self._room()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """0 at the end of a whole body. Raises `BadInput` for one that broke off, or that no longer comes."""
        view = memoryview(buffer).cast("B")
        with self._changed:
            if not self._changed.wait_for(lambda: self._parts or self._complete, self._silence_s):
                raise BadInput(f"the body stopped for {self._silence_s:g} seconds", remedy="Send the rest again.")
            if not self._parts:
                if self._problem:
                    raise BadInput(self._problem, remedy="Send it again: what is loaded already is skipped.")
                return 0
            first = self._parts[0]
            count = min(len(first), len(view))
            view[:count] = first[:count]
            self._parts[:1] = [first[count:]] if count < len(first) else []
            was_full = self._size >= _BUFFER_BYTES
            self._size -= count
            emptied = was_full and self._size < _BUFFER_BYTES
        if emptied:
            self._room()
        return count

    # What waitress asks of a buffer.

    def __len__(self) -> int:
        return self._size

    def getfile(self) -> Body:
        return self


class _Unbounded:
    """Adjustments in which a body has no limit: its lines have one each."""

    max_request_body_size = sys.maxsize

    def __init__(self, adj: Any) -> None:
        self._adj = adj

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adj, name)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """A request that is complete with its headers when it loads lines; `streamed` is its body then."""

    streamed: Body | None = None

    def __init__(self, adj: Any, channel: Channel) -> None:
        super().__init__(adj)
        self._channel = channel

    @property
    def received_whole(self) -> bool:
        return bool(self.body_rcv.completed and not self.body_rcv.error)

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        kind = self.headers.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if self.command == "POST" and self.path.rstrip("/") == _PATH and kind in LINES and self.body_rcv is not None:
            self.adj: Any = _Unbounded(self._channel.adj)
            self.streamed = self.body_rcv.buf = Body(self._channel.server.pull_trigger)
            self._channel.streaming = self

    def received(self, data: bytes) -> int:
        count: int = super().received(data) if self.streamed is None else 0
        if self.streamed is not None and self.error is None and not self.expect_continue:
            count += self.more(data[count:])
            self.completed = True
        return count

    def more(self, data: bytes) -> int:
        """Take what belongs to the body; the bytes taken."""
        assert self.streamed is not None
        count = 0
        while count < len(data) and not self.body_rcv.completed and not self.body_rcv.error:
            count += self.body_rcv.received(data[count:])
        if self.body_rcv.error:  # where the next request begins cannot be told any more
            self.streamed.finish(f"the body is broken: {self.body_rcv.error.body}")
            return len(data)
        if self.body_rcv.completed:
            self.streamed.finish()
        return count


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that goes on receiving a body while its request is answered."""

    streaming: _Parser | None = None
    _thrown_away = 0

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self.parser_class = partial(_Parser, channel=self)

    def readable(self) -> bool:
        if self.streaming is None or self.streaming.streamed is None:
            return bool(super().readable())
        # Answers may wait to be sent: a client that sends before it reads would wait for us, and we for it.
        ending = self.will_close or self.close_when_flushed or not self.connected
        return not ending and not self.streaming.streamed.full

    def received(self, data: bytes) -> bool:
        with self.requests_lock:
            parser = self.streaming
            if parser is not None and parser is not self.request:
                rest = data[parser.more(data) :]
                self._throw_away(parser, len(data) - len(rest))
                if parser.received_whole:
                    self.streaming = None
                data = rest
        started = super().received(data) if data else True
        if self.streaming is not None and self.streaming.received_whole:
            self.streaming = None
        return bool(started)

    def service(self) -> None:
        """A body that the app did not read to its end is read away, so that the client gets the answer."""
        request = self.requests[0]
        super().service()
        if isinstance(request, _Parser) and request.streamed is not None:
            request.streamed.give_up()
            if request.body_rcv.error:
                self.close_when_flushed = True

    def break_off(self, reason: str) -> None:
        if self.streaming is not None and self.streaming.streamed is not None:
            self.streaming.streamed.finish(reason)

    def handle_read(self) -> None:
        super().handle_read()
        if not self.connected:
            self.break_off("the body broke off: its sender has gone")

    def handle_close(self) -> None:
        self.break_off("the body broke off: its sender has gone")
        super().handle_close()

    def cancel(self) -> None:
        self.break_off("the body broke off: the service stops")
        super().cancel()

    def _throw_away(self, parser: _Parser, count: int) -> None:
        """What comes after the answer; more of it than a body may have ends the connection."""
        if parser in self.requests:
            return
        self._thrown_away += count
        if self._thrown_away > self.adj.max_request_body_size:
            self.will_close = True

    def _flush_outbufs_below_high_watermark(self) -> None:
        """While a body comes, its outcomes wait on disk for a client that reads late; the app does not wait."""
        if self.streaming is None:
            super()._flush_outbufs_below_high_watermark()


def break_off_all(channels: dict[int, Any]) -> None:
    """Let go of the threads that wait for bodies, so that the service can stop."""
    for channel in list(channels.values()):
        if isinstance(channel, Channel):
            channel.break_off("the body broke off: the service stops")
