"""What the standards are told: names, digests, the relation with its share, and which way round, where a fact tells it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from modelkin_registry.answers.relations import RELATIONS

SPACE = uuid.UUID("9a3f1f0e-5d3b-5b47-9d4b-6b7a3f6d2a10")  # of the identifiers that are worked out from a bundle's digest
CAUTION = (
    "Weights can be consistent with descent; who did what, and with whose leave, they cannot tell. "
    "Training on another model's outputs leaves no trace in weights."
)


class Model(Struct, frozen=True):
    """One side: its name, where it came from, and its files as (name, SHA-256); those without a digest are left out."""

    name: str
    revision: str | None
    files: tuple[tuple[str, str], ...]
    fingerprint: str

    @property
    def hub_id(self) -> str | None:
        """`org/name`, where it has such a name."""
        name = (self.revision or self.name).partition("@")[0]
        return name if name.count("/") == 1 and not name.startswith("/") else None


class Facts(Struct, frozen=True):
    """A bundle for other standards.

    direction  "a from b", "b from a", or "" where nothing excludes either order, or a third model that both came from
    declared   what A's folder declares to be made from, whatever weights show
    """

    a: Model
    b: Model
    relation: str
    is_descent: bool
    direction: str
    shared: float
    compared: float
    p_value: float | None
    sentence: str
    verdict: str
    declared: tuple[str, ...]
    made: Mapping[str, Any]
    digest: str
    identifier: uuid.UUID

    @property
    def properties(self) -> list[tuple[str, str]]:
        """What was measured, as names and texts."""
        found = [
            ("relation", self.relation),
            ("verdict", self.verdict),
            ("shared", f"{self.shared:.4f}"),
            ("compared", f"{self.compared:.4f}"),
            ("p-value", "" if self.p_value is None else f"{self.p_value:.3g}"),
            ("direction", self.direction or "unknown"),
            ("spec", self.made["spec"]),
            ("key", self.made["key"]),
            ("evidence", f"sha256:{self.digest}"),
        ]
        return [(f"modelkin:{name}", value) for name, value in found if value]


def facts_of(bundle: Mapping[str, Any], data: bytes) -> Facts:
    """The facts of a bundle; `data` are its bytes."""
    answer, question = bundle["answer"], bundle["question"]
    sides = [_model(bundle, name, at) for at, name in enumerate((question["a"], question["b"]))]
    ways = answer["alternatives"]
    digest = hashlib.sha256(data).hexdigest()
    said = bundle["claims"].get(question["a"], [])
    return Facts(
        a=sides[0],
        b=sides[1],
        relation=answer["relation"],
        is_descent=RELATIONS[answer["relation"]].descent,
        direction={("query from relative",): "a from b", ("relative from query",): "b from a"}.get(tuple(ways), ""),
        shared=answer["shared_of_all"],
        compared=answer["compared"],
        p_value=answer["p_value"],
        sentence=answer["explanation"][0],
        verdict=answer["verdict"],
        declared=tuple(dict.fromkeys(one["value"] for one in said if one["kind"] in ("base_model", "merged_from"))),
        made=bundle["made"],
        digest=digest,
        identifier=uuid.uuid5(SPACE, digest),
    )


def one_line(text: str) -> str:
    """A text that ends no line of a comment: control characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _model(bundle: Mapping[str, Any], name: str, at: int) -> Model:
    told = bundle["made"]["inputs"][at]
    files = tuple((one["name"], one["sha256"]) for one in told["files"] if one["sha256"])
    return Model(name, told["revision"], files, bundle["fingerprints"][name]["sha256"])
