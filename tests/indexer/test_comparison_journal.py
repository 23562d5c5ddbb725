"""The journal of an exact comparison: what is done stays done, and nothing else is believed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import models
from modelkin_indexer.errors import JournalError
from modelkin_indexer.exact.comparison import ExactOptions, common_places, compare_places
from modelkin_indexer.exact.journal import Journal, identity
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Place
from modelkin_indexer.results.exact import TensorComparison


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    near = models.trained_on(models.llama(1, 2), 2, 0.1)
    return models.write(tmp_path / "a", models.llama(1, 2)), models.write(tmp_path / "b", near)


def compare(pair: tuple[Path, Path], path: Path, stop_after: int | None = None) -> list[TensorComparison]:
    found = []
    with closing(open_source(pair[0])) as a, closing(open_source(pair[1])) as b, closing(Journal(path, identity([a, b]))) as journal:
        for done in compare_places(a, b, common_places(a, b)[0], ExactOptions(journal=journal, threads=1)):
            found.append(done)
            if len(found) == stop_after:
                break
    return found


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_an_interrupted_comparison_goes_on_where_it_was(pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = compare(pair, path, stop_after=5)
    kept = len(lines(path))
    assert 6 <= kept < 20
    whole = compare(pair, path)
    assert whole[:5] == first
    assert any(done.delta is not None for done in whole)
    size = path.stat().st_size
    assert compare(pair, path) == whole == compare(pair, tmp_path / "fresh")
    assert path.stat().st_size == size


def test_what_the_journal_says_is_not_read_again(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        closing(open_source(pair[0])) as a,
        closing(open_source(pair[1])) as b,
        closing(Journal(tmp_path / "j", identity([a, b]))) as journal,
    ):
        pairs = common_places(a, b)[0]
        before = list(compare_places(a, b, pairs, ExactOptions(journal=journal)))
        read = a.bytes_read
        assert list(compare_places(a, b, pairs, ExactOptions(journal=journal))) == before
        assert a.bytes_read == read


def test_a_line_cut_off_while_it_was_written_is_dropped(pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = compare(pair, path)
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    assert compare(pair, path) == whole
    assert sorted(lines(path)) == sorted(content.splitlines(keepends=True))


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_damage_is_refused_by_name(pair: tuple[Path, Path], tmp_path: Path, at: float) -> None:
    path = tmp_path / "journal"
    compare(pair, path)
    content = bytearray(path.read_bytes())
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    where = digits[int(at * len(digits))]
    content[where] = ord("1") if content[where] != ord("1") else ord("2")
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"{path}.*damaged in line"):
        compare(pair, path)


def test_other_files_are_no_journals(pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 40_000)
    with pytest.raises(JournalError, match="no journal"):
        compare(pair, path)
    assert path.read_text().startswith("my notes\nmy notes\n")
    with pytest.raises(JournalError, match="cannot be opened"):
        compare(pair, tmp_path / "none" / "journal")


def test_a_journal_of_other_weights_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "journal"
    compare(pair, path, stop_after=2)
    with pytest.raises(JournalError, match="another comparison"):
        compare((pair[1], pair[0]), path)
    other = models.trained_on(models.llama(1, 2), 3, 0.1)  # the same names, shapes and sizes
    with pytest.raises(JournalError, match="another comparison"):
        compare((pair[0], models.write(tmp_path / "b", other)), path)


def test_results_come_back_as_they_were(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = compare(pair, tmp_path / "journal", stop_after=4)[-1]
    odd = replace(done, pearson=None, cosine=float(np.float64(1) / 3), layer_b=-1)
    with closing(Journal(tmp_path / "other", "x")) as journal:
        place = Place("text", 0, "attention", "q")
        key = ("a-b", place, place, 3)
        journal.add(key, odd)
    with closing(Journal(tmp_path / "other", "x")) as journal:
        assert journal.find(key) == odd
        assert journal.find(("a-c", *key[1:])) is None
