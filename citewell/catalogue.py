"""The catalogue: `[generators.NAME]` in the settings file, one table a generator, by its kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from citewell.device import Precision

EXTRACTIVE = "extractive"


class _Table(BaseModel):
    """`places` is how many answers it writes at a time: a worker has as many threads that wait for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def places(self) -> int:
        return 1


class ExtractiveTable(_Table):
    """Quotes the sentences that answer; needs no model beside the embedder's."""

    kind: Literal["extractive"] = "extractive"
    model: Literal[""] = ""


class _Model(_Table):
    """`max_new_tokens` 0 is the setting of that name; `temperature` 0 takes the likeliest token, `seed` counts else.

    `prompt` is a TOML file of one's own wordings, from the settings file's folder; empty takes the packaged ones.
    """

    model: str = Field(min_length=1)
    prompt: str = ""
    max_new_tokens: int = Field(0, ge=0, le=8192)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0)


class TransformersTable(_Model):
    """A causal or sequence-to-sequence model on this machine.

    `adapter` is a folder with a LoRA adapter; `chat_template` none has a causal model read plain text; `batch` is how
    many answers are written together. `batching`: `steps` is Citewell, `library` the continuous batching of
    transformers, `auto` takes that on CUDA for causal models whose tokens are not drawn by chance.
    """

    kind: Literal["transformers"]
    dtype: Precision = "auto"
    quantization: Literal["", "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8"] = ""
    adapter: str = ""
    chat_template: Literal["model", "none"] = "model"
    batch: int = Field(16, ge=1, le=1024)
    batching: Literal["auto", "steps", "library"] = "auto"

    @property
    def places(self) -> int:
        return self.batch


class OpenAiTable(_Model):
    """A model behind an OpenAI-compatible endpoint; `url` is the address that has `/chat/completions`.

    `timeout` is seconds without a byte; a busy endpoint is asked again for `retry_seconds`; `concurrency` bounds the
    requests of one process that are open at a time.
    """

    kind: Literal["openai"]
    url: str = Field(pattern=r"^https?://")
    api_key: SecretStr = SecretStr("")
    timeout: float = Field(60.0, gt=0, le=3600)
    retry_seconds: float = Field(30.0, ge=0, le=3600)
    concurrency: int = Field(8, ge=1, le=256)

    @property
    def places(self) -> int:
        return self.concurrency


class RagTable(_Table):
    """RAG-Token or RAG-Sequence over the evidence's first `passages`; `marginal` auto believes the model's files.

    `score_scale` turns scores of fusion or a reranker into the model's unit, where the embedder is no DPR pair.
    """

    kind: Literal["rag"]
    model: str = Field(min_length=1)
    max_new_tokens: int = Field(0, ge=0, le=8192)
    marginal: Literal["auto", "token", "sequence"] = "auto"
    passages: int = Field(5, ge=1, le=100)
    score_scale: float = Field(5.0, gt=0, le=1000)


GeneratorTable = Annotated[ExtractiveTable | TransformersTable | OpenAiTable | RagTable, Field(discriminator="kind")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")]


def _extractive_is_itself(tables: dict[str, GeneratorTable]) -> dict[str, GeneratorTable]:
    if EXTRACTIVE in tables and tables[EXTRACTIVE].kind != EXTRACTIVE:
        raise ValueError(f"`{EXTRACTIVE}` is always the generator of that kind; give this one another name")
    return tables


Tables = Annotated[dict[Name, GeneratorTable], AfterValidator(_extractive_is_itself)]


def catalogue(tables: Mapping[str, GeneratorTable]) -> dict[str, GeneratorTable]:
    """All generators by name: `extractive`, which is always there, and those of the tables."""
    return {EXTRACTIVE: ExtractiveTable(), **tables}


def standing(tables: Mapping[str, GeneratorTable | None], workers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each generator: what it is, and what those of the workers tell that are ready for it."""
    rows = []
    for name, table in tables.items():
        ready = [
            worker for worker in workers if worker.get("state") == "ready" and name in worker.get("generators", ())
        ]
        rows.append(
            {
                "name": name,
                "kind": table.kind if table else name,
                "model": table.model if table else "",
                "live": bool(ready),
                "workers": len(ready),
                "running": sum(worker.get("running", {}).get(name, 0) for worker in ready),
            }
        )
    return rows
