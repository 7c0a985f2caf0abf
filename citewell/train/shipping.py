"""A trained embedder in the form in which it is shipped (`citewell.embed.shipped`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from citewell.embed.shipped import CHECKSUMS, LAYERS, MOST_BYTES, WORDS, checksum
from citewell.errors import BadInput


def ship(model: Path, folder: Path) -> Path:
    """Write the shipped form of a sentence-transformers folder; raises `BadInput` for a folder that has no such model.

    A row of the word embeddings becomes bytes: its greatest number is 127.
    """
    import torch
    from safetensors.torch import load_file, save_file

    if not (model / "model.safetensors").is_file():
        raise BadInput(f"{model} has no model.safetensors", remedy="Name the result of `citewell train embedder`.")
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty", remedy="Name another folder with --out.")
    weights: dict[str, Any] = load_file(model / "model.safetensors")
    words = weights.pop(WORDS).float()
    scale = (words.abs().amax(dim=1) / 127).clamp(min=1e-8).half()
    rows = (words / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(model, folder, dirs_exist_ok=True, ignore=ignored)
    step = (MOST_BYTES - 4096) // (rows.shape[1] + 2)
    for number, start in enumerate(range(0, len(rows), step)):
        part = {"rows": rows[start : start + step].contiguous(), "scale": scale[start : start + step].contiguous()}
        save_file(part, folder / f"words-{number}.safetensors")
    save_file({name: value.half().contiguous() for name, value in weights.items()}, folder / LAYERS)
    large = [file.name for file in folder.rglob("*") if file.is_file() and file.stat().st_size > MOST_BYTES]
    if large:
        raise BadInput(f"{', '.join(large)} would be over {MOST_BYTES:,} bytes", remedy="Ship a smaller model.")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {str(file.relative_to(folder)): checksum(file) for file in files}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n", "utf-8")
    return folder
