"""What the domain asks of the outside: Protocols of at most five methods, one or more classes behind each.

Constructors are light and do no I/O; `Backend.load` opens sockets, files and models, `Backend.close` lets go of
them. A method that cannot reach its server raises a subclass of `errors.Unavailable`, never its library's error.
The contract tests in `tests/contracts` say what each method promises and run on every class.
"""

from citewell.ports.answers import POST_S, Answers, AnswerStore, JobQueue, LeaseGrant, Leases, Line, Lines, Outbox
from citewell.ports.backend import Backend, Removable, Vectors
from citewell.ports.cache import AnswerCache, Caching, Kept
from citewell.ports.feedback import FeedbackStore, Judged
from citewell.ports.index import (
    Backups,
    DocumentWrite,
    Held,
    Holdings,
    Index,
    IndexVersion,
    Ledger,
    Legs,
    LegsQuery,
    Role,
    Versions,
    VersionStore,
    WriteResult,
)
from citewell.ports.inspection import Finding, Inspected, Inspection
from citewell.ports.models import (
    Embedder,
    EmbedderCard,
    Entailment,
    Generator,
    GeneratorCard,
    KeepsVectors,
    Reranker,
    RerankResult,
)
from citewell.ports.quotes import Departures, Quoted, Quotes, QuoteStore

__all__ = [
    "POST_S",
    "AnswerCache",
    "AnswerStore",
    "Answers",
    "Backend",
    "Backups",
    "Caching",
    "Departures",
    "DocumentWrite",
    "Embedder",
    "EmbedderCard",
    "Entailment",
    "FeedbackStore",
    "Finding",
    "Generator",
    "GeneratorCard",
    "Held",
    "Holdings",
    "Index",
    "IndexVersion",
    "Inspected",
    "Inspection",
    "JobQueue",
    "Judged",
    "KeepsVectors",
    "Kept",
    "LeaseGrant",
    "Leases",
    "Ledger",
    "Legs",
    "LegsQuery",
    "Line",
    "Lines",
    "Outbox",
    "QuoteStore",
    "Quoted",
    "Quotes",
    "Removable",
    "RerankResult",
    "Reranker",
    "Role",
    "Vectors",
    "VersionStore",
    "Versions",
    "WriteResult",
]
