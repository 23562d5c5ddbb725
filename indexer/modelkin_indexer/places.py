"""Where a tensor sits in a model, and how its values are found in a file. Plain values, no behaviour beyond arithmetic."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from msgspec import Struct, field

FAMILIES = ("norm", "attention", "mlp", "expert", "router", "embedding", "head", "conv", "ssm", "position", "bias", "other")
COMPONENTS = ("text", "encoder", "decoder", "vision", "audio", "backbone", "codec", "multimodal", "projector", "other")
NO_LAYER = -1


class Place(NamedTuple):
    """A tuple, for its speed: a fingerprint has hundreds, and a search compares thousands of fingerprints.

    `layer` counts from 0 inside its component and is NO_LAYER outside the stack; `role` is e.g. `q`, `gate`, `attention_input`."""

    component: str
    layer: int
    family: str
    role: str


def name_of(place: Place) -> str:
    """A tensor by its place: component.layer.family.role."""
    return ".".join((place.component, *([] if place.layer == NO_LAYER else [str(place.layer)]), *place[2:]))


class TensorInfo(Struct, frozen=True):
    """One stored tensor as its header describes it. `dtype` is safetensors' word for it (BF16, F32, F8_E4M3, I8, ...).

    `transposed`: a matrix of this `shape` [out, in] whose numbers are stored as those of its transpose [in, out].
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    transposed: bool = False

    @property
    def elements(self) -> int:
        return prod(self.shape)


class View(Struct, frozen=True):
    """A matrix [rows, columns] seen inside one stored tensor, as numpy would stride it.

    `shape` is (leading axes..., columns); rows are the leading axes flattened in C order. `offset` and `strides` count elements of
    the stored, C-contiguous tensor. A plain [out, in] matrix has strides (in, 1); a transposed one (1, out).
    """

    tensor: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        return self.shape[-1]


class Piece(Struct, frozen=True):
    """One place and the views that hold its values.

    Experts of one layer are one piece: one view per expert, in expert order, all of one shape (`experts` is True).
    `residual` tells which side of the oriented [out, in] matrix faces the residual stream: "in", "out" or "none" (vectors, token tables).
    `reads_norm` is the place of the gain vector that multiplies this matrix's input, or None.
    `named` is False where no rule knows the name, so that the role is the name itself, and another file's may differ.
    """

    place: Place
    views: tuple[View, ...]
    experts: bool = False
    residual: str = "in"
    reads_norm: Place | None = None
    named: bool = True

    @property
    def is_vector(self) -> bool:
        """True for 1-D tensors: norms, biases, scales. Their view has shape (1, n)."""
        return self.residual == "none" and not self.experts and self.views[0].rows == 1

    @property
    def parameters(self) -> int:
        return sum(prod(view.shape) for view in self.views)


class Anatomy(Struct, frozen=True):
    """What every tensor of a file is.

    `pieces` are in the order of their places. `unplaced` are names whose place is unknown (they also have a piece of family `other`),
    `guessed` those placed by their shape alone.
    `constants` maps names never fingerprinted (buffers, tables, quantisation side tensors) to the reason. `packed` are those of the
    unplaced whose numbers cannot be read; `claimed` those constants that nothing but their names tell, with their bytes.
    """

    pieces: tuple[Piece, ...]
    unplaced: tuple[str, ...] = ()
    constants: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()
    claimed: dict[str, int] = field(default_factory=dict)
