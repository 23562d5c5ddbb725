"""The parts of a model in sentences: what each is beside its counterpart, with its size, and what was not compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkin_indexer.results.fingerprint import About
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.parts import EXAMINED_SHARE, NOTHING_FOUND, Examined, Part
from modelkin_registry.answers.relations import COPIES, DESCENT_FREE, is_descent

DENOISERS = ("unet", "transformer")  # folders of a pipeline's denoiser
KINDS = {
    "text": "language model",
    "encoder": "encoder",
    "decoder": "decoder",
    "vision": "vision tower",
    "audio": "audio tower",
    "vae": "VAE",
}
NEVER_WHOLE = 0.995  # shares from here are told as nearly all, unless they are the whole
COMPARED_TOLD = 0.98  # below this share compared the reader is told how much was
LISTED = 6  # parts of one kind that are named
# What a change takes that hides a copy from a known key, and what a private key leaves of that: benchmarks/results/adversary.json.
AVOIDABLE = (
    " The registry's key is public: a model changed on purpose in what the key looks at may not be found. "
    "What a private key looks at (`modelkin key`) nobody can know."
)
# A stranger can be made to show a known key what another model shows, at a change of 3 to 27 %: benchmarks/results/adversary.json.
FORGEABLE = (
    "The key is public: whoever gains by it can make a model show what this key looks at. "
    "What the weights themselves show `query --confirm` and `compare --exact` tell, and a private key does (`modelkin key`)."
)

AVOIDABLE_BY_ONE = (
    "The key is public: a model changed on purpose in what this key looks at shows nothing of what it was made from. "
    "What the weights themselves show `compare --exact` tells, and a private key does (`modelkin key`)."
)

SAME_GAINS = (
    "{subject} was not examined to the end: its norm gains hold the numbers of {models}'s, place by place and in whatever order, as a "
    "copy has them whose channels are in another order or turned in sign and models trained apart do not, while nothing else agrees. "
    "Level probe looks at numbers where they stand and does not see such a copy; level full does (`--level full`, of both). This tells "
    "neither that they are related nor that they are not."
)
MAY_BE_TURNED = (
    "{subject} was not examined to the end: all norm gains of it, or of what it was held against ({models}), are one, as where they were "
    "multiplied into the matrices that read them so that the residual stream can be rotated, while nothing else agrees. Level probe looks "
    "at numbers where they stand and does not see a rotated copy; level full does (`--level full`, of both). This tells neither that they "
    "are related nor that they are not."
)
OTHER_COORDINATES = " Level probe looks at numbers where they stand: it does not see a copy in another order or other coordinates."


def part_words(name: str) -> str:
    """`denoiser (unet)`, `language model (text)`: a component as a reader knows it, with the name that tables show."""
    first = name.partition(".")[0]
    if first in DENOISERS:
        return f"denoiser ({name})"
    kind = KINDS.get(first.rpartition("_")[0] if first.rpartition("_")[2].isdigit() else first, "")
    return f"{kind} ({name})" if kind and kind != name else name


def share_words(value: float) -> str:
    """A percentage that says 100 % only of the whole, and 0 % only of nothing."""
    if value >= 1:
        return "100 %"
    if value >= NEVER_WHOLE:
        return "over 99 %"
    return "under 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")


def forgeable(relatives: Iterable[Relative], about: About) -> tuple[str, ...]:
    """That a relation which rests on what a known key looks at may be made on purpose. Level probe has a sentence of its own."""
    found = any(is_descent(one) and one.relation != "identical" for one in relatives)
    return (FORGEABLE,) if found and about.key == PUBLIC and about.level == "full" else ()


def avoidable(found: str, about: About) -> tuple[str, ...]:
    """What it is worth that a comparison found nothing, under a key that everybody knows. `found`: its verdict."""
    return (AVOIDABLE_BY_ONE,) if found == NOTHING_FOUND and about.key == PUBLIC else ()


def part_sentences(subject: str, relative: Relative) -> list[str]:
    """One sentence for each way that parts relate to their counterparts, the largest first; none where one part is all."""
    if len(relative.parts) < 2 and relative.compared >= COMPARED_TOLD:
        return []
    groups: dict[str, list[Part]] = {}
    for part in relative.parts:
        if part.share > 0 or part.relation is not None:
            groups.setdefault(_what(part, relative), []).append(part)
    ordered = sorted(groups.items(), key=lambda item: -sum(part.share for part in item[1]))
    of = _of_what(relative)
    return [f"{_named(parts, subject, of)} {what}." for what, parts in ordered]


def _of_what(relative: Relative) -> str:
    """What parts are shares of: of a model of which not all is understood no more than the rest of it."""
    held = sum(part.share * part.compared for part in relative.parts)
    return "its weights" if not held or relative.compared >= COMPARED_TOLD * held else "what is understood of it"


def _what(part: Part, relative: Relative) -> str:
    """What is said of a part, and no more than of what was compared of it."""
    model = relative.model
    if part.relation is None:
        return f"had no counterpart of the same kind and shape in {model}: nothing is said of it"
    if part.relation in COPIES:
        return (
            f"holds the same numbers as {model}'s" if part.relation == "identical" else f"holds {model}'s numbers in another number format"
        )
    if part.relation == "shared initialisation" and relative.lone:
        return f"agrees with {model}'s in no more than that, and of a learned part in common nothing is shown"
    if part.relation == "shared initialisation":
        return f"has at most a common start with {model}'s, no learned part in common is shown"
    if part.relation in DESCENT_FREE and part.compared < COMPARED_TOLD:
        told = f"could be compared with {model}'s to {share_words(part.compared)}"
        return f"{told}: that is no more alike than weights of strangers are, and of the rest nothing is said"
    if part.relation in DESCENT_FREE:
        return f"is not {model}'s: compared, and no more alike than those of strangers"
    return f"has learned weights in common with {model}'s, changed ({part.relation})"


def _named(parts: Sequence[Part], subject: str, of: str) -> str:
    listed = _listed([part_words(part.name) for part in parts])
    return f"Of {subject}, the {listed} ({share_words(sum(part.share for part in parts))} of {of})"


def compared_sentence(relative: Relative) -> list[str]:
    """How much of the whole the shares speak of, where that is not nearly all."""
    if relative.compared >= COMPARED_TOLD or not is_descent(relative):
        return []
    found = relative.counterparts
    lone = f" ({found.none} of {found.total} tensors have no counterpart there)" if found is not None and found.none else ""
    return [
        f"Of all its weights {share_words(relative.compared)} could be held against {relative.model}{lone}, and "
        f"{share_words(relative.shared_of_all)} carry the evidence; of the rest nothing is said."
    ]


def renamed_sentences(subject: str, relative: Relative) -> list[str]:
    """That tensors bear other names in the relative, and how they were found; and which stand for each other by their shape alone."""
    found = relative.counterparts
    if found is None or not is_descent(relative):
        return []
    sentences = []
    if found.none and relative.relation in COPIES:
        sentences.append(f"{found.none} of {found.total} tensors, of two numbers at most, have no counterpart there.")
    if found.renamed == found.digest == found.total:
        sentences.append(f"The same tensors under other names: {found.digest} of {found.total} by digest.")
    elif found.renamed:
        held = [f"{count} by {what}" for what, count in (("digest", found.digest), ("sketch", found.sketch)) if count]
        sentences.append(
            f"{found.renamed} of {found.total} tensors of {subject} bear other names in {relative.model}: by what they hold "
            f"{' and '.join(held)} were found there."
        )
    if found.shape:
        sentences.append(
            f"For {found.shape} of {found.total} tensors nothing but shape tells a counterpart: that they differ is no sign that "
            f"{relative.model} has nothing like them."
        )
    return sentences


def no_weights(subject: str, tables: str) -> str:
    """That a model holds nothing that could be examined."""
    return f"{subject} was not examined: it holds {tables}, and whoever uses such tables has them. They are evidence of nothing."


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:LISTED], *(["others"] if len(names) > LISTED else [])]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]


def nothing_found(subject: str, examined: Examined, key: str, *, sampled: bool = False) -> str:
    """That nothing was found, of how much, and what that is worth under the key; or that too little was examined, and why.

    `sampled`: the subject was read at level probe.
    """
    if examined.models_comparable == 0:
        unread = ", or too little of it is understood" if examined.unread else ""
        return (
            f"{subject} was not examined: none of {examined.models} registered models has a part of its kind and shape{unread}. "
            "This is no sign that it has no relative."
        )
    known = AVOIDABLE if key == PUBLIC else ""
    if unseen := unseen_sentence(subject, examined):
        return unseen + known
    if examined.share < EXAMINED_SHARE:
        return (
            f"{subject} was not examined to the end: at most {share_words(examined.share)} of its weights have a counterpart of their kind "
            f"and shape in one of {examined.models} registered models, and in these nothing was found. The rest may be stored in parts, as "
            f"products or in other shapes. This is no sign that it has no relative.{known}"
        )
    held = f"{examined.models_comparable} of {examined.models} registered models were held against it in comparable parts"
    return (
        f"No relative by descent was found for {subject}: {held}, at most {share_words(examined.share)} of its weights at once. "
        f"This is no proof of training from scratch.{OTHER_COORDINATES if sampled else ''}{known}"
    )


def unseen_sentence(subject: str, examined: Examined) -> str:
    """Why what was held against it tells too little, though it is enough by its share; "" where it does not."""
    if examined.doubtful:
        return doubtful_sentence(subject, examined.doubtful)
    if examined.same_lengths:
        return lengths_sentence(subject, examined.same_lengths)
    if examined.same_gains:
        return SAME_GAINS.format(subject=subject, models=_listed(examined.same_gains))
    if examined.may_be_turned:
        return MAY_BE_TURNED.format(subject=subject, models=_listed(examined.may_be_turned))
    return ""


def doubtful_sentence(subject: str, models: Sequence[str]) -> str:
    """That sampled rows contradict each other, at a level that reads nothing else."""
    return (
        f"{subject} was not examined to the end: some of the rows that level probe looks at agree with {_listed(models)}'s, and others do "
        "not at all, as where rows were put into a stranger, or replaced in a copy. Level full reads the rest and tells which."
    )


def lengths_sentence(subject: str, models: Sequence[str]) -> str:
    """That lengths agree where nothing else does, which nobody may take for an examination."""
    return (
        f"{subject} was not examined to the end: its matrices have the lengths (Frobenius norms) of {_listed(models)}'s, place by place, "
        "as a copy in other coordinates has them and models trained apart do not, while nothing else agrees. All else that is compared "
        "depends on the order of tokens or on the coordinates of the residual stream. This tells neither that they are related nor that "
        "they are not."
    )
