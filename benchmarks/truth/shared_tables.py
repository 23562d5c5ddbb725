"""Unrelated models that share fixed tables and nothing else: what is said of them, at both levels. Run by `benchmarks.truth.fixed_tables`.

Hosts (benchmarks/common/table_hosts.py) of other seeds, trained or not, get one to four tables, some once in every layer: of the kinds of
benchmarks/common/table_kinds*.py, and of kinds that the indexer's formulas were not made for (table_kinds_held_out.py). Names are honest,
tell nothing, or are those of weights; axis order, number format and scale may differ from host to host. Eight hosts, mostly of one
architecture, share one choice of tables and are held against each other. No relation may rest on a table: descent is an accusation, and
whatever else is said (a common start, equal norms) is listed where the same hosts without the tables show nothing of it, with whether the
answer names the table as the one matrix in which they agree, which is true, or says more than that.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from msgspec import Struct
from safetensors.numpy import save_file

import benchmarks.common.table_kinds_more  # noqa: F401 (its kinds join the others)
from benchmarks.common.table_hosts import Host, Tensors, hosts
from benchmarks.common.table_kinds import MAKERS, Table
from benchmarks.common.table_kinds_held_out import HELD_OUT
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import LEVELS
from modelkin_registry.answers.relations import DESCENT_FREE, RELATIONS
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import hold

LARGEST = 150_000  # numbers of a table that is put in: the same kinds in larger sizes are asked of alone (fixed_tables.py)
COUNTS = (1, 1, 1, 2, 2, 3, 4)  # kinds of tables that a pair shares
COPIES = (1, 1, 1, 2, 4)  # layers that hold a table each
GROUP = 8  # hosts that share one choice of tables: 28 pairs
SAME_KIND, SAME_FORM, SAME_NAME = 0.8, 0.7, 0.75  # share of hosts of one architecture; of tables in one form, under one name
HONEST = {  # names that published models give to such tables; {} is a layer
    "sinusoidal positions": "encoder.embed_positions.weight",
    "positions on a grid": "pos_embed",
    "rotary tables": "layers.{}.rotary_emb.cos_cached",
    "rotary frequencies": "layers.{}.rotary_emb.inv_freq",
    "windows": "stft.window",
    "Fourier bases": "spectrogram_extractor.stft.conv_real.weight",
    "inverse Fourier bases": "istft.inverse_basis",
    "mel filters": "logmel_extractor.melW",
    "Gaussian kernels": "blur.kernel",
    "binomial kernels": "down{}.filt",
    "coupling coefficients": "conv.tp._w3j_{}",
    "anchors": "anchors",
    "relative position indices": "layers.{}.attn.relative_position_index",
    "causal masks": "h.{}.attn.bias",
    "slopes of distance": "layers.{}.attn.slopes",
    "resampling filters": "resample.kernel",
    "schedules of diffusion": "alphas_cumprod",
    "rotations of signs": "layers.{}.rotation",
}
HONEST_ELSE, NAMELESS = "table_{}", ("val_{}", "onnx::MatMul_{}", "constant.{}")
WEIGHTS = (
    *("front.{}.conv.weight", "stem.{}.weight", "projection.{}.weight", "layers.{}.mlp.up_proj.weight"),
    *("layers.{}.self_attn.q_proj.weight", "embed_tokens_{}.weight", "blocks.{}.norm3.weight", "adapter.{}.kernel"),
)
FORMS: dict[str, Callable[[Table], Table]] = {
    "as it is": lambda t: t if t.dtype.kind == "i" else t.astype(np.float32),
    "half precision": lambda t: np.clip(t, -65504, 65504).astype(np.float16),
    "bfloat16": lambda t: t.astype(np.float32).astype(ml_dtypes.bfloat16),
    "double precision": lambda t: t.astype(np.float64),
    "scaled": lambda t: (0.37 * t).astype(np.float32),
    "turned": lambda t: (np.moveaxis(t, -1, 0) if t.ndim != 4 else np.moveaxis(t, (2, 3), (0, 1))).astype(np.float32),
    "an axis more": lambda t: (t[None] if t.ndim < 4 else t).astype(np.float32),
    "flattened": lambda t: t.reshape(-1).astype(np.float32),
}
NOTHING_SAID = frozenset(name for name, row in RELATIONS.items() if row.shows == "nothing")


class Shared(Struct, frozen=True):
    """One kind of table in a group of hosts: its values, and name and form in each host; `copies` of it stand in layers of their own."""

    kind: str
    table: Table
    names: tuple[str, ...]
    forms: tuple[str, ...]
    copies: int

    def tensors(self, host: int) -> Iterator[tuple[str, Table]]:
        """What one host holds."""
        made, name = np.ascontiguousarray(FORMS[self.forms[host]](self.table)), self.names[host]
        for layer in range(self.copies):
            yield name.format(layer) if "{}" in name else name if self.copies == 1 else f"stage.{layer}.{name}", made

    def told(self, one: int, other: int) -> str:
        """For the list of what was said."""
        return f"{self.kind}: {self.forms[one]}, {self.forms[other]}; {self.names[one]}, {self.names[other]}; {self.copies} times"


def all_tables() -> dict[str, list[Table]]:
    """The tables of each kind that are not too large; the kinds of the indexer's list first."""
    found = {kind: [np.asarray(table) for table in maker()] for kind, maker in (*MAKERS.items(), *HELD_OUT.items())}
    return {kind: [table for table in tables if table.size <= LARGEST] or [min(tables, key=np.size)] for kind, tables in found.items()}


def name_of(kind: str, rng: np.random.Generator) -> str:
    """An honest name, one that tells nothing, or that of a weight."""
    way = rng.random()
    if way < 0.35:
        return HONEST.get(kind, HONEST_ELSE.replace("{}", kind.replace(" ", "_") + "_{}"))
    names = NAMELESS if way < 0.5 else WEIGHTS
    return names[rng.integers(len(names))]


def shared_of(number: int, tables: dict[str, list[Table]], rng: np.random.Generator) -> list[Shared]:
    """The tables of one group: every kind is the first of some group in turn."""
    kinds, made = list(tables), list[Shared]()
    chosen = [kinds[number % len(kinds)], *rng.choice(kinds, rng.choice(COUNTS) - 1, replace=False)]
    for kind in dict.fromkeys(str(kind) for kind in chosen):
        table = tables[kind][rng.integers(len(tables[kind]))]
        name, form = name_of(kind, rng), str(rng.choice(list(FORMS)))
        names = tuple(name if rng.random() < SAME_NAME else name_of(kind, rng) for _ in range(GROUP))
        forms = tuple(form if rng.random() < SAME_FORM else str(rng.choice(list(FORMS))) for _ in range(GROUP))
        made.append(Shared(kind, table, names, forms, int(rng.choice(COPIES))))
    return made


def group_of(known: Sequence[Host], rng: np.random.Generator) -> list[Host]:
    """Some hosts, mostly of one architecture."""
    kind = known[rng.integers(len(known))].kind
    alike, others = (rng.permutation([n for n, host in enumerate(known) if (host.kind == kind) is same]).tolist() for same in (True, False))
    return [known[(alike if alike and rng.random() < SAME_KIND else others).pop()] for _ in range(GROUP)]


def read(tensors: Tensors) -> dict[str, Fingerprint]:
    """The fingerprint of one model at each level."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, Path(folder) / "model.safetensors")
        for level in LEVELS:
            source = open_source(Path(folder))
            found[level] = fingerprint_source(source, level=level, threads=1)
            source.close()
    return found


def said(a: dict[str, Fingerprint], b: dict[str, Fingerprint], level: str) -> tuple[str, float | None, bool]:
    """The relation, its p-value, and whether the answer names the few matrices that it rests on."""
    relative = hold(a[level], b[level], "b", ALONE).kin().relative
    return relative.relation, relative.p_value, bool(relative.lone)


def with_tables(host: Host, shared: Sequence[Shared], number: int) -> dict[str, Fingerprint]:
    """The host of this number in a group with its tables; a name that it has already is not taken."""
    added = {name: values for one in shared for name, values in one.tensors(number) if name not in host.tensors}
    return read({**host.tensors, **added})


class Tally:
    """Relations by level, with and without the tables, and every answer that a table changed."""

    def __init__(self) -> None:
        self.relations: dict[str, dict[str, Counter[str]]] = {
            level: {"with tables": Counter(), "hosts alone": Counter()} for level in LEVELS
        }
        self.pairs_of: Counter[str] = Counter()
        self.told: list[dict[str, Any]] = []

    def take(self, level: str, answer: tuple[str, float | None, bool], alone: str, hosts: str, tables: Sequence[str]) -> None:
        """One answer; `alone` is what is said of the hosts without the tables."""
        relation, p_value, lone = answer
        self.relations[level]["with tables"][relation] += 1
        self.relations[level]["hosts alone"][alone] += 1
        if relation not in NOTHING_SAID and relation != alone:
            self.told.append(
                {
                    "level": level,
                    "relation": relation,
                    "alone": alone,
                    "p_value": p_value,
                    "names it alone": lone,
                    "hosts": hosts,
                    "tables": list(tables),
                }
            )

    def plain(self) -> dict[str, Any]:
        """For the results file."""
        descent = {
            level: sum(count for relation, count in found["with tables"].items() if relation not in DESCENT_FREE)
            for level, found in self.relations.items()
        }
        return {
            "pairs": sum(self.relations[LEVELS[0]]["with tables"].values()),
            "descent": descent,
            "relations": {
                level: {what: dict(sorted(counts.items())) for what, counts in found.items()} for level, found in self.relations.items()
            },
            "told by a table": self.told,
            "of these told as more than the table": sum(not one["names it alone"] for one in self.told),
            "pairs by kind": dict(sorted(self.pairs_of.items())),
        }


def measure(count: int, seed: int = 0) -> dict[str, Any]:
    """So many pairs or a few more (every kind of table is the first of a group), each held against each other one way round."""
    tables, known, tally = all_tables(), list(hosts()), Tally()
    fingerprints = {host.name: read(host.tensors) for host in known}

    @cache
    def alone(a: str, b: str, level: str) -> str:
        return said(fingerprints[a], fingerprints[b], level)[0]

    for number in range(max(len(tables), -(-count // math.comb(GROUP, 2)))):
        rng = np.random.default_rng((seed, number))
        group, shared = group_of(known, rng), shared_of(number, tables, rng)
        held = [with_tables(host, shared, at) for at, host in enumerate(group)]
        for (one, a), (other, b) in itertools.combinations(enumerate(group), 2):
            tally.pairs_of.update(part.kind for part in shared)
            for level in LEVELS:
                answer = said(held[one], held[other], level)
                told = [part.told(one, other) for part in shared]
                tally.take(level, answer, alone(a.name, b.name, level), f"{a.name} ~ {b.name}", told)
        if number % 10 == 9:
            print(f"{number + 1} groups, {len(tally.told)} answers by a table", flush=True)
    return tally.plain()
