"""How long it takes to make the kinds of records that a question needs: dataclasses beside msgspec's structs, in one run.

    python -m benchmarks.speed.records [--repeat 9]

A process of its own asks a question and counts the kinds of records that it made and their fields. As many kinds of the same fields are
then made by `dataclasses.dataclass(frozen=True)` and by `msgspec.Struct`, each way in fresh processes in turn, in CPU seconds; the
medians count. Writes results/records.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common.results import write_result
from benchmarks.speed.exact import model
from benchmarks.speed.page import SMALL

COUNT = """
import contextlib, io, json, sys
from msgspec import Struct
from modelkin_cli.main import cli
with contextlib.redirect_stdout(io.StringIO()):
    cli.main(sys.argv[1:], standalone_mode=False)
kinds, waiting = [], [Struct]
while waiting:
    below = waiting.pop().__subclasses__()
    waiting += below
    kinds += [len(kind.__struct_fields__) for kind in below if kind.__module__.startswith("modelkin")]
print(json.dumps(kinds))
"""
MAKE = """
import sys, time
from dataclasses import dataclass
from msgspec import Struct
fields = [int(one) for one in sys.argv[2].split(",")]
head = "@dataclass(frozen=True)\\nclass K{0}:" if sys.argv[1] == "dataclass" else "class K{0}(Struct, frozen=True):"
body = lambda count: "".join(f"\\n    f{at}: int" for at in range(count)) or "\\n    pass"
kinds = "\\n".join(head.format(number) + body(count) for number, count in enumerate(fields))
code = compile("from __future__ import annotations\\n" + kinds, "kinds", "exec")
start = time.process_time()
exec(code)
print(time.process_time() - start)
"""


def run(*command: str) -> str:
    return subprocess.run([sys.executable, "-c", *command], capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        small, registry = str(model(Path(folder) / "small", 1, *SMALL)), str(Path(folder) / "r.db")
        run(COUNT, "--registry", registry, "add", small)
        fields: list[int] = json.loads(run(COUNT, "--registry", registry, "query", small))
    told = ",".join(map(str, fields))
    spent: dict[str, list[float]] = {"dataclass": [], "struct": []}
    for _ in range(repeat):
        for kind, all_ in spent.items():
            all_.append(round(float(run(MAKE, kind, told)), 5))
    found = {kind: {"median_cpu_s": median(all_), "all_cpu_s": all_} for kind, all_ in spent.items()}
    write_result("records", {"kinds": len(fields), "fields": sum(fields), **found})
    print(len(fields), "kinds", {kind: median(all_) for kind, all_ in spent.items()})


if __name__ == "__main__":
    main()
