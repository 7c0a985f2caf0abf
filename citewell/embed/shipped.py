"""A model in the form in which it is shipped: no file over 25 MB, half the size, checked before it is used.

Word embeddings are bytes with a scale a row (`words-N.safetensors`), the layers half-precision (`layers.safetensors`),
`checksums.json` has the SHA-256 of every file. The other files are those of a sentence-transformers model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from citewell.errors import EmbedderUnavailable

CHECKSUMS = "checksums.json"
LAYERS = "layers.safetensors"
MOST_BYTES = 25_000_000
WORDS = "embeddings.word_embeddings.weight"
# The shipped model's own folder; it is there in versions of the product that come with one.
MULTILINGUAL = Path(__file__).parent / "multilingual"


def is_shipped(folder: Path) -> bool:
    return (folder / CHECKSUMS).is_file()


@contextlib.contextmanager
def opened(source: str) -> Iterator[str]:
    """The folder of a model as its library reads it, for as long as it is being read; any other source as it is.

    Raises `EmbedderUnavailable` for a shipped model that is not whole.
    """
    folder = Path(source)
    if not is_shipped(folder):
        yield source
        return
    _check(folder)
    with tempfile.TemporaryDirectory(prefix="citewell-model-") as name:
        made = Path(name)
        shutil.copytree(folder, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", CHECKSUMS))
        _unpack(folder, made / "model.safetensors")
        yield name


def _check(folder: Path) -> None:
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text("utf-8"))
        spoilt = [name for name, wanted in sums.items() if checksum(folder / name) != wanted]
    except (OSError, ValueError, AttributeError) as error:
        raise EmbedderUnavailable(
            f"the embedder in {folder} cannot be read: {error}", remedy="Install the package again."
        ) from error
    if spoilt:
        raise EmbedderUnavailable(
            f"the embedder in {folder} is not what was shipped: {', '.join(spoilt)}",
            remedy="Install the package again.",
        )


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _unpack(folder: Path, file: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    parts = sorted(folder.glob("words-*.safetensors"), key=lambda path: int(path.stem.partition("-")[2]))
    whole: dict[str, Any] = load_file(folder / LAYERS)
    rows = [load_file(part) for part in parts]
    whole[WORDS] = torch.cat([part["rows"].float() * part["scale"].float()[:, None] for part in rows]).half()
    save_file(whole, file, metadata={"format": "pt"})
