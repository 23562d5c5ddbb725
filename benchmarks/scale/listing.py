"""How long it takes to choose, sort and count models of a large registry, on both stores.

Models are rows without weights: names of 2,000 authors, 40 families, a few kinds of parts, levels, tags, licences, adapters. Each call is
done five times on an open registry; the median counts. `lines` are the models that it gives.

    python -m benchmarks.scale.listing --models 100000

Writes results/listing.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import write_result

HELPERS = Path(__file__).resolve().parents[2] / "tests" / "helpers"
sys.path.insert(0, str(HELPERS))

from modelkin.keeping.listing import listing, stats  # noqa: E402
from modelkin_indexer import spec  # noqa: E402
from modelkin_indexer.results.beside import Claim, SourceFile  # noqa: E402
from modelkin_registry.store.filters import parse_where  # noqa: E402
from modelkin_registry.store.opening import open_store  # noqa: E402
from modelkin_registry.store.protocol import Store  # noqa: E402
from modelkin_registry.store.records import NewModel  # noqa: E402
from modelkin_registry.store.rows import IndexRows  # noqa: E402
from postgres import NoServer, serving  # noqa: E402

AUTHORS, FAMILIES, DIMS = 2_000, 40, 16
PUT_AT_ONCE, TIMES = 2_000, 5
LORA = {"kind": "LoRA", "rank": 16, "base": "author0/model", "added": False, "parameters": 8_000_000}


def models(count: int, seed: int) -> Iterator[tuple[NewModel, list[str]]]:
    """Made-up models with their tags."""
    draw = random.Random(seed)
    for number in range(count):
        author, family = draw.randrange(AUTHORS), draw.randrange(FAMILIES)
        about: dict[str, Any] = {"components": ["text"] if draw.random() < 0.9 else ["text", "vision"], "quantization": ""}
        about |= {"adapter": LORA if draw.random() < 0.1 else None, "layers": {"text": 32}, "dtypes": {"BF16": 7_000_000_000}}
        yield (
            NewModel(
                name=f"author{author}/model-{number}",
                content=f"full-{draw.getrandbits(128):032x}",
                level="full" if draw.random() < 0.3 else "probe",
                spec=spec.VERSION,
                key=spec.PUBLIC,
                parameters=draw.randrange(10**6, 10**11),
                bytes_total=draw.randrange(10**6, 10**11),
                coverage=1.0,
                about=about,
                blob=number.to_bytes(8),
                config={"model_type": f"family{family}", "hidden_size": 4096},
                files=(SourceFile("model.safetensors", 10**9, f"sha256:{number:064x}"),),
                who="made up",
                origin=f"author{author}/model-{number}@{number:040x}",
                claims=(Claim("license", "apache-2.0" if draw.random() < 0.5 else "mit", "README.md"),),
            ),
            ["reviewed"] if draw.random() < 0.01 else [],
        )


def fill(store: Store, count: int) -> float:
    """Put them in. Returns seconds."""
    began, row = time.perf_counter(), np.eye(1, DIMS, dtype=np.float32)
    waiting = models(count, 0)
    for start in range(0, count, PUT_AT_ONCE):
        with store.batch():
            for _, (model, tags) in zip(range(min(PUT_AT_ONCE, count - start)), waiting, strict=False):
                put = store.put(model, [IndexRows("sum/mlp", "text", (-1,), row)])
                store.labels.tag(put.model_id, tags)
    return time.perf_counter() - began


def calls(store: Store) -> dict[str, Callable[[], int]]:
    """What is measured: each gives the number of models in its answer."""
    chosen = lambda *where, **more: len(listing(store, {"where": where, **more}).models)  # noqa: E731
    return {
        "list --where author=author7": lambda: chosen("author=author7"),
        "list --where family=family3 --limit 50": lambda: chosen("family=family3", limit=50),
        "list --where family=family3 --where level=full --where parameters>1B --count": lambda: (
            listing(store, {"where": ("family=family3", "level=full", "parameters>1B"), "count": True}).found
        ),
        "list --where tag=reviewed": lambda: chosen("tag=reviewed"),
        "list --where license=mit --count": lambda: listing(store, {"where": ("license=mit",), "count": True}).found,
        "list --where name=*model-99* --limit 50": lambda: chosen("name=*model-99*", limit=50),
        "list --sort parameters --limit 50": lambda: chosen(sort="parameters", limit=50),
        "list --since 2020 --sort updated --limit 50": lambda: chosen(since="2020", sort="updated", limit=50),
        "revisions of models that match author=author7 (for a search)": lambda: len(store.matching(parse_where(["author=author7"]))),
        "revisions of models that match family=family3 (for a search)": lambda: len(store.matching(parse_where(["family=family3"]))),
        "list --stats": lambda: stats(store, ()).models,
        "list (all)": lambda: chosen(),
        "twins of one": lambda: len(store.twins(1)),
    }


def measured(store: Store) -> dict[str, Any]:
    """Median seconds of each call."""
    found = {}
    for name, call in calls(store).items():
        seconds = []
        for _ in range(TIMES):
            began = time.perf_counter()
            lines = call()
            seconds.append(time.perf_counter() - began)
        found[name] = {"seconds": round(statistics.median(seconds), 4), "lines": lines}
        print(f"{statistics.median(seconds):8.4f} s  {lines:7,}  {name}", flush=True)
    return found


@contextmanager
def stores(folder: Path) -> Iterator[Iterator[tuple[str, Any]]]:
    """Where registries are made, by the name of the engine; PostgreSQL where it can be started."""
    try:
        server: Any = serving()
        running = server.__enter__()
    except NoServer as why:
        print(f"no PostgreSQL: {why}")
        server, running = nullcontext(), None
    try:
        yield iter([("sqlite", folder / "r.db"), *([("postgresql", running.address())] if running else [])])
    finally:
        server.__exit__(None, None, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--on-postgresql", type=int, default=20_000, help="models there, where each takes 20 ms to put")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, stores(Path(folder)) as places:
        for engine, place in places:
            count = arguments.models if engine == "sqlite" else arguments.on_postgresql
            with open_store(place) as store:
                took = fill(store, count)
                print(f"{engine}: {count:,} models put in {took:.0f} s", flush=True)
                began = time.perf_counter()
                with open_store(place) as again:
                    again.count()
                opening = round(time.perf_counter() - began, 4)
                found[engine] = {"models": count, "put_seconds": round(took, 1), "opening_seconds": opening, "calls": measured(store)}
    write_result("listing", found, out=arguments.out)


if __name__ == "__main__":
    main()
