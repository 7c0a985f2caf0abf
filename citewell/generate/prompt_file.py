"""A user's own wordings of the prompt, read from a TOML file that `prompt` in a generator's table names.

    version = "support-3"

    [en]
    instruction = "Answer as our help desk would … If the passages do not say, write exactly: {abstention}"

What a file leaves out is said in the packaged wording. The refusals stay the packaged ones, because citations are
checked against them, and so do the fences around passages.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from citewell.errors import ConfigError
from citewell.prompt import PACKAGED, Template, Wording

_PARTS = ("instruction", "closed_book", "label")
_LONGEST_BYTES = 1_000_000
_LONGEST_NAME = 100


def read_template(path: Path, setting: str) -> Template:
    """The file's version and wordings. `setting` asked for it; raises `ConfigError` with all that is wrong."""
    found = _parsed(path, setting)
    if problems := list(_problems(found)):
        raise ConfigError(f"setting `{setting}`: the file {path}: {'; '.join(problems)}", remedy=_REMEDY)
    wordings = {
        lang: _wording(found[lang], packaged) if lang in found else packaged
        for lang, packaged in PACKAGED.wordings.items()
    }
    return Template(found["version"].strip(), wordings)


_REMEDY = "Mend the file; docs/settings.md shows one under `generators`."


def _parsed(path: Path, setting: str) -> dict[str, Any]:
    try:
        if not path.is_file():
            why = "is no file" if path.exists() else "does not exist"
            raise ConfigError(
                f"setting `{setting}`: {path} {why}",
                remedy="Correct the path; it begins at the settings file's folder.",
            )
        if path.stat().st_size > _LONGEST_BYTES:
            raise ConfigError(f"setting `{setting}`: the file {path} has over {_LONGEST_BYTES} bytes", remedy=_REMEDY)
        return tomllib.loads(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"setting `{setting}`: the file {path} is no UTF-8 text: {error}", remedy=_REMEDY) from None
    except (tomllib.TOMLDecodeError, OSError, ValueError) as error:  # a path with a NUL character is a ValueError
        raise ConfigError(f"setting `{setting}`: the file {path} cannot be read: {error}", remedy=_REMEDY) from None


def _wording(said: Mapping[str, str], packaged: Wording) -> Wording:
    parts = {name: said[name].strip() if name in said else getattr(packaged, name) for name in _PARTS}
    return Wording(**parts)


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    known = tuple(PACKAGED.wordings)
    yield from _of_version(found.get("version"))
    if not any(lang in found for lang in known):
        yield f"it has no wording; write a table for one or more of {', '.join(known)}"
    for name, said in found.items():
        if name == "version":
            continue
        if name not in known:
            yield f"`{name}` is no language of prompts; known: {', '.join(known)}"
        elif not isinstance(said, dict):
            yield f"`{name}` is no table; write [{name}]"
        else:
            yield from _of_language(name, said)


def _of_version(version: Any) -> Iterator[str]:
    if version is None:
        yield '`version` is missing; write one that changes with the wording, such as version = "support-1"'
    elif not isinstance(version, str) or not version.strip().isprintable() or not version.strip():
        yield "`version` is no line of text"
    elif len(version) > _LONGEST_NAME:
        yield f"`version` has {len(version)} characters; {_LONGEST_NAME} is the most"
    elif version.strip() == PACKAGED.version:
        yield f"`version` is {PACKAGED.version}, that of the packaged wording; choose another"


def _of_language(lang: str, said: Mapping[str, Any]) -> Iterator[str]:
    if "instruction" not in said:
        yield f"`{lang}.instruction` is missing"
    for part, text in said.items():
        place = f"`{lang}.{part}`"
        if part not in _PARTS:
            yield f"{place} is no part of a prompt; known: {', '.join(_PARTS)}"
        elif not isinstance(text, str):
            yield f"{place} is no text"
        elif not text.strip():
            yield f"{place} is empty"
        elif part != "label":
            yield from _of_placeholders(place, text)
        elif not text.strip().isprintable():
            yield f"{place} has more than one line"


def _of_placeholders(place: str, text: str) -> Iterator[str]:
    """`{abstention}` and nothing else in braces; a brace that is meant as one is written twice."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        yield f"{place} has a brace too many or too few ({error}); write {{{{ and }}}} for braces"
        return
    fields = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in fields:
        if name != "abstention" or spec or conversion:
            whole = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            yield f"{place} has the unknown placeholder {{{whole}}}; {{abstention}} is one, {{{{ and }}}} are braces"
    if not any(name == "abstention" for name, _, _ in fields):
        yield f"{place} lacks {{abstention}}, the refusal that is to be written word for word"
