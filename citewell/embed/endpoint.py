"""Vectors from an OpenAI-compatible `POST /embeddings`, so that a process that asks questions needs no model or GPU.

The request and answer are those of https://platform.openai.com/docs/api-reference/embeddings, which vLLM, Text
Embeddings Inference, Ollama, llama.cpp and the hosted services speak.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from citewell.config import Settings
from citewell.errors import ConfigError, EmbedderUnavailable
from citewell.ports import EmbedderCard, Vectors

PREFIX = "openai:"
_BATCH = 64
_ATTEMPTS = 4
_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
_BUSY = (408, 429, 500, 502, 503, 504)


class EndpointEmbedder:
    """A model behind an endpoint; `openai:MODEL` names it as the endpoint does.

    The endpoint tells neither weights nor tokenizer: the fingerprint has the model's name, its dimension and the
    passage prefix, and passages are measured in characters. Vectors are L2-normalised here.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = settings.embedder.removeprefix(PREFIX)
        self._url = settings.embedder_url.rstrip("/")
        self._client: httpx.Client | None = None
        self._card: EmbedderCard | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Open the connections; that the endpoint answers is found out at the first use."""
        if not self._model or not self._url:
            raise ConfigError(
                f"setting `embedder`: `{PREFIX}MODEL` needs a model's name and the setting `embedder_url`",
                remedy="Set `embedder_url` to the address that has `/embeddings`, like http://127.0.0.1:8000/v1.",
            )
        with self._lock:
            if self._client is None:
                key = self._settings.embedder_api_key.get_secret_value()
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                self._client = httpx.Client(headers=headers, timeout=self._settings.embedder_timeout)

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def info(self) -> dict[str, Any]:
        card = self.describe()
        return {
            "name": card.name,
            "url": self._url,
            "dimension": card.dimension,
            "max_tokens": card.max_tokens,
            "languages": list(card.languages) or "all",
        }

    def describe(self) -> EmbedderCard:
        """The card; the first time, one text is embedded to learn the dimension."""
        if self._card is None:
            dimension = self._request(["dimension"]).shape[1]
            prefix = self._settings.embedder_passage_prefix
            self._card = EmbedderCard(
                name=self._settings.embedder,
                weights=hashlib.sha256(f"{self._model}\0{prefix}".encode()).hexdigest(),
                dimension=dimension,
                max_tokens=self._settings.embedder_max_tokens,
                tokenizer="",
                languages=self._settings.embedder_languages,
            )
        return self._card

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), unit length."""
        return self._embed(texts, self._settings.embedder_passage_prefix)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), unit length."""
        return self._embed(texts, self._settings.embedder_query_prefix)

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        card = self.describe()
        size = self._settings.embed_batch or _BATCH
        found = [np.zeros((0, card.dimension), dtype=np.float32)]
        for start in range(0, len(texts), size):
            vectors = self._request([prefix + text for text in texts[start : start + size]])
            if vectors.shape[1] != card.dimension:
                raise self._broken(f"vectors of {vectors.shape[1]} dimensions, where it gave {card.dimension} before")
            found.append(vectors)
        return np.concatenate(found)

    def _request(self, texts: list[str]) -> Vectors:
        """One request, again while the endpoint is busy; raises `EmbedderUnavailable`."""
        self.load()
        assert self._client is not None
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        pause = _PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._client.post(f"{self._url}/embeddings", json=body)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise EmbedderUnavailable(
                    f"the embedder at {self._url} does not answer: {error or type(error).__name__}",
                    remedy="Start it, or correct `embedder_url`.",
                ) from None
            if response.status_code not in _BUSY or attempt == _ATTEMPTS:
                return self._vectors(response, len(texts))
            time.sleep(min(_retry_after(response) or pause, _LONGEST_PAUSE_S))
            pause *= 2
        raise AssertionError

    def _vectors(self, response: httpx.Response, count: int) -> Vectors:
        if response.status_code != 200:
            remedy = "Look into the endpoint's log."
            if response.status_code in (401, 403):
                remedy = "Correct `embedder_api_key`."
            elif response.status_code == 404:
                remedy = f"Correct `embedder_url`, or the model's name behind `{PREFIX}`."
            elif response.status_code in (400, 413, 422):
                remedy = "If the text was too long, lower `embedder_max_tokens` or `passage_tokens`."
            raise EmbedderUnavailable(
                f"the embedder at {self._url} answered with status {response.status_code}: {_reason(response)}",
                remedy=remedy,
            )
        try:
            data = sorted(response.json()["data"], key=lambda item: item["index"])
            vectors = np.asarray([item["embedding"] for item in data], dtype=np.float32)
        except (ValueError, KeyError, TypeError):
            raise self._broken("something that is not an embeddings answer") from None
        if vectors.ndim != 2 or len(vectors) != count:
            raise self._broken(f"{len(data)} vectors for {count} texts")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise self._broken("a vector that is zero or not finite")
        return np.ascontiguousarray(vectors / lengths, dtype=np.float32)

    def _broken(self, what: str) -> EmbedderUnavailable:
        return EmbedderUnavailable(
            f"the embedder at {self._url} sent {what}",
            remedy=f"Correct `embedder_url`, or the model's name behind `{PREFIX}`.",
        )


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the endpoint asks for; 0 when it does not say, or says it as a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def _reason(response: httpx.Response) -> str:
    """The endpoint's own words, in whichever of the usual places they stand."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:200]
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:200]
