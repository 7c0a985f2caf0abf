"""What languages a model is taken to speak, and what that does to a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from citewell.config import load_settings
from citewell.embed.sentence import card_languages
from citewell.engine import build


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# Model\n", ("en",)),
        ("---\nlanguage:\n- ja\n- zh-TW\n- no\n---\n", ("ja", "zh", "no")),
        ("---\nlanguage: [multilingual, en]\n---\n", ()),
        ("---\nlicense: mit\n---\n", ()),
        ("---\nlanguage: {en: 1}\n---\n", ()),
        ("---\n: : :\n---\n", ()),
        ("---\n- a list\n---\n", ()),
        ("# No front matter\nlanguage: en\n", ()),
        (None, ()),
    ],
)
def test_a_card_declares_its_languages(tmp_path: Path, card: str | None, languages: tuple[str, ...]) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card, "utf-8")
    assert card_languages(tmp_path) == languages


def test_a_leg_that_cannot_help_is_left_out_unless_told(tmp_path: Path) -> None:
    """The packaged model speaks English: Korean has BM25 alone, until a setting or tuning says otherwise."""
    with build(load_settings(data_dir=tmp_path), "ingest") as engine:
        assert engine.check()["embedder"]["languages"] == ["en"]
        assert engine.plan("en").fusion.legs() == ("bm25", "dense")
        assert engine.plan("ko").fusion.legs() == ("bm25",)
        assert "does not speak ko" in engine.plan("ko").fusion.source
    tuned = load_settings(data_dir=tmp_path, tuned={"ko": {"fusion": "minmax", "alpha": 0.1, "depth": 50}})
    with build(tuned, "ingest") as engine:
        assert engine.plan("ko").fusion.describe() == {"method": "minmax", "alpha": 0.1, "source": "tuned.ko"}
        assert engine.plan("ko").depth == 50
    told = load_settings(data_dir=tmp_path, embedder_languages=("en", "ko"))
    with build(told, "ingest") as engine:
        assert engine.plan("ko").fusion.legs() == ("bm25", "dense")
