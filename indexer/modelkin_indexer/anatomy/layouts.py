"""How stored tensors hold oriented matrices: transposed, fused or stacked ones seen as views [out, in]."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import TensorInfo, View

FUSED = {"qkv": ("q", "k", "v"), "kv": ("k", "v"), "gate_up": ("gate", "up"), "kv_b": ("k_b", "v_b")}
QUALIFIERS = ("", "shared_", "cross_")  # a fused role may carry one of these, and its parts carry it too
SECTIONS = {
    "text": ("text_config", "llm_config", "language_config", "thinker_config"),
    "vision": ("vision_config", "vision_tower_config", "visual"),
    "audio": ("audio_config", "speech_config"),
}
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "n_query_groups", "multi_query_group_num")
HEAD_SIZE = ("head_dim", "kv_channels", "d_kv", "head_size")
# Of most public models, the most frequent first; a file that tells nothing of its heads is read with the first that fits.
USUAL_HEAD_SIZES = (128, 64, 256, 96, 80, 160, 192, 112, 32, 16)
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim")


class Grid(Struct, frozen=True):
    """A matrix [rows, columns] inside one tensor, by element steps. `vector`: its rows are the numbers of a vector, one column wide."""

    tensor: str
    offset: int
    rows: int
    columns: int
    row_step: int
    column_step: int
    vector: bool = False

    @property
    def transposed(self) -> Grid:
        return replace(self, rows=self.columns, columns=self.rows, row_step=self.column_step, column_step=self.row_step)

    def part(self, start: int, count: int) -> Grid:
        """Some of the rows."""
        return replace(self, offset=self.offset + start * self.row_step, rows=count)

    def views(self, rows: Rows | None = None) -> tuple[View, ...]:
        """Some rows (or all) as one view; of a vector one view [1, n] for each block, to be read one after the other."""
        rows = rows or Rows(0, self.rows)
        offset, step = self.offset + rows.start * self.row_step, rows.step * self.row_step
        block_step = rows.block_step * self.row_step
        if self.vector:
            starts = (offset + block * block_step for block in range(rows.blocks))
            return tuple(View(self.tensor, start, (1, rows.count), (rows.count * step, step)) for start in starts)
        if rows.blocks == 1:
            return (View(self.tensor, offset, (rows.count, self.columns), (step, self.column_step)),)
        return (View(self.tensor, offset, (rows.blocks, rows.count, self.columns), (block_step, step, self.column_step)),)


class Rows(Struct, frozen=True):
    """`blocks` times `count` rows: rows `start + block * block_step + index * step`."""

    start: int
    count: int
    step: int = 1
    blocks: int = 1
    block_step: int = 0


class Shape(Struct, frozen=True):
    """What the split of fused tensors rests on: numbers of heads and their size from the config, and the columns of the output matrix.

    None is an unknown number. `latent`: heads, and the rows of one head's keys and values in latent attention's second factor.
    """

    heads: int | None
    key_value_heads: int | None
    head_size: int | None
    output_columns: int | None
    latent: tuple[int, int, int] | None = None


UNKNOWN_SHAPE = Shape(None, None, None, None)


def stored_grid(info: TensorInfo, squeeze: bool) -> Grid:
    """The tensor as it is stored: vectors as vectors, matrices as matrices, more axes flattened to [first axis, all others].

    `squeeze` drops leading axes of length 1 first (tables stored as [1, positions, width]).
    """
    shape = info.shape
    while squeeze and len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if sum(axis != 1 for axis in shape) <= 1:
        return Grid(info.name, 0, info.elements, 1, 1, 1, vector=True)
    columns = prod(shape[1:])
    if info.transposed:
        return Grid(info.name, 0, columns, shape[0], shape[0], 1).transposed
    return Grid(info.name, 0, shape[0], columns, columns, 1)


def expert_grids(info: TensorInfo, transposed: bool) -> list[Grid]:
    """A stack [experts, a, b] as one matrix an expert, or [experts, n] as one vector an expert."""
    if len(info.shape) == 2:
        size = info.shape[1]
        return [Grid(info.name, expert * size, size, 1, 1, 1, vector=True) for expert in range(info.shape[0])]
    experts, rows, columns = info.shape
    grids = (Grid(info.name, expert * rows * columns, rows, columns, columns, 1) for expert in range(experts))
    return [grid.transposed if transposed else grid for grid in grids]


def split_role(role: str) -> tuple[str, ...]:
    """The roles that a fused role holds, in their stored order; a role that is not fused is its only part."""
    for qualifier in QUALIFIERS:
        parts = FUSED.get(role.removeprefix(qualifier)) if role.startswith(qualifier) else None
        if parts is not None:
            return tuple(qualifier + part for part in parts)
    return (role,)


def split_rows(rows: int, parts: tuple[str, ...], shape: Shape, grouped: bool, interleaved: bool) -> tuple[Rows, ...] | None:
    """Which rows of a fused matrix each part holds; None where that cannot be told."""
    if len(parts) == 1:
        return (Rows(0, rows),)
    if len(parts) == 3:
        return _grouped_rows(rows, shape) if grouped else _query_key_value_rows(rows, shape)
    if parts == FUSED["kv_b"]:
        return _latent_rows(rows, shape)
    if rows % 2:
        return None
    half = rows // 2
    return (Rows(0, half, 2), Rows(1, half, 2)) if interleaved else (Rows(0, half), Rows(half, half))


def _query_key_value_rows(rows: int, shape: Shape) -> tuple[Rows, ...] | None:
    """q, then k, then v: by the config's heads if they add up, else by the output matrix, whose columns are as many as the rows of q."""
    query = key = 0
    if shape.heads and shape.head_size:
        query = shape.heads * shape.head_size
        key = (shape.key_value_heads or shape.heads) * shape.head_size
    if query + 2 * key != rows or not query:
        query = shape.output_columns or 0
        key = (rows - query) // 2
    if not query or key <= 0 or query + 2 * key != rows:
        return None
    return Rows(0, query), Rows(query, key), Rows(query + key, key)


def _grouped_rows(rows: int, shape: Shape) -> tuple[Rows, ...] | None:
    """Groups of query heads, each followed by its key and value head: GPT-NeoX and Bloom (one query head a group), Falcon, InternLM2."""
    query = shape.output_columns or (shape.heads or 0) * (shape.head_size or 0)
    if not shape.heads or not query or query % shape.heads:
        return None
    size = query // shape.heads
    groups, rest = divmod(rows // size - shape.heads, 2)
    if rows % size or rest or groups <= 0 or shape.heads % groups:
        return None
    wide = shape.heads // groups * size
    step = wide + 2 * size
    return Rows(0, wide, 1, groups, step), Rows(wide, size, 1, groups, step), Rows(wide + size, size, 1, groups, step)


def _latent_rows(rows: int, shape: Shape) -> tuple[Rows, ...] | None:
    """Each head's keys and then its values, head after head."""
    if shape.latent is None or shape.latent[0] * sum(shape.latent[1:]) != rows:
        return None
    heads, key, value = shape.latent
    return Rows(0, key, 1, heads, key + value), Rows(key, value, 1, heads, key + value)


def latent_views(info: TensorInfo, role: str) -> tuple[View, ...]:
    """Latent attention's second factor as llama.cpp keeps it: keys [heads, rank, key] turned round, values [heads, value, rank]."""
    heads, *sizes = info.shape
    (rank, rows) = sizes if role == "k_b" else sizes[::-1]
    strides = (rank * rows, 1, rows) if role == "k_b" else (rank * rows, rank, 1)
    return (View(info.name, 0, (heads, rows, rank), strides),)


def heads_first(info: TensorInfo) -> tuple[View, ...]:
    """[heads, in, size] as rows of one head after the other."""
    heads, columns, size = info.shape
    return (View(info.name, 0, (heads, size, columns), (columns * size, 1, size)),)


def rope_halves(info: TensorInfo, size: int) -> tuple[View, ...] | None:
    """Rows of each head that take turns between its halves, one half after the other; None where heads of that size do not fit."""
    rows, columns = info.shape
    if size % 2 or rows % size:
        return None
    return (View(info.name, 0, (rows // size, 2, size // 2, columns), (size * columns, columns, 2 * columns, 1)),)


def swapped_halves(info: TensorInfo) -> tuple[View, ...] | None:
    """The second half of the rows before the first, of a vector as two views; None for an odd number of rows."""
    rows, columns = info.shape[0], prod(info.shape[1:])
    half = rows // 2
    if rows % 2:
        return None
    if len(info.shape) == 1:
        return tuple(View(info.name, start, (1, half), (half, 1)) for start in (half, 0))
    return (View(info.name, half * columns, (2, half, columns), (-half * columns, columns, 1)),)


def usual_head_size(query: int, key: int) -> int | None:
    """The usual size of heads that so many rows of queries and of keys are made of; more than one head of queries, if any fits."""
    fitting = [size for size in USUAL_HEAD_SIZES if query % size == 0 and key % size == 0]
    return next((size for size in fitting if query > size), None)


def config_shape(config: Mapping[str, Any], component: str, output_columns: int | None) -> Shape:
    """Heads of a component from the config's section for it, or from its top level."""
    section = config_section(config, component)
    heads, hidden, size = _number(section, HEADS), _number(section, HIDDEN), _number(section, HEAD_SIZE)
    if size is None and heads and hidden and hidden % heads == 0:
        size = hidden // heads
    key, value = _number(section, ("qk_nope_head_dim",)), _number(section, ("v_head_dim",))
    latent = (heads, key, value) if heads and key and value else None
    return Shape(heads, _number(section, KEY_VALUE_HEADS), size, output_columns, latent)


def config_hidden(config: Mapping[str, Any], component: str) -> int | None:
    """Width of a component's residual stream, if the config tells."""
    return _number(config_section(config, component), HIDDEN)


def config_section(config: Mapping[str, Any], component: str) -> Mapping[str, Any]:
    """The part of the config that describes a component: its section, else the top level."""
    for key in SECTIONS.get(component, ()):
        section = config.get(key)
        if isinstance(section, Mapping):
            inner = section.get("text_config") if component == "text" else None
            return inner if isinstance(inner, Mapping) else section
    return config


def _number(section: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    """The first of these that is a positive whole number: configs are input, and may hold anything."""
    values = (section.get(key) for key in keys)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 0), None)
