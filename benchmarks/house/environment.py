"""Whether a default environment is as small on disk as is promised: `python -m benchmarks.house.environment .venv`.

Needs nothing but Python, so that a fresh environment can be looked at before anything else comes in.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MOST_MEGABYTES = 450  # of an environment as README's first command makes it, pip among it
UNWANTED = re.compile(r"^(torch|nvidia|cuda|triton|cupy)", re.IGNORECASE)  # what only the extras gpu and test may bring


def installed(environment: Path) -> dict[str, int]:
    """Bytes on disk by what lies in site-packages; the rest of the environment is `(environment)`."""
    site = next(environment.glob("lib/python*/site-packages"))
    found = {entry.name: _bytes(entry) for entry in site.iterdir()}
    return {**found, "(environment)": _bytes(environment) - sum(found.values())}


def faults(packages: dict[str, int]) -> list[str]:
    """What is wrong with a default environment, in words; nothing if all is well."""
    megabytes = round(sum(packages.values()) / 1e6)
    too_large = [f"{megabytes} MB, more than {MOST_MEGABYTES}"] if megabytes > MOST_MEGABYTES else []
    return too_large + [f"{name} is installed" for name in sorted(packages) if UNWANTED.match(name)]


def _bytes(place: Path) -> int:
    """Blocks that a file or folder takes, as du counts them."""
    files = [place, *place.rglob("*")] if place.is_dir() and not place.is_symlink() else [place]
    return sum(file.lstat().st_blocks * 512 for file in files)


if __name__ == "__main__":
    looked_at = installed(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: {sum(looked_at.values()) / 1e6:.0f} MB in {len(looked_at)} places")
    sys.exit("; ".join(faults(looked_at)) or 0)
