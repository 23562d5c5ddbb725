"""Whether a source's tensors are all plain, told by their names and types: no scheme need be imported to look at them."""

from __future__ import annotations

from collections.abc import Mapping

from modelkin_indexer.source import Source

FLOATS = ("F64", "F32", "F16", "BF16")  # types whose numbers are the weights themselves
PLAIN = (".weight", ".bias")  # endings that no scheme has for what it stores beside packed numbers
# In names, though the ending is plain, and in what the container keeps beside its tensors: signs of bitsandbytes and of ComfyUI.
MARKS, SAID = ("quant_state",), ("_quantization_metadata",)


def stores_plainly(source: Source) -> bool:
    """Whether no scheme of `schemes` would take a tensor: all are floats under plain names, and nothing says that any is packed."""
    return (
        not any(_states_packing(section) for section in (source.config, source.config.get("text_config")))
        and not any(word in source.metadata for word in SAID)
        and all(info.dtype in FLOATS and name.endswith(PLAIN) for name, info in source.tensors.items())
        and not any(mark in name for mark in MARKS for name in source.tensors)
    )


def _states_packing(section: object) -> bool:
    return isinstance(section, Mapping) and "quantization_config" in section
