"""A trained embedder as a sentence-transformers model: half-precision weights, tokenizer, card and its curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell.embed.sentence import weights_hash
from citewell.train.card import CARD, CURVES, picture
from citewell.train.distil import MEAN
from citewell.train.judged import Given

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What the model reads of a text; its positions reach twice as far.
_READS = 256
FIGURES = "figures.json"
BEFORE = "begun-with.md"
_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


def write_embedder(
    folder: Path,
    student: Any,
    tokenizer: Tokenizer,
    given: Given,
    history: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    base: Path | None = None,
) -> None:
    """Write every file; `about` has the command, the plan and the row of the history that was best.

    Of the embedder `base` that it began with, the card is kept, too: it names what that was made of.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    write_layout(folder, tokenizer, student.bert.config.hidden_size)
    student.bert.to(torch.float16).save_pretrained(folder)
    figures = {name.removeprefix("eval_"): value for name, value in about["best"].items() if name.startswith("eval_")}
    (folder / CURVES).write_text(curves(history), "utf-8")
    described = {"figures": figures, "step": about["best"]["step"], "command": about["command"], "plan": about["plan"]}
    if base is not None:
        described["begun_with"] = {"sha256": weights_hash(base)} | _figures_of(base)
    (folder / FIGURES).write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    if base is not None and (base / CARD).is_file():
        before = (base / CARD).read_text("utf-8").replace(f"![loss and nDCG@10 by step]({CURVES})\n\n", "")
        (folder / BEFORE).write_text(before, "utf-8")
    # Last, for it names the checksum over the others.
    (folder / CARD).write_text(_card(folder, given, figures, about, described.get("begun_with")), "utf-8")


def write_layout(folder: Path, tokenizer: Tokenizer, dimension: int) -> None:
    """What the library reads beside weights and configuration."""
    import transformers

    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "attention_mask"]
    make: Any = transformers.PreTrainedTokenizerFast
    made = make(tokenizer_object=tokenizer, model_max_length=_READS, model_input_names=names, **marks)
    made.save_pretrained(folder)
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(_MODULES)
    ]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", "utf-8")
    # BERT's pooling layer is neither trained nor shipped; the library would warn that it is missing.
    read = {"max_seq_length": _READS, "do_lower_case": False, "model_kwargs": {"add_pooling_layer": False}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(read) + "\n", "utf-8")
    (folder / "2_Normalize").mkdir(exist_ok=True)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooled = {"word_embedding_dimension": dimension, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooled) + "\n", "utf-8")


def _figures_of(base: Path) -> dict[str, Any]:
    """How an embedder of ours was made; of another's nothing is known but its weights."""
    file = base / FIGURES
    known: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {name: known[name] for name in ("command", "step", "begun_with") if name in known}


def _card(
    folder: Path, given: Given, figures: Mapping[str, float], about: Mapping[str, Any], begun: Mapping[str, Any] | None
) -> str:
    before = []
    if begun:
        card = f", whose card is [{BEFORE}]({BEFORE})" if (folder / BEFORE).is_file() else ""
        before = ["", f"It began with the embedder of SHA-256 `{begun['sha256']}`{card}."]
    lines = [
        "---",
        f"language: [{', '.join(given.languages)}]",
        "---",
        "# A multilingual embedder",
        "",
        "The encoder of a teacher that knows English alone, under a vocabulary for these languages, trained to give a",
        "text and its translation the teacher's vector. Made by `citewell train embedder`.",
        "",
        f"![loss and nDCG@10 by step]({CURVES})",
        "",
        "| trained on | size | licence | source |",
        "|---|---:|---|---|",
        *(f"| {p.name} | {_counted(p.counts)} translations | {p.licence} | {p.source} |" for p in given.parallel),
        *(f"| {s.name} | {len(s.questions)} questions | {s.licence} | {s.source} |" for s in given.pairs),
        "",
        "| dense nDCG@10, reduced set | |",
        "|---|---:|",
        *(f"| {name} | {value:.3f} |" for name, value in figures.items() if f"eval_{name}" != MEAN),
        "",
        "```",
        str(about["command"]),
        "```",
        *before,
        "",
        "Settings: " + ", ".join(f"{name} {value}" for name, value in about["plan"].items()) + ".",
        "",
        f"SHA-256 of weights, tokenizer and configuration: `{weights_hash(folder)}`",
    ]
    return "\n".join(lines) + "\n"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{lang} {count}" for lang, count in sorted(counts.items()))


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Training loss and the mean of the development figures by step, as an SVG picture."""
    loss = [(int(row["step"]), float(row["loss"])) for row in history if "loss" in row]
    mean = [(int(row["step"]), float(row[MEAN])) for row in history if MEAN in row]
    return picture(loss, mean, f"nDCG@10, 0 to 1 (last {mean[-1][1] if mean else 0.0:.3f})", 1.0)
