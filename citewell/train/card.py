"""A trained reader as files: half-precision weights of what was trained, their description, a card and its curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell.generate.reader import DESCRIPTION, WEIGHTS
from citewell.generate.windows import WINDOW
from citewell.ports import EmbedderCard
from citewell.train.marked import MarkedSet

if TYPE_CHECKING:
    import torch

CARD = "README.md"
CURVES = "curves.svg"
_WIDTH, _HEIGHT, _MARGIN = 640, 240, 36


def write_reader(
    folder: Path,
    network: torch.nn.Module,
    sets: Sequence[MarkedSet],
    history: Sequence[Mapping[str, Any]],
    made: Mapping[str, Any],
    base: EmbedderCard,
) -> None:
    """Write all four files; `made` is the plan and the figures. The description has the checksum of the weights."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    before = made.get("begun_with", {})
    trained = {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}
    save_file({name: value.to(torch.float16).contiguous().cpu() for name, value in trained.items()}, folder / WEIGHTS)
    described = {
        "schema_version": 1,
        "base": base.name,
        "base_weights": base.weights,
        "window": WINDOW,
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        **made,
        "licences": sorted({one.licence for one in sets if one.licence} | {*before.get("licences", ())}),
    }
    (folder / DESCRIPTION).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / CURVES).write_text(curves(history), "utf-8")
    (folder / CARD).write_text(_card(described, sets), "utf-8")


def _card(described: Mapping[str, Any], sets: Sequence[MarkedSet]) -> str:
    lines = [
        "# A reader",
        "",
        f"Span and answerability heads on {described['base']} ({described['base_weights'][:12]}); the word",
        f"embeddings are the encoder's own. `{WEIGHTS}` holds the trained layers in half precision.",
        "",
        f"![loss and F1 by step]({CURVES})",
        "",
        "| set | questions | passages | licence | source |",
        "|---|---:|---:|---|---|",
        *(f"| {s.name} | {len(s.questions)} | {len(s.texts)} | {s.licence} | {s.source} |" for s in sets),
        "",
        "| figure on the development questions | |",
        "|---|---:|",
        *(f"| {name} | {value:.2f} |" for name, value in described["figures"].items()),
        "",
        *_commands(described),
        "",
        "Settings: " + ", ".join(f"{name} {value}" for name, value in described["plan"].items()) + ".",
        "",
        f"SHA-256 of the weights: `{described['sha256']}`",
    ]
    return "\n".join(lines) + "\n"


def _commands(described: Mapping[str, Any]) -> list[str]:
    """What made it, and before that, what made the reader with whose weights it began."""
    lines = ["```", described["command"], "```"]
    before = described.get("begun_with")
    if before:
        lines += [
            "",
            f"It began with the weights `{before['sha256'][:12]}` ({', '.join(before['licences'])}), made by:",
        ]
        lines += ["", *_commands(before)]
    return lines


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Training loss and development F1 by step, as an SVG picture."""
    loss = [(row["step"], float(row["loss"])) for row in history if "loss" in row]
    shared = [(row["step"], float(row["eval_f1"])) for row in history if "eval_f1" in row]
    return picture(loss, shared, f"F1, 0 to 100 (last {_last(shared):.1f})", 100.0)


def picture(loss: Sequence[tuple[int, float]], figure: Sequence[tuple[int, float]], name: str, most: float) -> str:
    """The loss and one figure, of 0 to `most`, by step; SVG."""
    steps = max((step for step, _ in (*loss, *figure)), default=1)
    top = max((value for _, value in loss), default=1.0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        f"{_line(loss, steps, top, '#c0504d')}{_line(figure, steps, most, '#1f6fb2')}"
        f'<text x="{_MARGIN}" y="16" fill="#c0504d">loss, 0 to {top:.1f}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="16" fill="#1f6fb2" text-anchor="end">{name}</text>'
        f'<text x="{_WIDTH // 2}" y="{_HEIGHT - 8}" text-anchor="middle">step 0 to {steps}</text></svg>\n'
    )


def _line(points: Sequence[tuple[int, float]], steps: int, top: float, colour: str) -> str:
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    placed = " ".join(
        f"{_MARGIN + width * step / steps:.1f},{_HEIGHT - _MARGIN - height * value / top:.1f}" for step, value in points
    )
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{placed}"/>'


def _last(points: Sequence[tuple[int, float]]) -> float:
    return points[-1][1] if points else 0.0
