"""Evidence into a few plain sentences, most important first. Norms are told apart and are never the reason."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import SAME_R, ComponentEvidence, Control, FamilyEvidence, Relative
from modelkin_registry.answers.parts import Lone
from modelkin_registry.answers.relations import COPIES, DESCENT_FREE, RELATIONS
from modelkin_registry.answers.sides import tables_alone
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.evidence.places import FURTHER_P
from modelkin_registry.explanation.parts import COMPARED_TOLD, compared_sentence, part_sentences, renamed_sentences, share_words

DISTILLATION = "Training on another model's outputs (distillation, synthetic data) leaves no trace in weights and cannot be seen here."
UNDO = "With both models' weights at hand `modelkin compare --align` undoes the change of coordinates and tests what agrees then."
SAMPLED = "agrees with {model} in all rows that were read (level probe); rows outside the sample may differ"
WAYS = {
    "query from relative": "{query} made from {relative}",
    "relative from query": "{relative} made from {query}",
    "both from a third": "both made from a third model",
}
CONTRADICTED = (
    "agree in rows that are looked at and not in the rest of what is compared, as where rows were put in from elsewhere to agree; "
    "figures that contradict each other support no relation."
)
TABLES = (
    "{subject} holds {tables}. Whoever uses such tables has them, equal to the last bit or not, so they are evidence of nothing: "
    "it was not compared with {other}."
)
UNTRAINED = "What {subject} holds looks like an untrained start: two copies of one untrained network, which its seed gives to anybody."
UNDERSTOOD = {  # how a copy of which a part was not understood is told
    "in everything it holds": "in everything of it that is understood",
    "wholly contained in": "contained, as far as it is understood, in",
}
CONTAINED = {  # copies of which the relative holds more
    "identical": "is wholly contained in {model}, weight for weight",
    "recast": "is wholly contained in {model}, in another number format",
}
ROUNDED = (
    "is {model} in everything it holds, but for rounding in the last digits, as other converters leave it (told by means, spreads and "
    "sampled rows: single numbers may differ by more)"
)
MORE = "{sentence}; {model} holds more: {share} of its weights have no counterpart in {subject}"
# A common start that rests on one or few matrices: what they have in common is said, and no more.
LONE = (
    "{subject} and {model} agree in {matrices} alone; nothing else that was compared does. Equal tables that anybody can compute, a start "
    "that hardly moved there or a part that one has from the other can all give this, so it is no evidence of descent"
)
QUANTIZED_RELATIVE = "is consistent with the model of which {model} is a quantised copy{stored}"


def relative_sentences(subject: str, relative: Relative, searched: int | None = None) -> list[str]:
    """What one relative amounts to: the finding, its parts, what is not excluded, the size of chance, then families, layers and norms."""
    sentences = [headline(subject, relative)]
    if relative.declared:
        return sentences
    sentences += renamed_sentences(subject, relative)
    sentences += part_sentences(subject, relative) + compared_sentence(relative)
    sentences += _not_excluded(subject, relative) + _chance(relative, searched)
    for component in relative.components:
        sentences += _component_sentences(component, relative)
    if "reparameterised" in (relative.relation, *relative.also):
        sentences.append(UNDO)
    return sentences


def headline(subject: str, relative: Relative) -> str:
    """One relative in one sentence: the finding and how much of the model it covers."""
    if relative.lone:
        return LONE.format(subject=subject, model=relative.model, matrices=_lone_words(subject, relative.lone)) + "."
    sentence = f"{subject} {_meaning(relative).format(model=relative.model, stored=_stored(relative))}"
    if relative.relation in DESCENT_FREE:
        return sentence + "."
    further = [name for name in relative.also if name != relative.relation]
    told = f" (also: {', '.join(further)})" if further else ""
    if relative.extra:
        return MORE.format(sentence=sentence, model=relative.model, share=share_words(relative.extra), subject=subject) + f"{told}."
    return f"{sentence}: {share_words(relative.shared)} of its comparable weights carry the evidence{told}."


def _lone_words(subject: str, lone: Sequence[Lone]) -> str:
    """Which matrices, how closely, and how much of the model they are."""
    told = [f"{one.name}{_equals(one.layers - 1)}, r {_r(one.r)}" for one in lone]
    count = "one matrix" if len(lone) == 1 else f"{len(lone)} matrices"
    return f"{count} ({'; '.join(told)}; {share_words(sum(one.share for one in lone))} of {subject}'s weights)"


def _equals(count: int) -> str:
    return "" if not count else " and one equal to it" if count == 1 else f" and {count} equal to it"


def compared_sentences(subject: str, model: Fingerprint, relative: Relative, other: Fingerprint) -> list[str]:
    """What a comparison of two amounts to; of one that holds no weights at all, that."""
    for one, side, rest in ((subject, model, relative.model), (relative.model, other, subject)):
        if tables := tables_alone(side):
            return [TABLES.format(subject=one, tables=tables, other=rest)]
    return [*relative_sentences(subject, relative), *untrained_sentences(subject, model, relative)]


def untrained_sentences(subject: str, model: Fingerprint, relative: Relative) -> list[str]:
    """A copy of a network that nobody has trained is told as such."""
    return [UNTRAINED.format(subject=subject)] if relative.relation in COPIES and examine_start(model).passed else []


def _not_excluded(subject: str, relative: Relative) -> list[str]:
    """The explanations that stand beside each other."""
    ways = [WAYS[way].format(query=subject, relative=relative.model) for way in relative.alternatives]
    if not ways or relative.relation in DESCENT_FREE:
        return []
    listed = ways[0] if len(ways) == 1 else ", ".join(ways[:-1]) + ", or " + ways[-1]
    return [f"That is consistent with {listed}" + ("; these weights alone do not tell which." if len(ways) > 1 else ".")]


def _chance(relative: Relative, searched: int | None) -> list[str]:
    """How often strangers would agree as much."""
    if relative.p_value is None or relative.relation in DESCENT_FREE:
        return []
    corrected = f", corrected for {searched} models searched" if searched and searched > 1 else ""
    return [f"Models that have nothing to do with each other agree as much with p {_p(relative.p_value)}{corrected}."]


def _meaning(relative: Relative) -> str:
    """What the relation amounts to, with places for the model's name and for how a quantised copy is stored."""
    words = _whole_meaning(relative)
    if relative.relation in COPIES and relative.compared < COMPARED_TOLD:
        for whole, part in UNDERSTOOD.items():
            words = words.replace(whole, part)
    return words


def _whole_meaning(relative: Relative) -> str:
    if relative.sampled and relative.relation in COPIES:
        return SAMPLED
    if relative.relation == "quantized" and relative.quantization.keys() == {"relative"}:
        return QUANTIZED_RELATIVE
    if relative.rounded:
        return ROUNDED
    if relative.extra and relative.relation in CONTAINED:
        return CONTAINED[relative.relation]
    return RELATIONS[relative.relation].sentence


def _stored(relative: Relative) -> str:
    """` (stored as nf4)`, where a file says how it is stored."""
    return f" (stored as {' and '.join(relative.quantization.values())})" if relative.quantization else ""


def _component_sentences(component: ComponentEvidence, relative: Relative) -> list[str]:
    informative = [f for f in component.families if f.informative and f.r is not None]
    held = [f for f in informative if f.inherited]
    forged = [f for f in informative if f.contradicted]
    absent = [f for f in informative if not f.inherited and not f.contradicted]
    if relative.relation in COPIES:  # all numbers are there: what names hold against each other, or cut in another way, tells less
        forged, absent = [], []
    alike = [f for f in absent if (f.p_value or 0.0) <= FURTHER_P]
    sentences = []
    name = component.query if component.query == component.relative else f"{component.query} (against {component.relative})"
    if held:
        many = len(held) > 1
        sentences.append(f"In the {name} component {_listed(held)} {'are' if many else 'is'} shared with {relative.model}.")
        sentences += _layer_sentences(name, component, relative)
        sentences += component.changes
    if component.relation == "shared initialisation" and alike:
        if not relative.lone:
            sentences.append(
                f"In the {name} component {_listed(alike)} correlate as far as a common start (adapters: or like data) explains."
            )
        absent = [f for f in absent if f not in alike]
    if forged:
        sentences.append(f"In the {name} component {_listed(forged)} {CONTRADICTED}")
    if absent:
        sentences.append(
            f"In the {name} component {_listed(absent)} {'are' if len(absent) > 1 else 'is'} no more alike than between strangers."
        )
    sentences += [_norm_sentence(name, f) for f in component.families if f.family == "norm" and f.raw_cosine is not None]
    return sentences


def _layer_sentences(name: str, component: ComponentEvidence, relative: Relative) -> list[str]:
    """Which layers, where it is not simply all of them in their order."""
    if not component.layer_map:
        return []
    rearranged = any(a != b for a, b in component.layer_map)
    if not rearranged and "transplanted" not in (component.relation, *relative.also):
        return []
    return [f"Layers of the {name} component that have a counterpart in {relative.model}: {layer_runs(component.layer_map)}."]


def _listed(families: Sequence[FamilyEvidence]) -> str:
    parts = [f"{f.family} (r {_r(f.r)}{'' if f.channel == 'probe' else f' in the {f.channel} channel'}{_of_all(f)})" for f in families]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _of_all(family: FamilyEvidence) -> str:
    """In how many of its matrices, where that is not all of them."""
    return f", in {family.places} of {family.places_compared} matrices" if family.places_compared > family.places else ""


def _norm_sentence(name: str, norm: FamilyEvidence) -> str:
    """Norms in one sentence, whatever they show: they are not used."""
    cosines = f"raw cosine {_r(norm.raw_cosine)}, where any two vectors with these means and spreads give {norm.raw_cosine_floor:.3f}"
    return f"Norms of the {name} component: {cosines}; centred r {_r(norm.r)}. Low-information: not used."


def _r(value: float | None) -> str:
    """Three digits; what is not quite 1 is not shown as 1."""
    if value is None:
        return "-"
    return "1.000" if value >= SAME_R else f"{min(value, 0.999) + 0.0:.3f}"


def layer_runs(pairs: Sequence[tuple[int, int]]) -> str:
    """`0-3 from 0-3, 4-7 from 1-4` for a layer map."""
    runs: list[list[int]] = []
    for ours, theirs in pairs:
        if runs and ours == runs[-1][1] + 1 and theirs == runs[-1][3] + 1:
            runs[-1][1], runs[-1][3] = ours, theirs
        else:
            runs.append([ours, ours, theirs, theirs])
    return ", ".join(f"{_span(a, b)} from {_span(c, d)}" for a, b, c, d in runs)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _p(value: float) -> str:
    return f"below {SMALLEST_P:.0e}" if value <= SMALLEST_P else f"{value:.1g}"


def control_sentences(subject: str, relative: Relative, controls: Sequence[Control]) -> list[str]:
    """What third models say of the families compared: a figure that a control reaches too says nothing of these two."""
    sentences = []
    for control in controls:
        ours = {(c.query, f.family): f for c in relative.components for f in c.families}
        pairs = [(f"{f.component} {f.family}", ours[f.component, f.family], f) for f in control.a_c if (f.component, f.family) in ours]
        parts = [f"{name} {_figures(mine)} against {_figures(other)}" for name, mine, other in pairs]
        if parts:
            sentences.append(
                f"Control {control.model}: {subject} with {relative.model} against {subject} with {control.model}: {'; '.join(parts)}."
            )
        else:
            sentences.append(f"Control {control.model} has no part that can be compared with {subject}.")
    return sentences


def _figures(family: FamilyEvidence) -> str:
    return _r(family.r) if family.raw_cosine is None else f"{_r(family.r)} centred (raw {_r(family.raw_cosine)})"
