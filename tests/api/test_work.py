"""Workers that take jobs from a registry's queue: each done once, whatever fails, is killed or is interrupted."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from msgspec.structs import replace

import modelkin
from calls import ROOT, command, environment, run
from hub_server import Hub, serving
from modelkin.settings import Settings
from modelkin.working import calling
from modelkin.working import worker as workers
from modelkin.working.crew import Crew
from modelkin.working.processes import Processes
from modelkin.working.worker import Begun, Ended, Said, Worker
from modelkin_indexer.errors import RegistryAway
from modelkin_registry.answers.shared import Synced
from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import MAX_TRIES, Lent
from tiny_models import tiny_llama


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with four models, which this process and its children take for the real one."""
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr("modelkin_indexer.hub.client.FIRST_WAIT", 0.001)
        for number in range(4):
            hub.put(f"org/m{number}", {"model.safetensors": safetensors.numpy.save(tiny_llama(number))})
        yield hub


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    return Path("r.db").resolve() if request.param == "sqlite" else request.getfixturevalue("postgres").address()


def enqueue(place: Place) -> list[dict[str, Any]]:
    done = run("sync", "--author", "org", "--level", "probe", "--rate", "1000", "--enqueue", "--json", registry=str(place))
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def states(place: Place) -> dict[str, str]:
    with open_store(place, create=False) as store:
        return {entry.repo: entry.state for entry in store.hub.entries()}


def begun(place: Place, **changes: Any) -> Begun:
    with modelkin.open(place) as registry:
        found = calling._begun(Settings(), registry.inner, {"rate": 1000, "keep_free": 0}, Path.cwd())
    return replace(found, settings=Settings(place), holder="me", back_off=0.0, **changes)


def done_by(place: Place) -> list[Synced]:
    """What one worker does with the queue, in this process."""
    with closing(Worker(begun(place), print)) as worker:
        return [one for one in worker.work() if isinstance(one, Synced)]


def test_sync_fills_the_queue_and_workers_empty_it(hub: Hub, place: Place) -> None:
    assert {line["repo"]: line["status"] for line in enqueue(place)} == {f"org/m{number}": "waiting" for number in range(4)}
    assert "safetensors" not in " ".join(map(str, hub.requests))  # nothing is read yet
    with modelkin.open(place) as registry:
        assert len(registry) == 0
    told = []
    answer = modelkin.work(jobs=2, rate=1000, keep_free=0, registry=place, each=told.append)
    assert sorted(one.repo for one in answer.results) == [f"org/m{number}" for number in range(4)]
    assert {one.status for one in answer.results} == {"added"}
    assert told == list(answer.results)
    assert answer.bytes == sum(one.bytes for one in told) > 0
    with open_store(place) as store:
        assert (store.count(), store.leases.lent()) == (4, Lent(0, 0, 0))
        assert store.get("org/m1").level == "probe"  # as it was listed
        assert list(store.inspection.orphans()) == []
    assert modelkin.work(rate=1000, keep_free=0, registry=place).results == ()


def test_what_fails_for_good_is_set_aside_and_the_others_are_done(hub: Hub) -> None:
    hub.put("org/bad", {"model.safetensors": b"\x00" * 100})
    place = Path("r.db").resolve()
    enqueue(place)
    done = {one.repo: one for one in done_by(place)}
    assert done["org/bad"].status == "failed"
    assert {one.status for repo, one in done.items() if repo != "org/bad"} == {"added"}
    with open_store(place) as store:
        (entry,) = [entry for entry in store.hub.entries() if entry.state == "failed"]
        assert (entry.repo, entry.passing) == ("org/bad", 0)
        assert entry.reason == done["org/bad"].reason


def test_what_may_pass_is_tried_again_later_and_then_set_aside(hub: Hub) -> None:
    place = Path("r.db").resolve()
    hub.repos["org/m2"].broken = 503
    enqueue(place)
    statuses = [one.status for one in done_by(place) if one.repo == "org/m2"]
    assert statuses == ["later"] * (MAX_TRIES - 1) + ["failed"]
    assert states(place) == {"org/m0": "done", "org/m1": "done", "org/m2": "failed", "org/m3": "done"}
    hub.repos["org/m2"].broken = 0
    assert run("sync", "--author", "org", "--retry", "--enqueue", "--level", "probe", registry="r.db").exit_code == 0
    assert [one.status for one in done_by(place)] == ["added"]


def test_a_hub_that_is_down_uses_up_no_tries(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path("r.db").resolve()
    monkeypatch.setattr(workers, "FAILURES_IN_A_ROW", 3)
    for repo in hub.repos.values():
        repo.broken = 503
    enqueue(place)
    with pytest.raises(workers.HubError, match="failed 3 times in a row"):
        done_by(place)
    assert set(states(place).values()) == {"waiting"}


def test_a_worker_that_lost_its_job_stores_nothing(hub: Hub, place: Place) -> None:
    enqueue(place)
    with closing(Worker(begun(place), print)) as worker:
        (job, *_) = worker.store.leases.take("me", 60, 4)
        brought = worker._brought(job)
        worker.store.leases.lapse("me")
        worker.store.leases.take("another", 60, 4)
        for found in (brought, replace(brought, reading=None, reason="x", passing=True), replace(brought, reading=None, reason="x")):
            assert worker._stored(job, found).status == "lost"
        assert worker.store.count() == 0
    assert set(states(place).values()) == {"waiting"}


def test_bounds_of_a_selection_and_of_a_call_hold(hub: Hub) -> None:
    place = Path("r.db").resolve()
    assert run("sync", "--author", "org", "--max-bytes", "100", "--enqueue", registry="r.db").exit_code == 0
    assert {one.status for one in done_by(place)} == {"failed"}
    assert "more than 100" in run("sync", "--journal", registry="r.db").stdout
    enqueue(place)
    assert run("work", "--keep-free", str(1 << 60), registry="r.db").exit_code == 4
    said = run("work", "--keep-free", str(1 << 60), registry="r.db")
    assert "are to stay free" in said.stderr
    assert set(states(place).values()) <= {"waiting", "failed"}


class Probe(Worker):
    """Tells what bounds its process has."""

    def __init__(self, begun: Begun, say: Callable[[str], None]) -> None:
        pass

    def close(self) -> None:
        pass

    def work(self) -> Iterator[Synced | Said]:
        import resource

        yield Said(str(resource.getrlimit(resource.RLIMIT_DATA)))


def test_a_process_has_no_more_memory_than_it_was_given(hub: Hub) -> None:
    enqueue(Path("r.db").resolve())
    code = "import test_work, modelkin.working.worker as workers; workers.Worker = test_work.Probe; workers.serve()"
    paths = os.pathsep.join([str(ROOT / "tests" / "api"), *(path for path in sys.path if path)])
    given = pickle.dumps(begun(Path("r.db").resolve(), memory=1 << 30))
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, env={**os.environ, "PYTHONPATH": paths}, check=True
    )
    assert pickle.loads(done.stdout) == Said(str((1 << 30, 1 << 30)))


# what dies


@pytest.fixture
def running(hub: Hub) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Begins `modelkin work` as a process of its own."""
    made = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        call = command("work", "--rate", "1000", "--keep-free", "0", "--json", *arguments)
        made.append(subprocess.Popen(call, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return made[-1]

    yield begin
    for process in made:
        process.kill()
        process.communicate()


def held(count: int) -> str:
    """Wait until so many jobs are lent in r.db; one of their holders."""
    for _ in range(600):
        with open_store(Path("r.db"), create=False) as store:
            holders = [entry.holder for entry in store.hub.entries() if entry.holder]
        if len(holders) >= count:
            return holders[0]
        time.sleep(0.05)
    raise AssertionError("nothing was taken")


def children(process: subprocess.Popen[bytes]) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def test_interrupted_it_gives_back_what_it_holds(hub: Hub, running: Callable[..., subprocess.Popen[bytes]]) -> None:
    enqueue(Path("r.db"))
    hub.delay = 3.0
    process = running("--jobs", "2")
    held(2)
    workers_ = children(process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"given back to the queue" in said
    with open_store(Path("r.db")) as store:
        assert store.leases.lent() == Lent(4, 0, 0)
        assert {entry.leases for entry in store.hub.entries()} == {0}
    assert len(workers_) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers_)
    assert not [*Path.cwd().glob("modelkin-work-*")]


def test_a_killed_process_is_replaced_and_its_job_done(hub: Hub, running: Callable[..., subprocess.Popen[bytes]]) -> None:
    enqueue(Path("r.db"))
    hub.delay = 0.5
    process = running("--jobs", "2")
    held(2)
    os.kill(children(process)[0], signal.SIGKILL)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert sorted(json.loads(line)["repo"] for line in out.splitlines()) == [f"org/m{number}" for number in range(4)]
    with open_store(Path("r.db")) as store:
        assert store.count() == store.count_revisions() == 4


def test_workers_do_not_outlive_the_call_that_began_them(hub: Hub, running: Callable[..., subprocess.Popen[bytes]]) -> None:
    enqueue(Path("r.db"))
    hub.delay = 2.0
    process = running("--lease", "1", "--stay")
    held(1)
    (pid,) = children(process)
    process.kill()
    process.wait()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker lives on")
    hub.delay = 0.0
    time.sleep(1)
    assert {one.status for one in modelkin.work(rate=1000, keep_free=0, registry="r.db").results} == {"added"}


def test_a_registry_that_goes_away_is_waited_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path("r.db").resolve()
    enqueue(place)
    with closing(Worker(begun(place), print)) as worker:
        real, fails = worker.registry.add, iter([True, True])

        def away(*arguments: Any, **more: Any) -> Any:
            if next(fails, False):
                raise RegistryAway("r.db: no connection.")
            return real(*arguments, **more)

        monkeypatch.setattr(worker.registry, "add", away)
        assert [one.status for one in worker.work() if isinstance(one, Synced)] == ["added"] * 4
    assert set(states(place).values()) == {"done"}


def test_trouble_of_a_process_is_the_calls(hub: Hub) -> None:
    enqueue(Path("r.db"))
    modelkin.key("new", "our.key")
    assert run("work", "--key-file", "our.key", registry="r.db").exit_code == 4
    for ended, error in ((Ended("x", "registry"), modelkin.errors.RegistryError), (Ended("x", "fault"), RuntimeError)):
        crew = Crew(begun(Path("r.db").resolve()), 1, Processes())
        crew._replies.put(ended)
        assert list(crew.told()) == []
        with pytest.raises(error, match="x"):
            crew.complain()
