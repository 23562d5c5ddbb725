"""Run every bash and python block of a Markdown page, in order, in one folder: `python docs/run_blocks.py PAGE [FOLDER [BLOCK...]]`.

Blocks of other kinds (text, sql, json) are shown, not run. Python blocks of a page are one program, run with the Python of the environment
that a block made (`.venv`), else with this one. FOLDER defaults to a new empty one; BLOCK are numbers
of blocks, from 1, where not all are to run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Container
from pathlib import Path

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Runs what it is sent, a line with a block in quotes each, and says so on descriptor {done}.
PROGRAM = """
import os, sys
names = {{"__name__": "__main__"}}
for line in sys.stdin:
    exec(compile(eval(line), "<block>", "exec"), names)
    sys.stdout.flush()
    os.write({done}, b".")
"""


class Program:
    """The page's Python, which remembers what earlier blocks defined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: subprocess.Popen[str] | None = None
        self.done = -1

    def run(self, text: str) -> None:
        """One more block. Raises CalledProcessError."""
        if self.running is None:
            self._start()
        assert self.running is not None
        assert self.running.stdin is not None
        self.running.stdin.write(repr(text) + "\n")
        self.running.stdin.flush()
        if not os.read(self.done, 1):
            raise subprocess.CalledProcessError(self.running.wait(), "python block")

    def _start(self) -> None:
        made = self.folder / ".venv" / "bin" / "python"
        self.done, said = os.pipe()
        command = [str(made) if made.exists() else sys.executable, "-c", PROGRAM.format(done=said)]
        self.running = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.PIPE, text=True, pass_fds=[said])
        os.close(said)

    def end(self) -> None:
        """Let it finish."""
        if self.running is not None:
            assert self.running.stdin is not None
            self.running.stdin.close()
            self.running.wait()
            os.close(self.done)


def run(page: Path, folder: Path, wanted: Container[int] | None = None) -> int:
    """Run a page's blocks in the folder, or those of these numbers. Returns how many ran; stops at the first that fails."""
    program, count = Program(folder), 0
    try:
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1):
            if wanted is not None and number not in wanted:
                continue
            count += 1
            print(f"--- {page.name}, block {number} ({kind})", flush=True)
            if kind == "python":
                program.run(text)
            else:
                subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=folder, check=True)
    finally:
        program.end()
    return count


if __name__ == "__main__":
    page, folder, *numbers = [*sys.argv[1:], ""] if len(sys.argv) == 2 else sys.argv[1:]
    with tempfile.TemporaryDirectory() as empty:
        print(f"{page}: {run(Path(page), Path(folder or empty), [*map(int, numbers)] or None)} blocks ran")
