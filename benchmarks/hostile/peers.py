"""The attacks of adversary.py beside peers: what the same changed models show them, and what changes made against them show us.

    python -m benchmarks.hostile.peers BENCH_DIR [--modeldna PYTHON_WITH_IT] [--cisco PYTHON_WITH_IT]

An innocent model and a stranger of its shape, made (of width 512) and trained (L1 and L2 of a lineage universe). Copies: changed by 10 %,
hidden from our known key, hidden from modelDNA's samples, rotated (which computes the same). Strangers: as they are, and framed for our
known key and for modelDNA's samples. Each is held against the innocent model by us under the known and a private key, at level full; by
modelDNA 0.1.0, which calls a pair related from probability 0.9; by the Cisco Model Provenance Kit 1.0.0, which does from a score of 0.75
(and reports 1 wherever the configs agree, so that its score of the weights alone, with the same limit, stands beside; every folder has
L1's tokenizer, which the kit needs); and by two published statistics: the cosine of all matrices, and the mean cosine of HuRef's
invariant terms X Wq Wk' X', X Wv Wo X' and X Wup Wdown X' of the last two layers (Zeng et al. 2024, arXiv 2312.04828; X are rows of the
token table), which read the whole of both models and have no published threshold. modelDNA looks at the first numbers of each matrix
(98,304 a role, over all layers), whoever reads it knows which; what hides from it or frames under it changes these numbers and, framing,
the gains and lengths. Writes results/hostile_peers.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import write_result
from benchmarks.hostile.adversary import TOKENS, learned, told
from benchmarks.hostile.attacks import TABLE, Tensors, framing, hidden, noised, pieces_of, read, relative_change, written
from benchmarks.hostile.transforms import Net, loaded, rotated
from modelkin_indexer.spec import PUBLIC_KEY, private_key

WIDTH, LAYERS, HEADS = 512, 8, 8
SECRET = private_key(bytes(range(32)))
DRIVER = Path(__file__).parent.parent / "truth" / "peer_driver.py"
SAMPLED, FEWEST = 98_304, 1024  # numbers a role over all layers, and the fewest of a matrix, that modelDNA 0.1.0 correlates
LOOKED_AT = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
INVARIANT_ROWS, INVARIANT_LAYERS = 512, 2
PEERS = {"modeldna": "modelDNA", "cisco": "Cisco kit"}
LIGHT = 0.1  # relative change of an honest descendant


def made(seed: int) -> Net:
    """A model of rows and gains as training leaves them, with its config."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "intermediate_size": 2 * WIDTH, "vocab_size": TOKENS}
    return Net(learned(WIDTH, seed, LAYERS), config | {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}, None)


def copies_and_strangers(innocent: Net, stranger: Net, work: Path) -> dict[str, Net]:
    """Every changed model, by what was done to it."""
    pieces = pieces_of(work / "o", innocent.tensors)
    return {
        "copy, changed by 10 %": innocent.of(noised(innocent.tensors, LIGHT, 3)),
        "copy, hidden from our known key": innocent.of(hidden(innocent.tensors, pieces, PUBLIC_KEY, "full", 4)),
        "copy, hidden from modelDNA": innocent.of(_other_samples(innocent, _drawn(innocent.tensors))),
        "copy, rotated": rotated(innocent, np.random.default_rng(5)),
        "stranger": stranger,
        "stranger, framed for our known key": stranger.of(framing(innocent.tensors, stranger.tensors, pieces, PUBLIC_KEY, "full")),
        "stranger, framed for modelDNA": stranger.of(_framed_for_modeldna(innocent, stranger)),
    }


def _drawn(tensors: Tensors) -> Tensors:
    random = np.random.default_rng(6)
    return {name: (values.std() * random.standard_normal(values.shape)).astype(np.float32) for name, values in tensors.items()}


def _other_samples(net: Net, others: Mapping[str, Any]) -> Tensors:
    """The numbers that modelDNA correlates taken from elsewhere: of matrices up to 524,288 numbers the first ones."""
    count, found = max(FEWEST, SAMPLED // len(list(net.layers))), dict(net.tensors)
    for name, values in net.tensors.items():
        if name.removesuffix(".weight").endswith(LOOKED_AT):
            changed = values.copy()
            changed.reshape(-1)[:count] = others[name].reshape(-1)[:count]
            found[name] = changed
    return found


def _framed_for_modeldna(innocent: Net, stranger: Net) -> Tensors:
    scaled = {}
    for name, values in stranger.tensors.items():
        theirs = innocent.tensors[name]
        scaled[name] = theirs if values.ndim == 1 else (values * np.float32(theirs.std() / values.std())).astype(np.float32)
    return _other_samples(stranger.of(scaled), innocent.tensors)


def cosine(a: Tensors, b: Tensors) -> float | None:
    """Of all matrices as one vector; None where shapes differ."""
    names = [name for name, values in a.items() if values.ndim == 2]
    if any(name not in b or a[name].shape != b[name].shape for name in names):
        return None
    x, y = (np.concatenate([side[name].ravel() for name in names]).astype(np.float64) for side in (a, b))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def invariant_terms(a: Net, b: Net) -> float:
    """Mean cosine of HuRef's invariant terms; heads that share keys are repeated."""
    found = []
    for at in list(a.layers)[-INVARIANT_LAYERS:]:
        found += [_cosine(x, y) for x, y in zip(_terms(a, at), _terms(b, at), strict=True)]
    return float(np.mean(found))


def _terms(net: Net, at: str) -> list[Any]:
    rows = net.tensors[TABLE][:INVARIANT_ROWS].astype(np.float64)
    q, k, v, o, up, down = (
        net.tensors[f"{at}{name}_proj.weight"].astype(np.float64)
        for name in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.up", "mlp.down")
    )
    groups = net.size("num_key_value_heads")
    k, v = (np.repeat(one.reshape(groups, -1, one.shape[1]), len(q) // len(one), axis=0).reshape(-1, one.shape[1]) for one in (k, v))
    return [(rows @ q.T) @ (rows @ k.T).T, (rows @ v.T) @ (rows @ o).T, (rows @ up.T) @ (rows @ down).T]


def _cosine(a: Any, b: Any) -> float:
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def saved(net: Net, folder: Path, tokenizer: Path) -> Path:
    written(folder, net.tensors)
    for file in tokenizer.glob("tokenizer*.json"):
        shutil.copy(file, folder)
    (folder / "config.json").write_text(json.dumps({**net.config, "torch_dtype": "float32"}))
    return folder


def rows_of(innocent: Net, stranger: Net, work: Path, peers: Mapping[str, Path], tokenizer: Path) -> list[dict[str, Any]]:
    known, unknown = (read(work / "o", innocent.tensors, key, "full") for key in (PUBLIC_KEY, SECRET))
    reference, rows = saved(innocent, work / "innocent", tokenizer), []
    for what, net in copies_and_strangers(innocent, stranger, work).items():
        start = stranger.tensors if what.startswith("stranger") else innocent.tensors
        row: dict[str, Any] = {"model": what, "change": None if "rotated" in what else round(relative_change(net.tensors, start), 4)}
        row["modelkin, known key"] = told(read(work / "c", net.tensors, PUBLIC_KEY, "full"), known)
        row["modelkin, private key"] = told(read(work / "c", net.tensors, SECRET, "full"), unknown)
        row["cosine"] = (value := cosine(net.tensors, innocent.tensors)) and round(value, 3)
        row["HuRef's invariant terms"] = round(invariant_terms(net, innocent), 3)
        changed = saved(net, work / "changed", tokenizer)
        row |= {PEERS[peer]: _asked(peer, python, changed, reference) for peer, python in peers.items()}
        rows.append(row)
        print(row, flush=True)
    return rows


def _asked(peer: str, python: Path, a: Path, b: Path) -> dict[str, Any]:
    given = json.dumps([str(a), str(b)]) + "\n"
    done = subprocess.run([python, DRIVER, peer], input=given, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    numbers = {name: said[name] and round(said[name], 3) for name in ("score", "weights_score") if name in said}
    return {"says": said["says"], **numbers, **{name: said[name] for name in ("related", "weights_related", "error") if name in said}}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev")
    parser.add_argument("--modeldna", type=Path, help="the Python of an environment with modeldna==0.1.0")
    parser.add_argument("--cisco", type=Path, help="the Python of an environment with cisco-ai-provenance-kit==1.0.0")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    models = args.bench / args.universe / "models"
    peers = {name: python for name in PEERS if (python := getattr(args, name))}
    trained = [loaded(models / name) for name in ("L1", "L2")]
    with tempfile.TemporaryDirectory() as work:
        found = {
            name: rows_of(innocent, stranger, Path(work) / name, peers, models / "L1")
            for name, (innocent, stranger) in {"synthetic": (made(1), made(2)), "trained": trained}.items()
        }
    write_result("hostile_peers", found, out=args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
