"""Write docs/scale.md from results that were measured: `python docs/make_scale_page.py`. A test holds that the page is current.

A plan on paper for all public models of the Hub: what is measured is read from benchmarks/results, what is assumed stands here by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).parent / "scale.md"
MODELS = 3_000_000


class Size(NamedTuple):
    """Repositories of about one size. `share` of all of them, `gigabytes` of weights in 16 bits: assumed, not counted."""

    name: str
    share: float
    gigabytes: float


SIZES = (
    Size("adapters and other small ones", 0.60, 0.1),
    Size("about 1B parameters", 0.25, 2.0),
    Size("about 8B", 0.13, 16.0),
    Size("about 70B", 0.02, 140.0),
)
LATER = 2 / 3  # power of the parameters with which rows that are read grow: width times depth, as in the recipe `bases`
FEW = 5  # requests of a repository that is read whole: description, three small files, weights (sync.json)
WORKERS = 64  # in the plan
LINE = 1.25e9  # bytes a second of one machine's line of 10 Gbit/s: assumed
PRICE = 0.05  # of a processor core for an hour, in US dollars: assumed, the order of large providers
# Requests that the Hub allows in 5 minutes, by its page on rate limits: descriptions and lists, then files.
PLANS = (("free account", 1_000, 5_000), ("Team", 3_000, 20_000), ("Enterprise", 6_000, 50_000), ("Enterprise Plus", 10_000, 100_000))
LIMITS_PAGE = "https://huggingface.co/docs/hub/rate-limits"
SHARDS = 5e9  # bytes of one file of weights of a repository


def read(name: str) -> Any:
    """A result."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


class Measured(NamedTuple):
    """What the plan rests on. Seconds are of one worker, bytes of one model unless said otherwise."""

    probe_bytes: float  # of a dense model of 8B
    probe_requests: int
    probe_seconds: float
    small_seconds: float  # of a tiny repository, of one of four workers
    full_a_second: float  # bytes, by one thread
    row_bytes: float  # in the registry at level probe, 12 layers
    deep_bytes: tuple[float, float]  # of 32 layers, at level probe and full
    index_bytes: float
    index_seconds: float  # for a million models
    add_seconds: float
    query_seconds: float  # processor seconds, at a million models
    serve_megabytes: float  # before the first question, whatever the number of models
    part_seconds: float  # to list models by a part of their names, at 100,000 models


def measured() -> Measured:
    """From the results."""
    hub, sync, search, speed, serve, million = (read(name) for name in ("hub", "sync", "search", "speed", "serve", "million"))
    dense, sizes = hub["models"]["dense-8B"]["first"], search["sizes"]
    many = sync["many"]
    return Measured(
        probe_bytes=dense["bytes"],
        probe_requests=dense["requests"],
        probe_seconds=dense["seconds"],
        small_seconds=many["first"]["seconds"] / many["repositories"] * 4,
        full_a_second=speed["runs"]["modelkin full, one thread"]["gb_per_s"] * 1e9,
        row_bytes=sizes["registry_bytes_per_model"],
        deep_bytes=(sizes["probe_kb"] * 1024, sizes["full_kb"] * 1024),
        index_bytes=million["bytes"]["index"] / million["models"],
        index_seconds=million["build"]["index_seconds"] * 1e6 / million["models"],
        add_seconds=search["build"]["add_seconds"] / search["models"],
        query_seconds=million["this"]["median_cpu_seconds"],
        serve_megabytes=serve["memory_at_start_mb"],
        part_seconds=serve["first_answer"]["list_by_part_of_a_name"]["median"] * 100_000 / serve["models"],
    )


class Load(NamedTuple):
    """What one size asks for at level probe, of one model."""

    size: Size
    bytes: float
    requests: float
    seconds: float

    @property
    def files(self) -> float:
        """Requests that the Hub itself answers for files; ranges after the first go to its store."""
        return FEW - 2 + max(1.0, self.size.gigabytes * 1e9 / SHARDS)


def load(size: Size, known: Measured) -> Load:
    """By the measured model of 8B: bytes as its parameters to the power of 2/3, requests as their cube root (depth)."""
    times = size.gigabytes / 16.0
    weights = size.gigabytes * 1e9
    read_bytes = min(weights, known.probe_bytes * times**LATER)
    requests = FEW + (known.probe_requests - FEW) * times ** (1 / 3)
    return Load(size, read_bytes, requests, known.small_seconds + known.probe_seconds * requests / known.probe_requests)


def page() -> str:
    """The page."""
    known = measured()
    loads = [load(size, known) for size in SIZES]
    return (
        "\n\n".join([HEAD, rates(known), sizes_table(loads), reading(loads, known), full(known), registry(known), ways(), ""]).rstrip()
        + "\n"
    )


HEAD = f"""# All public models: a plan on paper

Made from the results by `python docs/make_scale_page.py`. What would a registry of {MODELS / 1e6:.0f} million
models take? Nobody has made it, and the Hub was not asked: the first table was measured, the second is assumed, all others are worked out
from these two, and nothing was run at that size. Results are in [benchmarks](benchmarks.md)."""


def rates(known: Measured) -> str:
    """What was measured."""
    rows = [
        (
            "a dense model of 8B at level probe",
            f"{known.probe_bytes / 1e6:.1f} MB in {known.probe_requests} requests, {known.probe_seconds:.1f} s "
            "(50 ms and 100 MB/s to the Hub)",
            "hub.json",
        ),
        ("a tiny repository, one of four workers", f"{known.small_seconds:.2f} s", "sync.json"),
        ("level full, one thread", f"{known.full_a_second / 1e9:.2f} GB/s of weights", "speed.json"),
        ("a model's rows, 12 layers at level probe", f"{known.row_bytes / 1e3:.0f} kB", "search.json"),
        ("32 layers: probe, full", f"{known.deep_bytes[0] / 1e3:.0f} kB, {known.deep_bytes[1] / 1e3:.0f} kB", "search.json"),
        ("index", f"{known.index_bytes / 1e3:.1f} kB a model; {known.index_seconds / 60:.0f} minutes for a million (busy)", "million.json"),
        ("storing a model, one writer", f"{known.add_seconds * 1e3:.1f} ms", "search.json"),
        ("a query among a million", f"{known.query_seconds:.2f} processor seconds", "million.json"),
        ("`serve`, before the first question", f"{known.serve_megabytes:.0f} MB of memory", "serve.json"),
        ("100,000 models listed by a part of their names", f"{known.part_seconds:.2f} s", "serve.json"),
    ]
    return "## Measured\n\nOn 2 shared cores.\n\n" + table(("what", "how much", "result"), rows)


def sizes_table(loads: list[Load]) -> str:
    """What is assumed of the models, and follows for one of each."""
    rows = [
        (
            one.size.name,
            f"{one.size.share:.0%}",
            f"{one.size.gigabytes:g} GB",
            f"{one.bytes / 1e6:.1f} MB",
            f"{one.requests:.0f}",
            f"{one.seconds:.1f} s",
        )
        for one in loads
    ]
    head = ("size", "share (assumed)", "weights (assumed)", "read at probe", "requests", "seconds of a worker")
    return (
        "## Assumed, and one model of each size\n\n"
        "The shares are a guess; `modelkin sync --task TASK --dry-run` counts the bytes of a part. Bytes at level probe are the measured\n"
        "model's, times the parameters to the power of 2/3, requests and seconds times their cube root.\n\n" + table(head, rows)
    )


def reading(loads: list[Load], known: Measured) -> str:
    """All at level probe."""
    total = {name: MODELS * sum(one.size.share * getattr(one, name) for one in loads) for name in ("bytes", "requests", "seconds", "files")}
    hours = total["seconds"] / 3600
    rows = [
        ("bytes from the Hub", f"{total['bytes'] / 1e12:.0f} TB"),
        ("requests, nearly all of them ranges from its store", f"{total['requests'] / 1e6:.0f} million"),
        ("hours of one worker", f"{hours:,.0f}"),
        (
            f"with {WORKERS} workers, if the Hub let them",
            f"{hours / WORKERS:.0f} hours, {total['bytes'] / (hours / WORKERS * 3600) / 1e6:.0f} MB/s, "
            f"{MODELS / (hours / WORKERS * 3600):.0f} models/s",
        ),
        ("machines for these", f"{WORKERS // 8} of 8 cores and 16 GB (a worker has up to 0.3 GB); one line of 10 Gbit/s is enough"),
        ("their cost", f"{hours:,.0f} core hours, about ${hours * PRICE:,.0f} at ${PRICE} (assumed); storage and the database beside it"),
    ]
    plans = [
        (name, f"{api:,}", f"{files:,}", f"{MODELS / api * 300 / 86400:.1f}", f"{total['files'] / files * 300 / 86400:.1f}")
        for name, api, files in PLANS
    ]
    return (
        "## All at level probe\n\n" + table(("what", "how much"), rows) + "\n\n"
        f"What bounds it is the Hub. Its [limits]({LIMITS_PAGE}) in 5 minutes, and the days that {MODELS / 1e6:.0f} million\n"
        f"descriptions (one a model) and {total['files'] / 1e6:.0f} million resolved files take under them; both go on\n"
        "at once, the larger counts:\n\n"
        + table(("account", "descriptions", "files", "days for descriptions", "days for files"), plans)
        + f"\n\nThe writer is no bound: {known.add_seconds * 1e3:.1f} ms a model are "
        f"{MODELS * known.add_seconds / 3600:.1f} hours for all. "
        "Later listings ask for what changed\nalone: one request for 1,000 repositories, and the models that are new."
    )


def full(known: Measured) -> str:
    """All at level full."""
    weights = MODELS * sum(size.share * size.gigabytes * 1e9 for size in SIZES)
    cores, line = weights / known.full_a_second / 3600, weights / LINE / 3600
    rows = [
        ("bytes", f"{weights / 1e15:.0f} PB"),
        ("core hours", f"{cores:,.0f}, about ${cores * PRICE:,.0f} at ${PRICE} (assumed)"),
        ("machine hours at 10 Gbit/s (assumed)", f"{line:,.0f}: {line / 24 / 16:.0f} days of 16 machines"),
    ]
    return (
        "## All at level full\n\n"
        + table(("what", "how much"), rows)
        + "\n\nSo: level probe for all, level full for the bases (the recipe "
        "`bases` does that, [recipes](recipes.md)) and for what a question is about."
    )


def registry(known: Measured) -> str:
    """What lies there in the end."""
    low, high = MODELS * known.row_bytes, MODELS * known.deep_bytes[0]
    times = MODELS / 100_000
    rows = [
        (
            "rows in PostgreSQL",
            f"{low / 1e9:.0f} to {high / 1e9:.0f} GB at level probe (12 to 32 layers); {MODELS * known.deep_bytes[1] / 1e9:.0f} GB at full",
        ),
        (
            "index, on each machine that asks",
            f"{MODELS * known.index_bytes / 1e9:.0f} GB, made in {MODELS / 1e6 * known.index_seconds / 60:.0f} minutes",
        ),
        ("a query, linear", f"{MODELS / 1e6 * known.query_seconds:.1f} processor seconds"),
        ("`serve`: models by a part of their names, linear", f"{times * known.part_seconds:.1f} s; by author or whole name at once"),
        ("`registry copy`, `pg_dump`", f"{low / 1e9:.0f} to {high / 1e9:.0f} GB to move"),
    ]
    return "## What it holds\n\n" + table(("what", "how much, extrapolated"), rows)


def ways() -> str:
    """What to type."""
    return """## How

```text
modelkin --registry postgresql://db/models sync --recipe bases --enqueue
modelkin --registry postgresql://db/models sync --task text-generation --level probe --enqueue      # and each other task
modelkin --registry postgresql://db/models work --jobs 8 --rate 20 --stay                          # on each of 8 machines, or:
modelkin --registry postgresql://db/models work --ray auto --jobs 64 --rate 160 --stay
modelkin --registry postgresql://db/models sync --journal                                           # what failed, and why
```

`--rate` is of a call: the rates of all calls together have to stay below the account's. A machine that dies costs the seconds of its
jobs; a database that restarts is waited for. What three workers died with is set aside, and the rest goes on
([PostgreSQL](postgresql.md)).

Not known: how the Hub's store answers hundreds of millions of small ranges; how the shares above really are; how PostgreSQL does with
tables of this size, which no run has had; and the price of bytes that leave a provider, often more than that of the processors."""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
