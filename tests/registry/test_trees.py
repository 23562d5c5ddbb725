"""Family trees: the right edges, directions that are hints, claims beside weights, safe pictures."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.common import sketch_families
from calls import run
from modelkin_cli.pages.trees.picture import dot, svg
from modelkin_indexer.errors import UnknownModel
from modelkin_indexer.results.beside import Claim
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.batches.pairs import UNSEEN
from modelkin_registry.registry import Registry
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.trees import processes, trees
from modelkin_registry.trees.forests import Kinship
from modelkin_registry.trees.hubs import examined
from modelkin_registry.trees.nearest import Nearest
from modelkin_registry.trees.pairs import measurer
from modelkin_registry.trees.pairs.kept import KeptPairs
from modelkin_registry.trees.pairs.links import Link, Views
from modelkin_registry.trees.pairs.measurer import Measurer
from modelkin_registry.trees.said import beside
from models import LAYERS, Tensors, channels_permuted, fingerprint, llama, part_from, trained_on, with_layers
from tiny_models import save_model, tiny_llama, tuned


def registry_of(tmp_path: Path, models: Mapping[str, Tensors], claims: Mapping[str, str] | None = None) -> Registry:
    registry = Registry.open(tmp_path / "r.db")
    for number, (name, tensors) in enumerate(models.items()):
        said = [Claim("base_model", claims[name], "README.md")] if claims and name in claims else []
        registry.add(name, fingerprint(tmp_path / str(number), tensors), claims=said)
    return registry


def edges(answer: TreeAnswer) -> dict[tuple[str, str], str]:
    return {(edge.parent, edge.child): edge.kind for edge in answer.edges}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> TreeAnswer:
    base, stranger = llama(1), llama(2)
    children = {name: trained_on(base, seed, 0.2) for seed, name in enumerate(("one", "two", "three"), 10)}
    mix = {k: (0.6 * children["one"][k] + 0.4 * children["two"][k]).astype(np.float32) for k in base}
    models = {
        **children,
        "base": base,
        "copy": base,
        "grandchild": trained_on(children["three"], 20, 0.1),
        "mix": mix,
        "stranger": stranger,
        "lone": llama(3),
        "host": part_from(stranger, base, "mlp"),
        "deep": with_layers(trained_on(base, 30, 0.05), [0, 1, 2, 3, 2, 3, 4, 5]),
        "turned": channels_permuted(children["two"], 5),
    }
    return registry_of(tmp_path_factory.mktemp("family"), models).tree()


def test_children_hang_on_their_base_and_grandchildren_on_children(family: TreeAnswer) -> None:
    found = edges(family)
    descent = {pair for pair, kind in found.items() if kind == "descent"}
    assert descent == {("base", name) for name in ("one", "two", "three", "deep")} | {("three", "grandchild"), ("two", "turned")}
    assert all(edge.direction == "hint" and edge.reasons for edge in family.edges if edge.kind == "descent" and edge.parent == "base")


@pytest.mark.parametrize("sizes", [(0.05, 0.15, 0.15, 0.15, 0.4), (0.05, 0.2, 0.2, 0.3, 0.3, 0.2), (0.1,) * 9])
def test_siblings_without_their_base_have_no_arrow_among_them(tmp_path: Path, sizes: tuple[float, ...]) -> None:
    base = llama(1)
    answer = registry_of(tmp_path, {f"ft{seed}": trained_on(base, seed, size) for seed, size in enumerate(sizes, 40)}).tree()
    assert len(answer.edges) == len(sizes) - 1
    assert {edge.direction for edge in answer.edges} == {"unknown"}


def test_a_common_ancestor_that_is_not_registered_is_told(tmp_path: Path) -> None:
    base = llama(1)
    answer = registry_of(tmp_path, {f"ft{seed}": trained_on(base, seed, 0.2 if seed > 40 else 0.1) for seed in range(40, 47)}).tree()
    assert answer.without_ancestor == (tuple(f"ft{seed}" for seed in range(40, 47)),)


def test_a_hub_is_told_from_a_sibling() -> None:
    way = {"base": 0.0, "light": 0.004, "a": 0.02, "b": 0.03, "c": 0.02, "d": 0.05}
    r = lambda one, other: math.exp(-way[one] - way[other])  # noqa: E731
    base, light = (examined(hub, ["a", "b", "c", "d"], r) for hub in ("base", "light"))
    assert base is not None
    assert light is not None
    assert (base.is_base, base.is_sibling, light.is_base, light.is_sibling) == (True, False, False, True)
    assert light.way == pytest.approx(0.004)
    assert examined("base", ["a", "b"], r) is None


def test_a_merge_has_all_its_parents_and_their_weights(family: TreeAnswer) -> None:
    weights = {edge.parent: edge.weight for edge in family.edges if edge.child == "mix"}
    assert weights == {"one": pytest.approx(0.6, abs=0.02), "two": pytest.approx(0.4, abs=0.02)}


def test_a_part_makes_nobody_a_child_of_the_whole(family: TreeAnswer) -> None:
    parts = {edge.parent: edge for edge in family.edges if edge.child == "host"}
    assert parts.keys() == {"base", "stranger"}
    assert {edge.kind for edge in parts.values()} == {"part"}
    assert parts["base"].families == ("text/mlp",)
    assert "text/attention" in parts["stranger"].families


def test_copies_are_one_model_and_strangers_stay_alone(family: TreeAnswer) -> None:
    assert {model.model: model.copies for model in family.models}["base"] == ("copy",)
    assert family.alone == ("lone",)


def test_two_models_without_signs_have_no_direction(tmp_path: Path) -> None:
    base = llama(1)
    answer = registry_of(tmp_path, {"a": base, "b": trained_on(base, 2, 0.1)}).tree()
    (edge,) = answer.edges
    assert (edge.direction, edge.reasons) == ("unknown", ())


def test_claims_give_a_direction_only_with_evidence_and_cycles_none(tmp_path: Path) -> None:
    base = llama(1)
    models = {"a": base, "b": trained_on(base, 2, 0.1), "c": llama(7)}
    answer = registry_of(tmp_path, models, {"b": "org/a", "c": "a"}).tree()
    (edge,) = answer.edges
    assert (edge.parent, edge.child, edge.direction) == ("a", "b", "hint")
    assert "README.md says base_model 'org/a'" in edge.reasons[0]
    assert answer.alone == ("c",)
    (tmp_path / "cycle").mkdir()
    (edge,) = registry_of(tmp_path / "cycle", models, {"a": "b", "b": "a"}).tree().edges
    assert edge.direction == "unknown"


def test_claims_that_weights_contradict_are_told(tmp_path: Path) -> None:
    base = llama(1)
    models = {"a": base, "b": trained_on(base, 2, 0.1), "d": trained_on(base, 3, 0.1), "e": trained_on(base, 4, 0.1), "c": llama(7)}
    answer = registry_of(tmp_path, models, {"b": "c", "d": "a", "e": "nobody", "c": "a"}).tree("a", depth=1)
    assert {model.model: model.said for model in answer.models} == {
        "a": "",
        "b": "claims c, weights show a",
        "d": "claims a, weights are consistent with it",
        "e": "claims nobody, which is not registered",
    }
    alone = registry_of(tmp_path, models).tree("c")
    assert [model.said for model in alone.models] == ["claims a, weights show nothing"]


def test_norms_and_a_common_start_are_no_edges_of_descent(tmp_path: Path) -> None:
    base = llama(1)
    models = {"base": base, "fake": part_from(llama(2), base, "norm")}
    assert registry_of(tmp_path, models).tree().edges == ()


def test_empty_and_single_registries_and_unknown_names(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "r.db")
    assert (registry.tree().models, registry.tree().alone) == ((), ())
    registry.add("only", fingerprint(tmp_path / "m", llama(1)))
    assert registry.tree().alone == ("only",)
    assert [model.model for model in registry.tree("only").models] == ["only"]
    with pytest.raises(UnknownModel):
        registry.tree("nobody")


def test_the_same_registry_gives_the_same_tree(tmp_path: Path) -> None:
    base = llama(1)
    registry = registry_of(tmp_path, {name: trained_on(base, seed, 0.1) for seed, name in enumerate("abcd")})
    assert registry.tree() == registry.tree()


HOSTILE = '<script>alert(1)</script>" ]; \\" & \u202e'


def test_pictures_escape_every_name(tmp_path: Path) -> None:
    base = llama(1)
    claims = {"<b>&\"'": HOSTILE}
    answer = registry_of(tmp_path, {'a"];b\\': base, "<b>&\"'": trained_on(base, 2, 0.1)}, claims).tree()
    picture = svg(answer)
    drawn = ElementTree.fromstring(picture)
    assert "<script" not in picture
    assert "\u202e" not in picture
    assert "<b>&\"'" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    graph = dot(answer)
    nodes = re.findall(r'^  "((?:[^"\\]|\\.)*)";$', graph, re.MULTILINE)
    assert {re.sub(r"\\(.)", r"\1", node) for node in nodes} == {'a"];b\\', "<b>&\"'"}
    assert graph.count("{") == graph.count("}") == 1


def test_the_command_draws_writes_and_prints(models: Path) -> None:
    save_model(models / "second", tuned(tiny_llama(1), 9))
    assert run("add", "parent", "child", "second", "stranger").exit_code == 0
    words = run("tree", "--svg", "t.svg", width=120).output
    assert "fine-tuned, r 0.9" in words
    assert "Without a relative: stranger." in words
    assert ElementTree.parse(models / "t.svg").getroot().tag.endswith("svg")
    answer = json.loads(run("tree", "child", "--depth", "1", "--json").output)
    assert answer["contract"] == 1
    assert {model["model"] for model in answer["models"]} == {"parent", "child", "second"}
    assert run("tree", "--dot").output.startswith("digraph")
    assert run("tree", "-q").output.split()[-1] == "stranger"
    assert run("tree", "--depth", "1").exit_code == run("tree", "--dot", "--json").exit_code == 2
    assert run("tree", "nobody").exit_code == 4


def test_one_relative_does_not_decide_who_is_in_the_middle() -> None:
    """Neither a far one, whose distances are known badly, nor a near one that learnt the same texts as one of the two."""
    views = Views(Relative("", "fine-tuned", (), 1.0, 0.0, ()), Relative("", "fine-tuned", (), 1.0, 0.0, ()), 1.0)
    near = {"a": (0.99, 0.98), "b": (0.97, 0.96), "c": (0.96, 0.95), "far": (0.30, 0.40), "same texts": (0.98, 0.999)}
    links = [Link(middle, third, close, lambda: views) for third, pair in near.items() for middle, close in zip("MS", pair, strict=True)]
    kin = Kinship(links, lambda one, other: None)
    assert kin.is_nearer_to_all("M", "S")
    assert not kin.is_nearer_to_all("S", "M")


# around one model, without the others


def test_the_tree_around_a_model_is_its_family_of_the_whole_tree(tmp_path: Path) -> None:
    base, other = llama(1), llama(2)
    models = {"base": base, "copy": base, "x/one": trained_on(base, 10, 0.2), "two": trained_on(base, 11, 0.1)}
    models |= {"old": trained_on(base, 12, 0.3), "other": other, "near": trained_on(other, 13, 0.1), "lone": llama(3)}
    with registry_of(tmp_path, models, {"x/one": "base", "two": "org/other", "near": "x/other", "other": "nobody"}) as registry:
        registry.add("old", fingerprint(tmp_path / "newer", trained_on(models["old"], 14, 0.1)))  # one revision more
        registry.rename("other", "x/other")
        whole = registry.tree()
        families = [{"base", "x/one", "two", "old"}, {"x/other", "near"}]
        for family in families:
            for name in family:
                around = registry.tree(name, depth=5)
                assert {one.model for one in around.models} == family
                assert [edge for edge in whole.edges if edge.child in family] == list(around.edges)
                assert [one for one in whole.models if one.model in family] == list(around.models)
        assert {name for edge in whole.edges for name in (edge.parent, edge.child)} == set().union(*families)


def test_single_layers_are_looked_up_where_no_whole_model_explains_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def search(self: VectorIndex, kind: str, queries: Any, *more: Any) -> Any:
        asked.extend([len(queries)] if kind == "layer/mlp" else [])
        return real(self, kind, queries, *more)

    real = VectorIndex.search
    monkeypatch.setattr(VectorIndex, "search", search)
    base, stranger = llama(1), llama(2)
    graft = {key: base[key] if ".layers.2." in key else tensor for key, tensor in stranger.items()}
    models = {"base": base, "graft": graft, "lone": llama(3)} | {name: trained_on(base, at, 0.1) for at, name in enumerate("abc", 10)}
    with registry_of(tmp_path, models) as registry:
        answer = registry.tree()
    assert {name for edge in answer.edges for name in (edge.parent, edge.child)} == models.keys() - {"lone"}
    assert asked == [3 * LAYERS]  # the graft, the one without relatives, and one of the four that explain each other


def test_a_claim_about_a_model_that_is_not_shown_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = llama(1)
    models = {"base": base, "near": trained_on(base, 10, 0.01), "far": trained_on(base, 11, 0.3), "other": llama(2)}
    with registry_of(tmp_path, models, {"near": "far", "far": "other"}) as registry:
        monkeypatch.setattr(trees, "MOST_AROUND", 2)
        around = registry.tree("near")
        assert {one.model: one.said for one in around.models} == {
            "near": "claims far, weights are consistent with it, base is nearer",
            "base": "",
        }
        said = {one.model: one.claims for one in registry.tree("far").models}
        assert [(claim.model, claim.relation, claim.verdict) for claim in said["far"]] == [("other", "unrelated", "nothing")]


def drawn(answer: TreeAnswer) -> list[tuple[Any, ...]]:
    return [(e.parent, e.child, e.kind, e.relation, e.also, e.direction, e.reasons, e.families, e.weight) for e in answer.edges]


@pytest.mark.parametrize(("size", "centre"), [(0, "0a"), (15, "m00003")])
def test_the_tree_is_that_of_which_every_pair_was_held_and_every_layer_looked_up(
    families: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, centre: str
) -> None:
    def find(self: Nearest, names: Sequence[str], **_: bool) -> None:
        real(self, names, layered=True)

    real = Nearest.find
    with Registry.open(families if not size else tmp_path / "large.db") as registry:
        for name, model in sketch_families.families(2 * size, size) if size else ():
            registry.add(name, model)
        monkeypatch.setattr(KeptPairs, "keep", lambda *_: None)
        quick = [registry.tree(), registry.tree(centre, depth=1)]
        monkeypatch.setattr(measurer, "screened_both_ways", lambda pairs, judge: [(UNSEEN, UNSEEN)] * len(pairs))
        monkeypatch.setattr(Nearest, "find", find)
        held = [registry.tree(), registry.tree(centre, depth=1)]
    for one, other in zip(quick, held, strict=True):
        assert one.edges
        assert drawn(one) == drawn(other)
        assert one.models == other.models
        assert one.without_ancestor == other.without_ancestor
        assert [edge.distance for edge in one.edges] == pytest.approx([edge.distance for edge in other.edges], abs=2e-5)


# by several processes


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    models = {f"{at}": llama(at) for at in range(3)}
    models |= {f"{at}{name}": trained_on(models[f"{at}"], at + seed, 0.1) for at in range(3) for seed, name in enumerate("abc", 10)}
    models["mix"] = {key: 0.6 * models["0a"][key] + 0.4 * models["0b"][key] for key in models["0a"]}
    with registry_of(folder, models, {"1a": "1", "2b": "0"}):
        return folder / "r.db"


@pytest.mark.parametrize("worker", [processes.WORKER, ("-c", "raise SystemExit"), ("-c", "import time; time.sleep(1); print('words')")])
def test_several_processes_draw_the_tree_that_one_draws(families: Path, worker: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with Registry.open(families) as registry:
        monkeypatch.setattr(KeptPairs, "keep", lambda *_: None)
        alone = registry.tree()
        monkeypatch.setattr(trees, "MANY", 1)
        monkeypatch.setattr(trees, "processes_for", lambda models: 2)
        monkeypatch.setattr(processes, "WORKER", worker)
        assert registry.tree(say=said.append) == alone
        assert "13 of 13 models with relatives placed." in said
        assert {edge.kind for edge in alone.edges} == {"descent", "merge"}


def test_a_process_that_finds_another_registry_leaves_the_family_to_who_asked(families: Path, tmp_path: Path) -> None:
    with Registry.open(families) as registry, Registry.open(tmp_path / "other.db") as other:
        known = Measurer(registry.known, registry.judge(16))
        known.look_up(registry.store.numbers())
        names = ["0", "0a"]
        known.link(*names)
        told = beside(known, {name: [name] for name in names})
        start, task = processes.Start(registry.store.place, known.judge, told), processes.task_of(known, names)
        assert processes.worked_out(other.known, start, task) is None
        reply = processes.worked_out(registry.known, start, task)
        assert reply is not None
        assert [(edge.parent, edge.child) for edge in reply.drawn.edges] == [("0", "0a")]
        assert reply.told.keys() == {(known.prints["0"], known.prints["0a"])}


def test_processes_end_where_nobody_waits_for_the_rest(families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[processes.Process] = []

    def popen(*given: Any, **named: Any) -> processes.Process:
        started.append(real(*given, **named))
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    with Registry.open(families) as registry:
        known = Measurer(registry.known, registry.judge(16))
        known.look_up(registry.store.numbers())
        names = ["0", "0a", "0b"]
        found = processes.drawn_by_many(known, [names] * 40, beside(known, {name: [name] for name in names}), 2)
        next(found)
        found.close()  # type: ignore[attr-defined]  # a generator
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
