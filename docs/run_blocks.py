"""Run every bash and python block of a Markdown page, in order, in one folder: `python docs/run_blocks.py PAGE [FOLDER]`.

Blocks of other kinds (text, sql, json) are shown, not run. Python blocks of a page share their names. FOLDER defaults to a new empty one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(page: Path, folder: Path) -> int:
    """Run a page's blocks in the folder. Returns how many ran; stops at the first that fails."""
    python = folder / ".blocks.py"
    code, count = "", 0
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        count += 1
        print(f"--- {page.name}, block {count} ({kind})", flush=True)
        if kind == "python":
            code += text + "\n"
            python.write_text(code, encoding="utf-8")
            subprocess.run([sys.executable, python.name], cwd=folder, check=True)
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, check=True)
    python.unlink(missing_ok=True)
    return count


if __name__ == "__main__":
    page, *folder = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as empty:
        print(f"{page}: {run(page, folder[0] if folder else Path(empty))} blocks ran")
