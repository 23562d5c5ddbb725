"""Workers that Ray begins, one of which is killed: is each job done once?

A Hub on loopback has small models, `sync --enqueue` puts all of them into the queue of a registry in PostgreSQL, and one call of
`modelkin work --ray` begins four workers on a cluster of this machine alone. When a third of the jobs is done a process of Ray that has a
worker is killed (kill -9), when two thirds are, a worker itself. At the end the registry is looked at as in benchmarks/scale/workers.py.

    python -m benchmarks.scale.on_ray --jobs 1000

Needs `ray` beside modelkin's own packages. Writes results/on_ray.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.numpy

import modelkin
from benchmarks.common.results import result_path, write_result
from benchmarks.scale.workers import done_in, hub_server, serving, tensors, verdict
from modelkin_registry.store.address import Address

WORKERS = 4
RAY = Path(sys.executable).with_name("ray")
KILLED_AT = (1 / 3, 2 / 3)  # of the jobs that are done: Ray's process, then the worker's


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A cluster of this machine, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join(path for path in sys.path if path)
    started = [str(RAY), "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", str(WORKERS)]
    started += ["--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", str(folder), "--object-store-memory", str(80 << 20)]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("wb") as said:
        head = subprocess.Popen(started, stdout=said, stderr=said, env=environment)
    try:
        _wait_for(port, head)
        yield f"127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)  # which ends all that it began
        head.wait(60)


def _wait_for(port: int, head: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if head.poll() is not None:
            raise RuntimeError(f"ray start ended with {head.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the cluster did not begin")


def on_node() -> list[int]:
    """The processes of Ray that have a worker, on this machine."""
    told = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in told if "ray::on_node" in line]


def child_of(process: int) -> int | None:
    told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False).stdout.split()
    return int(told[0]) if told else None


def kill(number: int) -> str:
    """Kill the first process of Ray, or the first worker."""
    for process in on_node():
        child = child_of(process)
        if child is not None:
            os.kill(process if number == 0 else child, signal.SIGKILL)
            return "processes of Ray" if number == 0 else "workers"
    return ""


def run(address: Address, jobs: int, cluster_at: str, folder: Path) -> dict[str, Any]:
    modelkin.sync(author="org", level="probe", enqueue=True, rate=100000, starter=False, registry=address)
    call = [sys.executable, "-m", "modelkin_cli", "--registry", str(address), "work", "--json", "--rate", "100000", "--keep-free", "0"]
    call += ["--lease", "6", "--jobs", str(WORKERS), "--ray", cluster_at]
    killed: Counter[str] = Counter()
    paths = os.pathsep.join(path for path in sys.path if path)
    began = time.monotonic()
    with (folder / "told").open("wb") as told, (folder / "said.txt").open("wb") as said:
        working = subprocess.Popen(call, stdout=told, stderr=said, env={**os.environ, "PYTHONPATH": paths})
        while working.poll() is None:
            time.sleep(0.5)
            done = done_in(address)
            print(f"\r{time.monotonic() - began:.0f} s: {done} of {jobs} done", end="", file=sys.stderr, flush=True)
            if (number := killed.total()) < len(KILLED_AT) and done >= jobs * KILLED_AT[number] and (name := kill(number)):
                killed[name] += 1
    seconds = time.monotonic() - began
    if working.returncode:
        print((folder / "said.txt").read_text()[-2000:], file=sys.stderr)
    lines = [json.loads(line) for line in (folder / "told").read_text().splitlines()]
    return {
        "jobs": jobs,
        "workers": WORKERS,
        "seconds": round(seconds, 1),
        "jobs_a_second": round(jobs / seconds, 2),
        "exit_code": working.returncode,
        "killed": dict(killed),
        "told": dict(Counter(line["status"] for line in lines if "status" in line)),
        "failures": [line for line in lines if "status" not in line],
        **verdict(address, jobs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=result_path("on_ray"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, hub_server.serving(hub_server.Hub()) as hub, serving() as server:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        os.environ |= {"HF_ENDPOINT": hub.url, "MODELKIN_CACHE": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        for number in range(arguments.jobs):
            hub.put(f"org/m{number:05}", {"model.safetensors": safetensors.numpy.save(tensors(number))})
        with cluster(Path(folder)) as at:
            found = run(server.address("scale"), arguments.jobs, at, Path(folder))
    print(write_result("on_ray", found, out=arguments.out, packages=["psycopg", "ray"]))


if __name__ == "__main__":
    main()
