"""What `make demo` runs: load examples/shop, ask it one question in each of its languages, show the proof.

`python examples/demo.py --svg docs/demo.svg` also saves what it printed as the README's picture.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from citewell.cli.answer import show
from citewell.cli.logs import for_a_person
from citewell.config import load_settings
from citewell.engine import build
from citewell.records import Question

SHOP = Path(__file__).resolve().parent / "shop"
QUESTIONS = (
    "I typed my password wrong too often and now I can't get in. How long do I have to wait?",
    "¿Hay algún tope para pagar por Bizum?",
    "返品は何日以内にできますか？",
    "품질 보증 기간은 얼마입니까?",
    "Which planets have rings?",
)
NEXT = """Try next, after `. .venv/bin/activate` and `export CITEWELL_DATA_DIR={folder}`:
  citewell ask 'Who pays for the return label?'
  citewell search 'tent zip' --k 3     both legs' ranks and scores beside the fused list
  citewell serve                       the HTTP API on http://127.0.0.1:8080 (docs/http-api.md)
  citewell ingest YOUR_FOLDER          your own documents"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, help="also save the output as a picture")
    args = parser.parse_args()
    screen = Console(highlight=False, markup=False, emoji=False, record=bool(args.svg), width=96 if args.svg else None)
    settings = load_settings()
    with for_a_person(), build(settings, sources=[str(SHOP)]) as engine:
        counts = Counter(outcome.status for outcome in engine.ingest([str(SHOP)]))
        loaded = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        screen.print(f"Loaded examples/shop: {loaded}.\n")
        for text in QUESTIONS:
            screen.print(Rule(text, align="left", style="cyan"))
            show(screen, engine.ask(Question(text=text)))
            screen.print()
    screen.print(NEXT.format(folder=settings.data_dir), soft_wrap=True)
    if args.svg:
        args.svg.write_text(screen.export_svg(title="make demo", code_format=_SVG), encoding="utf-8")


# rich's own frame names a font on the web; a picture of ours asks nobody for anything.
_SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "Noto Sans Mono CJK JP", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""

if __name__ == "__main__":
    main()
