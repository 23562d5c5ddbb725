"""Whether the sizes of tensors add up to what config.json says of the language model. What it does not say is not held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from modelkin.auditing.examined import IS_CHANGE, NO_WEIGHTS, Examined, Found
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.splits import split_name
from modelkin_indexer.places import Place

TEXT = "text"
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MLP = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff")
EMBEDDING = ("embedding_size", "input_embedding_size", "word_embed_proj_dim")
VOCABULARY = ("vocab_size",)
MORE_LAYERS = "num_nextn_predict_layers"  # that predict a further token: stored after the others, and not counted with them
# Words of configs in which the sizes of heads follow from more numbers.
LATENT = (
    "q_lora_rank",
    "kv_lora_rank",
    "attn_output_gate",
    "multi_query",
    "head_ratio",
    "global_head_dim",
)  # sizes follow from more numbers
ADJUSTED = "block_auto_adjust_ff_dim"
SHARED = "num_hidden_groups"  # of layers that have weights of their own
SPARE_TOKENS = 0.01  # rows beyond the vocabulary, as a share of it: 0.0008 at most in the architectures of transformers 5.23
GAPS = 5  # missing layers named
LARGEST = 1 << 40  # a config may say any number: above this it is no size
Sizes = Mapping[str, Any]


def layers(it: Examined) -> Found:
    """Layers said against layers there, and those of them without any tensor."""
    return _with_config(it, LAYERS, lambda config, said: _layers(it, config, said))


def _layers(it: Examined, config: Sizes, said: int) -> Found:
    there = {place.layer for place in it.pieces if place.component == TEXT and place.layer >= 0}
    most = said + (_number(config, (MORE_LAYERS,)) or 0)
    if said <= len(there) <= most or (len(there) > said and len(there) % said == 0):  # parts of a layer may be numbered as layers are
        return []
    gaps = list(islice((layer for layer in range(said) if layer not in there), GAPS))
    words = f"config.json says {said:,} layers, tensors are there of {len(there):,}"
    return [it.unusual("layers", words + (f"; the first without any: {', '.join(map(str, gaps))}." if gaps else "."), ())]


def hidden_size(it: Examined) -> Found:
    """Width said against columns of the token table, unless tokens have a width of their own."""
    names = (*EMBEDDING, *layouts.HIDDEN)
    return _with_config(it, names, lambda _, said: _held(it, "hidden-size", "embedding", "token", said, columns=True))


def vocabulary(it: Examined) -> Found:
    """Tokens said against rows of the token table."""
    return _with_config(it, VOCABULARY, lambda _, said: _held(it, "vocabulary", "embedding", "token", said))


def heads(it: Examined) -> Found:
    """Rows of q and k against heads times their size."""

    def look(config: Sizes, _: int) -> Found:
        shape = layouts.config_shape(it.config, TEXT, None)
        if any(name in config for name in LATENT) or not shape.heads or not shape.head_size or shape.heads * shape.head_size > LARGEST:
            return "the sizes of heads follow from more than their number in this architecture"
        keys = min(shape.key_value_heads or shape.heads, LARGEST)
        return [
            *_held(it, "heads", "attention", "q", shape.heads * shape.head_size),
            *_held(it, "heads", "attention", "k", keys * shape.head_size),
        ]

    return _with_config(it, layouts.HEADS, look)


def mlp_width(it: Examined) -> Found:
    """Neurons said against rows of up."""
    if ADJUSTED in it.config:
        return "the width of the MLPs follows from more numbers in this architecture"
    return _with_config(it, MLP, lambda _, said: _held(it, "mlp-width", "mlp", "up", said))


def _with_config(it: Examined, names: tuple[str, ...], look: Callable[[Sizes, int], Found]) -> Found:
    if it.anatomy is None:
        return NO_WEIGHTS
    if it.is_change:
        return IS_CHANGE
    config = layouts.config_section(it.config, TEXT)
    said = _number(config, names)
    if said is None or config.get("is_encoder_decoder"):
        return "config.json says no usable number of it" if said is None else "an encoder and a decoder have sizes of their own"
    components = {place.component for place in it.pieces}
    if components != {TEXT} or len({split_name(view.tensor).stack for piece in it.pieces.values() for view in piece.views} - {""}) != 1:
        return "config.json is held against models that are one language model of one stack of layers"
    if SHARED in config:
        return "its layers share their weights"
    return look(config, said)


def _held(it: Examined, code: str, family: str, role: str, said: int, *, columns: bool = False) -> list[Any]:
    """Tensors of this role whose rows (or columns) are others than are said; none where some have what is said: layers may differ."""
    sizes: dict[int, list[Place]] = {}
    for place, piece in it.pieces.items():
        if (place.component, place.family, place.role) == (TEXT, family, role) and not piece.is_vector:
            found = piece.views[0].columns if columns else sum(view.rows for view in piece.views)
            sizes.setdefault(found, []).append(place)
    axis = "columns" if columns else "rows"
    return [
        it.unusual(code, f"config.json leads to {said:,} {axis} of {role}, stored are {found:,}.", it.names(places))
        for found, places in sorted(sizes.items())
        if said not in sizes and not _is_spare(role, found, said, columns=columns)
    ]


def _is_spare(role: str, found: int, said: int, *, columns: bool) -> bool:
    """Whether more rows are usual: of a token table a few, of q twice as many where it holds a gate too."""
    return not columns and ((role == "token" and said < found <= said * (1 + SPARE_TOKENS)) or (role == "q" and found == 2 * said))


def _number(config: Sizes, names: tuple[str, ...]) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if type(value) is int and 0 < value <= LARGEST), None)
