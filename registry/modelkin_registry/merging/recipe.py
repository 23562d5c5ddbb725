"""Recipes for mergekit (https://github.com/arcee-ai/mergekit, its YAML configuration) that make such a merge again.

A recipe names registered models, which may have to be replaced by paths, and gives weights as they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.merging.by_layer import LayerMerge
from modelkin_registry.merging.decomposition import Decomposition

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
DIGITS = 4  # of weights, as in the JSON


def recipe(found: Decomposition, query: Fingerprint) -> str | None:
    """The YAML of a merge by weights; None for what no recipe makes again (no merge, or numbers dropped at random)."""
    makers = {"linear": _linear, "gradient": _linear, "slerp": _slerp, "task arithmetic": _task}
    return _yaml(makers[found.method](found), query) if found.method in makers else None


def layer_recipe(found: LayerMerge, query: Fingerprint) -> str | None:
    """The YAML of a merge by layers (passthrough); None where some layer's origin is not known, or several components have layers."""
    components = {component for component, *_ in found.layers}
    if len(components) > 1 or len(found.layers) != query.about.layers.get(next(iter(components)), 0):
        return None
    runs: list[tuple[str, int, int]] = []
    for _, _, model, layer in found.layers:
        if runs and runs[-1][0] == model and runs[-1][2] == layer:
            runs[-1] = model, runs[-1][1], layer + 1
        else:
            runs.append((model, layer, layer + 1))
    slices = [{"sources": [{"model": model, "layer_range": [start, end]}]} for model, start, end in runs]
    return _yaml({"slices": slices, "merge_method": "passthrough"}, query)


def _linear(found: Decomposition) -> dict[str, Any]:
    """Weights that change over the model as one number a layer, between which the tool interpolates."""
    weights: dict[str, Any] = {p.model: round(p.weight, DIGITS) for p in found.parents}
    if found.method == "gradient":
        layered = [part for part in found.layers if part.layer is not None]
        weights = {name: [round(part.weights[at], DIGITS) for part in layered] for at, name in enumerate(found.names)}
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in weights.items()]
    return {"models": models, "merge_method": "linear"}


def _slerp(found: Decomposition) -> dict[str, Any]:
    first, second = found.parents
    models = [{"model": first.model}, {"model": second.model}]
    return {"models": models, "merge_method": "slerp", "base_model": first.model, "parameters": {"t": round(second.weight, DIGITS)}}


def _task(found: Decomposition) -> dict[str, Any]:
    models = [{"model": p.model, "parameters": {"weight": round(p.weight, DIGITS)}} for p in found.parents if p.model != found.base]
    return {"models": models, "merge_method": "task_arithmetic", "base_model": found.base, "parameters": {"normalize": False}}


def _yaml(config: Mapping[str, Any], query: Fingerprint) -> str:
    import yaml  # only a recipe needs it

    counted = sorted(query.about.dtypes.items(), key=lambda item: (-item[1], item[0]))
    dtype = next((DTYPES[name] for name, _ in counted if name in DTYPES), "float32")
    text: str = yaml.safe_dump({**config, "dtype": dtype}, sort_keys=False, allow_unicode=True)
    return text
