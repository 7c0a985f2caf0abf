"""How an answer is wanted, beside its question: nothing here changes its text."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Literal

from citewell.records.base import CacheMode, Priority, Record, text_hash
from citewell.records.questions import Question


class Callback(Record):
    """Where a final record is posted, and how that went: `reason` is why the last attempt failed, at the time `at`.

    `pending` until it is `delivered`, or `given_up` after the last attempt.
    """

    url: str
    state: Literal["pending", "delivered", "given_up"] = "pending"
    attempts: int = 0
    reason: str = ""
    at: float = 0.0


class Waiting(Record):
    """Where a queued answer stands: `position` 1 is the next to be taken. Seconds are estimates; None is none."""

    position: int
    starts_in_s: float | None = None
    done_in_s: float | None = None


class Terms(Record):
    """What an asker says of the job.

    With an `idempotency_key` the same request gives the same answer as long as that is kept. Keys belong to their
    `caller`, which tells holders of API keys apart and is no secret itself. After `expires_in` seconds nobody waits for
    the answer any more (0: somebody always does). `batch` questions let `interactive` ones go first. The final
    record is posted to `callback_url`. `cache` says whether an earlier answer may be given again; None is the
    setting of that name.
    """

    idempotency_key: str = ""
    caller: str = ""
    expires_in: float = 0.0
    priority: Priority = "interactive"
    callback_url: str = ""
    cache: CacheMode | None = None

    def answer_id(self, ordinal: int = 0) -> str:
        """The id that the key stands for, of one request's answer with that ordinal; a new one without a key.

        The id is the key's memory: it lives exactly as long as its answer, and a store creates an id only once.
        """
        if not self.idempotency_key:
            return uuid.uuid4().hex
        named = "\0".join(("citewell.answer", self.caller, self.idempotency_key, str(ordinal)))
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def request(self, question: Question, generators: tuple[str, ...]) -> str:
        """A hash of all that was asked for, as it was before any setting filled it in; "" without a key."""
        if not self.idempotency_key:
            return ""
        asked = question.model_dump(mode="json", exclude_defaults=True)
        terms = self.model_dump(mode="json", exclude_defaults=True, exclude={"idempotency_key", "caller"})
        return text_hash(json.dumps([asked, generators, terms], sort_keys=True))
