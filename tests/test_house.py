"""The rules of the house: which way imports point, and how long things may grow.

The product's own Python is `citewell/`, `service/`, `workers/`; tests and benchmarks are not held to these limits.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("citewell", "service", "workers")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))

# Lowest first; a module imports from its own layer and from those below. A longer prefix wins.
LAYERS = (
    ("citewell", "citewell.records", "citewell.errors"),
    ("citewell.config", "citewell.settings_file", "citewell.device", "citewell.memory", "citewell.leasing",
     "citewell.bars", "citewell.schedule", "citewell.catalogue", "citewell.keys", "citewell.metrics"),
    ("citewell.ports",),
    ("citewell.language", "citewell.text", "citewell.outline", "citewell.parse", "citewell.split", "citewell.fuse",
     "citewell.paged", "citewell.prompt",
     "citewell.cite", "citewell.facts", "citewell.support", "citewell.compare", "citewell.near", "citewell.evidence",
     "citewell.conversation",
     "citewell.index.queries", "citewell.index.analysis",
     "citewell.index.filters", "citewell.index.ranges", "citewell.index.words", "citewell.index.roles",
     "citewell.answers.moves", "citewell.priorities", "citewell.waiting"),
    ("citewell.embed", "citewell.index", "citewell.rerank", "citewell.entail", "citewell.citing",
     "citewell.generate", "citewell.answers", "citewell.jobs",
     "citewell.es_mappings"),
    ("citewell.retrieve", "citewell.asking", "citewell.run", "citewell.ingest", "citewell.migrate", "citewell.library",
     "citewell.checkup", "citewell.quoting", "citewell.cache", "citewell.admission", "citewell.callbacks",
     "citewell.feedback"),
    ("citewell.parts",),
    ("citewell.choosing",),
    ("citewell.engine", "citewell.client", "citewell.view"),
    ("citewell.service", "citewell.workers", "citewell.evaluate", "citewell.train"),
    ("citewell.cli",),
)  # fmt: skip
RANK = {prefix: rank for rank, layer in enumerate(LAYERS) for prefix in layer}
PURE = ("citewell.language", "citewell.text", "citewell.outline", "citewell.parse", "citewell.split", "citewell.fuse",
        "citewell.paged", "citewell.prompt", "citewell.conversation",
        "citewell.cite", "citewell.facts", "citewell.support", "citewell.compare", "citewell.near", "citewell.evidence",
     "citewell.index.queries", "citewell.index.filters",
        "citewell.index.ranges", "citewell.index.words", "citewell.index.roles",
        "citewell.answers.moves", "citewell.priorities", "citewell.waiting", "citewell.schedule", "citewell.catalogue",
        "citewell.keys",
        "citewell.evaluate.tune", "citewell.evaluate.measures")  # fmt: skip
DOES_IO = {"os", "socket", "subprocess", "sqlite3", "httpx", "redis", "elasticsearch", "lancedb", "celery", "flask"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "citewell":
        parts = ("citewell", *parts)
    return ".".join(part for part in parts if part != "__init__")


def layer(module: str) -> int:
    prefix = module
    while prefix not in RANK:
        prefix = prefix.rpartition(".")[0]
    if prefix == "citewell" and module != "citewell":
        raise AssertionError(f"{module} stands in no layer: add it to LAYERS")
    return RANK[prefix]


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            modules = {module_name(file) for file in FILES}
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules else str(node.module)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    own = module_name(file)
    for other in imports(parsed(file)):
        if other.startswith("citewell"):
            assert layer(other) <= layer(own), f"{own} imports {other}, which stands above it"
    if own.startswith("citewell.service"):
        assert not any(other.startswith("citewell.workers") for other in imports(parsed(file)))
    if own.startswith("citewell.workers"):
        assert not any(other.startswith("citewell.service") for other in imports(parsed(file)))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_pure_modules_reach_for_nothing_outside(file: Path) -> None:
    if module_name(file) in PURE:
        found = {name.split(".")[0] for name in imports(parsed(file))} & DOES_IO
        assert not found, f"{module_name(file)} is pure and imports {found}"


CONCRETE = {
    "RedisAnswers", "SqliteAnswers", "ElasticIndex", "ElasticVersions", "LanceIndex", "LanceVersions",
    "InlineQueue", "CeleryQueue",
    "CrossEncoderEntailment",
    "CachedEmbedder", "CrossEncoderReranker", "EndpointEmbedder", "PairEmbedder", "SentenceTransformerEmbedder",
    "ExtractiveGenerator", "OpenAiGenerator", "RagGenerator", "TransformersGenerator",
}  # fmt: skip


def test_only_parts_makes_concrete_classes() -> None:
    for file in FILES:
        calls = {n.func.id for n in ast.walk(parsed(file)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        if module_name(file) != "citewell.parts":
            assert not calls & CONCRETE, f"{module_name(file)} makes {calls & CONCRETE}; parts does that"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_tail_limits(file: Path) -> None:
    source = file.read_text("utf-8")
    assert source.count("\n") <= 400, "a file has at most 400 lines"
    assert file.stem not in sys.stdlib_module_names, "a module shadows the standard library"
    for node in ast.walk(parsed(file)):
        where = f"{file.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{where} {node.name} has {length} lines"
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            if "cli" not in file.parts:  # a command's options are its parameters
                assert len(named) <= 7, f"{where} {node.name} has {len(named)} parameters"
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Protocol" for b in node.bases):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            assert len(methods) <= 5, f"{where} {node.name} has {len(methods)} methods"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert "cli" in file.parts, f"{where} prints"
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
            assert module_name(file) == "citewell.config", f"{where} reads the environment"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_silent_except(file: Path) -> None:
    lines = file.read_text("utf-8").splitlines()
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"BaseException"}
            if names & {"Exception", "BaseException"}:
                again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                said = any("#" in line for line in lines[node.lineno - 2 : node.lineno + 1])
                assert again or said, f"{file.name}:{node.lineno} a broad except says why it is one"
                empty = all(isinstance(item, ast.Pass | ast.Continue) for item in node.body)
                assert not empty, f"{file.name}:{node.lineno} a broad except swallows its error"


def test_importing_the_package_is_light() -> None:
    """No model library, no server client and no environment is touched by importing the domain."""
    import subprocess

    code = (
        "import sys, citewell, citewell.records, citewell.ports, citewell.engine; "
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'lancedb', 'elasticsearch', 'celery', 'flask'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"


def test_every_package_is_installed() -> None:
    """The list in pyproject.toml is written by hand; an installation without a folder would fail at its import."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    there = {module_name(file) for file in FILES if file.name == "__init__.py"}
    assert there <= set(listed), f"pyproject.toml does not list {there - set(listed)}"
