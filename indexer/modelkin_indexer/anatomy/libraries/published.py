"""Tensors of a file under the names that the model's own publication has, with what is known of how the file lays them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from math import prod

from msgspec import Struct
from msgspec.structs import replace

from modelkin_data.libraries import Library, LibraryRow, libraries
from modelkin_indexer.anatomy.libraries.styles import KERNEL, is_kernel, spelt
from modelkin_indexer.places import TensorInfo

PARAMETER = re.compile(r"\.(weight|bias)$")
TURNED, TURNED_LAST = "turned", "turned_last"
WIDTH = "width"
PLAIN: frozenset[str] = frozenset()
READS_FIRST = re.compile(r"(?:^|\.)(?:query|key|value)\.weight$")  # kernels [in, heads, size]; others have inputs in all axes but the last


class Published(Struct, frozen=True):
    """A tensor as it was published. `info` is named as the stored tensor is, and has the published shape; `layout` are words of the table
    that concern the order of its rows; `rows` the first and the number of its rows in the stored tensor, where that holds others too.
    """

    info: TensorInfo
    layout: frozenset[str] = PLAIN
    rows: tuple[int, int] | None = None


def published(tensors: Mapping[str, TensorInfo], kernels: bool = True) -> dict[str, Published]:
    """Published name -> tensor. Names of no known library stay as they are; without `kernels` also those of Flax and TensorFlow."""
    spelling = spelt(tensors) if kernels and not _outputs_first(tensors) else {}
    names = {spelling.get(name, name): name for name in tensors}
    if len(names) < len(tensors):
        names, spelling = {name: name for name in tensors}, {}
    library = _library(names)
    if library is None and not spelling:
        return {name: Published(info) for name, info in tensors.items()}
    found: dict[str, Published] = {}
    for name, stored in names.items():
        kernel = _kernel(name, tensors[stored]) if spelling and is_kernel(stored) else PLAIN
        for new, tensor in _of(library, name, tensors[stored], kernel, names, tensors):
            if new in found:
                return {old: Published(info) for old, info in tensors.items()}
            found[new] = tensor
    return found


def _outputs_first(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether kernels are stored [out, in] for all their name, as offsets beside them show, which are as long as there are outputs."""
    votes = 0
    for name, info in tensors.items():
        if len(info.shape) > 1 and is_kernel(name):
            bias = tensors.get("bias".join(name.rsplit(KERNEL, 1)))
            outputs = bias.elements if bias is not None else 0
            votes += (info.shape[0] == outputs) - (info.shape[-1] == outputs)
    return votes > 0


def _kernel(name: str, info: TensorInfo) -> frozenset[str]:
    return frozenset({TURNED_LAST if len(info.shape) > 2 and not READS_FIRST.search(name) else TURNED})


def _library(names: Iterable[str]) -> Library | None:
    """The library whose signs the names have."""
    text = "\n".join(names)
    likely = (one for one in libraries() if all(_literal(sign) in text for sign in one.signs))  # quicker than the expressions
    return next((one for one in likely if all(_pattern(sign).search(text) for sign in one.signs)), None)


def _literal(name: str) -> str:
    """The longest part of a name that is no expression."""
    return max(re.split(r"[#()|\[\]?]", re.sub(r"\([^)]*\)", "#", name)), key=len)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    body = name.replace(".", r"\.").replace("#", "([0-9]{1,5})")
    return re.compile(rf"(?:^|(?<=\.))(?:{body})$", re.MULTILINE)


def _of(
    library: Library | None,
    name: str,
    info: TensorInfo,
    kernel: frozenset[str],
    names: Mapping[str, str],
    tensors: Mapping[str, TensorInfo],
) -> Iterable[tuple[str, Published]]:
    """What a stored tensor is, one part after the other."""
    ending = PARAMETER.search(name)
    for row in library.rows if library is not None else ():
        for text, after in ((name, ""), (name[: ending.start()], ending[0])) if ending is not None else ((name, ""),):
            found = _pattern(row.name).search(text)
            if found is None or not _beside(row, text[: found.start()], found, names):
                continue
            front, groups = text[: found.start()], found.groups()
            layout = frozenset(row.layout) | kernel
            if not row.parts:
                return [(front + _filled(row.published, groups) + after, _laid(info, layout))]
            weight = names.get(f"{text}.weight", "")
            width = prod(tensors[weight].shape[1:]) if weight in tensors else prod(info.shape[1:])
            shares = _shares(row, info.shape[0] if info.shape else 0, width)
            if shares is None:
                return [(name, _laid(info, kernel))]
            return [
                (front + _filled(part, groups) + after, Published(info, layout, rows)) for part, rows in zip(row.parts, shares, strict=True)
            ]
    return [(name, _laid(info, kernel))]


def _beside(row: LibraryRow, front: str, found: re.Match[str], names: Mapping[str, str]) -> bool:
    """Whether the tensor that a row wants beside is there, in the same layer."""
    if not row.beside:
        return True
    stem = found[0].rpartition(".")[0].rpartition(".")[0]
    return f"{front}{stem}.{row.beside}.weight" in names


def _filled(text: str, groups: tuple[str, ...]) -> str:
    for number, group in enumerate(groups, 1):
        text = text.replace(f"{{{number}}}", group)
    return text


def _shares(row: LibraryRow, rows: int, width: int) -> list[tuple[int, int]] | None:
    """First row and number of rows of each part; None where they do not add up."""
    count = len(row.parts)
    if not row.rows:
        return [(part * rows // count, rows // count) for part in range(count)] if rows and rows % count == 0 else None
    rest = rows - width * row.rows.count(WIDTH)
    sizes = [width if word == WIDTH else rest for word in row.rows]
    return [(sum(sizes[:part]), sizes[part]) for part in range(count)] if rest > 0 else None


def _laid(info: TensorInfo, layout: frozenset[str]) -> Published:
    """The tensor with the shape that it was published in."""
    words, shape = layout - {TURNED, TURNED_LAST, "flat"}, info.shape
    if "flat" in layout:
        return Published(replace(info, shape=(info.elements,)), words)
    if len(layout) == len(words) or len(shape) < 2 or info.transposed:
        return Published(info, words)
    outputs = shape[-1:] if TURNED_LAST in layout else shape[1:]
    inputs = shape[:-1] if TURNED_LAST in layout else shape[:1]
    is_kernel = TURNED_LAST in layout and len(shape) > 3
    return Published(replace(info, shape=(prod(outputs), *(inputs if is_kernel else (prod(inputs),))), transposed=True), words)
