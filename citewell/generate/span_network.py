"""The reader's network: where in a passage an answer begins and ends, and whether it answers at all.

Two linear heads on an encoder of BERT's kind (Devlin et al. 2019): one gives every token a start and an end score, one
gives the first token the logit that the passage answers the question.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Scores of tokens that are no part of the passage's text; finite, so that bfloat16 and padding do no harm.
_NEVER = -1e4


class SpanNetwork(nn.Module):
    """`encoder` is a `BertModel` without pooling layer."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.span = nn.Linear(width, 2)
        self.answers = nn.Linear(width, 1)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        text_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Inputs of shape (windows, tokens); `text_mask` is 1 where the passage's text is.

        `labels`, of shape (windows, 3 or more), are the tokens at which the answer begins and ends (`NO_SPAN` for
        none), and whether there is one. Gives `start` and `end` (windows, tokens), `answers` (windows,) and `loss`.
        """
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        scores = self.span(hidden).float().masked_fill(text_mask.unsqueeze(-1) == 0, _NEVER)
        answers = self.answers(hidden[:, 0]).float().squeeze(-1)
        found = {"start": scores[..., 0], "end": scores[..., 1], "answers": answers}
        if labels is not None:
            found = {"loss": self._loss(found, labels), **found}
        return found

    @staticmethod
    def _loss(found: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        answers = nn.functional.binary_cross_entropy_with_logits(found["answers"], labels[:, 2].float())
        spanned = labels[:, 2] > 0
        if not bool(spanned.any()):
            return answers
        start = nn.functional.cross_entropy(found["start"][spanned], labels[spanned, 0])
        end = nn.functional.cross_entropy(found["end"][spanned], labels[spanned, 1])
        return answers + (start + end) / 2
