"""Record a real run of `rekindle demo` as docs/pages/demo.svg, the picture in the README.

The figures in it are those of the machine it runs on: run it on a quiet one.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent / "pages" / "demo.svg"
COLUMNS = 100
# Rich's template asks a foreign server for its font; a system's monospace does as well.
FONT_FACE = re.compile(r"@font-face\s*{[^}]*}\s*")


def main() -> int:
    command = [sys.executable, "-m", "rekindle.cli", "demo"]
    terminal = {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    run = subprocess.run(command, env=os.environ | terminal, stdout=subprocess.PIPE, check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(run.stdout.decode().strip("\n")))
    svg = FONT_FACE.sub("", console.export_svg(title="rekindle demo", unique_id="demo"))
    PICTURE.write_text(svg, encoding="utf-8")
    print(f"wrote {PICTURE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
