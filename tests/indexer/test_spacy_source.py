"""spaCy's pipelines, written byte by byte (benchmarks/formats/containers_reference.py holds one of spaCy itself)."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hostile.written import packed, spacy_files
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(14)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def save(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_components_and_vectors_are_read(tmp_path: Path) -> None:
    tagger, maxout, table, stream = floats(5, 8), floats(6, 3, 8), floats(40, 30), io.BytesIO()
    np.save(stream, table)
    files = spacy_files({"tagger": tagger, "tok2vec": maxout}) | {"vocab/vectors": stream.getvalue(), "lemmatizer/rules": b"x"}
    found = read(save(tmp_path / "model", files))
    assert set(found) == {"tagger.0.linear.weight", "tok2vec.0.linear.weight", "vocab.vectors.weight"}
    assert np.array_equal(found["tagger.0.linear.weight"], tagger)
    assert np.array_equal(found["tok2vec.0.linear.weight"], maxout.reshape(18, 8))
    assert np.array_equal(found["vocab.vectors.weight"], table)


def test_weights_of_another_library_count_as_unread(tmp_path: Path) -> None:
    files = spacy_files({"tagger": floats(5, 8)}) | spacy_files({"transformer": floats(5, 8)}, "other.cfg", shims=[[bytes(500)]])
    files["config.cfg"] = b'[nlp]\npipeline = ["transformer", "tagger", "sentencizer"]\n'
    del files["other.cfg"]
    with closing(open_source(save(tmp_path / "model", files))) as source:
        assert source.unread == (("spaCy, weights of another library", 500),)
        assert len(source.tensors) == 2


def test_a_config_without_components_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no weights in it"):
        open_source(save(tmp_path / "one", {"setup.cfg": b"[metadata]\nname = x\n"}))
    (tmp_path / "two").mkdir()
    with pytest.raises(SourceError, match="has no weights in it"):
        open_source(save(tmp_path / "two" / "src", {"setup.cfg": b"[metadata]\n"}).parent)
    with pytest.raises(UnsupportedFormat, match="without weights that are read"):
        open_source(save(tmp_path / "three", {"config.cfg": b'[nlp]\npipeline = ["tagger"]\n', "ner/model": packed({})}))


@pytest.mark.parametrize("name", ["../other", "/etc", "..", "a/b"])
def test_components_elsewhere_are_not_read(name: str, tmp_path: Path) -> None:
    save(tmp_path / "other", spacy_files({"x": floats(5, 8)}))
    folder = save(tmp_path / "model", spacy_files({"tagger": floats(5, 8)}))
    (folder / "config.cfg").write_text(f'[nlp]\npipeline = ["{name}"]\n', encoding="utf-8")
    with pytest.raises(UnsupportedFormat, match="without weights that are read"):
        open_source(folder)


@pytest.mark.parametrize(
    "lies", [{b"shape": [5, 9]}, {b"shape": [-5, -8]}, {b"shape": [2**39, 2**39]}, {b"type": "<f8"}, {b"data": 7}, {b"shape": "x"}]
)
def test_arrays_that_do_not_fit_are_refused(lies: dict[bytes, Any], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile):
        open_source(save(tmp_path / "model", spacy_files({"tagger": floats(5, 8)}, lies={"tagger": lies})))
