"""One table of settings, and the only reader of the environment.

A setting comes from, first match wins: an argument, `CITEWELL_<NAME>` in the environment, `citewell.toml` in the
working directory (or the file that `CITEWELL_CONFIG` names), its default. An unknown name anywhere stops the start.
`citewell config` prints the table; docs/settings.md has a heading for each, which a test checks.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from citewell.bars import Bar
from citewell.catalogue import GeneratorTable, Tables, catalogue
from citewell.device import Precision
from citewell.errors import ConfigError
from citewell.keys import KeyTable
from citewell.records import CacheMode, FusionMethod, VectorIndex
from citewell.schedule import MAX_DELETE, MaxDelete, SourceTable

PREFIX = "CITEWELL_"
# The languages of citewell.index.analysis, which stands above this module.
INDEXED = ("en", "es", "ja", "ko", "de", "fr", "it", "pt", "zh")
# What an index version is made with. Keys and addresses' timeouts are the process's own.
RECIPE = (
    "embedder",
    "embedder_url",
    "embedder_max_tokens",
    "embedder_query_prefix",
    "embedder_passage_prefix",
    "embedder_languages",
    "passage_tokens",
    "passage_overlap",
    "languages",
    "vector_index",
)
# Settings that are no more, with what took their place.
RETIRED = {"transformers_model": 'a table [generators.NAME] with kind = "transformers" and model'}
# Names under the prefix that are no settings: the file's own name, and switches of the test suite.
NOT_SETTINGS = ("CITEWELL_CONFIG", "CITEWELL_REQUIRE_SERVERS", "CITEWELL_TEST_", "CITEWELL_BUILD_", "CITEWELL_URL")


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "citewell"


class Tuned(BaseModel):
    """How questions of one language are fused, where it differs from `fusion`, `alpha`, `rrf_k` and `depth`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fusion: FusionMethod
    alpha: float = Field(0.5, ge=0, le=1)
    rrf_k: int = Field(60, ge=1, le=10_000)
    depth: int = Field(100, ge=1, le=1000)


class Settings(BaseSettings):
    """All settings; each description is also its line in `citewell config`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    stack: Literal["embedded", "served"] = Field(
        "embedded", description="embedded: LanceDB, SQLite, threads. served: Elasticsearch, Redis, Celery."
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir, description="Folder of the embedded stack's index and answers."
    )
    index_name: str = Field(
        "citewell", pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$", description="Alias of the index; also the prefix in Redis."
    )
    elasticsearch_url: str = Field("http://127.0.0.1:9200", description="Address of Elasticsearch 9.")
    elasticsearch_api_key: SecretStr = Field(SecretStr(""), description="API key of Elasticsearch, when it wants one.")
    elasticsearch_timeout: float = Field(30.0, gt=0, le=600, description="Seconds for one request to Elasticsearch.")
    source_api_key: SecretStr = Field(
        SecretStr(""), description="API key of an Elasticsearch that documents are loaded from."
    )
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Address of Redis: answers, leases, queue.")
    embedder: str = Field(
        "auto",
        description="`packaged`, `multilingual`, `auto` (by the documents), folder or name, `dpr:Q,P`, `openai:MODEL`.",
    )
    embedder_url: str = Field("", description="Address behind which `openai:MODEL` finds `/embeddings`.")
    embedder_api_key: SecretStr = Field(SecretStr(""), description="Key of that endpoint, when it wants one.")
    embedder_timeout: float = Field(30.0, gt=0, le=600, description="Seconds for one request to that endpoint.")
    embedder_max_tokens: int = Field(512, ge=16, le=100_000, description="Longest text that endpoint's model reads.")
    embedder_query_prefix: str = Field("", description="What that endpoint's model wants before a question.")
    embedder_passage_prefix: str = Field("", description="What that endpoint's model wants before a passage.")
    embedder_languages: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Languages that the embedder speaks; empty believes its model card, or takes it for all."
    )
    device: str = Field("auto", description="Where models run: auto, cpu, cuda, cuda:1, mps.")
    embedder_dtype: Precision = Field(
        "auto", description="Precision of the embedder: float32, bfloat16, or auto: bfloat16 where that is quicker."
    )
    embed_batch: int = Field(
        0, ge=0, le=4096, description="Texts in one batch of the embedder; 0 is 16 on a CPU and 128 on a GPU."
    )
    query_cache: int = Field(10_000, ge=0, description="Questions whose vectors are kept in memory; 0 keeps none.")
    embed_cache: bool = Field(
        False, description="Keep the vectors of passages in `data_dir`, so that none is computed twice."
    )
    passage_tokens: int = Field(200, ge=16, le=8192, description="Longest passage in the embedder's tokens.")
    passage_overlap: int = Field(0, ge=0, le=4096, description="Tokens that neighbouring passages share.")
    languages: Annotated[tuple[str, ...], NoDecode] = Field(
        INDEXED,
        description="Languages that Elasticsearch may cut by an analyzer of its own: Japanese, Korean.",
    )
    vector_index: VectorIndex = Field(
        "int8_hnsw", description="How vectors are kept and searched: int8_hnsw, bbq_hnsw (smallest) or flat (exact)."
    )
    k: int = Field(5, ge=1, le=100, description="Passages that become evidence when a question does not say.")
    depth: int = Field(100, ge=1, le=1000, description="Passages that each leg ranks before fusion.")
    fusion: FusionMethod = Field("minmax", description="How two legs become one: minmax, rrf, or bm25 or dense alone.")
    alpha: float | None = Field(None, ge=0, le=1, description="Weight of the dense leg in `minmax`, else as measured.")
    rrf_k: int = Field(60, ge=1, le=10_000, description="Constant of reciprocal rank fusion.")
    tuned: dict[str, Tuned] = Field(
        default_factory=dict, description="Fusion, alpha and depth by language, as `citewell tune` writes them."
    )
    reader: str = Field("auto", description="Reader of `extractive`: packaged, auto, a folder, or empty for none.")
    reranker: str = Field("", description="Cross-encoder, by folder or name, that orders the best passages anew.")
    rerank_depth: int = Field(30, ge=1, le=1000, description="Passages that the reranker reads.")
    rerank_budget_ms: int = Field(
        1000, ge=1, le=600_000, description="Milliseconds for the reranker; out of time, the fused order stands."
    )
    citation_bars: dict[str, Bar] = Field(
        default_factory=dict,
        description="Support that a citation needs, by language, as `citewell eval citations` shows them.",
    )
    entailment: str = Field(
        "", description="Cross-encoder, by folder or name, that has to find each cited sentence so."
    )
    entailment_least: float = Field(0.5, ge=0, le=1, description="Least probability by which a sentence has to follow.")
    generator: str = Field("extractive", description="Generator of answers, by its name in the catalogue.")
    generators: Tables = Field(
        default_factory=dict, description="The catalogue of generators by name; `extractive` is always there."
    )
    max_new_tokens: int = Field(256, ge=1, le=8192, description="Longest answer of a language model, in its tokens.")
    evidence_tokens: int = Field(1500, ge=64, le=200_000, description="Budget of an answer's evidence, in tokens.")
    evidence_per_document: int = Field(
        0, ge=0, le=1000, description="Passages of one document that become evidence; 0 is any number."
    )
    question_limit: int = Field(2000, ge=1, le=100_000, description="Longest question, in characters.")
    conversation_turns: int = Field(
        6, ge=0, le=100, description="Earlier turns that a follow-up question is read with; 0 reads it alone."
    )
    conversation_tokens: int = Field(1000, ge=0, le=100_000, description="Tokens of these turns, the latest first.")
    document_limit: int = Field(5_000_000, ge=1000, description="Longest document text, in characters.")
    file_limit: int = Field(200_000_000, ge=1000, description="Largest single document file, in bytes.")
    parse_timeout: float = Field(
        60.0, gt=0, le=3600, description="Seconds that reading one file may take, where a parser has to."
    )
    parse_memory: int = Field(
        1_000_000_000,
        ge=50_000_000,
        description="Bytes of memory that reading one file may take, where a parser has to.",
    )
    request_limit: int = Field(100_000_000, ge=1000, description="Largest body of an HTTP request, in bytes.")
    answer_ttl: int = Field(86_400, ge=1, description="Seconds that an answer is kept after its last change.")
    feedback_ttl: int = Field(31_536_000, ge=1, description="Seconds that feedback is kept after it was given.")
    cache: CacheMode = Field(
        "none", description="Whether an earlier answer may be given again: none, exact, semantic (near questions)."
    )
    cache_ttl: int = Field(3600, ge=1, description="Seconds for which an answer may be given again.")
    cache_size: int = Field(10_000, ge=1, le=10_000_000, description="Questions whose answers may be given again.")
    cache_threshold: float = Field(0.95, gt=0, le=1, description="Least cosine of two questions that count as near.")
    lease_seconds: float = Field(10.0, gt=0, le=3600, description="Life of a worker's lease between two renewals.")
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts at an answer before it is failed.")
    max_wait: float = Field(
        600.0, ge=0, le=86_400, description="Seconds that a question may be expected to wait for a worker; 0 is any."
    )
    callback_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Hosts that final records may be posted to: names, `*.example.org` for all below it."
    )
    callback_secret: SecretStr = Field(
        SecretStr(""), validate_default=True, description="Secret that signs what is posted to those hosts."
    )
    callback_private: bool = Field(False, description="Whether these hosts may have private or loopback addresses.")
    callback_attempts: int = Field(12, ge=1, le=100, description="Attempts at a callback before it is given up.")
    workers: int = Field(2, ge=1, le=256, description="Threads that answer questions, in one process.")
    ingest_window: int = Field(
        32, ge=1, le=10_000, description="Batches of a distributed load that may be under way at a time."
    )
    host: str = Field("127.0.0.1", description="Address that the service listens on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port that the service listens on.")
    threads: int = Field(32, ge=1, le=1024, description="Requests that one service process serves at a time.")
    max_delete: MaxDelete = Field(
        MAX_DELETE, description="Most documents of a source that one sync deletes: a share (20%) or a number."
    )
    sources: dict[str, SourceTable] = Field(
        default_factory=dict, description="Sources by name, for `citewell ingest --all` and `--named`."
    )
    api_key: SecretStr = Field(SecretStr(""), description="Key of the HTTP API; must be set off loopback addresses.")
    keys: dict[str, KeyTable] = Field(
        default_factory=dict, description="Keys of the HTTP API by name: hash, scopes and groups of each."
    )
    metrics: bool = Field(True, description="Whether the service answers `GET /metrics`.")
    metrics_port: int = Field(0, ge=0, le=65_535, description="Port on which a worker shows its metrics; 0 is none.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("languages", "embedder_languages", "callback_hosts", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """In the environment a list is `en,es`, or JSON."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return tuple(code for part in value.split(",") if (code := part.strip()))

    @field_validator("elasticsearch_url")
    @classmethod
    def _http_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - set(INDEXED)):
            raise ValueError(f"no rules for {', '.join(unknown)}; known: {', '.join(INDEXED)}")
        return tuple(code for code in INDEXED if code in value)

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        return value

    @field_validator("callback_secret")
    @classmethod
    def _signed_callbacks(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if info.data.get("callback_hosts") and not value.get_secret_value():
            raise ValueError("must be set where `callback_hosts` are, so that receivers can tell who posts")
        return value

    @field_validator("keys")
    @classmethod
    def _keys_apart(cls, value: dict[str, KeyTable]) -> dict[str, KeyTable]:
        if len({table.hash for table in value.values()}) < len(value):
            raise ValueError("two keys have one hash: make one of them anew with `citewell keys new`")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment; `load_settings` passes the file as `_FileSource`."""
        return init_settings, env_settings, _FileSource(settings_cls)

    def keys_wanted(self) -> bool:
        """Whether callers of the HTTP API need a key."""
        return bool(self.keys or self.api_key.get_secret_value())

    def on_loopback(self) -> bool:
        """Whether `host` is reachable from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def catalogue(self) -> dict[str, GeneratorTable]:
        """Every generator by name, `extractive` included."""
        return catalogue(self.generators)

    def threads_for(self, generators: Iterable[str]) -> int:
        """Threads of a process that runs these: `workers`, or more where they write more answers at a time."""
        tables = self.catalogue()
        return max(self.workers, sum(tables[name].places for name in generators if name in tables))

    def recipe(self) -> dict[str, Any]:
        """The settings that decide what an index version holds, as JSON: with them another process can write to it."""
        named = {"embedder": "packaged"} if self.embedder == "auto" else {}
        return self.model_dump(mode="json", include=set(RECIPE)) | named

    def with_recipe(self, recipe: dict[str, Any]) -> Settings:
        """These settings with another version's recipe in place of their own."""
        return Settings.model_validate(self.model_dump() | {k: v for k, v in recipe.items() if k in RECIPE})


class _FileSource(PydanticBaseSettingsSource):
    """The TOML file as a source below the environment."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return _read_file()


def config_file() -> Path | None:
    """The settings file in force: `CITEWELL_CONFIG`, else `citewell.toml` here, else none."""
    named = os.environ.get("CITEWELL_CONFIG")
    if named:
        return Path(named)
    here = Path("citewell.toml")
    return here if here.is_file() else None


def _read_file() -> dict[str, Any]:
    path = config_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"the settings file {path} does not exist", remedy="Correct CITEWELL_CONFIG.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error}", remedy="Mend the file.") from error


def _refuse_unknown_names() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.upper().startswith(NOT_SETTINGS):
            near = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            if new := RETIRED.get(name.upper().removeprefix(PREFIX).lower()):
                hint = f"Write {new} instead. "
            raise ConfigError(
                f"the environment sets {name}, which is no setting", remedy=hint + "`citewell config` lists them all."
            )


def load_settings(**overrides: Any) -> Settings:
    """Settings from arguments, environment, file and defaults; raises `ConfigError` naming each wrong one."""
    _refuse_unknown_names()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(_explain(item, overrides) for item in error.errors())
        raise ConfigError(problems) from None


def _explain(item: Any, overrides: dict[str, Any]) -> str:
    name = str(item["loc"][0]) if item["loc"] else "?"
    if len(item["loc"]) > 1:
        place = ".".join(str(part) for part in item["loc"])
        return f"setting `{place}` ({origin(name, overrides)}): {item['msg']}"
    if item["type"] == "extra_forbidden":
        if new := RETIRED.get(name):
            return f"`{name}` is no setting any more; write {new}"
        near = difflib.get_close_matches(name, Settings.model_fields, 1)
        return f"`{name}` is no setting" + (f" (did you mean `{near[0]}`?)" if near else "")
    return f"setting `{name}` ({origin(name, overrides)}): {item['msg']}"


def origin(name: str, overrides: dict[str, Any] | None = None) -> str:
    """Where the value in force comes from, for `citewell config` and error messages."""
    if name in (overrides or {}):
        return "argument"
    variable = PREFIX + name.upper()
    if variable in (key.upper() for key in os.environ):
        return variable
    if name in _read_file():
        return str(config_file())
    return "default"


def stay_offline() -> None:
    """Keep the model libraries from reaching out, unless the operator said otherwise: nothing is fetched by default.

    Must run before those libraries are imported, because they read it then.
    """
    if "huggingface_hub" not in sys.modules:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def service_url() -> str:
    """The running service that the command line talks to (`CITEWELL_URL`); empty means embedded."""
    return os.environ.get("CITEWELL_URL", "")


def client_key() -> str:
    """The API key that the command line sends along with `--url`."""
    return os.environ.get(PREFIX + "API_KEY", "")
