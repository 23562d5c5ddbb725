"""What a page shows of an answer, taken apart for its template: words and figures are ready, and nothing is worked out further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from modelkin.made import Made
from modelkin.reporting import figures, pictures
from modelkin.reporting.batch import batch_section, headline_of
from modelkin.reporting.forest import branches, tree_picture
from modelkin.reporting.headline import headline, subject_of
from modelkin.reporting.sentences import Sentences, Told, names_in
from modelkin.reporting.texts import Texts
from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, MergeByLayer, QueryAnswer
from modelkin_registry.answers.evidence import ComponentEvidence, FamilyEvidence, Relative
from modelkin_registry.answers.exact import Spread
from modelkin_registry.answers.parts import Examined
from modelkin_registry.answers.relations import DESCENT_FREE, RELATIONS
from modelkin_registry.answers.trajectory import Step, TrajectoryAnswer
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge, TreeModel
from modelkin_registry.explanation.naming import told_apart
from modelkin_registry.explanation.relatives import layer_runs
from modelkin_registry.screening.results import Screening

Answer = QueryAnswer | CompareAnswer | DecomposeAnswer | TreeAnswer | TrajectoryAnswer | Screening
SHOWN_IN_FULL = 1  # relatives whose evidence stands in pictures and tables; the table of relatives has all of them


class Picture(Struct, frozen=True):
    """One picture: a name for its file, and the SVG."""

    name: str
    svg: str


class View(Struct):
    """A page. `sections` tells what of it there is; everything else is for the template of that section."""

    title: str
    headline: str
    verdict: str = ""
    findings: Sequence[Told] = ()
    warnings: Sequence[Told] = ()
    ways: Sequence[str] = ()
    sections: dict[str, Any] = field(default_factory=dict)


def view_of(answer: Answer, made: Made, tree: TreeAnswer | None, say: Texts) -> View:
    """The page of an answer. `tree`: the family tree around the nearest relative, where there is a registry that has it."""
    told = Sentences(say, names_in((answer, tree)))
    if isinstance(answer, TreeAnswer):
        page = _tree_page(answer, say, told)
    elif isinstance(answer, TrajectoryAnswer):
        page = _trajectory_page(answer, say, told)
    elif isinstance(answer, Screening):
        page = View(say("page", "title-screening", count=len(answer.results)), headline_of(answer, say))
        page.findings, page.warnings = told.all(answer.explanation[1:]), told.all(answer.warnings)
        page.sections["screening"] = batch_section(answer, say, told)
    else:
        page = _pair_page(answer, tree, say, told)
    page.sections["made"] = made
    return page


def _pair_page(answer: QueryAnswer | CompareAnswer | DecomposeAnswer, tree: TreeAnswer | None, say: Texts, told: Sentences) -> View:
    subject, relatives = subject_of(answer), _relatives(answer)
    first = relatives[0] if relatives else None
    kind = type(answer).__name__.removesuffix("Answer").lower()
    other = first.model if first is not None else ""
    page = View(say("page", f"title-{kind}", subject=subject, other=other), headline(answer, first, say))
    page.findings = told.all(answer.explanation[1:] if say.is_english else answer.explanation)
    page.warnings = told.all(answer.warnings)
    if not isinstance(answer, DecomposeAnswer):
        page.verdict = answer.verdict
        ways = first.alternatives if first is not None and first.relation not in DESCENT_FREE else ()
        page.ways = [say("way", way, query=subject, relative=other) for way in ways]
        page.sections["compared"] = _compared(answer, first, subject, say)
        page.sections["claims"] = answer.claims
        page.sections["beside"] = _beside(answer, told)
    if isinstance(answer, QueryAnswer):
        page.sections["relatives"] = (answer.registry.models, [_relative_row(one, say) for one in relatives])
    if isinstance(answer, CompareAnswer):
        page.sections["controls"] = _controls(answer)
        page.sections["exact"] = _exact(answer)
    if isinstance(answer, (QueryAnswer, DecomposeAnswer)):
        page.sections["merge"] = _merge(answer, say)
    layers = _layers(answer)
    page.sections["evidence"] = [_evidence(answer, one, relatives, layers, subject, told) for one in relatives[:SHOWN_IN_FULL]]
    if tree is not None and first is not None:
        page.sections["tree"] = _tree(_with_query(tree, first, f"{subject} ({say('role', 'query')})"), say)
    return page


def _with_query(tree: TreeAnswer, first: Relative, name: str) -> TreeAnswer:
    """The tree with the model that was asked about beside its nearest relative, in no direction."""
    model = TreeModel(name, (), 0, (), "", "", ())
    kind = "part" if RELATIONS[first.relation].part else "descent"
    edge = TreeEdge(first.model, name, kind, first.relation, first.also, None, first.p_value, first.shared, 1.0, (), "unknown", ())
    if all(one.model != first.model for one in tree.models):  # without a relative of its own in the registry
        tree = replace(tree, models=(*tree.models, TreeModel(first.model, (), 0, (), "", "", ())))
    alone = tuple(one for one in tree.alone if one != first.model)
    return replace(tree, models=(*tree.models, model), edges=(*tree.edges, edge), alone=alone)


def _relatives(answer: QueryAnswer | CompareAnswer | DecomposeAnswer) -> Sequence[Relative]:
    """The models of an answer; of a comparison B."""
    if isinstance(answer, DecomposeAnswer):
        return ()
    if isinstance(answer, QueryAnswer):
        return answer.relatives
    told = {name: getattr(answer, name) for name in ("relation", "also", "shared", "p_value", "components", "compared", "shared_of_all")}
    more = {name: getattr(answer, name) for name in ("parts", "alternatives", "counterparts", "extra", "rounded")}
    sampled = "probe" in (answer.a.level, answer.b.level)
    return (Relative(model=told_apart(answer.a.source, answer.b.source)[1], sampled=sampled, **told, **more),)


def _layers(answer: QueryAnswer | CompareAnswer | DecomposeAnswer) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Layers by component of the query and of the other side, as far as they are known."""
    return (answer.a.layers, answer.b.layers) if isinstance(answer, CompareAnswer) else (answer.query.layers, {})


def _compared(answer: QueryAnswer | CompareAnswer, first: Relative | None, subject: str, say: Texts) -> dict[str, Any]:
    """How much was compared, part by part, and what was not."""
    examined, sentences = answer.examined, []
    if isinstance(answer, QueryAnswer) and examined is not None:
        shares = {"comparable": examined.models_comparable, "models": examined.models, "share": figures.share(examined.share)}
        sentences.append(say("text", "searched", **shares))
    if first is not None:
        told = {"subject": subject, "model": first.model, "compared": figures.share(first.compared), "share": figures.share(first.compared)}
        key = "compared-of" if first.relation not in DESCENT_FREE else "pair-compared"
        sentences.append(say("text", key, **told, shared=figures.share(first.shared_of_all)))
    parts = [
        (
            part.name,
            figures.share(part.share),
            say.known("relation", part.relation or "") if part.relation else figures.NOTHING,
            figures.share(part.compared),
            figures.share(part.shared),
        )
        for part in (first.parts if first is not None else ())
    ]
    return {"sentences": sentences, "parts": parts, "missing": _missing(examined, first, say)}


def _missing(examined: Examined | None, first: Relative | None, say: Texts) -> list[str]:
    """What was not compared, in sentences."""
    found: list[str] = []
    if examined is not None:
        for one in examined.unread:
            if one.bytes is None:
                found.append(say("text", "unread-unknown", what=one.what))
            else:
                share = figures.NOTHING if one.share is None else figures.share(one.share)
                found.append(say("text", "unread", what=one.what, bytes=f"{one.bytes:,}", share=share))
        if examined.parts_without_counterpart:
            found.append(say("text", "parts-alone", parts=", ".join(examined.parts_without_counterpart)))
        if examined.same_lengths:
            found.append(say("text", "same-lengths", models=", ".join(examined.same_lengths)))
    if first is not None and first.counterparts is not None and first.counterparts.none:
        found.append(say("text", "tensors-alone", none=first.counterparts.none, total=first.counterparts.total))
    complete = first is not None and first.compared >= 1.0
    return found or ([say("text", "everything")] if complete else [])


def _relative_row(one: Relative, say: Texts) -> dict[str, Any]:
    named = len(one.components) > 1
    families = [
        (f"{c.query} " if named else "") + f"{f.family} {figures.correlation(f.r)}" if f.inherited else _bracketed(c, f, named)
        for c in one.components
        for f in c.families
        if f.informative and f.r is not None
    ]
    return {
        "model": one.model,
        "relation": ", ".join(say.known("relation", name) for name in (one.relation, *one.also)),
        "descent": one.relation not in DESCENT_FREE,
        "compared": figures.share(one.compared),
        "shared": figures.share(one.shared_of_all),
        "p": figures.probability(one.p_value),
        "families": families,
    }


def _bracketed(component: ComponentEvidence, family: FamilyEvidence, named: bool) -> str:
    return f"({component.query + ' ' if named else ''}{family.family} {figures.correlation(family.r)})"


def _evidence(
    answer: QueryAnswer | CompareAnswer | DecomposeAnswer,
    one: Relative,
    relatives: Sequence[Relative],
    layers: tuple[Mapping[str, int], Mapping[str, int]],
    subject: str,
    told: Sentences,
) -> dict[str, Any]:
    """One relative in pictures and tables, component by component."""
    say = told.say
    names = (subject, one.model)
    components = []
    for component in one.components:
        others = _others(answer, component, relatives[1:])
        drawn = {
            "heat": pictures.heat_map(component, layers[0].get(component.query, 0), names, say) if component.families else "",
            "map": pictures.layer_map(component, (layers[0].get(component.query, 0), layers[1].get(component.relative, 0)), names, say),
            "strangers": pictures.among_strangers(component, others, names, say),
        }
        components.append(
            {
                "name": component.query if component.query == component.relative else f"{component.query} / {component.relative}",
                "relation": say.known("relation", component.relation),
                "pictures": {name: Picture(f"{component.query}-{name}", svg) if svg else None for name, svg in drawn.items()},
                "runs": layer_runs(component.layer_map),
                "same_layers": all(a == b for a, b in component.layer_map),
                "families": [_family(f, say) for f in component.families if f.informative],
                "low": [_low(f) for f in component.families if not f.informative],
                "changes": told.all(component.changes),
            }
        )
    return {"model": one.model, "components": components, "counterparts": one.counterparts}


def _others(
    answer: QueryAnswer | CompareAnswer | DecomposeAnswer, component: ComponentEvidence, relatives: Sequence[Relative]
) -> dict[str, list[float]]:
    """r of other models against the same component, by family: further relatives, or of a comparison the controls."""
    families = [f for one in relatives for c in one.components if c.query == component.query for f in c.families]
    if isinstance(answer, CompareAnswer):
        families = [f for control in answer.controls for f in control.a_c if f.component == component.query]
    found: dict[str, list[float]] = {}
    for family in families:
        if family.r is not None:
            found.setdefault(family.family, []).append(family.r)
    return found


def _family(family: FamilyEvidence, say: Texts) -> dict[str, str]:
    finding = "contradicted" if family.contradicted else "yes" if family.inherited else "no"
    return {
        "family": family.family,
        "r": figures.correlation(family.r) + ("" if family.channel == "probe" else f" ({family.channel})"),
        "null": figures.null(family),
        "z": figures.number(family.z, 1),
        "p": figures.probability(family.p_value),
        "places": figures.count(family.places),
        "finding": say("text", finding),
    }


def _low(family: FamilyEvidence) -> dict[str, str]:
    known = family.raw_cosine is not None and family.raw_cosine_floor is not None  # the one never stands without the other
    return {
        "family": family.family,
        "centred": figures.correlation(family.r),
        "null": figures.null(family),
        "raw": figures.correlation(family.raw_cosine if known else None),
        "floor": figures.correlation(family.raw_cosine_floor if known else None),
        "places": figures.count(family.places),
    }


def _controls(answer: CompareAnswer) -> list[tuple[str, str, str, str]]:
    rows = []
    for control in answer.controls:
        b = {(f.component, f.family): f for f in control.b_c}
        for f in control.a_c:
            other = b.get((f.component, f.family))
            name = f.family if f.informative else f"({f.family})"
            rows.append((control.model, name, figures.correlation(f.r), figures.correlation(other.r if other else None)))
    return rows


def _exact(answer: CompareAnswer) -> dict[str, list[tuple[str, ...]]] | None:
    """What comparing number by number showed, low-information families apart; None where that was not asked for."""
    if answer.exact_summary is None:
        return None
    found: dict[str, list[tuple[str, ...]]] = {"informative": [], "low": []}
    for group in answer.exact_summary.families:
        rows = found["informative" if group.informative else "low"]
        name = f"{group.component} {group.family}"
        figures_of = (_spread(group.cosine), _spread(group.cosine_floor), _spread(group.pearson), figures.probability(group.p_value))
        rows.append((name, figures.count(group.tensors), *figures_of, group.finding))
        for other in group.strangers:
            of = (_spread(other.cosine), _spread(other.cosine_floor), _spread(other.pearson))
            rows.append((f"→ {other.name}", figures.NOTHING, *of, figures.NOTHING, figures.NOTHING))
    return found


def _spread(spread: Spread | None) -> str:
    return figures.NOTHING if spread is None else f"{figures.correlation(spread.mean)} ± {figures.number(spread.sd)}"


def _merge(answer: QueryAnswer | DecomposeAnswer, say: Texts) -> dict[str, Any] | None:
    found = answer.merge or (answer.fit if isinstance(answer, DecomposeAnswer) else None)
    if found is None:
        return {"parents": [], "rows": [], "origins": [], "recipe": None} if isinstance(answer, DecomposeAnswer) else None
    parents = [parent.model for parent in found.parents]
    if isinstance(found, MergeByLayer):
        origins = [(str(one.layer), str(one.from_.layer), one.from_.model) for one in found.layers]
        return {"parents": parents, "rows": [], "origins": origins, "recipe": None}
    whole = ("", [_weight(parent.weight, parent.sd) for parent in found.parents], f"{found.residual:.2%}")
    parts = [*found.components, *found.layers, *((found.norms,) if found.norms else ())]
    rows = [(f"{p.component or ''} {p.part}".strip(), [_weight(w.weight, w.sd) for w in p.weights], f"{p.residual:.2%}") for p in parts]
    return {"parents": parents, "rows": [whole, *rows], "origins": [], "recipe": getattr(answer, "recipe", None)}


def _weight(weight: float, sd: float | None) -> str:
    return figures.number(weight) + ("" if sd is None else f" ± {sd:.2g}")


def _beside(answer: QueryAnswer | CompareAnswer, told: Sentences) -> list[tuple[str, Sequence[Told]]]:
    structures = answer.structure if isinstance(answer, QueryAnswer) else [answer.structure] if answer.structure else []
    return [(one.model, told.all(one.sentences)) for one in structures if one.sentences]


def _tree_page(answer: TreeAnswer, say: Texts, told: Sentences) -> View:
    title = say("page", "title-tree", subject=answer.around) if answer.around else say("page", "title-forest")
    said = say("text", "tree") if answer.edges else say("text", "tree-none")
    page = View(title, said, warnings=told.all(answer.warnings))
    page.sections["tree"] = _tree(answer, say)
    return page


def _tree(answer: TreeAnswer, say: Texts) -> dict[str, Any]:
    roots = branches(answer, say)
    return {"picture": Picture("tree", tree_picture(roots, say)), "roots": roots, "alone": answer.alone, "left_out": answer.left_out}


def _trajectory_page(answer: TrajectoryAnswer, say: Texts, told: Sentences) -> View:
    verdict, *further = [told(f"{words[0].upper()}{words[1:]}.") for words in (answer.verdict, *answer.also)]
    page = View(say("page", "title-trajectory", count=len(answer.steps)), verdict.text, warnings=told.all(answer.warnings))
    page.findings = further
    page.sections["trajectory"] = {
        "findings": [(told(f.sentence), told(f.null), f.against) for f in answer.findings],
        "steps": [_step(one, say) for one in answer.steps],
    }
    return page


def _step(one: Step, say: Texts) -> tuple[str, ...]:
    relation = say.known("relation", one.relation) if one.relation else figures.NOTHING
    return (one.name, figures.correlation(one.final_r), figures.number(one.length), figures.number(one.turn), relation)
