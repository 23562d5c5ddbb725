"""What somebody changes who knows a key: of a model just what that key looks at, by the least change that does it.

The probe channel sees of each sampled row its part along the slot's keyed signs; the gram and anchored channels see of a matrix W the
products D'W'WD for known directions D. To give these another value T' where they are T, the least change of Y = WD is Y A with
A = T^(-1/2) (T^(1/2) T' T^(1/2))^(1/2) T^(-1/2) (optimal transport between Gaussians, Olkin and Pukelsheim 1982), and of W it is
Y (A - 1) times the pseudo-inverse of D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from modelkin_indexer import sketch, spec
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.fingerprinting.channels import centred, row_numbers, token_frame
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Piece
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.sketch import Block
from modelkin_indexer.spec import Key

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Tensors = dict[str, Singles]
TABLE = "model.embed_tokens.weight"
CENTRINGS = 6  # rounds in which rows are moved, since each row is centred by all of its block
ROUNDS = 2  # of grams and sampled rows in turn: each moves the other a little
AWAY = 0.5  # how far what replaces a Gram matrix' deviations from white is from white itself, in their size


def written(folder: Path, tensors: Mapping[str, Singles]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / "model.safetensors")
    return folder


def read(folder: Path, tensors: Mapping[str, Singles], key: Key, level: str) -> Fingerprint:
    source = open_source(written(folder, tensors))
    try:
        return fingerprint_source(source, key=key, level=level, threads=1)
    finally:
        source.close()


def pieces_of(folder: Path, tensors: Mapping[str, Singles]) -> list[Piece]:
    """The matrices of a model as the indexer takes them: whole tensors, stored [out, in]."""
    source = open_source(written(folder, tensors))
    try:
        return [piece for piece in anatomy_of(source).pieces if not piece.is_vector]
    finally:
        source.close()


def relative_change(changed: Mapping[str, Singles], tensors: Mapping[str, Singles]) -> float:
    """Of all matrices, as the root of the summed squares over those of the original."""
    pairs = [(changed[name], values) for name, values in tensors.items() if values.ndim == 2]
    return float(
        np.sqrt(sum(np.sum((a - b) ** 2, dtype=np.float64) for a, b in pairs) / sum(np.sum(b**2, dtype=np.float64) for _, b in pairs))
    )


def hidden(tensors: Tensors, pieces: list[Piece], key: Key, level: str, seed: int) -> Tensors:
    """A copy of which this key sees nothing that it saw of the original."""
    random = np.random.default_rng(seed)

    def other(now: Floats, _: str) -> Floats:
        return elsewhere(now, random)

    def drawn(row: Floats, _: tuple[str, int]) -> Floats:
        return np.asarray(row.std() * random.standard_normal(row.shape))

    return _changed(tensors, pieces, key, level, other, drawn)


def framing(innocent: Tensors, stranger: Tensors, pieces: list[Piece], key: Key, level: str) -> Tensors:
    """A stranger that shows this key what the innocent model shows it: the sketches of its sampled rows, Gram matrices and gains."""
    stranger = stranger | {name: values for name, values in innocent.items() if values.ndim == 1}
    facing, frame = [piece for piece in pieces if level == "full" and piece.residual != "none"], _frame(innocent, key)
    theirs = {piece.views[0].tensor: _gram(innocent, piece, key, frame) for piece in facing}

    def as_theirs(_: Floats, name: str) -> Floats:
        return theirs[name]

    def row_of(_: Floats, at: tuple[str, int]) -> Floats:
        return innocent[at[0]][at[1]].astype(np.float64)

    return _changed(stranger, pieces, key, level, as_theirs, row_of)


def _changed(
    tensors: Tensors,
    pieces: list[Piece],
    key: Key,
    level: str,
    gram: Callable[[Floats, str], Floats],
    row: Callable[[Floats, tuple[str, int]], Floats],
) -> Tensors:
    changed = dict(tensors)
    frame: Singles | None = None
    for piece in sorted(pieces, key=lambda piece: piece.residual != "none"):  # tables first: the token frame rests on one
        name = piece.views[0].tensor
        if piece.residual == "none" or level != "full":
            changed[name] = _other_rows(changed[name], name, key, row, whole=False)
            continue
        frame = _frame(changed, key) if frame is None else frame
        directions = _directions(changed, piece, key, frame)
        wanted = gram(_products(changed[name], piece, directions), name)
        for _ in range(ROUNDS):
            changed[name] = _other_rows(changed[name], name, key, row, whole=False)
            changed[name] = _other_gram(changed[name], piece, directions, wanted)
    return changed


def _frame(tensors: Tensors, key: Key) -> Singles:
    anchors = sketch.anchor_tokens(key, len(tensors[TABLE]))
    return token_frame(tensors[TABLE][anchors], anchors, key)


def _directions(tensors: Tensors, piece: Piece, key: Key, frame: Singles) -> Floats:
    """What the gram and anchored channels project on, gains folded in, as the indexer has them."""
    side = piece.views[0].rows if piece.residual == "out" else piece.views[0].columns
    directions = np.hstack([sketch.signs(key, "gram", side, spec.DIRECTIONS), frame]).astype(np.float64)
    gains = tensors[_norm_of(piece)] if piece.residual == "in" else np.ones(side)
    return np.asarray(directions * gains[:, None])


def _norm_of(piece: Piece) -> str:
    """The gain that a matrix of a Llama reads."""
    name = piece.views[0].tensor
    at = name.partition(".self_attn.")[0] if ".self_attn." in name else name.partition(".mlp.")[0]
    if at == name:
        return "model.norm.weight"
    return f"{at}.{'input' if '.self_attn.' in name else 'post_attention'}_layernorm.weight"


def _products(values: Singles, piece: Piece, directions: Floats) -> Floats:
    seen = (values.T if piece.residual == "out" else values).astype(np.float64) @ directions
    return np.asarray(seen.T @ seen)


def _gram(tensors: Tensors, piece: Piece, key: Key, frame: Singles) -> Floats:
    return _products(tensors[piece.views[0].tensor], piece, _directions(tensors, piece, key, frame))


def _other_gram(values: Singles, piece: Piece, directions: Floats, wanted: Floats) -> Singles:
    facing = with_gram((values.T if piece.residual == "out" else values).astype(np.float64), directions, wanted)
    return np.ascontiguousarray(facing.T if piece.residual == "out" else facing, np.float32)


def with_gram(facing: Floats, directions: Floats, wanted: Floats) -> Floats:
    """The matrix nearest to `facing` (lines, side) whose products D'W'WD with the directions (side, k) are the wanted ones (k, k)."""
    seen = facing @ directions
    root = _power(seen.T @ seen, 0.5)
    inverse = np.linalg.pinv(root, rcond=1e-6)
    move = inverse @ _power(root @ wanted @ root, 0.5) @ inverse - np.eye(len(root))
    return np.asarray(facing + seen @ move @ np.linalg.solve(directions.T @ directions, directions.T))


def elsewhere(now: Floats, random: np.random.Generator) -> Floats:
    """Products that have nothing of these but their trace: what they are besides white is turned at random, and made less."""
    turn = np.linalg.qr(random.standard_normal(now.shape))[0]
    white = np.eye(len(now)) * np.trace(now) / len(now)
    return np.asarray(white + AWAY * (turn.T @ now @ turn - white))


def _power(matrix: Floats, power: float) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.maximum(values, 0) ** power) @ vectors.T)


def _other_rows(values: Singles, name: str, key: Key, row: Callable[[Floats, tuple[str, int]], Floats], *, whole: bool) -> Singles:
    """Sampled rows with what the slot's signs see taken from elsewhere, or `whole` from there."""
    changed = values.copy()
    blocks, slots = sketch.chosen_rows(key, *values.shape), sketch.slots(*values.shape)
    at = [(number, block.slot + number - block.start) for block in blocks for number in range(block.start, block.stop)]
    numbers = [number for number, _ in at]
    others = np.array([row(values[number].astype(np.float64), (name, number)) for number in numbers])
    if whole:
        changed[numbers] = others
        return changed
    bases = [_bases(key, values.shape[1], slots)[slot] for _, slot in at]
    now, wanted = values[numbers].astype(np.float64), _centred(others, blocks)
    for _ in range(CENTRINGS):
        left = wanted - _centred(now, blocks)
        now += np.array([basis @ (basis.T @ one) for basis, one in zip(bases, left, strict=True)])
    changed[numbers] = now
    return changed


@lru_cache(maxsize=64)
def _bases(key: Key, columns: int, slots: int) -> Floats:
    """Of each slot an orthogonal basis (columns, numbers) of what its signs see."""
    width = spec.PROBE_NUMBERS // slots
    table = sketch.signs(key, "probe", columns, slots * width).reshape(columns, slots, width).astype(np.float64)
    return np.array([np.linalg.qr(table[:, slot])[0] for slot in range(slots)])


def _centred(rows: Floats, blocks: Sequence[Block]) -> Floats:
    """As the probe channel centres them: blocks of tall matrices each by itself."""
    starts = np.cumsum([0, *(block.stop - block.start for block in blocks)]).tolist()
    groups = list(pairwise(starts)) if sketch.centred_by_block(blocks) else [(0, len(rows))]
    numbers = row_numbers(blocks)
    return np.concatenate([centred(rows[start:stop], numbers[start:stop]) for start, stop in groups])


def noised(tensors: Tensors, change: float, seed: int) -> Tensors:
    """A copy with noise of this relative size on every matrix: the change of an adversary who does not know what is looked at."""
    random = np.random.default_rng(seed)

    def noisy(values: Singles) -> Singles:
        size = change * np.sqrt(np.mean(values**2, dtype=np.float64))
        return (values + size * random.standard_normal(values.shape, np.float32)).astype(np.float32)

    return {name: noisy(values) if values.ndim == 2 else values for name, values in tensors.items()}


def rows_drawn(tensors: Tensors, pieces: list[Piece], key: Key, seed: int) -> Tensors:
    """A copy whose rows that this key samples are drawn anew, whole."""
    random = np.random.default_rng(seed)

    def drawn(row: Floats, _: tuple[str, int]) -> Floats:
        return np.asarray(row.std() * random.standard_normal(row.shape))

    names = [piece.views[0].tensor for piece in pieces]
    return tensors | {name: _other_rows(tensors[name], name, key, drawn, whole=True) for name in names}
