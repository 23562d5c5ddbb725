"""What a tuner's formula works with: the adapter's tensors as arrays, and what its config says."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from modelkin_indexer.adapters.config import AdapterConfig
from modelkin_indexer.adapters.formulas.change import too_large
from modelkin_indexer.adapters.names import Module
from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Parts


class Kit(Struct, frozen=True):
    """`shared` are tensors that all modules share, by parameter."""

    parts: Parts
    config: AdapterConfig
    shared: Mapping[str, str]

    def array(self, name: str) -> Floats:
        """A tensor whole, in its own shape: for factors, which are small."""
        info = self.parts.tensors[name]
        return self.parts.span(name, 0, info.elements).reshape(info.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.parts.tensors[name].shape

    def scale(self, module: Module, rank: float) -> float:
        """alpha over rank: of the module itself where it has one (kohya, LyCORIS), else as the config says."""
        if alpha := module.get("alpha"):
            return (self.parts.number(alpha) or rank) / rank
        return self.config.scale(module.name, rank)

    def need(self, module: Module, *parameters: str) -> tuple[str, ...]:
        """Tensors that a module's change cannot be made without. Raises DamagedFile."""
        for parameter in parameters:
            if not module.get(parameter):
                first = next(iter(module.parameters.values()))
                raise self.damaged(first, f"is part of a change whose {parameter} is missing")
        return tuple(module[parameter] for parameter in parameters)

    def need_shared(self, parameter: str, by: str) -> str:
        """A tensor that all modules share. Raises UnsupportedFormat: it may be left out and drawn again from a seed."""
        if parameter not in self.shared:
            problem = f"needs {parameter}, which the adapter draws from a seed instead of storing it (save_projection)"
            raise self.parts.unsupported(by, problem)
        return self.shared[parameter]

    def sized(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A stated shape that can be true. Raises UnsupportedFormat."""
        if too_large(shape):
            raise self.parts.unsupported(name, f"stands for a weight of shape {list(shape)}, larger than any that is known")
        return shape

    def damaged(self, name: str, problem: str) -> DamagedFile:
        return self.parts.damaged(name, problem)

    def contradicts(self, first: str, second: str) -> DamagedFile:
        """Two tensors whose shapes do not go together."""
        return self.damaged(first, f"has shape {list(self.shape(first))}, which contradicts {list(self.shape(second))} of {second!r}")
