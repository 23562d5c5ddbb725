"""The variables of a Keras layer: what each is, by what the layer is called and by their shapes.

Keras 3 numbers a layer's variables in the order in which the layer made them; older files and `model.save("x.h5")` name them.
https://keras.io/api/models/model_saving_apis/
"""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_indexer.sources.keras.hdf5 import Array

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
CELL = ("kernel", "recurrent_kernel", "bias")
SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
PLAIN = ("kernel", "bias")


def leaves_of(layer: str, arrays: Sequence[Array]) -> tuple[str, ...]:
    """What the numbered variables of a layer are; "" of those that no rule knows."""
    axes = [len(array.shape) for array in arrays]
    if axes and max(axes) == 1:
        return _of_norm(len(axes), statistics="batch" in layer and "norm" in layer)
    if "separable" in layer:
        found: Sequence[str] = SEPARABLE
    elif axes[:2] == [2, 2] and arrays[1].shape[1] == arrays[0].shape[1]:
        found = CELL
    elif "embed" in layer:
        found = ("embeddings", "")
    else:
        found = PLAIN
    return tuple(found[at] if at < len(found) else "" for at in range(len(axes)))


def _of_norm(count: int, *, statistics: bool) -> tuple[str, ...]:
    """The vectors of a normalisation. One that keeps statistics has both, last; of gain and shift it mostly lacks the gain."""
    if count > len(NORM):
        return ("",) * count
    if statistics or count > 2:
        return {2: NORM[2:], 3: NORM[1:]}.get(count, NORM[:count])
    return NORM[:count]
