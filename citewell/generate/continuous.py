"""The continuous batching of transformers, for CUDA: paged attention over the sequences that are there."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from citewell.errors import GenerationFailed
from citewell.generate.batching import Writing

_LOOK_S = 0.1
_CLOSE_S = 30.0
# Of 256 tokens each.
_BLOCKS = 64
_BATCH_TOKENS = 512


class LibraryEngine:
    """One manager of the library, and a thread that hands its tokens out.

    On CUDA keys and values take the GPU's free memory; elsewhere, where this is for tests, room for a few answers.
    """

    def __init__(self, model: Any, ends: tuple[int, ...], limit: int, places: int) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        self._ends = ends
        settings = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, max_new_tokens=limit, eos_token_id=list(ends) or -1, pad_token_id=ends[0] if ends else 0
        )
        small: dict[str, Any] = (
            {} if model.device.type == "cuda" else {"num_blocks": _BLOCKS, "max_batch_tokens": _BATCH_TOKENS}
        )
        batches = ContinuousBatchingConfig(max_requests_per_batch=places, **small)
        self._manager = model.init_continuous_batching(settings, batches)
        self._manager.start()
        self._writings: dict[str, Writing] = {}
        self._lock = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._hand_out, name="generate", daemon=True)
        self._thread.start()

    def submit(self, writing: Writing) -> None:
        """Raises `GenerationFailed` when the library does not take it any more."""
        name = uuid.uuid4().hex  # an attempt of its own: an answer's id may come again
        with self._lock:
            self._writings[name] = writing
        taken = self._manager.add_request(
            writing.prompt, request_id=name, max_new_tokens=writing.limit, streaming=True, eos_token_id=list(self._ends)
        )
        if taken is None:
            with self._lock:
                del self._writings[name]
            raise GenerationFailed("the model's batching has ended", remedy="Restart the worker; its log says why.")

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._manager.stop(block=True, timeout=_CLOSE_S, hard_stop=True)
        for writing in self._writings.values():
            writing.told.put((writing, None))
        self._writings.clear()

    def _hand_out(self) -> None:
        while self._open:
            output = self._manager.get_result(timeout=_LOOK_S)
            if output is not None:
                self._take(output)
            elif not self._manager.is_running():
                self._fail(GenerationFailed("the model's batching has ended", remedy="See the worker's log."))
                return
            self._drop_unwanted()

    def _take(self, output: Any) -> None:
        writing = self._writings.get(output.request_id)
        if writing is None:
            return
        for token in output.generated_tokens[len(writing.tokens) :]:
            if not writing.complete:
                writing.add(token, self._ends)
        if output.error is not None:
            self._end(output.request_id, GenerationFailed(f"the model failed: {output.error}"))
        elif output.is_finished():
            writing.complete = True
            self._end(output.request_id, None)

    def _drop_unwanted(self) -> None:
        for name, writing in list(self._writings.items()):
            if writing.unwanted():
                self._manager.cancel_request(name)
                self._end(name, None)

    def _end(self, name: str, error: Exception | None) -> None:
        with self._lock:
            writing = self._writings.pop(name)
        writing.told.put((writing, error))

    def _fail(self, error: Exception) -> None:
        for name in list(self._writings):
            self._end(name, error)
