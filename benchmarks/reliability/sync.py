"""`modelkin sync` against a Hub on loopback: killed at random moments, and many small repositories twice.

    python -m benchmarks.reliability.sync --out benchmarks/results/sync.json

*Kills*: a sync of some repositories is killed (SIGKILL) at random moments, fifty times in all, each registry carried on until it is done.
It must then hold the same models, revisions, claims and journal as that of a sync that nobody disturbed, and the doctor must find it sound.
*Many*: 5,000 repositories are synced, then again. Requests are counted by the server; memory is sampled while the sync runs. The second run
must ask for nothing but the list, and memory must not grow with the number of repositories: the last quarter is held against the second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from msgspec import to_builtins

from benchmarks.common.results import result_path, write_result
from modelkin_registry.registry import Registry
from modelkin_registry.store.opening import open_store

SERVER = Path(__file__).resolve().parents[2] / "tests" / "helpers" / "hub_server.py"
HIDDEN, WIDE, TOKENS, LAYERS = 16, 32, 64, 2
CONFIG = {"model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 4, "vocab_size": TOKENS}
SKIPPED = (
    "id",
    "model",
    "revision",
    "fingerprint",
    "added",
    "first_seen",
    "last_seen",
)  # numbers of rows and times differ between registries
COSTS = ("noted", "seen", "tries", "model", "bytes")  # of the journal: when and at what cost; of two equal files at once both are read
KILL_REPOS, KILL_DELAY, KILLS_A_REGISTRY = 40, 0.02, 5
GROWTH = 1.1  # of memory between the second and the last quarter, above which it is not flat


def make_repos(folder: Path, count: int, owner: str) -> None:
    """Small Llama-shaped models of random weights, one in ten a copy of its neighbour and one in fifty broken."""
    numbers = np.random.default_rng(0)
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (WIDE, HIDDEN) for name in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (HIDDEN, WIDE)}
        shapes |= {f"{at}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    data = b""
    for number in range(count):
        place = folder / owner / f"m{number:05}"
        place.mkdir(parents=True)
        if number % 10 or not data:
            data = safetensors.numpy.save({name: numbers.standard_normal(shape, np.float32) for name, shape in shapes.items()})
        (place / "model.safetensors").write_bytes(data if number % 50 != 49 else data[:100])
        (place / "config.json").write_text(json.dumps(CONFIG))
        (place / "README.md").write_text(f"---\nlicense: mit\nbase_model: {owner}/m{number // 2:05}\n---\n")


@contextmanager
def serving(folder: Path, delay: float) -> Iterator[str]:
    """The address of a Hub in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(folder), str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def counted(address: str) -> dict[str, int]:
    """Requests that the Hub has answered so far."""
    with urllib.request.urlopen(f"{address}/count") as answer:
        return {kind: count for kind, count in json.load(answer).items() if kind != "bytes"}


def started(command: list[str], address: str, registry: Path, owner: str) -> subprocess.Popen[str]:
    """A sync on its way. It opens a process group of its own, so that a kill takes all of it."""
    options = ["--registry", str(registry), "sync", "--author", owner, "--rate", "100000", "--level", "full", "--no-starter", "--quiet"]
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "OPENBLAS_NUM_THREADS": "1"}
    with registry.with_suffix(".log").open("a") as log:
        return subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log, text=True, start_new_session=True)


def held(path: Path) -> dict[str, Any]:
    """What a registry holds, times and numbers of rows aside; what the doctor says of it too."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name not in SKIPPED}
        return [plain(item) for item in value] if isinstance(value, list) else value

    with open_store(path, create=False) as store:
        models = {name: plain(store.show(name)) for name in store.names()}
        journal = {entry.repo: {k: v for k, v in to_builtins(entry).items() if k not in COSTS} for entry in store.hub.entries()}
    with Registry.open(path, create=False) as registry:
        return {"models": models, "journal": journal, "sound": {finding.state for finding in registry.examine()} == {"ok"}}


def kills(command: list[str], wanted: int, seed: int) -> dict[str, Any]:
    """Kill syncs until `wanted` are dead, and hold every registry against the undisturbed one."""
    chance, done, same, died_with = random.Random(seed), 0, 0, []
    different: set[str] = set()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_repos(folder / "hub", KILL_REPOS, "many")
        with serving(folder / "hub", KILL_DELAY) as address:
            began = time.monotonic()
            assert started(command, address, folder / "undisturbed.db", "many").wait() == 0
            life = time.monotonic() - began
            undisturbed = held(folder / "undisturbed.db")
            registries = 0
            while done < wanted:
                registry = folder / f"r{registries}.db"
                registries += 1
                for _ in range(min(KILLS_A_REGISTRY, wanted - done)):
                    process = started(command, address, registry, "many")
                    try:
                        process.wait(chance.uniform(0.2, 1.0) * life)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        process.wait()
                        done += 1
                        died_with.append(models_in(registry))
                assert started(command, address, registry, "many").wait() == 0
                found = held(registry)
                same += found == undisturbed and not list(folder.glob(f".{registry.name}.sync-*"))
                different |= {what for what in undisturbed if found[what] != undisturbed[what]}
    return {
        "repositories": KILL_REPOS,
        "undisturbed_seconds": round(life, 2),
        "kills": done,
        "kills_with_a_part_stored": sum(0 < number < len(undisturbed["models"]) for number in died_with),
        "models_there_when_killed": died_with,
        "registries": registries,
        "registries_equal_to_undisturbed": same,
        "what_differed": sorted(different),
        "models": len(undisturbed["models"]),
        "failed_by_themselves": sum(entry["state"] == "failed" for entry in undisturbed["journal"].values()),
        "sound": undisturbed["sound"],
    }


def models_in(path: Path) -> int:
    if not path.exists():
        return 0
    with open_store(path, create=False) as store:
        return store.count()


def watched(process: subprocess.Popen[str], registry: Path) -> tuple[list[tuple[float, int, float]], int]:
    """(seconds, models, MB of memory) twice a second until the process ends, and its exit code."""
    samples: list[tuple[float, int, float]] = []
    began = time.monotonic()
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.5):
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                samples.append(
                    (round(time.monotonic() - began, 1), models_in(registry), round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1))
                )
            except OSError:
                return

    thread = threading.Thread(target=sample)
    thread.start()
    code = process.wait()
    ended.set()
    thread.join()
    return samples, code


def many(command: list[str], count: int) -> dict[str, Any]:
    """Sync `count` repositories twice."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_repos(folder / "hub", count, "small")
        with serving(folder / "hub", 0.0) as address:
            began = time.monotonic()
            samples, first_code = watched(started(command, address, folder / "r.db", "small"), folder / "r.db")
            first_seconds, first = time.monotonic() - began, counted(address)
            began = time.monotonic()
            second_code = started(command, address, folder / "r.db", "small").wait()
            second_seconds, both = time.monotonic() - began, counted(address)
        with open_store(folder / "r.db", create=False) as store:
            states, stored = store.hub.count('{"author": "small"}'), store.count()
        size = (folder / "r.db").stat().st_size
    quarters = [[mb for _, models, mb in samples if low * stored <= models < (low + 0.25) * stored] for low in (0.25, 0.75)]
    early, late = (statistics.median(quarter) for quarter in quarters)
    return {
        "repositories": count,
        "states": states,
        "models": stored,
        "exit_codes": [first_code, second_code],
        "first": {"seconds": round(first_seconds, 1), "requests": first},
        "second": {"seconds": round(second_seconds, 1), "requests": {kind: both[kind] - first.get(kind, 0) for kind in both}},
        "memory_mb": {"second_quarter": early, "last_quarter": late, "most": max(mb for *_, mb in samples), "flat_below": GROWTH},
        "memory_flat": late <= GROWTH * early,
        "registry_bytes": size,
        "samples": samples[:: max(1, len(samples) // 40)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--repositories", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=["kills", "many"], help="do this one again, and keep the other of the results file")
    parser.add_argument("--command", default="modelkin", help="the command under test")
    parser.add_argument("--out", type=Path, default=result_path("sync"))
    options = parser.parse_args()
    command = shlex.split(options.command)
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.part and options.out.exists() else {}
    if options.part != "many":
        found["kills"] = kills(command, options.kills, options.seed)
    if options.part != "kills":
        found["many"] = many(command, options.repositories)
    equal, registries = found["kills"]["registries_equal_to_undisturbed"], found["kills"]["registries"]
    second = found["many"]["second"]["requests"]
    found["passed"] = {
        "every killed registry equals the undisturbed one": equal == registries,
        "the second run asks for the list alone": not any(number for kind, number in second.items() if kind != "list"),
        "memory is flat": found["many"]["memory_flat"],
    }
    options.out.parent.mkdir(exist_ok=True)
    write_result("sync", found, out=options.out)
    print(options.out.read_text())
    raise SystemExit(not all(found["passed"].values()))


if __name__ == "__main__":
    main()
