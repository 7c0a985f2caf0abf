"""A Hugging Face model with its tokenizer, opened by a table of the catalogue, after looking at whether all fits.

Everything that does not fit is told at once, because each attempt at a large model takes minutes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import structlog

from citewell.catalogue import TransformersTable
from citewell.config import Settings, stay_offline
from citewell.device import chosen, dtype
from citewell.errors import ConfigError, MissingDependency
from citewell.prompt import Template, longer

# Room that the packaged instruction, question and template take beside the evidence, in tokens.
OVERHEAD = 256
# With less evidence than this there is nothing to answer from.
_LEAST_EVIDENCE = 64
# Bytes that a weight takes when it is quantised.
_QUANTISED = {"bitsandbytes-8bit": 1.0, "bitsandbytes-4bit": 0.5, "torchao-int8": 1.0}


def open_model(name: str, table: TransformersTable, settings: Settings, template: Template) -> tuple[Any, Any]:
    """Tokenizer and model, ready to generate.

    Raises `ConfigError` that names everything which keeps this model from working here, and `MissingDependency`.
    """
    stay_offline()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _need(table)
    device = chosen(settings.device)
    precision = dtype(device, table.dtype)
    try:
        config = AutoConfig.from_pretrained(table.model)
        family: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        tokenizer: Any = AutoTokenizer.from_pretrained(table.model)
        with torch.device("meta"):
            outline = family.from_config(config)
    except Exception as error:  # the library raises many kinds for a model that is absent, broken or of no use here
        raise _unusable(name, table, error) from error
    if found := problems(outline, tokenizer, table, settings, template):
        raise ConfigError(
            f"the generator `{name}` does not fit: " + "; ".join(found), remedy=f"Correct [generators.{name}]."
        )
    try:
        model: Any = family.from_pretrained(table.model, dtype=precision, **_quantised(table, precision))
        if table.adapter:
            model = _adapted(model, table)
        if not table.quantization.startswith("bitsandbytes"):  # which places the weights itself
            model = model.to(device)
    except Exception as error:  # as above
        raise _unusable(name, table, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    structlog.get_logger(__name__).info("model loaded", model=table.model, device=device, dtype=str(precision))
    return tokenizer, model.eval()


def problems(
    outline: Any, tokenizer: Any, table: TransformersTable, settings: Settings, template: Template
) -> list[str]:
    """What keeps a model (its outline without weights) and its tokenizer from answering here; empty when all fits."""
    config, found = outline.config, []
    rows = int(outline.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        found.append(f"the tokenizer has {len(tokenizer)} tokens, the model knows {rows}: they are of different models")
    own = max(
        longer(template, lang, lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
        for lang in template.wordings
    )
    room = evidence_room(config, table.max_new_tokens or settings.max_new_tokens) - own
    if room < _LEAST_EVIDENCE:
        found.append(
            f"its context of {config.max_position_embeddings} tokens leaves {max(room, 0)} for evidence beside the"
            f" answer ({table.max_new_tokens or settings.max_new_tokens}) and the prompt ({OVERHEAD + own}): lower"
            " `max_new_tokens`, or take a model with a longer context"
        )
    if table.chat_template == "model" and not config.is_encoder_decoder and not tokenizer.chat_template:
        found.append('its tokenizer has no chat template: set chat_template = "none" if it is to read plain text')
    if table.adapter and not (Path(table.adapter) / "adapter_config.json").is_file():
        found.append(f"the folder `{table.adapter}` has no LoRA adapter (adapter_config.json)")
    if too_large := _too_large(outline, table, settings):
        found.append(too_large)
    return found


def evidence_room(config: Any, answer: int) -> int:
    """Tokens of evidence that fit the model's context beside instruction, question and answer."""
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(context) - answer - OVERHEAD if context else 2**30


def _too_large(outline: Any, table: TransformersTable, settings: Settings) -> str:
    device = chosen(settings.device)
    width = _QUANTISED.get(table.quantization, float(dtype(device, table.dtype).itemsize))
    need = sum(weight.numel() for weight in outline.parameters()) * width
    free = free_memory(device)
    if free is None or need <= free:
        return ""
    return f"its weights take {need / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB free"


def free_memory(device: str) -> int | None:
    """Bytes that weights could take; None where nobody knows."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if device != "cpu" or not told.exists():
        return None
    lines = dict(line.split(":", 1) for line in told.read_text("ascii").splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _need(table: TransformersTable) -> None:
    """Optional packages, each with its line of installation."""
    package = table.quantization.partition("-")[0]
    wanted = {package: f"quantization = {table.quantization!r}"} if package else {}
    if table.adapter:
        wanted["peft"] = "an adapter"
    missing = {name: why for name, why in wanted.items() if importlib.util.find_spec(name) is None}
    if missing:
        raise MissingDependency(
            "; ".join(f"{why} needs the package {name}" for name, why in missing.items()),
            remedy=f"pip install {' '.join(missing)}",
        )


def _quantised(table: TransformersTable, precision: Any) -> dict[str, Any]:
    if not table.quantization:
        return {}
    if table.quantization == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}
    import transformers

    bits: Any = transformers.BitsAndBytesConfig
    if table.quantization == "bitsandbytes-8bit":
        return {"quantization_config": bits(load_in_8bit=True)}
    four = bits(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=precision)
    return {"quantization_config": four}


def _adapted(model: Any, table: TransformersTable) -> Any:
    """The model with its adapter: merged into the weights, unless these are quantised."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, table.adapter)
    return adapted if table.quantization else adapted.merge_and_unload()


def _unusable(name: str, table: TransformersTable, error: Exception) -> ConfigError:
    return ConfigError(
        f"setting `generators.{name}.model`: `{table.model}` cannot be loaded: {error}",
        remedy="Name a folder with a causal or sequence-to-sequence model. Models are not downloaded unless "
        "HF_HUB_OFFLINE=0 is set.",
    )
