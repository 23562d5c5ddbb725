"""Quantised weights: a source that stores them is presented as one with plain tensors. A new scheme is a file beside this one,
or in libraries/ if one library alone writes it, and a line in `SCHEMES`; other packages add theirs by an entry point of the group
`modelkin.schemes`, which is asked only where no scheme here takes a packed tensor.

A scheme looks at the stored tensors by name, type and shape (and at config.json where those leave a choice) and says which plain tensors
they make, and how rows of them are decoded. It reads no more than descriptions while opening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.plug_ins import SCHEMES as OTHERS
from modelkin_indexer.plug_ins import loaded
from modelkin_indexer.quantised import fp4, scaled
from modelkin_indexer.quantised.libraries import (
    awq,
    bitnet,
    bitsandbytes,
    comfy,
    compressed,
    gptq,
    hqq,
    mlx,
    modelopt,
    quanto,
    sparse,
    torchao,
)
from modelkin_indexer.quantised.parts import FETCH_COMPLETE, Found, Parts, Plain, Undecoded
from modelkin_indexer.quantised.plain import FLOATS
from modelkin_indexer.quantised.source import Counted, QuantisedSource, kinds, plain_source
from modelkin_indexer.source import Source

KINDS_NAMED = 5  # kinds of quantisation in one message
Scheme = Callable[[Parts], Iterable[Found]]
SCHEMES: tuple[Scheme, ...] = tuple(
    scheme.plain_tensors
    for scheme in (comfy, torchao, mlx, quanto, bitnet, sparse, gptq, awq, bitsandbytes, compressed, modelopt, fp4, hqq, scaled)
)


def presented(source: Source) -> Source:
    """The source as it is if nothing in it is quantised, else one with plain tensors of the decoded values.

    What a scheme knows but does not decode is left out and told in `unread`. Closes the source if it raises.

    Raises:
        DamagedFile: quantised tensors that contradict each other, or lack one that is needed to decode them.
        UnsupportedFormat: nothing is left but a form of quantisation that this version does not decode.
    """
    counted = Counted(source)
    try:
        plains, undecoded = _found(counted, source)
        if not plains and not undecoded:
            return source
        left = len(source.tensors) - len({name for item in undecoded for name in item.uses})
        if not left and not plains:
            raise _all_undecoded(undecoded, source)
        return plain_source(QuantisedSource, counted, plains, quantization=kinds(plains), undecoded=undecoded)
    except BaseException:
        source.close()
        raise


def _found(counted: Counted, source: Source) -> tuple[list[Plain], list[Undecoded]]:
    """What the schemes make of the stored tensors; of what ours leave packed, what those of other packages make."""
    found = _Taking(counted, source)
    found.ask(SCHEMES)
    if found.is_packed_left():
        found.ask_others(loaded(OTHERS))
    return list(found.plains.values()), found.undecoded


class _Taking:
    """Tensors as schemes take them. The first scheme that knows a tensor takes it; later ones do not see it."""

    def __init__(self, counted: Counted, source: Source) -> None:
        self.counted, self.source = counted, source
        self.plains: dict[str, Plain] = {}
        self.undecoded: list[Undecoded] = []
        self.taken: set[str] = set()

    def ask(self, schemes: Iterable[Scheme]) -> None:
        parts = Parts(self.counted, self.taken)
        for scheme in schemes:
            found = len(self.taken)
            for item in scheme(parts):
                self._take(item)
            if len(self.taken) > found:
                parts = Parts(self.counted, self.taken)

    def ask_others(self, schemes: Sequence[Scheme]) -> None:
        """What we know but do not decode, another package may."""
        if schemes:
            self.taken -= {name for item in self.undecoded for name in item.uses}
            self.ask(schemes)
            self.undecoded = [item for item in self.undecoded if not self.taken.intersection(item.uses)]
            self.taken |= {name for item in self.undecoded for name in item.uses}

    def is_packed_left(self) -> bool:
        """Whether a matrix of no floating-point numbers is in no scheme's plain tensor."""
        left = (info for name, info in self.source.tensors.items() if name not in self.taken)
        return bool(self.undecoded) or any(info.dtype not in FLOATS and len(info.shape) > 1 for info in left)

    def _take(self, item: Found) -> None:
        if item.uses[0] in self.taken:
            return
        self.taken.update(item.uses)
        if isinstance(item, Plain):
            _add(item, self.plains, self.source)
        else:
            self.undecoded.append(item)


def _add(plain: Plain, plains: dict[str, Plain], source: Source) -> None:
    if plain.name in plains or (plain.name in source.tensors and plain.name not in plain.uses):
        problem = f"is stored both as it is and quantised ({plain.uses[0]!r})"
        raise DamagedFile(problem, path=source.path, tensor=plain.name, remedy=FETCH_COMPLETE)
    plains[plain.name] = plain


def _all_undecoded(undecoded: Sequence[Undecoded], source: Source) -> UnsupportedFormat:
    words = ", ".join(sorted({item.kind for item in undecoded})[:KINDS_NAMED])
    problem = f"is stored as {words}, which this version does not decode"
    remedy = "Give the weights in another quantisation, or not quantised."
    return UnsupportedFormat(problem, path=source.path, tensor=undecoded[0].uses[0], remedy=remedy)
