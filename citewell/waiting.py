"""How long a question will wait, from the line before it. Pure."""

from __future__ import annotations

import math

from citewell.ports import Line
from citewell.records import Waiting

# How soon to ask again, at least and at most.
SOONEST_S, LATEST_S = 1, 30


def estimate(line: Line, slots: int) -> Waiting:
    """Position and seconds of a question at the end of this line, which `slots` threads of workers take from.

    Answers take as long as they did lately, and a running one as long as one that begins: the estimate is rather too
    long than too short. No worker, or no answer yet to learn from, is no estimate.
    """
    if slots < 1 or line.seconds <= 0:
        return Waiting(position=line.ahead + 1)
    before = max(0, line.ahead + line.running - slots + 1)
    starts = before * line.seconds / slots
    return Waiting(position=line.ahead + 1, starts_in_s=round(starts, 3), done_in_s=round(starts + line.seconds, 3))


def ask_again_in(waiting: Waiting | None) -> int:
    """Whole seconds after which a poll is worth its while."""
    seconds = waiting.done_in_s if waiting and waiting.done_in_s else 0.0
    return min(LATEST_S, max(SOONEST_S, math.ceil(seconds)))
