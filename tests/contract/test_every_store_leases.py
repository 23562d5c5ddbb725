"""What every store must do for workers: one has a job at a time, whatever dies, and each job is done once."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable

import pytest

from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import Lent, Queued
from modelkin_registry.store.sql.leases import MAX_LEASES
from registry_helpers import record, rows

Open = Callable[[], Store]
SPAWN = multiprocessing.get_context("spawn")
WORKERS, JOBS = 4, 40


def fill(store: Store, count: int = 3, selection: str = '{"author": "org", "max_bytes": 7}') -> None:
    store.hub.enqueue([Queued(f"org/{n:03}", f"id {n}", "1", f"2026-01-{n % 28 + 1:02}", "probe") for n in range(count)], selection)


def repos(store: Store, holder: str, count: int = 1, seconds: float = 60) -> list[str]:
    return [one.repo for one in store.leases.take(holder, seconds, count)]


def test_the_oldest_job_is_lent_to_one_worker(opened: Open) -> None:
    with opened() as store, opened() as other:
        fill(store)
        (first,) = store.leases.take("a", 60)
        assert (first.repo, first.level, first.tries, first.max_bytes) == ("org/000", "probe", 0, 7)
        assert repos(other, "b", 5) == ["org/001", "org/002"]
        assert repos(store, "a") == []
        assert store.leases.lent() == Lent(3, 3, 0)
        assert store.leases.holds("a", "org/000")
        assert not store.leases.holds("a", "org/001")
        assert [one.repo for one in store.hub.waiting('{"author": "org", "max_bytes": 7}')] == []


def test_a_lease_ends_by_itself_unless_it_is_kept(store: Store) -> None:
    fill(store, 2)
    assert repos(store, "a", 2, seconds=0.2) == ["org/000", "org/001"]
    assert store.leases.keep("a", 60) == 2
    time.sleep(0.3)
    assert repos(store, "b", 2) == []
    store.leases.keep("a", 0)
    assert repos(store, "b") == ["org/000"]
    assert not store.leases.holds("a", "org/000")
    assert store.leases.holds("a", "org/001")  # nobody has taken it: what came of it may be stored


def test_what_is_given_back_is_anybodys_and_was_not_tried(store: Store) -> None:
    fill(store, 2)
    for _ in range(MAX_LEASES + 2):
        assert repos(store, "a", 2) == ["org/000", "org/001"]
        assert store.leases.give_back("a") == 2
        assert store.leases.lent() == Lent(2, 0, 0)
    assert {entry.leases for entry in store.hub.entries()} == {0}


def test_a_job_that_kills_its_workers_is_set_aside_with_the_reason(store: Store) -> None:
    fill(store, 2)
    for number in range(MAX_LEASES):
        assert repos(store, f"worker {number}") == ["org/000"]
        assert store.leases.lapse(f"worker {number}") == 1
    assert repos(store, "next", 2) == ["org/001"]
    entry = next(store.hub.entries())
    assert (entry.state, entry.passing) == ("failed", 0)
    assert entry.reason == "3 workers that had it died or fell silent, the last of them worker 2"
    assert store.hub.try_again('{"author": "org", "max_bytes": 7}', every=False) == 0
    assert store.hub.try_again('{"author": "org", "max_bytes": 7}', every=True) == 1
    assert repos(store, "after", 2) == ["org/000"]  # and is not set aside again before anybody has tried


def test_a_failure_that_may_pass_waits_for_its_time(store: Store) -> None:
    fill(store, 1)
    repos(store, "a")
    store.leases.later("org/000", 0.3, "the Hub is down")
    assert repos(store, "a") == []
    assert store.leases.lent() == Lent(1, 0, 1)
    assert next(store.hub.entries()).reason == "the Hub is down"
    time.sleep(0.4)
    (again,) = store.leases.take("b", 60)
    assert again.tries == 1


def test_a_job_that_changed_meanwhile_is_no_longer_the_workers(store: Store) -> None:
    fill(store, 1)
    repos(store, "a")
    store.hub.enqueue([Queued("org/000", "id 0", "2", "2026-02-01", "probe")], "all")
    assert not store.leases.holds("a", "org/000")
    assert [one.revision for one in store.leases.take("b", 60)] == ["2"]


@pytest.mark.parametrize("state", ["done", "failed"])
def test_what_came_of_a_job_ends_its_lease(store: Store, state: str) -> None:
    fill(store, 1)
    repos(store, "a")
    store.hub.note("org/000", state, reason="x")
    assert not store.leases.holds("a", "org/000")
    assert store.leases.lent() == Lent(0, 0, 0)
    (entry,) = store.hub.entries()
    assert (entry.holder, entry.until, entry.not_before, entry.leases) == ("", "", "", 0)


def test_taking_does_not_wait_for_who_writes_a_model(opened: Open, place: Place) -> None:
    if not isinstance(place, str):
        pytest.skip("a file has one lock for all that write")
    with opened() as store, opened() as other:
        fill(store, 2)
        other.leases.take("b", 60)
        with store.batch():
            store.put(record("a"), rows(1))
            began = time.monotonic()
            assert repos(other, "b") == ["org/001"]
            assert time.monotonic() - began < 5


def work(place: Place, name: str) -> None:
    with open_store(place) as store:
        while store.leases.lent().jobs:
            for job in store.leases.take(name, 0.7):
                with store.batch():
                    if store.leases.holds(name, job.repo):
                        number = int(job.repo[-3:])
                        put = store.put(record(job.repo, content=f"{job.repo} by {name}"), rows(number))
                        store.hub.note(job.repo, "done", model=put.model_id)


def test_each_job_is_done_once_though_a_worker_is_killed(place: Place) -> None:
    """Contents differ by worker: a job that two of them stored would be two revisions."""
    with open_store(place) as store:
        fill(store, JOBS)
    workers = [SPAWN.Process(target=work, args=(place, f"w{number}")) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    with open_store(place) as store:
        while store.count() < JOBS // 4:
            time.sleep(0.02)
    workers[0].kill()
    for worker in workers:
        worker.join(180)
    assert [worker.exitcode for worker in workers[1:]] == [0] * (WORKERS - 1)
    with open_store(place) as store:
        assert Counter(entry.state for entry in store.hub.entries()) == {"done": JOBS}
        assert store.count() == store.count_revisions() == JOBS
        assert [change.seq for change in store.changes()] == list(range(1, JOBS + 1))
