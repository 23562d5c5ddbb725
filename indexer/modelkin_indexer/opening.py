"""What a path holds, opened: its container found, packed tensors presented as plain ones, adapters as the changes they make."""

from __future__ import annotations

from pathlib import Path

from modelkin_indexer.adapters.config import read_adapter_config
from modelkin_indexer.adapters.presented import AdapterSource, is_surely_none
from modelkin_indexer.errors import SourceNotFound
from modelkin_indexer.joined.source import matrices_presented
from modelkin_indexer.quantised.plain import stores_plainly
from modelkin_indexer.source import Source
from modelkin_indexer.sources.composite import open_parts
from modelkin_indexer.sources.folders import folder_name, weights_in, weights_of
from modelkin_indexer.sources.single_file import parts_presented
from modelkin_indexer.sources.stored.files import is_folder
from modelkin_indexer.sources.unstacked import layers_presented

# Bytes beside tensors, and their share of the files, from which they are told (never judged by): headers, graphs and vocabularies are less.
MUCH, MUCH_SHARE = 1 << 20, 0.05


def open_source(path: Path, file: str | None = None) -> Source:
    """Open the weights at `path`: a file of any container, a shard index, or a folder with one model.

    A folder that is several models (diffusers, sentence-transformers with layers of its own), or a file that holds several, is one
    composite source. In a folder with several forms of the same weights the most faithful is read and a note tells what was left out;
    `file` picks one file by its plain name, `sub/name` in a subfolder. Quantised tensors are presented as plain ones with the decoded
    values, the factors of an adapter as the changes that they make, matrices that are stored as two tensors as one, layers that are stacked
    in one tensor one by one.

    Raises:
        SourceNotFound: nothing there, or no weights in it.
        DamagedFile: a file contradicts itself, or lacks what is needed to decode its quantised tensors.
        UnsupportedFormat: weights of another kind, or several models in one folder.
    """
    if file is None and is_folder(path) and (composite := open_parts(path, folder_name(path), _open_model)) is not None:
        return composite
    return _open_model(path, file)


def _open_model(path: Path, file: str | None = None) -> Source:
    """One model."""
    if is_folder(path):
        container, weights = weights_in(path) if file is None else weights_of(path, _inside(path, file))
    elif file is not None:
        raise SourceNotFound(f"is a file, so {file!r} cannot be in it", path=path, remedy="Leave --file out, or name the folder.")
    else:
        container, weights = weights_of(path, path)
    source = container.open(weights)
    source.notes += _beside(source)
    presented = _with_changes(_decoded(source))
    return parts_presented(layers_presented(presented if isinstance(presented, AdapterSource) else matrices_presented(presented)))


def _decoded(source: Source) -> Source:
    """What is stored quantised as plain tensors."""
    if stores_plainly(source):
        return source
    from modelkin_indexer.quantised.schemes import presented  # brings every scheme

    return presented(source)


def _with_changes(source: Source) -> Source:
    """An adapter as the changes that it makes."""
    try:
        config, notes = read_adapter_config(source)
        if is_surely_none(source, config):
            source.notes += notes
            return source
    except BaseException:
        source.close()
        raise
    from modelkin_indexer.adapters.source import presented  # brings every kind of adapter

    return presented(source, config, notes)


def _inside(folder: Path, file: str) -> Path:
    """A file of the folder, or of one of its subfolders. Raises SourceNotFound."""
    parts = file.split("/")
    plain = 1 <= len(parts) <= 2 and not any(part in ("", ".", "..") or any(mark in part for mark in "\\\0") for part in parts)
    if not plain or (len(parts) == 2 and not (folder / parts[0]).resolve().is_relative_to(folder.resolve())):
        problem = f"{file!r} is not the plain name of a file in it, or in one of its subfolders"
        raise SourceNotFound(problem, path=folder, remedy="Name the subfolder as the source.")
    return folder / file


def _beside(source: Source) -> tuple[str, ...]:
    """That files hold much beside tensors: texts, lists, entries that nothing refers to, states of a training. Weights may be so kept."""
    stored = sum(file.size for file in source.files)
    held = sum(info.nbytes for info in source.tensors.values()) + sum(size for _, size in source.unread)
    beside = stored - held  # of what is presented decoded nothing is told: it has more bytes than are stored
    if source.quantization or beside < max(MUCH, MUCH_SHARE * stored):
        return ()
    return (f"Not read as weights: {beside:,} of {stored:,} bytes ({beside / stored:.0%}).",)
