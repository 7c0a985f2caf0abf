"""A vocabulary for several languages that keeps the teacher's own words, and where its embeddings start.

Pieces are learned as a Unigram model (Kudo, "Subword Regularization", ACL 2018) and joined by the teacher's words, so
that a text of the teacher's language is cut nearly as before and starts from the same vectors.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from citewell.train.alignment import Floats, Table, align
from citewell.train.parallel import Translation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", _UNKNOWN, "[CLS]", "[SEP]")
_SPACE = "▁"
_CONTINUED = "##"
# Codecs whose two-byte letters a language is written with; a letter that no training text had is still one piece.
_LETTERS = {"ja": "euc_jp", "ko": "euc_kr"}
# A new token that fewer texts had is not aligned: chance would choose what it means.
_LEAST_TEXTS = 3
# What stands after a space as often as this is one token with it.
_OFTEN = 20


def learn(texts: Sequence[str], size: int, teacher: Tokenizer, languages: Sequence[str]) -> Tokenizer:
    """A tokenizer of `size` learned pieces, the teacher's words and the letters of the languages.

    The teacher's words stay whole, and so does what often follows a space: a space alone would be a token of its own
    before each, which every later step had to read.
    """
    from tokenizers import Tokenizer, models, trainers

    found = Tokenizer(models.Unigram())
    _read_alike(found)
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), unk_token=_UNKNOWN, shrinking_factor=0.75, max_piece_length=12,
        n_sub_iterations=1, show_progress=False,
    )  # fmt: skip
    found.train_from_iterator(texts, trainer)
    scores: dict[str, float] = dict(json.loads(found.to_str())["model"]["vocab"])
    floor = min(score for piece, score in scores.items() if piece not in SPECIAL)
    for letter in _letters(languages):
        scores.setdefault(letter, floor - 1)
    joined = _tokenizer(scores)
    begun: Counter[str] = Counter()
    for one in joined.encode_batch(list(texts), add_special_tokens=False):
        begun.update(one.tokens[n + 1] for n, token in enumerate(one.tokens[:-1]) if token == _SPACE)
    often = [_SPACE + piece for piece, count in begun.items() if count >= _OFTEN]
    for piece in (*_pieces_of(teacher), *often):
        parts = _cut(joined, piece)
        if piece not in scores and len(piece) > 1:
            scores[piece] = max(floor, sum(scores.get(part, floor - 10) for part in parts) + 0.1)
    return _tokenizer(scores)


def _cut(tokenizer: Tokenizer, piece: str) -> list[str]:
    """How a piece is cut by now; one without the mark of a space is what follows another."""
    tokens: list[str] = tokenizer.encode(piece.replace(_SPACE, " ").strip(), add_special_tokens=False).tokens
    if piece.startswith(_SPACE) or not tokens:
        return tokens
    return [token for token in (tokens[0].removeprefix(_SPACE), *tokens[1:]) if token]


def _tokenizer(scores: Mapping[str, float]) -> Tokenizer:
    from tokenizers import Tokenizer, models, processors

    made = Tokenizer(models.Unigram(list(scores.items()), unk_id=SPECIAL.index(_UNKNOWN)))
    _read_alike(made)
    made.add_special_tokens(list(SPECIAL))
    begin, end = (made.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", begin), ("[SEP]", end)]
    )
    return made


def _read_alike(tokenizer: Tokenizer) -> None:
    from tokenizers import normalizers, pre_tokenizers

    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Punctuation()]
    )


def _pieces_of(teacher: Tokenizer) -> Iterator[str]:
    """The teacher's words and continuations as this vocabulary spells them; those in square brackets are marks."""
    for word in sorted(teacher.get_vocab(), key=teacher.get_vocab().__getitem__):
        if word.startswith("[") and word.endswith("]") and len(word) > 2:
            continue
        piece = word.removeprefix(_CONTINUED)
        if unicodedata.normalize("NFKC", piece).lower() == piece:
            yield piece if word != piece or not word.isalnum() else _SPACE + word


def _letters(languages: Sequence[str]) -> Iterator[str]:
    high = range(0xA1, 0xFF)
    for codec in [_LETTERS[lang] for lang in languages if lang in _LETTERS]:
        for letter in (bytes((first, second)).decode(codec, "ignore") for first in high for second in high):
            if len(letter) == 1 and letter.isalpha() and unicodedata.normalize("NFKC", letter).lower() == letter:
                yield letter


def start(
    new: Tokenizer, old: Tokenizer, rows: Floats, translations: Sequence[Translation], seed: int
) -> tuple[Floats, dict[str, int]]:
    """Where the embeddings of the new tokens start, of shape (new tokens, width), and how many of each kind.

    `rows` are of the `old` tokenizer's tokens: the teacher's, or those of an embedder that was trained before. A token
    that is among them starts there (`kept`); one that translations explain from the words it stands for (`aligned`);
    one that the old tokenizer can write from its pieces of it (`spelled`), which the teacher's can do for Latin ones;
    any other at random among the old ones (`random`), so that it is like no other.
    """
    vocabulary, size = old.get_vocab(), new.get_vocab_size()
    # Pieces of our own kind, which cover every language; else words and continuations.
    pieces = any(token.startswith(_SPACE) for token in vocabulary)
    draw = np.random.default_rng(seed)
    words = rows[[n for word, n in vocabulary.items() if word.isalnum()]]
    found = (words.mean(0) + draw.standard_normal((size, rows.shape[1])) * words.std(0)).astype(np.float32)
    counts = dict.fromkeys(("kept", "aligned", "spelled", "random"), 0)
    explained, known = _explained(_meant(new, old, translations), rows, size)
    for token, number in new.get_vocab().items():
        kind, own = _own(token, vocabulary, pieces=pieces)
        if own is not None:
            found[number] = rows[own]
        elif known[number]:
            kind, found[number] = "aligned", explained[number]
        elif pieces or token.removeprefix(_SPACE).isascii() or _latin(token):
            ids = old.encode(token.replace(_SPACE, " ").strip(), add_special_tokens=False).ids
            kind = "spelled"
            if ids:
                found[number] = rows[ids].mean(0)
        counts[kind] += 1
    return found, counts


def _own(token: str, vocabulary: dict[str, int], *, pieces: bool) -> tuple[str, int | None]:
    word = token.removeprefix(_SPACE)
    begun = (word, _CONTINUED + word)
    names = (token,) if pieces or token in SPECIAL else begun if token != word else begun[::-1]
    return next((("kept", vocabulary[name]) for name in names if name in vocabulary), ("random", None))


def _latin(token: str) -> bool:
    return all("LATIN" in unicodedata.name(letter, "") for letter in token.removeprefix(_SPACE) if letter.isalpha())


def _explained(tables: Sequence[Table], rows: Floats, size: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The mean of the words that each new token stands for, by all languages that have it, and which have one."""
    total = np.zeros((size, rows.shape[1]), dtype=np.float32)
    texts = np.zeros(size, dtype=np.float32)
    for table in tables:
        sure = table.seen[table.new] >= _LEAST_TEXTS
        new, old = table.new[sure], table.old[sure]
        np.add.at(total, new, rows[old] * (table.weight[sure] * table.seen[new])[:, None])
        texts[np.unique(new)] += table.seen[np.unique(new)]
    return (total / np.maximum(texts, 1)[:, None]).astype(np.float32), texts > 0


def _meant(new: Tokenizer, old: Tokenizer, translations: Sequence[Translation]) -> list[Table]:
    tables = []
    for lang in sorted({one.lang for one in translations}):
        some = [one for one in translations if one.lang == lang]
        news = new.encode_batch_fast([one.other for one in some], add_special_tokens=False)
        olds = old.encode_batch_fast([one.teacher for one in some], add_special_tokens=False)
        pairs = ((a.ids, b.ids) for a, b in zip(news, olds, strict=True))
        tables.append(align(pairs, (new.get_vocab_size(), old.get_vocab_size())))
    return tables
