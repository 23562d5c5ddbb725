"""What every store must do with several processes at once, some of which are killed."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from modelkin_registry.store.address import Place
from modelkin_registry.store.opening import open_store
from registry_helpers import record, rows

SPAWN = multiprocessing.get_context("spawn")
WRITERS, MODELS = 4, 15


def write_models(place: Place, writer: int) -> None:
    with open_store(place) as store:
        for number in range(MODELS):
            store.put(record(f"w{writer}-{number}"), rows(writer * 1000 + number))


def read_models(place: Place, wanted: int, failures: Any) -> None:
    """Every model that is there is whole; and the change log, followed from its end each time, is read without a gap."""
    deadline, followed = time.monotonic() + 120, 0
    with open_store(place) as store:
        while (seen := store.count()) < wanted:
            for model in store.stored(store.numbers()).values():
                if len(store.vectors.of(model.revision)) != 3:
                    failures.put(model.name)
            found = [change.seq for change in store.changes(followed)]
            if found != list(range(followed + 1, followed + 1 + len(found))):
                failures.put(f"after {followed} came {found}")
            followed += len(found)
            if time.monotonic() > deadline:
                failures.put(f"only {seen} models came")
                return


def test_four_writers_and_a_reader_from_nothing(place: Place) -> None:
    """Also the race to make the registry: all five start on a place without one."""
    failures = SPAWN.Queue()
    processes = [SPAWN.Process(target=write_models, args=(place, writer)) for writer in range(WRITERS)]
    processes.append(SPAWN.Process(target=read_models, args=(place, WRITERS * MODELS, failures)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    assert failures.empty()
    with open_store(place) as store:
        assert store.count() == WRITERS * MODELS
        assert store.tables.count("meta") == 1
        assert [change.seq for change in store.changes()] == list(range(1, WRITERS * MODELS + 1))


def add_until_killed(place: Place, acknowledge: Any) -> None:
    with open_store(place) as store:
        number = store.count()
        while True:
            name = f"m{number}"
            store.put(record(name, blob=name.encode() * 10_000), rows(number))
            acknowledge.send(name)
            number += 1


def test_a_killed_writer_loses_nothing_acknowledged(place: Place) -> None:
    acknowledged: list[str] = []
    for kill in range(4):
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=add_until_killed, args=(place, sender))
        process.start()
        sender.close()
        acknowledged += [receiver.recv() for _ in range(3 + kill)]
        process.kill()
        process.join()
        while receiver.poll():
            try:
                acknowledged.append(receiver.recv())
            except EOFError:
                break
        with open_store(place) as store:
            with store.batch():  # once the server, too, has seen that the writer is gone
                assert list(store.inspection.damage()) == []
            assert set(acknowledged) <= set(store.names())
            stored = store.stored(store.numbers())
            assert len(stored) == store.count() <= len(acknowledged) + 1 + kill
            assert all(len(store.vectors.of(number)) == 3 for number in stored)


def do_alone(place: Place, begun: Any) -> None:
    with open_store(place) as store, store.alone("work") as is_alone:
        begun.send(is_alone)
        time.sleep(60)


def test_one_does_a_thing_alone_until_it_ends(place: Place) -> None:
    with open_store(place) as store:
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=do_alone, args=(place, sender))
        process.start()
        assert receiver.recv()
        with store.alone("work") as is_alone:
            assert not is_alone
        with store.alone("other work") as is_alone:
            assert is_alone
        process.kill()
        process.join()
        for _ in range(100):
            with store.alone("work") as is_alone:
                if is_alone:
                    break
            time.sleep(0.1)
        assert is_alone
