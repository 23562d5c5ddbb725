"""Workers on a Ray cluster: a stand-in where Ray is not installed, and a cluster of this machine where it is."""

from __future__ import annotations

import importlib.util
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.numpy

import modelkin
from calls import command, environment, run
from hub_server import Hub, serving
from modelkin.working import on_ray
from modelkin.working.worker import Said
from modelkin_indexer.errors import LaunchError
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import Lent
from tiny_models import tiny_llama

MODELS = 4
NO_RAY = "Ray is not installed: pip install 'modelkin[ray]' (it is no part of modelkin[test], for its size)"


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with four models, all of them in the queue of r.db."""
    import huggingface_hub.constants

    Path("ray-token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(Path("ray-token").resolve()))  # else Ray leaves one in the user's home
    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for number in range(MODELS):
            hub.put(f"org/m{number}", {"model.safetensors": safetensors.numpy.save(tiny_llama(number))})
        assert run("sync", "--author", "org", "--level", "probe", "--rate", "1000", "--enqueue", registry="r.db").exit_code == 0
        yield hub


class RayError(Exception):
    """As Ray's."""


class TaskCancelled(RayError):
    """As Ray's."""


class TaskError(RayError):
    """As Ray's."""

    cause = ModuleNotFoundError("No module named 'modelkin'")


class StandIn(SimpleNamespace):
    """Ray's face as far as it is used: tasks run here. `nodes_at` are the cluster's machines, `deaths` how many tasks die at once."""

    exceptions = SimpleNamespace(RayError=RayError, TaskCancelledError=TaskCancelled, RayTaskError=TaskError)
    util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.1")
    get = staticmethod(lambda reference: reference)

    def __init__(self) -> None:
        super().__init__(nodes_at=["10.0.0.1"], deaths=[], told=[], cancelled=[])

    def is_initialized(self) -> bool:
        return False

    def init(self, **how: Any) -> None:
        if how["address"] == "nowhere:1":
            raise ConnectionError("nobody\nlistens")
        self.told.append(how["address"])

    def shutdown(self) -> None:
        self.told.append("left")

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "NodeManagerAddress": at} for at in self.nodes_at] + [{"Alive": False, "NodeManagerAddress": "gone"}]

    def cancel(self, task: Any, *, force: bool) -> None:
        assert force
        self.cancelled.append(task)

    def remote(self, **how: Any) -> Callable[[Any], Any]:
        assert how["max_retries"] == 0  # a worker that died is replaced under another name, so that its job is free at once
        return lambda function: SimpleNamespace(remote=lambda begun: self._task(function, begun))

    def _task(self, function: Any, begun: Any) -> Iterator[Any]:
        if self.deaths:
            yield Said(begun=True)
            raise self.deaths.pop()
        yield from function(begun)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
    return stand_in


def work(**more: Any) -> dict[str, str]:
    done = modelkin.work(rate=1000, keep_free=0, registry="r.db", **more)
    return {one.repo: one.status for one in done.results}


ADDED = {f"org/m{number}": "added" for number in range(MODELS)}


def test_the_cluster_does_the_jobs_and_is_left(hub: Hub, ray: StandIn) -> None:
    assert work(ray="auto", jobs=2) == ADDED
    assert ray.told == ["auto", "left"]
    assert len(ray.cancelled) == 2


def test_a_worker_that_dies_is_replaced(hub: Hub, ray: StandIn) -> None:
    ray.deaths = [RayError("the machine is gone"), TaskCancelled()]
    assert work(ray="auto") == ADDED
    assert len(ray.cancelled) == 3


def test_what_is_wrong_on_a_machine_of_the_cluster_is_told(hub: Hub, ray: StandIn) -> None:
    ray.deaths = [TaskError()]
    with pytest.raises(RuntimeError, match="on a machine of the cluster: ModuleNotFoundError"):
        work(ray="auto")
    assert ray.told == ["auto", "left"]


def test_a_file_is_not_for_many_machines(hub: Hub, ray: StandIn) -> None:
    ray.nodes_at = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    with pytest.raises(LaunchError, match="for one machine, and the cluster has 2 more"):
        work(ray="auto")
    assert ray.told == ["auto", "left"]


def test_what_rays_threads_print_is_no_data(ray: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = on_ray.OnRay("auto")
    for name in ("ray_listen_error_messages", "another"):
        thread = threading.Thread(target=print, args=(name,), name=name)
        thread.start()
        thread.join()
    cluster.leave()
    print("afterwards")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("another\nafterwards\n", "ray_listen_error_messages\n")


@pytest.mark.parametrize(("address", "words"), [("ray://head:10001", "on a machine of the cluster"), ("nowhere:1", "nobody listens")])
def test_an_address_that_leads_nowhere(hub: Hub, ray: StandIn, address: str, words: str) -> None:
    done = run("work", "--ray", address, registry="r.db")
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())


def test_without_ray_it_says_what_to_install(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("work", "--ray", "auto", registry="r.db")
    assert done.exit_code == 2
    assert "pip install 'modelkin[ray]'" in " ".join(done.stderr.split())


CALL = ("work", "--rate", "1000", "--keep-free", "0", "--json", "--ray", "local", "--jobs", "2")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason=NO_RAY)


@needs_ray
def test_a_cluster_of_this_machine(hub: Hub) -> None:
    done = subprocess.run(command(*CALL), env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert {line["repo"]: line["status"] for line in map(json.loads, done.stdout.splitlines())} == ADDED
    with open_store(Path("r.db").resolve()) as store:
        assert store.count() == store.count_revisions() == MODELS


@needs_ray
def test_interrupted_the_cluster_gives_back_what_it_holds(hub: Hub) -> None:
    hub.delay = 5.0
    process = subprocess.Popen(command(*CALL), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(1200):
            with open_store(Path("r.db").resolve()) as store:
                if store.leases.lent().held == 2:
                    break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "given back to the queue" in said
    with open_store(Path("r.db").resolve()) as store:
        assert store.leases.lent() == Lent(MODELS, 0, 0)
