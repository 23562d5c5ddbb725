"""Somebody pays to change an answer: copies that hide from a key, and strangers made to look like an innocent model's parent.

    python -m benchmarks.hostile.adversary [--pairs 200] [--trained BENCH_DIR/dev]

Hiding: of a copy, all that a known key looks at is drawn anew: the sampled rows of each matrix, and at level full the part of each matrix
that the keyed directions see (its own and the token frame's). Told: the relative change that this takes, and how often the copy is still
found under the known key, under a private key, and under a private key after the same was done for ten other keys. Framing: a stranger
takes an innocent model's sampled rows and its norm gains. None of these may be called a relation of descent. Models are llama-shaped, of
several widths, with rows of unequal norm and some strong directions, as training leaves them. And of trained models of a lineage universe
what hiding costs: a part of that change, from a twentieth on, with the loss on texts that the original writes, and whether the copy is
still found. Writes results/adversary.json; exits 1 if a framed model is accused or a private key is evaded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from benchmarks.common.results import write_result
from benchmarks.hostile.loss import loss, texts
from benchmarks.hostile.transforms import loaded
from modelkin_indexer import sketch
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.fingerprinting.channels import token_frame
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Piece
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import DIRECTIONS, LEVELS, PUBLIC_KEY, Key, private_key
from modelkin_registry.answers.relations import RELATIONS, is_descent
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

WIDTHS = (128, 256, 384)
LAYERS, TOKENS = 4, 800
TRAINED, PARTS = ("L1", "L2"), (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
OTHER_KEYS = 10  # keys for which the stronger attack hides a copy
Singles = npt.NDArray[np.float32]
Tensors = dict[str, Singles]


def learned(width: int, seed: int) -> Tensors:
    """A llama of unequal rows and a few strong directions, with learned gains."""
    random = np.random.default_rng(seed)
    middle = 2 * width
    shapes: dict[str, tuple[int, int]] = {"model.embed_tokens.weight": (TOKENS, width), "lm_head.weight": (TOKENS, width)}
    gains = ["model.norm.weight"]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{role}_proj.weight": (width, width) for role in "qkvo"}
        shapes |= {f"{at}.mlp.{role}_proj.weight": (middle, width) for role in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (width, middle)
        gains += [f"{at}.input_layernorm.weight", f"{at}.post_attention_layernorm.weight"]
    tensors = {name: _matrix(random, *shape) for name, shape in shapes.items()}
    return tensors | {name: np.exp(0.2 * random.standard_normal(width)).astype(np.float32) for name in gains}


def _matrix(random: np.random.Generator, rows: int, columns: int) -> Singles:
    plain = random.standard_normal((rows, columns)) * np.exp(0.4 * random.standard_normal((rows, 1)))
    strong = random.standard_normal((rows, 6)) @ random.standard_normal((6, columns)) / np.sqrt(6)
    return ((plain + 0.5 * strong) / np.sqrt(columns)).astype(np.float32)


def written(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / "model.safetensors")
    return folder


def read(folder: Path, tensors: Tensors, key: Key, level: str) -> Fingerprint:
    source = open_source(written(folder, tensors))
    try:
        return fingerprint_source(source, key=key, level=level, threads=1)
    finally:
        source.close()


def hidden(folder: Path, tensors: Tensors, keys: Sequence[Key], level: str, seed: int) -> tuple[Tensors, float]:
    """A copy without what these keys look at, and the relative change of its matrices."""
    source = open_source(written(folder, tensors))
    pieces = list(anatomy_of(source).pieces)
    source.close()
    random, changed = np.random.default_rng(seed), {name: values.copy() for name, values in tensors.items()}
    for key in keys:
        table = changed["model.embed_tokens.weight"]
        anchors = sketch.anchor_tokens(key, len(table))
        frame = token_frame(table[anchors], anchors, key)
        for piece in (piece for piece in pieces if not piece.is_vector):
            name = piece.views[0].tensor
            changed[name] = _unseen(changed[name], piece, key, frame if level == "full" else None, random)
    matrices = [name for name, values in tensors.items() if values.ndim == 2]
    moved = sum(float(np.sum((changed[name] - tensors[name]) ** 2)) for name in matrices)
    return changed, float(np.sqrt(moved / sum(float(np.sum(tensors[name] ** 2)) for name in matrices)))


def _unseen(values: Singles, piece: Piece, key: Key, frame: Singles | None, random: np.random.Generator) -> Singles:
    """A matrix whose part that a key sees is drawn anew. Without `frame` only its sampled rows."""
    drawn = (values.std() * random.standard_normal(values.shape)).astype(np.float32)
    if frame is not None and piece.residual != "none":
        values = values if piece.residual == "in" else values.T
        fresh = drawn if piece.residual == "in" else drawn.T
        seen = sketch.signs(key, "gram", values.shape[1], DIRECTIONS)
        basis = np.linalg.qr(np.hstack([seen, frame]) if len(frame) == len(seen) else seen)[0]
        values = values + ((fresh - values) @ basis) @ basis.T
        values = values if piece.residual == "in" else values.T
    values = values.copy()
    for block in sketch.chosen_rows(key, *values.shape):
        values[block.start : block.stop] = drawn[block.start : block.stop]
    return values


def framing(innocent: Tensors, seed: int) -> Tensors:
    """A stranger with the innocent model's rows that the public key samples, and its gains."""
    width = innocent["model.norm.weight"].size
    stranger = learned(width, seed)
    for name, values in stranger.items():
        if values.ndim == 1:
            stranger[name] = innocent[name]
            continue
        for block in sketch.chosen_rows(PUBLIC_KEY, *values.shape):
            values[block.start : block.stop] = innocent[name][block.start : block.stop]
    return stranger


def cases(pairs: int) -> Iterator[tuple[int, int, str]]:
    """Width, seed and level of each pair."""
    for number in range(pairs):
        yield WIDTHS[number % len(WIDTHS)], 10 * number, LEVELS[number % len(LEVELS)]


def measure(pairs: int, work: Path) -> dict[str, Any]:
    """Every attack on every pair."""
    found: dict[str, list[bool]] = defaultdict(list)
    change: dict[str, list[float]] = defaultdict(list)
    framed: dict[str, list[str]] = defaultdict(list)
    others = [private_key(bytes([number]) * 32) for number in range(1, OTHER_KEYS + 1)]
    for width, seed, level in cases(pairs):
        original, secret = learned(width, seed), private_key(np.random.default_rng(seed).bytes(32))
        weak, size = hidden(work / "w", original, [PUBLIC_KEY], level, seed + 1)
        strong, tenfold = hidden(work / "s", original, [PUBLIC_KEY, *others[1:]], level, seed + 2)
        group = f"{level}, width {width}"
        change[group].append(size)
        change[f"{group}, for ten keys"].append(tenfold)
        for name, copy, key in (
            ("the known key", weak, PUBLIC_KEY),
            ("a private key", weak, secret),
            ("a private key, ten others", strong, secret),
        ):
            kin = measure_kin(read(work / "c", copy, key, level), read(work / "o", original, key, level), "original", ALONE)
            found[f"{group}: {name}"].append(is_descent(kin.relative))
        fake = framing(original, seed + 3)
        for name, key in (("known", PUBLIC_KEY), ("private", secret)):
            kin = measure_kin(read(work / "o", original, key, level), read(work / "f", fake, key, level), "fake", ALONE)
            framed[f"{level}, {name} key"].append(kin.relative.relation)
    return {
        "pairs": pairs,
        "relative_change": {group: round(float(np.mean(sizes)), 4) for group, sizes in sorted(change.items())},
        "copies_found": {group: {"of": len(said), "found": sum(said)} for group, said in sorted(found.items())},
        "framed": {group: {name: said.count(name) for name in sorted(set(said))} for group, said in sorted(framed.items())},
    }


def cost(universe: Path, work: Path) -> list[dict[str, Any]]:
    """Trained models changed by a part of what hides them from the known key: the change, the loss, and under which key they are found."""
    rows, secret = [], private_key(bytes(range(32)))
    for name, stranger in zip(TRAINED, reversed(TRAINED), strict=True):
        net, seen = loaded(universe / "models" / name), {}
        written_texts = texts(net, 0)
        for level in LEVELS:
            away, _ = hidden(work / "w", net.tensors, [PUBLIC_KEY], level, 1)
            for part in PARTS:
                copy = {key: values + np.float32(part) * (away[key] - values) for key, values in net.tensors.items()}
                moved = [(float(np.sum((copy[key] - values) ** 2)), float(np.sum(values**2))) for key, values in net.tensors.items()]
                for which, key in (("known", PUBLIC_KEY), ("private", secret)):
                    original = seen.setdefault((level, which), read(work / "o", net.tensors, key, level))
                    seen[which] = is_descent(measure_kin(read(work / "c", copy, key, level), original, name, ALONE).relative)
                rows.append(
                    {
                        "model": name,
                        "level": level,
                        "part": part,
                        "relative_change": round(float(np.sqrt(sum(a for a, _ in moved) / sum(b for _, b in moved))), 4),
                        "loss": round(loss(net.of(copy), written_texts), 3),
                        "loss_of_the_original": round(loss(net, written_texts), 3),
                        "loss_of_a_stranger": round(loss(loaded(universe / "models" / stranger), written_texts), 3),
                        "found_under_the_known_key": seen["known"],
                        "found_under_a_private_key": seen["private"],
                    }
                )
                print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--trained", type=Path, help="a lineage universe")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = measure(args.pairs, Path(work))
        if args.trained:
            result["cost"] = cost(args.trained, Path(work))
    write_result("adversary", result, out=args.out)
    print(result)
    evaded = any(row["found"] < row["of"] for group, row in result["copies_found"].items() if "private" in group)
    accused = any(RELATIONS[name].descent for said in result["framed"].values() for name in said if name in RELATIONS)
    return int(evaded or accused)


if __name__ == "__main__":
    sys.exit(main())
