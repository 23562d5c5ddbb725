"""Answers to make pages and bundles of: copies, changed ones, strangers, merges, re-ordered layers, hostile names, deep models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from safetensors.numpy import save_file

import modelkin

HIDDEN, NEURONS, TOKENS, HEADS = 64, 128, 512, 4
DEEP = 40  # layers: more than one band of a heat map
HOSTILE = ('"><img src=x onerror=alert(1)>', "<svg onload=alert(1)>{{7*7}}", "a|b [x](javascript:alert(1)) *c*")
Tensors = dict[str, npt.NDArray[np.float32]]


def llama(seed: int, layers: int = 6) -> Tensors:
    """A decoder of random weights, with norm gains as trained ones are: near 1, and different between seeds."""
    draw = np.random.default_rng(seed)
    tensors: Tensors = {}

    def put(name: str, *shape: int) -> None:
        tensors[name] = (0.02 * draw.standard_normal(shape)).astype(np.float32)

    def gain(name: str) -> None:
        tensors[name] = (1 + 0.1 * draw.standard_normal(HIDDEN)).astype(np.float32)

    put("model.embed_tokens.weight", TOKENS, HIDDEN)
    put("lm_head.weight", TOKENS, HIDDEN)
    gain("model.norm.weight")
    for layer in range(layers):
        at = f"model.layers.{layer}."
        gain(at + "input_layernorm.weight")
        gain(at + "post_attention_layernorm.weight")
        for role in "qkvo":
            put(f"{at}self_attn.{role}_proj.weight", HIDDEN, HIDDEN)
        put(at + "mlp.gate_proj.weight", NEURONS, HIDDEN)
        put(at + "mlp.up_proj.weight", NEURONS, HIDDEN)
        put(at + "mlp.down_proj.weight", HIDDEN, NEURONS)
    return tensors


def changed(tensors: Tensors, seed: int, size: float) -> Tensors:
    """Changes of `size` times each tensor's spread."""
    draw = np.random.default_rng(seed)
    return {k: v + (size * v.std() * draw.uniform(0.3, 1.7) * draw.standard_normal(v.shape)).astype(np.float32) for k, v in tensors.items()}


def with_layers(tensors: Tensors, chosen: list[int]) -> Tensors:
    """Layer i of the result is layer chosen[i]."""
    out = {k: v for k, v in tensors.items() if ".layers." not in k}
    for new, old in enumerate(chosen):
        out |= {k.replace(f".layers.{old}.", f".layers.{new}."): v for k, v in tensors.items() if f".layers.{old}." in k}
    return out


def write(folder: Path, tensors: Tensors) -> Path:
    """A folder with config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def models(folder: Path) -> dict[str, Path]:
    """The models by name; `parent`, `other` and `deep` are the ones to register."""
    parent, other, deep = llama(1), llama(2), llama(3, DEEP)
    both = {name: parent[name] for name in parent}
    both |= {f"vision_tower.vision_model.encoder.{k.removeprefix('model.')}": v for k, v in llama(8).items() if ".layers." in k}
    made = {
        "parent": parent,
        "other": other,
        "deep": deep,
        "child": changed(parent, 11, 0.1),
        "far": changed(parent, 12, 1.2),
        "stranger": llama(4),
        "merge": {k: 0.6 * v + 0.4 * other[k] for k, v in parent.items()},
        "reordered": changed(with_layers(deep, [*range(8), *range(20, DEEP), 3, 3]), 13, 0.05),
        "two parts": changed(both, 14, 0.05),
        "graft": {k: other[k] if "self_attn" in k else v for k, v in parent.items()},
        **{name: changed(parent, 20 + number, 0.1) for number, name in enumerate(HOSTILE)},
        "x" * 200: changed(parent, 30, 0.1),
    }
    return {name: write(folder / name, tensors) for name, tensors in made.items()}


class Question(Struct, frozen=True):
    """A question that a page is made of: how it is asked, the models that its answer does not name by their paths, and the registry."""

    name: str
    ask: Callable[[], Any]
    models: tuple[str, ...] = ()
    registry: Path | None = None


def questions(folder: Path) -> list[Question]:
    """The questions, of models that are made in the folder."""
    found = models(folder)
    known = ("parent", "other", "deep", HOSTILE[0])
    call: dict[str, Any] = {"registry": registered(folder / "r.db", found, known)}
    several = {"registry": registered(folder / "t.db", found, (*known, "child", "merge", "graft", "reordered"))}
    control = str(found["stranger"])
    asked: list[Question] = []
    for name in ("child", "far", "stranger", "merge", "reordered", "two parts", "graft", *HOSTILE, "x" * 200):
        wishes = {"show_all": name in ("child", "stranger"), "tensors": name == "child"}
        asked.append(Question(f"query {name[:24]}", partial(modelkin.query, found[name], **wishes, **call), (), call["registry"]))
    for a, b in (("child", "parent"), ("stranger", "parent"), ("reordered", "deep"), ("graft", "other"), (HOSTILE[1], HOSTILE[2])):
        ask = partial(modelkin.compare, found[a], found[b], controls=[control], tensors=True)
        asked.append(Question(f"compare {a[:24]} {b[:24]}", ask, (control,)))
    parents = (str(found["parent"]), str(found["other"]))
    for a, b in (("child", "parent"), ("stranger", "parent"), ("graft", "other"), (HOSTILE[1], HOSTILE[2])):
        ask = partial(modelkin.compare, found[a], found[b], controls=[control], exact=True)
        asked.append(Question(f"compare exact {a[:24]} {b[:24]}", ask, (control,)))
    submitted = batch(folder / "batch")
    steps = tuple(str(found[name]) for name in ("stranger", "parent", HOSTILE[0]))
    return [
        *asked,
        Question("decompose merge", partial(modelkin.decompose, found["merge"], **call), (), call["registry"]),
        Question("decompose child", partial(modelkin.decompose, found["child"], **call), (), call["registry"]),
        Question("decompose named", partial(modelkin.decompose, found["merge"], parents=parents, **call), parents, call["registry"]),
        Question("trajectory", partial(modelkin.trajectory, *steps, **call), steps, call["registry"]),
        Question(
            "trajectory and log", partial(modelkin.trajectory, *steps, log=run_log(folder / "log.csv"), **call), steps, call["registry"]
        ),
        Question(
            "screen", partial(modelkin.screen, submitted.manifest, out=folder / "out", registry=submitted.registry), (), submitted.registry
        ),
        Question("tree", partial(modelkin.tree, **several), (), several["registry"]),
        Question("tree around one", partial(modelkin.tree, "parent", depth=1, **several), (), several["registry"]),
    ]


def run_log(file: Path) -> Path:
    """A log that goes back once and whose loss jumps once."""
    rows = [(step, 9 - step / 200 + (2 if step == 300 else 0), 1e-3) for step in (*range(0, 400, 20), *range(300, 600, 20))]
    file.write_text("step,loss,lr\n" + "".join(f"{step},{loss},{rate}\n" for step, loss, rate in rows))
    return file


class Submissions(Struct, frozen=True):
    """A list of submissions, and the registry that they are held against."""

    manifest: Path
    registry: Path


def batch(folder: Path) -> Submissions:
    """Submissions of every outcome: declared, undeclared, copies, strangers, unreadable, of an unknown base, hostile names."""
    found = models(folder / "models")
    broken = folder / "models" / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"these are no weights")
    declared = {"child": ["parent"], "merge": ["parent"], "far": ["nobody/knows"]}
    rows = [
        {"name": name, "source": str(path), "base": declared.get(name, []), "from_scratch": ["text"] if name == "graft" else []}
        for name, path in {**found, "copy": found["stranger"], "broken": broken}.items()
        if name not in ("parent", "other", "deep")
    ]
    manifest = folder / "batch.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Submissions(manifest, registered(folder / "s.db", found, ("parent", "other", "deep")))


def registered(file: Path, found: Mapping[str, Path], names: Sequence[str]) -> Path:
    """A registry of these models."""
    with modelkin.Registry.open(file, create=True) as opened:
        for name in names:
            opened.add(found[name])
    return file
