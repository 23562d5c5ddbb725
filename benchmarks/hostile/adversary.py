"""Somebody pays to change an answer: copies that hide from a key, and strangers made to look like an innocent model's parent.

    python -m benchmarks.hostile.adversary [--pairs 200] [--trained BENCH_DIR/dev] [--parts FILE --minutes 5]

Attacks (attacks.py) change what the known key looks at, by the least change that does it. Hiding: a copy shows the known key nothing of the
original. Told: the relative change that this takes, and how often such a copy is found under the known key, under a private key, and under
a private key after ten times that change as noise, after the same was done for ten other keys, and after the known key's sampled rows were
drawn anew whole. `query --confirm` asks under a key drawn for the question, so what holds of a private key holds of it. Framing: a stranger
shows the known key what an innocent model shows it, in all channels, and has its gains; no private key may be told a relation of descent.
Under the known key such a forgery cannot be told from a child by what the key looks at: told is what it costs, and that answers say so.
Models are llama-shaped, of several widths, with rows of unequal norm and some strong directions, as training leaves them; and of trained
models of a lineage universe the loss is told beside each part of the change. Writes results/adversary.json; exits 1 if a private key is
evaded or shown a framed relation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.in_parts import UNFINISHED, InParts, Unfinished
from benchmarks.common.results import write_result
from benchmarks.hostile.attacks import Singles, Tensors, framing, hidden, noised, pieces_of, read, relative_change, rows_drawn
from benchmarks.hostile.loss import loss, texts
from benchmarks.hostile.transforms import loaded
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import LEVELS, PUBLIC_KEY, private_key
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

WIDTHS = (*[128] * 12, *[256] * 6, 384, 512)  # of twenty pairs: wide models cost most; what wider ones take evasion_cost.py tells
LAYERS, TOKENS = 2, 1024
TRAINED, PARTS = ("L1", "L2"), (0.25, 0.5, 0.75, 1.0)
OTHER_KEYS = 10  # keys for which a copy is hidden, to hide from one that is not known
EVERY = 6  # in every sixth pair this is tried: it takes ten times as long
KEYS = {"known": PUBLIC_KEY, "private": private_key(bytes(range(32)))}  # for trained models
TENFOLD = 10  # times the change that works under the known key
HIDING = ("hidden, known key", "hidden", "ten other keys", "rows drawn", "tenfold noise")  # all but the first under a private key


def learned(width: int, seed: int, layers: int = LAYERS) -> Tensors:
    """A llama of unequal rows and a few strong directions, with learned gains."""
    random = np.random.default_rng(seed)
    middle = 2 * width
    shapes: dict[str, tuple[int, int]] = {"model.embed_tokens.weight": (TOKENS, width), "lm_head.weight": (TOKENS, width)}
    gains = ["model.norm.weight"]
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{role}_proj.weight": (width, width) for role in "qkvo"}
        shapes |= {f"{at}.mlp.{role}_proj.weight": (middle, width) for role in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (width, middle)
        gains += [f"{at}.input_layernorm.weight", f"{at}.post_attention_layernorm.weight"]
    tensors = {name: matrix_of(random, *shape) for name, shape in shapes.items()}
    return tensors | {name: np.exp(0.2 * random.standard_normal(width)).astype(np.float32) for name in gains}


def matrix_of(random: np.random.Generator, rows: int, columns: int) -> Singles:
    plain = random.standard_normal((rows, columns)) * np.exp(0.4 * random.standard_normal((rows, 1)))
    strong = random.standard_normal((rows, 6)) @ random.standard_normal((6, columns)) / np.sqrt(6)
    return ((plain + 0.5 * strong) / np.sqrt(columns)).astype(np.float32)


def told(query: Fingerprint, relative: Fingerprint) -> str:
    """The relation of one to the other, as it is told."""
    return measure_kin(query, relative, "other", ALONE).relative.relation


def pair(number: int, work: Path) -> dict[str, Any]:
    """Every attack on one pair, at one level, and what is told then."""
    width, level, seed = WIDTHS[number % len(WIDTHS)], LEVELS[number // len(WIDTHS) % len(LEVELS)], 10 * number
    original, secret = learned(width, seed), private_key(np.random.default_rng(seed).bytes(32))
    pieces = pieces_of(work / "o", original)
    weak = hidden(original, pieces, PUBLIC_KEY, level, seed + 1)
    change = relative_change(weak, original)
    known, unknown = (read(work / "o", original, key, level) for key in (PUBLIC_KEY, secret))
    copies = {"hidden": weak, "tenfold noise": noised(original, TENFOLD * change, seed + 2)}
    copies["rows drawn"] = rows_drawn(original, pieces, PUBLIC_KEY, seed + 2)
    if number % EVERY == 0:
        strong = original
        for other in range(OTHER_KEYS):
            strong = hidden(strong, pieces, private_key(bytes([other + 1]) * 32), level, seed + 4 + other)
        copies["ten other keys"] = strong
    said = {name: told(read(work / "c", copy, secret, level), unknown) for name, copy in copies.items()}
    said["hidden, known key"] = told(read(work / "c", weak, PUBLIC_KEY, level), known)
    stranger = learned(width, seed + 3)
    fake = framing(original, stranger, pieces, PUBLIC_KEY, level)
    said["framed, known key"] = told(known, read(work / "f", fake, PUBLIC_KEY, level))
    said["framed"] = told(unknown, read(work / "f", fake, secret, level))
    changes = {name: relative_change(copy, original) for name, copy in copies.items()} | {"framed": relative_change(fake, stranger)}
    found = {"width": width, "level": level, "changes": {name: round(size, 4) for name, size in changes.items()}, "said": said}
    print(number, found, flush=True)
    return found


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of each level and width: changes, how many copies were found, what framed models are called."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["level"], row["width"])):
        groups[f"{row['level']}, width {row['width']}"].append(row)
    found = {}
    for group, members in groups.items():
        changes: dict[str, list[float]] = defaultdict(list)
        said: dict[str, list[str]] = defaultdict(list)
        for row in members:
            for name, size in row["changes"].items():
                changes[name].append(size)
            for name, relation in row["said"].items():
                said[name].append(relation)
        found[group] = {
            "pairs": len(members),
            "relative_change": {name: round(float(np.mean(sizes)), 4) for name, sizes in changes.items()},
            "found": {name: [sum(map(_is_descent, said[name])), len(said[name])] for name in HIDING if name in said},
            "framed": {name: dict(Counter(said[name])) for name in ("framed, known key", "framed")},
        }
    return found


def _is_descent(relation: str) -> bool:
    return relation in RELATIONS and RELATIONS[relation].descent


def cost(universe: Path, work: Path) -> list[dict[str, Any]]:
    """Trained models changed by a part of what hides them from the known key, and framed: the change, the loss, and what is told."""
    rows = []
    nets = {name: loaded(universe / "models" / name) for name in TRAINED}
    written_texts = {name: texts(net, 0) for name, net in nets.items()}
    before = {name: round(loss(net, written_texts[name]), 3) for name, net in nets.items()}
    for name, other in zip(TRAINED, reversed(TRAINED), strict=True):
        net = nets[name].tensors
        pieces = pieces_of(work / "o", net)
        for level in LEVELS:
            originals = {which: read(work / "o", net, key, level) for which, key in KEYS.items()}
            away = hidden(net, pieces, PUBLIC_KEY, level, 1)
            changed = {(name, f"hidden, {part:.0%}"): _part(net, away, part) for part in PARTS}
            changed[name, "tenfold noise"] = noised(net, TENFOLD * relative_change(away, net), 2)
            changed[other, f"shows what {name} shows"] = framing(net, nets[other].tensors, pieces, PUBLIC_KEY, level)
            for (model, attack), copy in changed.items():
                rows.append(
                    {
                        "model": model,
                        "attack": attack,
                        "level": level,
                        "relative_change": round(relative_change(copy, nets[model].tensors), 4),
                        "loss": round(loss(nets[model].of(copy), written_texts[model]), 3),
                        "loss_before": before[model],
                        f"told of {name}": {
                            which: told(read(work / "c", copy, key, level), originals[which]) for which, key in KEYS.items()
                        },
                    }
                )
                print(rows[-1], flush=True)
    return rows


def _part(tensors: Tensors, away: Tensors, part: float) -> Tensors:
    return {name: values + np.float32(part) * (away[name] - values) for name, values in tensors.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--trained", type=Path, help="a lineage universe")
    parser.add_argument("--parts", type=Path, help="keep what is done in this file, for a run that goes on behind it")
    parser.add_argument("--minutes", type=float, help="end after so long; what is left a later run does")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        parts = InParts(args.parts or Path(work) / "parts", args.minutes)
        try:
            rows = parts.each(map(str, range(args.pairs)), lambda number: pair(int(number), Path(work)))
            costs = parts.each(["cost"], lambda _: cost(args.trained, Path(work)))["cost"] if args.trained else []
        except Unfinished as left:
            print(left)
            return UNFINISHED
    said = {name: [row["said"][name] for row in rows.values() if name in row["said"]] for name in (*HIDING, "framed, known key", "framed")}
    totals = {name: {"of": len(found), "descent": sum(map(_is_descent, found))} for name, found in said.items()}
    result = {"pairs": args.pairs, "told": totals, "by": summary(rows.values()), "cost": costs, "measured_on": parts.commits()}
    write_result("adversary", result, out=args.out)
    print(result["told"])
    return int(any(totals[name]["descent"] < totals[name]["of"] for name in HIDING[1:]) or totals["framed"]["descent"] > 0)


if __name__ == "__main__":
    sys.exit(main())
