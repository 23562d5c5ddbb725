"""Quantised weights: a source that stores them is presented as one with plain tensors. A new scheme is a file beside this one and a
line in `SCHEMES`.

A scheme looks at the stored tensors by name, type and shape (and at config.json where those leave a choice) and says which plain tensors
they make, and how rows of them are decoded. It reads no more than descriptions while opening.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.quantised import awq, bitsandbytes, compressed, fp4, gptq, hqq, scaled
from modelkin_indexer.quantised.parts import FETCH_COMPLETE, Parts, Plain
from modelkin_indexer.quantised.source import Counted, QuantisedSource, kinds, plain_source
from modelkin_indexer.source import Source

SCHEMES: tuple[Callable[[Parts], Iterable[Plain]], ...] = tuple(
    scheme.plain_tensors for scheme in (gptq, awq, bitsandbytes, compressed, fp4, hqq, scaled)
)


def presented(source: Source) -> Source:
    """The source as it is if nothing in it is quantised, else one with plain tensors of the decoded values.

    Closes the source if it raises.

    Raises:
        DamagedFile: quantised tensors that contradict each other, or lack one that is needed to decode them.
        UnsupportedFormat: a form of quantisation that this version does not decode.
    """
    counted = Counted(source)
    try:
        plains: dict[str, Plain] = {}
        taken: dict[str, str] = {}
        for scheme in SCHEMES:
            for plain in scheme(Parts(counted)):
                _take(plain, plains, taken, source)
    except BaseException:
        source.close()
        raise
    if not plains:
        return source
    return plain_source(QuantisedSource, counted, plains.values(), quantization=kinds(plains.values()))


def _take(plain: Plain, plains: dict[str, Plain], taken: dict[str, str], source: Source) -> None:
    """Add a plain tensor. A stored tensor belongs to one; the first scheme that knows it decides."""
    if plain.uses[0] in taken:
        return
    if plain.name in plains or (plain.name in source.tensors and plain.name not in plain.uses):
        problem = f"is stored both as it is and quantised ({plain.uses[0]!r})"
        raise DamagedFile(problem, path=source.path, tensor=plain.name, remedy=FETCH_COMPLETE)
    plains[plain.name] = plain
    taken.update(dict.fromkeys(plain.uses, plain.name))
