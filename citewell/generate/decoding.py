"""Steps of a Hugging Face model over a batch of sequences that come and go.

Prompts are padded on the left, so that all sequences of a group get their next token at the same column. The keys and
values of a group lie in buffers with room to grow: the library's cache copies all of them at every step.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from citewell.generate.batching import Writing

# Columns by which the buffers of a group grow.
_ROOM = 64
# A group is made smaller when this share of its rows is still in use; a smaller group costs one copy of its cache.
_IN_USE = 0.75


@dataclass(eq=False)
class Rows:
    """A group: row `rows[i]` of its tensors is the sequence `writings[i]`; rows of those that left stay for a while."""

    writings: list[Writing]
    order: list[Writing]
    cache: Any
    mask: Any
    last: Any
    encoded: Any = None

    def __len__(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen: `temperature` 0 is the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0


class ModelDecoder:
    """For causal and sequence-to-sequence models. Groups are joined where every layer keeps all keys and values."""

    def __init__(self, model: Any, ends: tuple[int, ...], pad: int, choice: Choice) -> None:
        self._model = model
        self._ends = ends
        self._pad = pad
        self._choice = choice
        takes = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in takes else "past_key_values"
        self._positions = "position_ids" in takes
        self._last_place = int(getattr(model.config, "max_position_embeddings", None) or 2**30) - 1
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._seq2seq = bool(model.config.is_encoder_decoder)
        self._processors = _processors(model.generation_config)
        self._growing = not self._seq2seq and _keeps_all(model.config)

    def start(self, writings: list[Writing]) -> Rows:
        import torch

        with torch.inference_mode():
            return self._encode(writings) if self._seq2seq else self._prefill(writings)

    def step(self, group: Rows) -> None:
        import torch

        with torch.inference_mode():
            group.mask = torch.cat([group.mask, group.mask.new_ones(len(group), 1)], 1)
            self._forward(group, group.last)

    def join(self, groups: list[Rows]) -> list[Rows]:
        import torch

        if not self._growing or not groups:
            return groups
        few = sum(len(group.writings) for group in groups) <= _IN_USE * sum(len(group) for group in groups)
        if len(groups) == 1 and not few:
            return groups
        with torch.inference_mode():
            return [_joined(groups)]

    def _prefill(self, writings: list[Writing]) -> Rows:
        import torch
        from transformers import DynamicCache

        width = max(len(writing.prompt) for writing in writings)
        padded = [[self._pad] * (width - len(w.prompt)) + w.prompt for w in writings]
        ids = torch.tensor(padded, device=self._model.device)
        mask = torch.tensor([[0] * (width - len(w.prompt)) + [1] * len(w.prompt) for w in writings]).to(ids.device)
        cache = DynamicCache(config=self._model.config)
        if self._growing:
            cache.layers = [_growing_layer() for _ in cache.layers]
        group = Rows(list(writings), list(writings), cache, mask, None)
        self._forward(group, ids)
        return group

    def _encode(self, writings: list[Writing]) -> Rows:
        import torch
        from transformers import DynamicCache, EncoderDecoderCache

        width = max(len(writing.prompt) for writing in writings)
        padded = [w.prompt + [self._pad] * (width - len(w.prompt)) for w in writings]
        ids = torch.tensor(padded, device=self._model.device)
        told = torch.tensor([[1] * len(w.prompt) + [0] * (width - len(w.prompt)) for w in writings]).to(ids.device)
        encoded = self._model.get_encoder()(input_ids=ids, attention_mask=told, return_dict=True)
        config = self._model.config
        cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        first = self._model.generation_config.decoder_start_token_id
        start = ids.new_full((len(writings), 1), config.decoder_start_token_id if first is None else first)
        group = Rows(list(writings), list(writings), cache, torch.ones_like(start), None, (encoded, told))
        self._forward(group, start)
        return group

    def _forward(self, group: Rows, ids: Any) -> None:
        arguments: dict[str, Any] = {self._cache_name: group.cache, "use_cache": True}
        if group.encoded is not None:
            encoded, told = group.encoded
            arguments |= {"encoder_outputs": encoded, "attention_mask": told, "decoder_input_ids": ids}
        else:
            arguments |= {"input_ids": ids, "attention_mask": group.mask, **self._last_only}
            if self._positions:
                # Rows of sequences that left go on for a while, and must not run over the model's last position.
                places = (group.mask.cumsum(-1) - 1).clamp(min=0, max=self._last_place)
                arguments["position_ids"] = places[:, -ids.shape[1] :]
        logits = self._model(**arguments).logits[:, -1].float()
        group.last = self._chosen(group, logits)[:, None]
        wanted = set(map(id, group.writings))
        for writing, token in zip(group.order, group.last[:, 0].tolist(), strict=True):
            if id(writing) in wanted:
                writing.add(token, self._ends)

    def _chosen(self, group: Rows, logits: Any) -> Any:
        import torch

        if self._processors:
            for row, writing in enumerate(group.order):
                before = [self._model.config.decoder_start_token_id] if self._seq2seq else writing.prompt
                seen = torch.tensor([[*before, *writing.tokens]], device=logits.device)
                logits[row : row + 1] = self._processors(seen, logits[row : row + 1])
        if not self._choice.temperature:
            return logits.argmax(-1)
        return torch.stack([self._drawn(row, w.chance) for row, w in zip(logits, group.order, strict=True)])

    def _drawn(self, logits: Any, chance: Any) -> Any:
        """A token by chance: each sequence has its own, so that neighbours do not change what it writes."""
        import torch

        shares = (logits.cpu() / self._choice.temperature).softmax(-1)
        if self._choice.top_p < 1:
            sorted_shares, tokens = shares.sort(descending=True)
            before = sorted_shares.cumsum(-1) - sorted_shares
            shares = torch.zeros_like(shares).scatter(0, tokens, sorted_shares * (before < self._choice.top_p))
        return torch.multinomial(shares, 1, generator=chance)[0].to(logits.device)


def _processors(config: Any) -> Any:
    """What the model's own generation settings ask for and greedy decoding takes; None where there is nothing."""
    import transformers

    generation: Any = transformers
    found: Any = generation.LogitsProcessorList()
    if config.repetition_penalty not in (None, 1.0):
        found.append(generation.RepetitionPenaltyLogitsProcessor(penalty=config.repetition_penalty))
    if config.no_repeat_ngram_size:
        found.append(generation.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.forced_bos_token_id is not None:
        found.append(generation.ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    return found or None


def _keeps_all(config: Any) -> bool:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _growing_layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
        """Keys and values of one layer, as views of buffers that are copied once in `_ROOM` steps."""

        room: Any = None

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            held = self.get_seq_length()
            upto = held + key_states.shape[-2]
            if self.room is None or self.room[0].shape[-2] < upto:
                self.fill((key_states, value_states), held, upto)
            for buffer, new in zip(self.room, (key_states, value_states), strict=True):
                buffer[..., held:upto, :] = new
            self.keys, self.values = (buffer[..., :upto, :] for buffer in self.room)
            return self.keys, self.values

        def fill(self, like: tuple[Any, Any], held: int, upto: int) -> None:
            """Larger buffers with what is held."""
            old = (self.keys, self.values)
            self.room = tuple(x.new_empty(*x.shape[:-2], upto + _ROOM, x.shape[-1]) for x in like)
            if held:
                for buffer, kept in zip(self.room, old, strict=True):
                    buffer[..., :held, :] = kept

    return GrowingLayer()  # type: ignore[no-untyped-call]


def _joined(groups: list[Rows]) -> Rows:
    """One group of the sequences that are not done, right-aligned, without columns that are padding to all."""
    import torch

    kept = [[n for n, w in enumerate(group.order) if any(w is one for one in group.writings)] for group in groups]
    masks = [group.mask[rows] for group, rows in zip(groups, kept, strict=True)]
    width = max(int(mask.sum(-1).max()) for mask in masks)
    order = [group.order[n] for group, rows in zip(groups, kept, strict=True) for n in rows]
    mask = masks[0].new_zeros(len(order), width)
    at = 0
    for part in masks:
        some = part[:, -width:]
        mask[at : at + len(part), width - some.shape[1] :] = some
        at += len(part)
    last = torch.cat([group.last[rows] for group, rows in zip(groups, kept, strict=True)])
    cache = groups[0].cache
    for number, layer in enumerate(cache.layers):
        parts = [
            (group.cache.layers[number].keys[rows], group.cache.layers[number].values[rows])
            for group, rows in zip(groups, kept, strict=True)
        ]
        _refill(layer, parts, width, len(order))
    return Rows(order, list(order), cache, mask, last)


def _refill(layer: Any, parts: list[tuple[Any, Any]], held: int, rows: int) -> None:
    buffers = []
    for side in (0, 1):
        like = parts[0][side]
        buffer = like.new_zeros(rows, *like.shape[1:-2], held + _ROOM, like.shape[-1])
        at = 0
        for part in parts:
            some = part[side][..., -held:, :]
            buffer[at : at + len(some), ..., held - some.shape[-2] : held, :] = some
            at += len(some)
        buffers.append(buffer)
    layer.room = tuple(buffers)
    layer.keys, layer.values = (buffer[..., :held, :] for buffer in buffers)
