"""One thread that steps a model for all answers at hand: tasks hand in a sequence, and wait for its tokens.

A sequence that comes while others are written joins them at the next step, and leaves when it is done, so that short
answers do not wait for long ones (Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative
Models", OSDI 2022). What a step is, the `Decoder` knows.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

Told = tuple["Writing", int | Exception | None]


@dataclass(eq=False)
class Writing:
    """One answer while it is written.

    What becomes of it goes to `told`: (itself, token) for each token, then (itself, None), with `complete` when the
    model came to an end by itself or by `limit`; or (itself, the error). `stopped` is asked at every step.
    """

    answer_id: str
    prompt: list[int]
    limit: int
    stopped: Callable[[str], bool]
    told: SimpleQueue[Told]
    tokens: list[int] = field(default_factory=list)
    complete: bool = False
    abandoned: bool = False
    chance: Any = None

    def unwanted(self) -> bool:
        return self.abandoned or self.stopped(self.answer_id)

    def add(self, token: int, ends: Sequence[int]) -> None:
        """The next token; one that ends the text is not part of it."""
        if token in ends:
            self.complete = True
        else:
            self.tokens.append(token)
            self.told.put((self, token))
            self.complete = len(self.tokens) >= self.limit


class Group(Protocol):
    """Sequences that take their steps together."""

    writings: list[Writing]


class Decoder(Protocol):
    def start(self, writings: list[Writing]) -> Any:
        """Read the prompts, and give each sequence its first token."""
        ...

    def join(self, groups: list[Any]) -> list[Any]:
        """As few groups as the model's cache allows, without the sequences that are done."""
        ...

    def step(self, group: Any) -> None:
        """One more token for every sequence that is not done."""
        ...


class Engine(Protocol):
    """What writes: this module's thread, or the library's."""

    def submit(self, writing: Writing) -> None: ...

    def close(self) -> None: ...


class StepEngine:
    """At most `places` sequences at a time; others wait their turn in the order they came."""

    def __init__(self, decoder: Decoder, places: int) -> None:
        self._decoder = decoder
        self._places = places
        self._waiting: deque[Writing] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._groups: list[Any] = []
        self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
        self._thread.start()

    def submit(self, writing: Writing) -> None:
        with self._changed:
            self._waiting.append(writing)
            self._changed.notify()

    def close(self) -> None:
        """End at the next step; what is not written by then ends without being complete."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._groups:
                    self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._open:
                    break
            self._round()
        for writing in [*self._waiting, *(w for group in self._groups for w in group.writings)]:
            writing.told.put((writing, None))

    def _round(self) -> None:
        """Who waits comes in, everybody gets one token, and who is done leaves."""
        for group in self._groups:
            self._guarded(group.writings, lambda group=group: self._decoder.step(group))  # type: ignore[misc]
        self._leave()
        if new := self._admitted():
            self._guarded(new, lambda: self._groups.append(self._decoder.start(new)))
            self._leave()
        everybody = [writing for group in self._groups for writing in group.writings]
        self._guarded(everybody, self._joined)

    def _joined(self) -> None:
        self._groups = self._decoder.join(self._groups)

    def _admitted(self) -> list[Writing]:
        running = sum(len(group.writings) for group in self._groups)
        new: list[Writing] = []
        while running + len(new) < self._places:
            with self._changed:
                if not self._waiting:
                    break
                writing = self._waiting.popleft()
            if writing.unwanted():
                writing.told.put((writing, None))
            else:
                new.append(writing)
        return new

    def _leave(self) -> None:
        """Tell those that are done or no longer wanted; `stopped` is asked once a step."""
        for group in self._groups:
            kept = []
            for writing in group.writings:
                if writing.complete or writing.unwanted():
                    writing.told.put((writing, None))
                else:
                    kept.append(writing)
            group.writings = kept
        self._groups = [group for group in self._groups if group.writings]

    def _guarded(self, writings: list[Writing], work: Callable[[], None]) -> None:
        """An error of the model is that of all sequences that took the step; the others go on."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed to those who wait for the sequences
            for writing in writings:
                writing.abandoned = True
                writing.told.put((writing, error))
            self._groups = [group for group in self._groups if not any(w in writings for w in group.writings)]
