"""What holds of every container in the register: its cases come from there, so that a new one cannot be left out."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.house.rooms import ROOT
from calls import run
from container_examples import EXAMPLES, SHAPE, numbers
from modelkin.sources.naming import hub_id
from modelkin_cli.main import VERBS
from modelkin_indexer.errors import SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources import folders, register
from modelkin_indexer.sources.register import CONTAINERS, Container
from modelkin_indexer.sources.stored import values

CASES = [(container, suffix) for container in CONTAINERS for suffix in container.suffixes]
every_form = pytest.mark.parametrize(("container", "suffix"), CASES, ids=[f"{one.name} {suffix}" for one, suffix in CASES])
every_container = pytest.mark.parametrize("container", CONTAINERS, ids=[one.name for one in CONTAINERS])


def write(container: Container, suffix: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    EXAMPLES[container.name][suffix](path, numbers())
    return path


def matrix(source: Source) -> tuple[str, Any]:
    """The only matrix of an example, as it is stored."""
    ((name, info),) = [(name, info) for name, info in source.tensors.items() if len(info.shape) > 1]
    return name, values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def read_all(path: Path) -> None:
    with closing(open_source(path)) as source:
        for name, info in source.tensors.items():
            source.read(name, 0, info.nbytes)


def test_every_container_and_suffix_has_an_example() -> None:
    assert {name: set(forms) for name, forms in EXAMPLES.items()} == {one.name: set(one.suffixes) for one in CONTAINERS}
    assert len({one.name for one in CONTAINERS}) == len(CONTAINERS)


def test_the_help_of_verbs_that_read_models_names_them_all() -> None:
    for verb in VERBS:
        said = " ".join(run(verb, "--help", registry=None).stdout.split())
        told = [one for one in CONTAINERS if f"{one.name} ({' '.join(one.suffixes)})" in said]
        assert told == (list(CONTAINERS) if "--adapter-base" in said else [])
    assert not [one for one in CONTAINERS if one.name in run("--help", registry=None).stdout]


@every_form
def test_its_numbers_come_back(container: Container, suffix: str, tmp_path: Path) -> None:
    path = write(container, suffix, tmp_path / f"model{suffix}")
    assert register.container_of(path) is container
    with closing(open_source(path)) as source:
        _, found = matrix(source)
        assert sorted(found.shape) == sorted(SHAPE)
        assert np.array_equal(np.sort(found, axis=None), np.sort(numbers(), axis=None))
        assert list(source.tensors) == sorted(source.tensors)
        paths = [path, *(one for one in container.companions(path) if one.exists())]
        assert [file.size for file in source.files] == [one.stat().st_size for one in paths]


@every_form
def test_it_is_known_by_its_first_bytes_and_alone_in_a_folder(container: Container, suffix: str, tmp_path: Path) -> None:
    bare = write(container, suffix, tmp_path / "bare" / "weights-without-suffix")
    assert container.recognises(bare.read_bytes()[: register.HEAD_BYTES])
    if not suffix.endswith(".npy"):  # a single array in a folder is no model
        write(container, suffix, tmp_path / "folder" / f"model{suffix}")
        assert folders.weights_in(tmp_path / "folder")[0] is container


@every_form
def test_any_part_of_its_bytes_can_be_read_by_several_threads(container: Container, suffix: str, tmp_path: Path) -> None:
    with closing(open_source(write(container, suffix, tmp_path / f"model{suffix}"))) as source:
        name, whole = matrix(source)
        stored = source.read(name, 0, source.tensors[name].nbytes)
        failed = []

        def read(first: int) -> None:
            for start, stop in ((first, first + 8), (first, len(stored)), (0, first + 1)):
                part = source.read(name, start, stop)
                if not np.array_equal(part, stored[start:stop]):
                    failed.append((start, stop))

        threads = [threading.Thread(target=read, args=(first,)) for first in range(0, 512, 64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert whole.size


@every_form
@pytest.mark.parametrize("level", ["probe", "full"])
def test_it_has_the_same_fingerprint_every_time(container: Container, suffix: str, level: str, tmp_path: Path) -> None:
    path = write(container, suffix, tmp_path / f"model{suffix}")
    found = []
    for _ in range(2):
        with closing(open_source(path)) as source:
            found.append(fingerprint_source(source, level=level).to_bytes())
    assert found[0] == found[1]


@every_form
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_is_refused_by_name(container: Container, suffix: str, share: float, tmp_path: Path) -> None:
    path = write(container, suffix, tmp_path / f"model{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=f"model{suffix}"):
        read_all(path)


@every_form
def test_its_suffix_is_in_the_one_list(container: Container, suffix: str) -> None:
    assert suffix in register.suffixes()
    assert suffix in register.weights_suffixes()
    assert hub_id(f"nobody/model{suffix}") is None


@every_container
def test_it_is_named_where_people_look(container: Container) -> None:
    assert container.name in folders.CONVERT
    assert container.name in (ROOT / "README.md").read_text(encoding="utf-8")
