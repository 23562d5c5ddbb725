"""The relations that an answer may give, one row each: the one place where a relation is described.

What is decided from which evidence stands in relations/decisions.py; everything else that knows relations by name reads this table.
"""

from __future__ import annotations

from typing import NamedTuple

from modelkin_registry.answers.evidence import Relative

DESCENT_RANK = 2.0  # of all relations of descent: among them closeness decides what comes first


class Row(NamedTuple):
    """One relation.

    rank      what relatives are sorted by, the highest first
    shows     what the two models have in common: "matrices", "norms" alone, or "nothing"
    descent   whether training is inherited, not only a start or nothing
    copy      whether every weight is the relative's, but for its number format: said of whole models only
    changed   whether the values themselves were changed in one way, whatever else was done
    part      whether it is said of parts, however large
    sentence  what it amounts to, behind the query's name; may hold {model} and {stored}
    example   the test that shows it
    """

    name: str
    rank: float
    shows: str
    descent: bool
    copy: bool
    changed: bool
    part: bool
    sentence: str
    example: str


def _row(name: str, sentence: str, example: str, *marks: str, rank: float = DESCENT_RANK, shows: str = "matrices") -> Row:
    """A row; `marks` are its true columns beside descent, which every relation has that ranks as one."""
    return Row(
        name, rank, shows, rank >= DESCENT_RANK, "copy" in marks, "changed" in marks, "part" in marks, sentence, f"tests/registry/{example}"
    )


_RELATIONS, _EXPERTS = "test_relations.py::test_", "test_experts.py::test_"
TABLE = (
    _row("identical", "is {model}, weight for weight, in everything it holds", _RELATIONS + "copies", "copy"),
    _row("recast", "is {model} in everything it holds, stored in another number format", _RELATIONS + "copies", "copy"),
    _row("quantized", "is consistent with a quantised copy of {model}{stored}", _RELATIONS + "rounded_to_a_grid", "changed"),
    _row(
        "fine-tuned",
        "is consistent with the weights of {model} (or of a model that both come from) but for changes of the size that fine-tuning makes",
        _RELATIONS + "further_training",
        "changed",
    ),
    _row(
        "continued",
        "is consistent with a learned part in common with {model}, beside changes as large as those of long further training",
        _RELATIONS + "further_training",
        "changed",
    ),
    _row(
        "low-rank delta",
        "is consistent with the weights of {model} but for projections inside the layers, as a merged adapter (LoRA) leaves them",
        _RELATIONS + "merged_adapter",
    ),
    _row(
        "noised",
        "is consistent with the weights of {model} plus noise of one even relative size in every tensor",
        _RELATIONS + "even_noise",
        "changed",
    ),
    _row("merged", "is consistent with a merge in which {model} takes part", "test_merging.py::test_weights_are_found"),
    _row(
        "layers rearranged",
        "is consistent with layers in common with {model}, with others added, dropped or re-ordered between the two",
        _RELATIONS + "layers_rearranged",
    ),
    _row("pruned", "is consistent with a pruned copy of {model}", _RELATIONS + "half_pruned", "changed"),
    _row(
        "upcycled",
        "is consistent with a mixture whose experts were made from the dense layers of {model}",
        _EXPERTS + "experts_grown_from_dense_layers",
    ),
    _row(
        "vocabulary changed",
        "is consistent with the weights of {model} in its layers, with another vocabulary",
        _RELATIONS + "grown_vocabulary",
    ),
    _row(
        "component reused",
        "is consistent with components in common with {model}; of its other components that is not shown",
        _RELATIONS + "a_copy_with_a_small_component_of_its_own_is_no_copy_of_the_whole",
        "part",
    ),
    _row(
        "transplanted",
        "is consistent with parts in common with {model}, beside parts of which that is not shown",
        _RELATIONS + "transplanted_family",
    ),
    _row(
        "reparameterised",
        "is consistent with {model} in other coordinates (neurons, heads, experts or channels re-ordered or rotated)",
        _RELATIONS + "other_coordinates",
    ),
    _row(
        "shared initialisation",
        "and {model} agree as far as a common start explains: their numbers correlate as two trainings from one initialisation do, "
        "and a public seed or a formula gives that to anybody; that anything learned is shared is not shown",
        _RELATIONS + "two_trainings_from_one_initialisation",
        rank=1.5,
    ),
    _row(
        "norms only",
        "matches {model} in low-information norm gains only; the matrices that were compared show nothing in common",
        _RELATIONS + "only_norms_carried_over",
        rank=1,
        shows="norms",
    ),
    _row(
        "declared",
        "is an adapter that its own file declares to belong to {model}, and every weight that it changes has that shape there. "
        "This is declared, not measured: an adapter holds no weights of its base",
        "../indexer/test_adapters.py::test_the_declared_base_is_told_as_declared",
        rank=0.7,
        shows="nothing",
    ),
    _row(
        "unrelated",
        "shows no evidence of shared weights with {model}",
        _RELATIONS + "strangers_are_not_accused",
        rank=0.5,
        shows="nothing",
    ),
    _row(
        "not comparable",
        "was not compared with {model}: no part of it has a counterpart of the same kind and shape there, or too little is understood",
        _RELATIONS + "nothing_in_common_to_compare",
        rank=0,
        shows="nothing",
    ),
)
RELATIONS = {row.name: row for row in TABLE}
DESCENT_FREE = frozenset(row.name for row in TABLE if not row.descent)
COPIES = frozenset(row.name for row in TABLE if row.copy)
CHANGED = frozenset(row.name for row in TABLE if row.changed)
PARTIAL = frozenset(row.name for row in TABLE if row.part)
BLIND = frozenset(row.name for row in TABLE if row.shows != "matrices")  # a fingerprint saw no matrices agree


def has_evidence(relative: Relative) -> bool:
    """Whether anything was found between the two models, descent or not."""
    return RELATIONS[relative.relation].shows != "nothing"


def is_descent(relative: Relative) -> bool:
    """Whether the weights show descent: what an adapter's file declares is not among it."""
    return relative.relation not in DESCENT_FREE
