"""Evidence into a few plain sentences, most important first. Norms are told apart and are never the reason."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_registry.answers.evidence import ComponentEvidence, Control, FamilyEvidence, Relative
from modelkin_registry.answers.relations import COPIES, DESCENT_FREE, PARTIAL, RELATIONS
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.evidence.places import FURTHER_P

DISTILLATION = "Training on another model's outputs (distillation, synthetic data) leaves no trace in weights and cannot be seen here."
SAME_R = 0.99995  # correlations from here are those of equal weights, but for the rounding of sketches
UNDO = "With both models' weights at hand `modelkin compare --align` undoes the change of coordinates and tests what agrees then."
SAMPLED = "agrees with {model} in all rows that were read (level probe); rows outside the sample may differ"
DECLARED = (
    "is an adapter that its own file declares to belong to {model}, and every weight that it changes has that shape there. "
    "This is declared, not measured: an adapter holds no weights of its base"
)
QUANTIZED_RELATIVE = "is consistent with the model of which {model} is a quantised copy{stored}"


def relative_sentences(subject: str, relative: Relative, searched: int | None = None) -> list[str]:
    """What one relative amounts to: the relation, each component's families, the layers, and the norms apart."""
    sentences = [headline(subject, relative, searched)]
    if relative.declared:
        return sentences
    for component in relative.components:
        sentences += _component_sentences(component, relative)
    if "reparameterised" in (relative.relation, *relative.also):
        sentences.append(UNDO)
    return sentences


def headline(subject: str, relative: Relative, searched: int | None) -> str:
    """One relative in one sentence."""
    meaning = _meaning(relative)
    sentence = f"{subject} {meaning.format(model=relative.model, stored=_stored(relative))}"
    if relative.relation in DESCENT_FREE or relative.declared:
        return sentence + "."
    reused = " and ".join(c.query for c in relative.components if c.relation not in DESCENT_FREE)
    whose = f"of the comparable weights of its {reused} component" if relative.relation in PARTIAL else "of its comparable weights"
    sentence += f": {_share(relative.shared)} {whose} carry the evidence"
    if relative.p_value is not None:
        sentence += f", p {_p(relative.p_value)}"
        sentence += f" after correcting for {searched} models searched" if searched and searched > 1 else ""
    further = [name for name in relative.also if name not in (relative.relation,)]
    return sentence + (f" (also: {', '.join(further)})." if further else ".")


def _meaning(relative: Relative) -> str:
    """What the relation amounts to, with places for the model's name and for how a quantised copy is stored."""
    if relative.declared:
        return DECLARED
    if relative.sampled and relative.relation in COPIES:
        return SAMPLED
    if relative.relation == "quantized" and relative.quantization.keys() == {"relative"}:
        return QUANTIZED_RELATIVE
    return RELATIONS[relative.relation].sentence


def _stored(relative: Relative) -> str:
    """` (stored as nf4)`, where a file says how it is stored."""
    return f" (stored as {' and '.join(relative.quantization.values())})" if relative.quantization else ""


def _component_sentences(component: ComponentEvidence, relative: Relative) -> list[str]:
    informative = [f for f in component.families if f.informative and f.r is not None]
    held = [f for f in informative if f.inherited]
    absent = [f for f in informative if not f.inherited]
    alike = [f for f in absent if (f.p_value or 0.0) <= FURTHER_P]
    sentences = []
    name = component.query if component.query == component.relative else f"{component.query} (against {component.relative})"
    if held:
        many = len(held) > 1
        sentences.append(f"In the {name} component {_listed(held)} {'are' if many else 'is'} shared with {relative.model}.")
        sentences += _layer_sentences(name, component, relative)
        sentences += component.changes
    if component.relation == "shared initialisation":
        sentences.append(
            f"In the {name} component {_listed(alike)} correlate as untrained weights of one seed do; what was learned does not."
        )
        absent = [f for f in absent if f not in alike]
    if absent:
        sentences.append(f"In the {name} component {_listed(absent)} {'show' if len(absent) > 1 else 'shows'} nothing beyond chance.")
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
    parts = [f"{f.family} (r {_r(f.r)}{'' if f.channel == 'probe' else f' in the {f.channel} channel'})" for f in families]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _norm_sentence(name: str, norm: FamilyEvidence) -> str:
    floor = f"two unrelated vectors with these means and spreads give {norm.raw_cosine_floor:.3f}"
    kept = "gains were kept, which says nothing of the other weights" if norm.inherited else "no evidence"
    return f"Norms of the {name} component have raw cosine {_r(norm.raw_cosine)}, but {floor}; centred they correlate {_r(norm.r)}: {kept}."


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


def _share(value: float) -> str:
    """A percentage that says 100 % only of the whole."""
    return "100 %" if value >= 1 else f"{min(value * 100, 99.4):.0f} %"


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
