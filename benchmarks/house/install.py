"""What a new user waits for and stores: README's first command on a fresh environment, at one commit and at another, in one run.

    python -m benchmarks.house.install --before COMMIT [--after COMMIT]

Each tree is unpacked into an empty folder and its README's first block is run there, without pip's cache and with a user data folder of its
own. Bytes are what the environment takes on disk; seconds are of the clock and of the processor. Writes results/install.json.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import resource
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import results
from benchmarks.house.environment import faults, installed

BASH = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LARGEST = 10  # packages that are told with their bytes


def measured(commit: str) -> dict[str, Any]:
    """README's first command at a commit: seconds, bytes, packages."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        packed = subprocess.run(["git", "archive", commit], cwd=results.ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder / "tree", filter="data")
        command = BASH.findall((folder / "tree" / "README.md").read_text(encoding="utf-8"))[0]
        environment = {**os.environ, "PIP_NO_CACHE_DIR": "1", "XDG_DATA_HOME": str(folder / "data"), "COLUMNS": "100"}
        for name in ("MODELKIN_REGISTRY", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
            environment.pop(name, None)
        busy, began = _children(), time.monotonic()
        done = subprocess.run(["bash", "-euc", command], cwd=folder / "tree", env=environment, capture_output=True, text=True, check=True)
        seconds, busy = time.monotonic() - began, _children() - busy
        packages = installed(folder / "tree" / ".venv")
    return {
        "commit": results.resolved(commit),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "megabytes": round(sum(packages.values()) / 1e6),
        "packages": len(packages),
        "faults": faults(packages),
        "largest": {name: round(size / 1e6, 1) for name, size in sorted(packages.items(), key=lambda item: -item[1])[:LARGEST]},
        "answer": done.stdout.splitlines()[0],
    }


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    options = parser.parse_args()
    before, after = measured(options.before), measured(options.after)
    share = {name: round(after[name] / before[name], 3) for name in ("seconds", "cpu_seconds", "megabytes")}
    target = results.write_result("install", {"before": before, "after": after, "after / before": share})
    print(f"{target.name}: {share}")
    if after["faults"]:
        parser.exit(1, f"the default environment: {'; '.join(after['faults'])}\n")


if __name__ == "__main__":
    main()
