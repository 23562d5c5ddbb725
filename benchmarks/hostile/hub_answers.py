"""The installed command against a Hub on loopback that means harm: peak memory, seconds, exit code and whether the token left its origin.

    python -m benchmarks.hostile.hub_answers --out benchmarks/results/hub_answers.json

Every answer is given to a command of its own, with the limits as they are shipped: descriptions, lists, files and downloads that do
not end, are packed, nested or slow, lead round in circles or away, or hold entries that are none. What is malformed in part has to be read
for the rest, and where several repositories are asked for at once the sound one has to be taken in. The Hub runs in this process; the
memory is that of the command alone, with 300 MB as the bound, and the end has to come within the deadline that docs/method/sharing.md
states for the call. The token is one that the store's address, which is another origin than the Hub's, must never hear.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import safetensors.numpy
from msgspec import Struct

from benchmarks.common.results import result_path, write_result

HELPERS = Path(__file__).resolve().parents[2] / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))

import hostile_hub as hostile  # noqa: E402
from hub_server import Hub, serving  # noqa: E402
from tiny_models import tiny_llama  # noqa: E402

BOUND = 300.0  # MB of resident memory at the most
STARTING = 40.0  # seconds that a process takes beside its calls on a machine that does other things
DEADLINE, PATIENCE = 120.0, 310.0  # seconds, as docs/method/sharing.md states them
WORKERS = 4  # commands at once: the slow ones wait
PAUSE = 1.0  # seconds between the bytes of a slow answer
NAME = "registry.modelkin-registry"
CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 4}).encode()
DESCRIBE, ID, LIST, FILE, STORE = "/api/models/org/bad", "org/bad", "/api/models?", "/org/bad/resolve", "/store/org/bad"
FINGERPRINT = ("fingerprint", ID, "-o", "made.modelkin")
SEVERAL = ("sync", "org/bad0", "org/bad1", "org/bad2", "org/bad3", "org/good", "--json")
AUTHOR = ("sync", "--author", "org", "--json")
PUSH = ("push", "me/registry", "--json")
PULL = ("pull", "me/registry", "--json")


class Case(Struct, frozen=True):
    """A command, what it is answered at the beginning of which path, and what has to become of it.

    `done` are repositories that have to be taken in all the same; `waits` how often a deadline may pass in it.
    """

    arguments: tuple[str, ...]
    where: str
    answer: Callable[[Hub], hostile.Answer]
    code: int = 3
    done: tuple[str, ...] = ()
    waits: int = 0


def wide(_: Hub) -> hostile.Answer:
    """A body as long as it may be: text that takes four bytes a character in memory, and as many small objects as may be."""
    return hostile.whole('["\U0001f600'.encode() + b"a" * 5_200_000 + b'"' + b',{"":0}' * 99_000 + b"]")


def heavy(hub: Hub) -> hostile.Answer:
    """Files beside the weights as long as may be, and of digests that nobody knows."""
    hub.hostile[FILE] = hostile.whole(b" " * (40 << 20))
    beside = [{"rfilename": name, "size": 40 << 20} for name in ("tokenizer.json", "vocab.json", "merges.txt", "modeling.py")]
    weights = {"rfilename": "model.safetensors", "size": 40 << 30, "lfs": {"sha256": "0" * 64, "size": 40 << 30}}
    return hostile.described(hub, ID, lambda said: said.update(siblings=[weights, *beside]))


def long(hub: Hub) -> hostile.Answer:
    """A file that is mapped, of more bytes than a disk has."""
    return hostile.described(hub, ID, lambda said: said.update(siblings=[{"rfilename": "model.tflite", "size": 1 << 40}]))


DESCRIPTIONS: dict[str, Callable[[Hub], hostile.Answer]] = {
    "endless": lambda _: hostile.endless(),
    "packed": lambda _: hostile.packed,
    "packed three times": lambda _: hostile.packed_twice,
    "nested": lambda _: hostile.whole(b"[" * (8 << 20)),
    "many items": lambda _: hostile.endless(b"[0", b",0" * hostile.PIECE),
    "as wide as may be": wide,
    "redirects without end": lambda _: hostile.redirected_without_end,
    "endless refusal": lambda _: hostile.endless(status=404),
    "endless failure": lambda _: hostile.endless(status=500),
    "busy for years": lambda _: hostile.whole(b"", 429, Retry_After="99999999"),
}
SLOW: dict[str, Callable[[Hub], hostile.Answer]] = {
    "slow body": lambda _: hostile.slow_body(PAUSE),
    "slow head": lambda _: hostile.slow_head(PAUSE),
    "interim for ever": lambda _: hostile.interim(PAUSE),
    "silent": lambda _: hostile.silent,
}
LISTS: dict[str, Callable[[Hub], hostile.Answer]] = {
    "to itself": lambda hub: hostile.pages(lambda _: f"{hub.url}/api/models?a", lambda n: [hostile.entry(n)]),
    "in a circle": lambda hub: hostile.pages(lambda n: f"{hub.url}/api/models?{n % 3}", lambda n: [hostile.entry(n)]),
    "elsewhere": lambda hub: hostile.pages(lambda n: f"{hub.store}/api/models?{n}", lambda n: [hostile.entry(n)]),
    "endless": lambda _: hostile.endless(b"["),
    "packed": lambda _: hostile.packed,
    "as wide as may be": wide,
}


def cases() -> dict[str, Case]:
    """All of them, by name."""
    found = {f"description, {name}": Case(FINGERPRINT, DESCRIBE, answer) for name, answer in DESCRIPTIONS.items()}
    found |= {f"description, {name}": Case(FINGERPRINT, DESCRIBE, answer, waits=1) for name, answer in SLOW.items()}
    for name in ("endless", "packed", "as wide as may be"):
        found[f"four descriptions at once, {name}"] = Case(SEVERAL, DESCRIBE, DESCRIPTIONS[name], 0, ("org/good",))
    found |= {f"list, {name}": Case(AUTHOR, LIST, answer) for name, answer in LISTS.items()}
    found["list, slow body"] = Case(AUTHOR, LIST, SLOW["slow body"], waits=1)
    found["list, a repository a page for ever"] = Case(
        AUTHOR, LIST, lambda _: hostile.pages(lambda n: f"?{n}", lambda n: [hostile.entry(n)])
    )
    found["list, entries that are none"] = Case(
        AUTHOR, LIST, lambda hub: hostile.whole(json.dumps([None, hub.repos["org/good"].described(False)]).encode()), 0, ("org/good",)
    )
    found["description, a null among its files"] = Case(
        AUTHOR, DESCRIBE, lambda hub: hostile.described(hub, ID, lambda said: said["siblings"].append(None)), 0, (ID, "org/good")
    )
    for place, where in (("Hub", FILE), ("store", STORE)):
        found[f"file at the {place}, endless"] = Case(AUTHOR, where, lambda _: hostile.endless(b""), 0, ("org/good",))
        found[f"file at the {place}, slow head"] = Case(AUTHOR, where, SLOW["slow head"], 0, ("org/good",), waits=2)
    found["download, endless"] = Case(PULL, "/datasets/me/registry", lambda _: hostile.endless(b""))
    found["download, endless, of no stated length"] = Case(PULL, "/datasets/you/registry", lambda _: hostile.endless(b""))
    found["download, slow head"] = Case(PULL, "/datasets/me/registry", SLOW["slow head"], waits=1)
    found["files beside the weights, as long as may be"] = Case(FINGERPRINT, DESCRIBE, heavy)
    found["a mapped file, longer than may be"] = Case(FINGERPRINT, DESCRIBE, long)
    found["upload, endless"] = Case(PUSH, "/api/", lambda _: hostile.endless())
    found["upload, packed"] = Case(PUSH, "/api/", lambda _: hostile.packed)
    return found


def measured(name: str, case: Case) -> dict[str, Any]:
    """One command against one answer."""
    with serving(Hub()) as hub, tempfile.TemporaryDirectory() as made:
        for number, repo in enumerate((ID, "org/good")):
            hub.put(repo, {"model.safetensors": safetensors.numpy.save(tiny_llama(number)), "config.json": CONFIG})
        hub.datasets["me/registry"] = {NAME: bytes(1000)}
        hub.hostile[case.where] = case.answer(hub)
        if case.arguments == PULL and "you/" in case.where:
            case = Case(("pull", "you/registry", "--json"), case.where, case.answer)
        if case.arguments == PUSH:
            (Path(made) / "sound").mkdir()
            (Path(made) / "sound" / "model.safetensors").write_bytes(safetensors.numpy.save(tiny_llama(0)))
            _run(hub, Path(made), ("add", "sound"))
        seconds, peak, code, output, left = _run(hub, Path(made), case.arguments)
        taken = {line["repo"] for line in map(_plain, output.splitlines()) if line.get("status") == "added"}
        told = bool(hub.told_tokens)
    deadline = STARTING + case.waits * DEADLINE
    row = {"case": name, "seconds": round(seconds, 1), "memory MB": round(peak), "exit code": code, "token left": told, "bytes left": left}
    is_as_wanted = code == case.code and taken >= set(case.done) and not told and peak <= BOUND and seconds <= deadline
    print(row, flush=True)
    return {**row, "deadline s": deadline, "as wanted": is_as_wanted}


def _run(hub: Hub, folder: Path, arguments: tuple[str, ...]) -> tuple[float, float, int, str, int]:
    """Seconds, the most resident memory in MB, exit code, what was printed, and bytes that were left in scratch folders."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = shutil.which("modelkin", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "modelkin"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELKIN_"))},
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_told_to_nobody",
        "MODELKIN_CACHE": str(folder / "cache"),
        "TMPDIR": str(scratch),
        "OMP_NUM_THREADS": "1",
    }
    began = time.monotonic()
    call = [command, "--registry", str(folder / "r.db"), *arguments]
    with subprocess.Popen(call, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    left = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    return time.monotonic() - began, usage.ru_maxrss / 1000, process.returncode, output, left


def _plain(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=result_path("hub_answers"))
    parser.add_argument("--only", default="", help="cases with this in their name")
    wishes = parser.parse_args()
    chosen = {name: case for name, case in cases().items() if wishes.only in name}
    with ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(measured, chosen, chosen.values()))
    found = {
        "cases": len(rows),
        "as wanted": sum(row["as wanted"] for row in rows),
        "most memory MB": max(row["memory MB"] for row in rows),
        "most seconds": max(row["seconds"] for row in rows),
        "tokens that left their origin": sum(row["token left"] for row in rows),
        "rows": rows,
    }
    write_result("hub_answers", found, out=wishes.out, packages=("httpx2", "huggingface_hub"))


if __name__ == "__main__":
    main()
