"""The anatomy of a source: of one model, or of several, each read with its own config and kept apart as components."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from modelkin_indexer.anatomy.constants.borne_out import borne_out, by_name_alone
from modelkin_indexer.anatomy.constants.buffers import sort_out
from modelkin_indexer.anatomy.gate_up import better, stacked
from modelkin_indexer.anatomy.model import Told
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.places import Anatomy, Piece, Place
from modelkin_indexer.source import Source
from modelkin_indexer.sources.composite import SEPARATOR, CompositeSource, Part

NUMBER = re.compile(r"_(\d{1,2})$")  # text_encoder_2 is the second of its kind
MAIN = "text"  # what a model without any other sign is called; a part that is no language model has its own name
KEPT, MOST_KEPT = 4, 4096  # anatomies that are kept, and tensors of the largest of them: some megabytes

PADDLE = ("pd", "paddle", "paddlepaddle")  # `format` in a file's metadata
GRAPHS = (".onnx", ".tflite", ".xml", ".mlmodel")  # files that tell how each matrix is used: it is presented [out, in] whatever its name
PADDLE_VERSION = "paddleformers_version"  # in the metadata, or in config.json


def anatomy_of(source: Source, alike: Mapping[str, Any] = MappingProxyType({})) -> Anatomy:
    """What every tensor of a source is.

    `alike`: the config of a model that may have the same shape, for what its own does not tell.
    """
    if not isinstance(source, CompositeSource):
        return _read(source, alike)
    taken: dict[str, str] = {}
    found = [_part_anatomy(part, taken) for part in source.parts]
    return Anatomy(
        tuple(sorted((piece for anatomy in found for piece in anatomy.pieces), key=lambda piece: piece.place)),
        tuple(sorted(name for anatomy in found for name in anatomy.unplaced)),
        {name: why for anatomy in found for name, why in sorted(anatomy.constants.items())},
        {name: count for anatomy in found for name, count in anatomy.layers.items()},
        tuple(sorted(name for anatomy in found for name in anatomy.guessed)),
        tuple(sorted(name for anatomy in found for name in anatomy.packed)),
        {name: size for anatomy in found for name, size in anatomy.claimed.items()},
    )


def config_of(source: Source, tensor: str) -> Mapping[str, Any]:
    """The config of the model that a tensor belongs to."""
    if not isinstance(source, CompositeSource):
        return source.config
    name = tensor.partition(SEPARATOR)[0]
    return next(part.source.config for part in source.parts if part.name == name)


def _is_paddle(source: Source) -> bool:
    metadata = source.metadata
    return str(metadata.get("format", "")).lower() in PADDLE or PADDLE_VERSION in metadata or PADDLE_VERSION in source.config


class _Structure:
    """All that an anatomy follows from where values have no say; equal to others of which it is the same."""

    def __init__(self, source: Source, told: Told) -> None:
        self.tensors, self.config, self.told = source.tensors, source.config, told
        self._key = tuple(source.tensors.items()), repr(source.config), told.turned, told.graph, repr(told.alike)
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


@lru_cache(maxsize=KEPT)
def _by_structure(asked: _Structure) -> Anatomy | None:
    """The anatomy, None where values have a say. Kept: a batch has many models of one structure, and an audit asks for one again."""
    sorted_out = sort_out(asked.tensors, asked.config)
    if sorted_out.claims:
        return None
    found = read_anatomy(asked.tensors, asked.config, asked.told, sorted_out)
    return None if stacked(found) else replace(found, claimed=by_name_alone(sorted_out, asked.tensors))


def _read(source: Source, alike: Mapping[str, Any] = MappingProxyType({})) -> Anatomy:
    """One model's anatomy; gate and up of stacked experts apart as their values show, and what is no weight as its values bear out."""
    graph = any(file.name.lower().endswith(GRAPHS) for file in source.files)
    told = Told(turned=_is_paddle(source), graph=graph, alike=alike)
    if len(source.tensors) <= MOST_KEPT and (found := _by_structure(_Structure(source, told))) is not None:
        return found
    sorted_out = borne_out(source)
    usual = read_anatomy(source.tensors, source.config, told, sorted_out)
    if stacked(usual):
        both = (replace(told, interleaved=interleaved) for interleaved in (False, True))
        readings = [read_anatomy(source.tensors, source.config, one, sorted_out) for one in both]
        usual = better(source, usual, next(reading for reading in readings if reading != usual))
    return replace(usual, claimed=by_name_alone(sorted_out, source.tensors))


def _part_anatomy(part: Part, taken: dict[str, str]) -> Anatomy:
    """A part's anatomy under the whole's names. `taken` are the components of the parts before it."""
    anatomy = _read(part.source)
    components = sorted({piece.place.component for piece in anatomy.pieces} | set(anatomy.layers))
    names = {component: _component(component, part) for component in components}
    names = {component: f"{part.name}.{name}" if taken.get(name, part.name) != part.name else name for component, name in names.items()}
    taken |= dict.fromkeys(names.values(), part.name)

    def place(old: Place) -> Place:
        return old._replace(component=names[old.component])

    def tensor(name: str) -> str:
        return f"{part.name}{SEPARATOR}{name}"

    def piece(old: Piece) -> Piece:
        views = tuple(replace(view, tensor=tensor(view.tensor)) for view in old.views)
        return replace(old, place=place(old.place), views=views, reads_norm=old.reads_norm and place(old.reads_norm))

    return Anatomy(
        tuple(piece(old) for old in anatomy.pieces),
        tuple(tensor(name) for name in anatomy.unplaced),
        {tensor(name): why for name, why in anatomy.constants.items()},
        {names[component]: count for component, count in anatomy.layers.items()},
        tuple(tensor(name) for name in anatomy.guessed),
        tuple(tensor(name) for name in anatomy.packed),
        {tensor(name): size for name, size in anatomy.claimed.items()},
    )


def _component(component: str, part: Part) -> str:
    """A text encoder stays `text` (the second `text_2`); components of a pipeline's other models are called after them (`vae.encoder`)."""
    if part.own_components:
        number = NUMBER.search(part.name)
        return f"{component}_{number[1]}" if number is not None else component
    return part.name if component == MAIN else f"{part.name}.{component}"
