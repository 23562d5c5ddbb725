"""Many workers on one registry in PostgreSQL, some of them killed, and the server too: is each job done once, and nothing half?

A Hub on loopback has small models; `sync --enqueue` puts all of them into the queue. Then four `modelkin work` take from it. Every two
seconds one that has a job is killed (kill -9), in turn the process that reads, which its call replaces, and the whole call, which is
begun again. (One that has none yet loses nothing by it: that is waited for.) Twice the server is killed and started again. A hundred
readers, each with a connection of its own, ask for models all the while.

A job with which three workers died is set aside, whatever killed them. These are counted, put back as an operator does (`sync --retry`),
and done by workers that nobody kills.

At the end: each repository is done, each model has one revision, the change log holds each of them once and without a gap, `modelkin
doctor` finds nothing broken, and no reader was told anything but that the server was away, while it was.

    python -m benchmarks.scale.workers --jobs 2000

Writes results/workers.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from benchmarks.common.results import result_path, write_result

HELPERS = Path(__file__).resolve().parents[2] / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))

import hub_server  # noqa: E402
import modelkin  # noqa: E402
from modelkin_indexer.errors import RegistryAway  # noqa: E402
from modelkin_registry.store.address import Address  # noqa: E402
from modelkin_registry.store.opening import open_store  # noqa: E402
from postgres import Server, serving  # noqa: E402

WORKERS, READERS, READING_PROCESSES = 4, 100, 4
SERVER_KILLED_AT = (1 / 3, 2 / 3)  # of the jobs that are done
LEASE_SECONDS = 6.0
LAYERS, HIDDEN, INNER, TOKENS = 2, 32, 64, 128
SPAWN = multiprocessing.get_context("spawn")


def tensors(seed: int) -> dict[str, Any]:
    """A transformer of two layers, 40,000 numbers."""
    random_ = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"model.layers.{layer}.mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes |= {f"model.layers.{layer}.mlp.down_proj.weight": (HIDDEN, INNER)}
    return {name: random_.standard_normal(shape).astype(np.float32) * 0.02 for name, shape in shapes.items()}


# readers


def read(address: Address, readers: int, stop: Any, tell: Any) -> None:
    """Ask for models, each reader in a thread with a connection of its own; tell what came of it when it is over."""
    seconds: list[float] = []
    trouble: Counter[str] = Counter()
    threads = [threading.Thread(target=_reader, args=(address, stop, seconds, trouble, number)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell.send((seconds, dict(trouble)))


def _reader(address: Address, stop: Any, seconds: list[float], trouble: Counter[str], number: int) -> None:
    random_ = random.Random(number)
    store = None
    while not stop.is_set():
        began = time.monotonic()
        try:
            store = store or open_store(address, create=False)
            with store.reading():
                numbers = store.numbers()
                for found in store.stored(random_.sample(numbers, min(2, len(numbers)))).values():
                    if len(store.vectors.of(found.revision)) == 0:
                        trouble["half a model"] += 1
            seconds.append(time.monotonic() - began)
        except RegistryAway:
            trouble["away"] += 1
        except Exception as error:  # whatever it is, it is told
            trouble[f"{type(error).__name__}: {error}"[:200]] += 1
        time.sleep(0.5)
    if store is not None:
        store.close()


# workers


class Crew:
    """Calls of `modelkin work`, one of which is killed now and then."""

    def __init__(self, address: Address, count: int, log: Path) -> None:
        self.call = [sys.executable, "-m", "modelkin_cli", "--registry", str(address), "work", "--json", "--rate", "100000"]
        self.call += ["--lease", str(LEASE_SECONDS), "--keep-free", "0"]
        self.log, self.kills, self.again = log, Counter[str](), Counter[int]()
        self.address = address
        self.running = [self._begin() for _ in range(count)]

    def _begin(self) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(path for path in sys.path if path)
        with self.log.open("ab") as log:
            return subprocess.Popen(self.call, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"})

    def kill_one(self) -> bool:
        """The process that reads, or the call, in turn, of one that has a job now; whether any has."""
        at_work = _at_work(self.address)
        busy = [place for place, call in enumerate(self.running) if call.pid in at_work]
        if not busy:
            return False
        place = busy[sum(self.kills.values()) % len(busy)]
        call = self.running[place]
        reading = subprocess.run(["ps", "-o", "pid=", "--ppid", str(call.pid)], capture_output=True, text=True, check=False).stdout.split()
        if sum(self.kills.values()) % 2 == 0 and reading:
            os.kill(int(reading[0]), signal.SIGKILL)
            self.kills["reading processes"] += 1
            return True
        call.kill()
        call.wait()
        self.kills["calls"] += 1
        self.running[place] = self._begin()
        return True

    def is_over(self) -> bool:
        """Whether all have ended well; one that could not reach the server when it was begun is begun again, as a supervisor does."""
        for place, call in enumerate(self.running):
            if call.poll() not in (None, 0):
                self.again[call.returncode] += 1
                self.running[place] = self._begin()
        return all(call.poll() == 0 for call in self.running)


def run(server: Server, jobs: int, workers: int, readers: int, every: float, folder: Path) -> dict[str, Any]:
    address = server.address("scale")
    modelkin.sync(author="org", level="probe", enqueue=True, rate=100000, starter=False, registry=address)
    stop, pipes = SPAWN.Event(), []
    reading = []
    for _ in range(READING_PROCESSES if readers else 0):
        receiver, sender = SPAWN.Pipe(duplex=False)
        pipes.append(receiver)
        reading.append(SPAWN.Process(target=read, args=(address, -(-readers // READING_PROCESSES), stop, sender), daemon=True))
        reading[-1].start()
    began = time.monotonic()
    crew = Crew(address, workers, folder / "workers.log")
    server_kills, away = [], 0.0
    try:
        last_kill = time.monotonic()
        while not crew.is_over():
            time.sleep(0.2)
            done = done_in(address)
            print(f"\r{time.monotonic() - began:.0f} s: {done} of {jobs} done", end="", file=sys.stderr, flush=True)
            if len(server_kills) < len(SERVER_KILLED_AT) and done >= jobs * SERVER_KILLED_AT[len(server_kills)]:
                at = time.monotonic()
                server.kill()
                time.sleep(1)
                server.start()
                away += time.monotonic() - at
                server_kills.append(done)
            if done < jobs and time.monotonic() - last_kill > every and crew.kill_one():
                last_kill = time.monotonic()
    finally:
        for call in crew.running:
            call.kill()
        stop.set()
    seconds = time.monotonic() - began
    told = [pipe.recv() for pipe in pipes]
    for process in reading:
        process.join(60)
    aside = _put_back(address)
    return {
        "jobs": jobs,
        "workers": workers,
        "one_killed_every_seconds": every,
        "seconds": round(seconds, 1),
        "jobs_a_second": round(jobs / seconds, 2),
        "killed": {**crew.kills, "server": len(server_kills)},
        "server_away_seconds": round(away, 1),
        "begun_again_after_exit_code": dict(crew.again),
        "set_aside_and_put_back": len(aside),
        "reasons": dict(Counter(reason.split(",")[0] for reason in aside)),
        "readers": _readers(readers, told),
        **verdict(address, jobs),
    }


def _at_work(address: Address) -> set[int]:
    """The calls that hold a job: a holder's name has its call's process number in the middle."""
    try:
        with open_store(address, create=False) as store:
            return {int(entry.holder.split(":")[-2]) for entry in store.hub.entries() if entry.holder}
    except RegistryAway:
        return set()


def _put_back(address: Address) -> list[str]:
    """Put what was set aside back into the queue and do it, as an operator does; why each was."""
    with open_store(address, create=False) as store:
        reasons = [entry.reason for entry in store.hub.entries() if entry.state == "failed"]
    if reasons:
        modelkin.sync(author="org", level="probe", enqueue=True, retry=True, rate=100000, starter=False, registry=address)
        modelkin.work(rate=100000, keep_free=0, registry=address)
    return reasons


def done_in(address: Address) -> int:
    try:
        with open_store(address, create=False) as store:
            return store.count()
    except RegistryAway:
        return 0


def _readers(count: int, told: list[tuple[list[float], dict[str, int]]]) -> dict[str, Any]:
    seconds = sorted(second for some, _ in told for second in some)
    trouble = sum((Counter(some) for _, some in told), Counter[str]())
    quantiles = {f"p{share}": round(float(np.quantile(seconds, share / 100)), 4) for share in (50, 99)} if seconds else {}
    return {"readers": count, "answers": len(seconds), "seconds": quantiles, "away": trouble.pop("away", 0), "errors": dict(trouble)}


def verdict(address: Address, jobs: int) -> dict[str, Any]:
    """What the registry holds in the end, and what is wrong with that."""
    with open_store(address, create=False) as store:
        states = Counter(entry.state for entry in store.hub.entries())
        changes = store.changes()
        found = {
            "states": dict(states),
            "models": store.count(),
            "revisions": store.count_revisions(),
            "changes": len(changes),
            "changes_in_order": [change.seq for change in changes] == list(range(1, len(changes) + 1)),
            "left": store.leases.lent()._asdict(),
        }
    broken = [f"{one.check}: {one.detail}" for one in modelkin.doctor(registry=address).findings if one.state == "broken"]
    each_once = (found["states"], found["models"], found["revisions"], found["changes"]) == ({"done": jobs}, jobs, jobs, jobs)
    return {**found, "broken": broken, "each_once_and_whole": each_once and found["changes_in_order"] and not broken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--every", type=float, default=2.0, help="Seconds between two kills of a worker.")
    parser.add_argument("--out", type=Path, default=result_path("workers"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, hub_server.serving(hub_server.Hub()) as hub, serving() as server:
        os.environ |= {"HF_ENDPOINT": hub.url, "MODELKIN_CACHE": folder}
        for number in range(arguments.jobs):
            hub.put(f"org/m{number:05}", {"model.safetensors": safetensors.numpy.save(tensors(number))})
        found = run(server, arguments.jobs, arguments.workers, arguments.readers, arguments.every, Path(folder))
    print(write_result("workers", found, out=arguments.out, packages=["psycopg"]))


if __name__ == "__main__":
    main()
