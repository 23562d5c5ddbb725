"""Where the command begins: Ctrl-C while modules are imported ends it as it does later, without a traceback."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType

SELDOM = 100_000  # objects made between two looks for garbage: what is imported stays, and looking through it takes a tenth of a query
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it (128 + SIGINT)


def main() -> int:
    """Run the command line. Returns the exit code."""
    gc.set_threshold(SELDOM)
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else the caller wants no Ctrl-C: nohup, a shell's `&`
    if asked:
        signal.signal(signal.SIGINT, _leave)
    from modelkin_cli.main import main as run

    if asked:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    finally:
        gc.freeze()  # the process ends: its memory goes back as it is, without a look for garbage in all of it


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Nothing is open or half done yet. An exception instead could be swallowed by what is being imported."""
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)
