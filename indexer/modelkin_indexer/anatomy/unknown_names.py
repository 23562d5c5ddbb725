"""What a tensor is whose name no rule knows: by words in its name (`general.json`), else by its shape alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from msgspec import Struct

from modelkin_data import NameRule, name_tables
from modelkin_indexer.anatomy.splits import SplitName

Shape = Sequence[int]
TOKEN_RATIO = 4  # a table of at least so many rows for each column, as wide as the residual stream, may hold tokens
WEIGHTS = re.compile(r"(^|_)(weights?|kernel)(_|$)")  # what a converter fused a norm into is still called so
WITHOUT_FRAME = ("embedding", "position", "head")  # their rows are tokens or positions: Gram matrices of strangers' rows agree


class General(Struct, frozen=True):
    """A family and role for a module; `guessed` if nothing but its shape or its surroundings tells the family."""

    rule: NameRule
    guessed: bool


def by_words(split: SplitName, shape: Shape) -> General | None:
    """What the words of a name tell; None where they tell nothing. `shape` is that of the module's largest tensor."""
    parts = [_snake(part) for part in (split.stack.rpartition(".")[2], *split.module.split(".")) if part]
    if sum(axis > 1 for axis in shape) < 2:
        family = _vector_family(parts, split.parameter)
    else:
        family = "expert" if split.expert is not None else _matrix_family(parts, split, len(shape))
    return _general(split, family, shape, guessed=False) if family else None


def by_shape(split: SplitName, shape: Shape) -> General:
    """What a shape alone tells: convolutions have more than two axes, tables of tokens many rows, vectors are offsets.

    A first of three axes that holds one thing is a batch's: a table of positions is kept so.
    """
    axes = sum(axis > 1 for axis in shape)
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if axes < 2:
        family = "bias"
    elif len(shape) > 2:
        return _general(split, "conv", shape, guessed=len(shape) == 3)  # nothing else has four axes
    else:
        family = "embedding" if not split.stack and shape[0] >= TOKEN_RATIO * shape[1] else "mlp"
    return _general(split, family, shape, guessed=True)


def _general(split: SplitName, family: str, shape: Shape, guessed: bool) -> General:
    role = split.module or split.parameter
    if family == "expert" and split.expert is None and len(shape) - (split.parameter == "bias") != 2 + (split.parameter != "bias"):
        role = f"shared_{role}"
    return General(NameRule("layer" if split.stack else "outside", split.module, family, role, residual=_side(split, family)), guessed)


def _side(split: SplitName, family: str) -> str:
    """Which side of a matrix faces the residual stream."""
    if family in WITHOUT_FRAME:
        return "none"
    if family == "conv":
        return "out"  # strangers' kernels are smooth alike along the other side
    return "out" if _has_word(_snake(split.module.rpartition(".")[2]), _words().faces_out) else "in"


def _vector_family(parts: list[str], parameter: str) -> str:
    if any(_has_word(part, _words().norms) for part in parts[-2:]):
        return "norm"
    if parameter == "bias":
        return "bias"
    return "embedding" if any(_has_word(part, _words().tokens) for part in parts[-1:]) else ""


def _matrix_family(parts: list[str], split: SplitName, axes: int) -> str:
    """The family by the last part that has a word of one, `anywhere` before all, `weak` after all."""
    if axes == 2 and not split.parameter and any(_has_word(part, _words().norms) and not WEIGHTS.search(part) for part in parts[-1:]):
        return "norm"  # gains of several norms in one table
    rooms = [room for room in _words().rooms if not (room.outside and split.stack) and (room.family != "conv" or axes > 2)]
    for stage in (1, 0, -1):
        for part in reversed(parts):
            for room in rooms:
                if room.stage == stage and room.fits(part):
                    return _as_convolution(room.family, split, axes)
    return ""


def _as_convolution(family: str, split: SplitName, axes: int) -> str:
    """A kernel is one whatever its module is called; bare tables may have three axes too."""
    if axes > 3 and family not in ("ssm", "expert", "position"):
        return "conv"
    return "conv" if axes == 3 and split.parameter and family in ("embedding", "mlp", "head") else family


def _snake(part: str) -> str:
    """`LayerNorm2` as layer_norm2."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part).lower()


def _has_word(part: str, pattern: re.Pattern[str]) -> bool:
    return pattern.search(part) is not None


class _Room(Struct, frozen=True):
    family: str
    outside: bool
    stage: int  # 1 anywhere, -1 weak, else 0
    words: re.Pattern[str]
    unless: re.Pattern[str] | None

    def fits(self, part: str) -> bool:
        return _has_word(part, self.words) and (self.unless is None or not _has_word(part, self.unless))


class _Words(Struct, frozen=True):
    rooms: tuple[_Room, ...]
    norms: re.Pattern[str]
    faces_out: re.Pattern[str]
    tokens: re.Pattern[str]


@cache
def _words() -> _Words:
    tables = name_tables()
    rooms = tuple(
        _Room(room.family, room.outside, room.anywhere - room.weak, _whole(room.words), _whole(room.unless) if room.unless else None)
        for room in tables.rooms
    )
    tokens = next(room.words for room in rooms if room.family == "embedding")
    return _Words(rooms, _whole(tables.norms), _whole(tables.faces_out), tokens)


def _whole(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{words})\d*(?:_?\d*d\d*)?(?=_|$)")
