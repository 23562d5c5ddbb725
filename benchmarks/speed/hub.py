"""Large models asked about by a Hub id, at level probe, against a Hub on loopback with the latency and bandwidth of a far one.

    python -m benchmarks.speed.hub --out benchmarks/results/hub.json

Repositories as safetensors shards: a dense model of 8B parameters (Llama 3's shapes, with a vocabulary file of 9 MB) and a mixture of 100B
(46 layers of 128 experts), once with each expert's matrices apart and once with all experts of a layer in one tensor. Their files are
sparse: all is a hole but the headers and the rows where level probe looks, which are seeded numbers. Every answer waits 50 ms, all answers
share one line of 100 MB/s, files come from a store of their own behind a redirect, as on the Hub. Bytes and requests are counted by the
server. The limit beside the time is physical: bytes over bandwidth, and the four round trips that no reader can do without
(description, address, header, rows). Then the same is asked again. Last a model of 1B (3 GB with its head) at level full, which is larger
than the share of the cache that one model may take: what it needs of memory and disk meanwhile is sampled.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.common.results import result_path, write_result
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.fingerprinting import measure
from modelkin_indexer.opening import open_source
from modelkin_indexer.spec import PUBLIC_KEY

SERVER = Path(__file__).resolve().parents[2] / "tests" / "helpers" / "hub_server.py"
LATENCY, BANDWIDTH = 0.05, 100e6  # s before each answer; bytes a second of all answers together
ROUND_TRIPS = 4
SHARD = 5 << 30  # bytes of one shard, as publishers cut them
TARGETS = {
    "dense-8B": {"bytes": 40e6, "requests": 700, "seconds": 10.0},
    "mixture-100B": {"bytes": 100e6},
    "mixture-100B-stacked": {"bytes": 100e6},
}
Shapes = dict[str, tuple[int, ...]]


def dense() -> tuple[Shapes, dict[str, Any]]:
    """Llama 3 8B."""
    shapes: Shapes = {"model.embed_tokens.weight": (128256, 4096), "lm_head.weight": (128256, 4096), "model.norm.weight": (4096,)}
    for layer in range(32):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (size, 4096) for name, size in zip("qkvo", (4096, 1024, 1024, 4096), strict=True)}
        shapes |= {f"{at}mlp.{name}_proj.weight": (14336, 4096) for name in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (4096, 14336)}
        shapes |= {f"{at}{name}_layernorm.weight": (4096,) for name in ("input", "post_attention")}
    config = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
    return shapes, config


def stacked() -> tuple[Shapes, dict[str, Any]]:
    """The same, the experts of a layer in two tensors: gate and up one after the other, and down."""
    shapes, config = mixture()
    shapes = {name: shape for name, shape in shapes.items() if ".experts." not in name}
    for layer in range(46):
        at = f"model.layers.{layer}.mlp.experts."
        shapes |= {f"{at}gate_up_proj": (128, 2 * 1408, 4096), f"{at}down_proj": (128, 4096, 1408)}
    return shapes, {**config, "model_type": "qwen3_5_moe_text"}


def mixture() -> tuple[Shapes, dict[str, Any]]:
    """A mixture of 100B parameters: 46 layers, 128 experts, the names of Qwen 3's."""
    hidden, wide, experts = 4096, 1408, 128
    shapes: Shapes = {"model.embed_tokens.weight": (151552, hidden), "lm_head.weight": (151552, hidden), "model.norm.weight": (hidden,)}
    for layer in range(46):
        at = f"model.layers.{layer}."
        sizes = zip("qkvo", ((12288, hidden), (1024, hidden), (1024, hidden), (hidden, 12288)), strict=True)
        shapes |= {f"{at}self_attn.{name}_proj.weight": shape for name, shape in sizes}
        shapes |= {f"{at}{name}_layernorm.weight": (hidden,) for name in ("input", "post_attention")}
        shapes[f"{at}mlp.gate.weight"] = (experts, hidden)
        for expert in range(experts):
            shapes |= {f"{at}mlp.experts.{expert}.{name}_proj.weight": (wide, hidden) for name in ("gate", "up")}
            shapes[f"{at}mlp.experts.{expert}.down_proj.weight"] = (hidden, wide)
    config = {"model_type": "qwen3_moe", "num_hidden_layers": 46, "hidden_size": hidden, "num_attention_heads": 96, "num_experts": experts}
    return shapes, {**config, "num_key_value_heads": 8, "moe_intermediate_size": wide, "head_dim": 128}


def small() -> tuple[Shapes, dict[str, Any]]:
    """Llama 3.2 1B, read whole."""
    shapes: Shapes = {"model.embed_tokens.weight": (128256, 2048), "lm_head.weight": (128256, 2048), "model.norm.weight": (2048,)}
    for layer in range(16):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}_proj.weight": (size, 2048) for name, size in zip("qkvo", (2048, 512, 512, 2048), strict=True)}
        shapes |= {f"{at}mlp.{name}_proj.weight": (8192, 2048) for name in ("gate", "up")} | {f"{at}mlp.down_proj.weight": (2048, 8192)}
        shapes |= {f"{at}{name}_layernorm.weight": (2048,) for name in ("input", "post_attention")}
    config = {"model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8}
    return shapes, config


MODELS = {"dense-1B": small, "dense-8B": dense, "mixture-100B": mixture, "mixture-100B-stacked": stacked}


def make(folder: Path, shapes: Shapes, config: dict[str, Any]) -> int:
    """A repository of sparse bfloat16 shards. Returns its bytes of weights."""
    folder.mkdir(parents=True)
    shards: list[Shapes] = [{}]
    for name, shape in shapes.items():
        if sum(2 * math.prod(other) for other in shards[-1].values()) + 2 * math.prod(shape) > SHARD:
            shards.append({})
        shards[-1][name] = shape
    names = [f"model-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        _sparse(folder / name, shard)
    total = sum(2 * math.prod(shape) for shape in shapes.values())
    where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": shapes["lm_head.weight"][0]}))
    vocabulary = {"model": {"type": "BPE", "vocab": {f"token-of-some-length-{number:020}": number for number in range(200_000)}}}
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    _fill(folder)
    return total


def _sparse(path: Path, shapes: Shapes) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at := at + 2 * math.prod(shape)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


def _fill(folder: Path) -> None:
    """Seeded numbers where level probe looks: elsewhere a file stays a hole."""
    numbers = np.random.default_rng(0)
    places: dict[str, tuple[Path, int]] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        places |= {name: (path, 8 + length + entry["data_offsets"][0]) for name, entry in header.items()}
    with closing(open_source(folder)) as source:
        for piece in anatomy_of(source).pieces:
            whole = [(number, 0, view.rows) for number, view in enumerate(piece.views)]
            for number, start, stop in whole if piece.is_vector else measure.sampled_blocks(piece, PUBLIC_KEY)[0]:
                view = piece.views[number]
                rows = numbers.standard_normal((stop - start, view.columns), np.float32).astype(ml_dtypes.bfloat16)
                path, at = places[view.tensor]
                with path.open("r+b") as file:
                    file.seek(at + 2 * (view.offset + start * view.strides[0]))
                    file.write(rows.tobytes())


def counted(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/count") as answer:
        said: dict[str, int] = json.load(answer)
    return said


def allocated(folder: Path) -> int:
    """Bytes on disk under a folder that may change meanwhile; holes do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


def asked(url: str, repo: str, home: Path, *options: str) -> dict[str, Any]:
    """One query in a process of its own, what the server counted, and the most that it took of memory and disk."""
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    before, began = counted(url), time.monotonic()
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "MODELKIN_CACHE": str(home / "cache"), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "modelkin_cli", "--registry", str(home / "r.db"), "query", repo, "--json", *options]
    disk = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            disk = max(disk, allocated(scratch))
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        assert process.stdout
        output = process.stdout.read()
    assert process.returncode == 0
    seconds, after = time.monotonic() - began, counted(url)
    new = {kind: after[kind] - before.get(kind, 0) for kind in after}
    size = new.pop("bytes")
    requests = sum(new.values())
    limit = size / BANDWIDTH + ROUND_TRIPS * LATENCY
    answer = json.loads(output)
    return {
        "seconds": round(seconds, 2),
        "bytes": size,
        "requests": requests,
        "by kind": {kind: count for kind, count in new.items() if count},
        "physical limit s": round(limit, 2),
        "memory MB": round(ended[2].ru_maxrss / 1000),
        "scratch MB": round(disk / 1e6),
        "parameters": answer["query"]["parameters"],
        "coverage": answer["query"]["coverage"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=result_path("hub"))
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        sizes = {name: make(home / "hub" / "org" / name, *shape()) for name, shape in MODELS.items()}
        registry = [sys.executable, "-m", "modelkin_cli", "--registry", str(home / "r.db"), "add", str(_small(home))]
        subprocess.run(registry, check=True, capture_output=True)
        command = [sys.executable, str(SERVER), str(home / "hub"), str(LATENCY), str(BANDWIDTH)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin
        assert server.stdout
        url = server.stdout.readline().strip()
        try:
            found: dict[str, Any] = {}
            for name, targets in TARGETS.items():
                first = asked(url, f"org/{name}", home)
                met = {what: first[what] <= most for what, most in targets.items()}
                again = asked(url, f"org/{name}", home)
                found[name] = {"weights": sizes[name], "first": first, "again": again, "targets": targets, "met": met}
                print(json.dumps(found[name], indent=1))
            found["full-1B"] = {"weights": sizes["dense-1B"], "first": asked(url, "org/dense-1B", home, "--level", "full")}
            print(json.dumps(found["full-1B"], indent=1))
        finally:
            server.stdin.close()
            server.wait()
    told = {"latency s": LATENCY, "bandwidth bytes/s": BANDWIDTH, "machine": f"{os.cpu_count()} cores, shared", "models": found}
    write_result("hub", told, out=out)


def _small(home: Path) -> Path:
    """A model for the registry, so that there is something to ask of."""
    folder = home / "small"
    shapes: Shapes = {"model.embed_tokens.weight": (64, 32), "lm_head.weight": (64, 32), "model.norm.weight": (32,)}
    shapes |= {f"model.layers.0.self_attn.{name}_proj.weight": (32, 32) for name in "qkvo"}
    make(folder, shapes, {"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4})
    return folder


if __name__ == "__main__":
    main()
