"""The values that travel: through the pipeline, over HTTP, through Redis and into the index.

All are frozen and turn into JSON and back. Every message carries `schema_version`; a field that is added later has
a default and an unknown one is ignored, so an old worker reads a new message and the reverse.

Offsets are counted in Unicode code points of the document's text, half open: `document.text[start:end]`.
Times are seconds since the epoch (UTC); durations are milliseconds and say so in their name.
"""

from citewell.records.answers import (
    Answer,
    AnswerState,
    Citation,
    Draft,
    Event,
    Exact,
    Failure,
    Job,
    JobMessage,
    Lease,
    Piece,
    Sentence,
    Tokens,
)
from citewell.records.base import (
    INDEX_SCHEMA,
    SCHEMA_VERSION,
    CacheMode,
    FilterValue,
    FusionMethod,
    Leg,
    Mode,
    Priority,
    Record,
    Similarity,
    VectorIndex,
    text_hash,
)
from citewell.records.documents import Document, Fingerprint, LedgerEntry, Outcome, Passage
from citewell.records.feedback import BEST, WORST, CitedSpan, Feedback, Opinion
from citewell.records.loading import Batch, BatchMessage, BatchResult, SourceMessage
from citewell.records.provenance import PassageMark, Provenance
from citewell.records.questions import Evidence, Filters, Hit, LegRank, Question, Range, Rewriting, Turn
from citewell.records.terms import Callback, Terms, Waiting

__all__ = [
    "BEST",
    "INDEX_SCHEMA",
    "SCHEMA_VERSION",
    "WORST",
    "Answer",
    "AnswerState",
    "Batch",
    "BatchMessage",
    "BatchResult",
    "CacheMode",
    "Callback",
    "Citation",
    "CitedSpan",
    "Document",
    "Draft",
    "Event",
    "Evidence",
    "Exact",
    "Failure",
    "Feedback",
    "FilterValue",
    "Filters",
    "Fingerprint",
    "FusionMethod",
    "Hit",
    "Job",
    "JobMessage",
    "Lease",
    "LedgerEntry",
    "Leg",
    "LegRank",
    "Mode",
    "Opinion",
    "Outcome",
    "Passage",
    "PassageMark",
    "Piece",
    "Priority",
    "Provenance",
    "Question",
    "Range",
    "Record",
    "Rewriting",
    "Sentence",
    "Similarity",
    "SourceMessage",
    "Terms",
    "Tokens",
    "Turn",
    "VectorIndex",
    "Waiting",
    "text_hash",
]
