"""A family tree of pairs that are kept with the registry is the tree worked out afresh, whatever came, went or was renamed meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.registry import Registry
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees import trees
from modelkin_registry.trees.pairs import kept, measurer
from modelkin_registry.trees.pairs.kept import KeptPairs, signature
from models import channels_permuted, fingerprint, llama, part_from, trained_on

Open = Callable[[], Store]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Fingerprint]:
    base, other = llama(1), llama(2)
    one, two = trained_on(base, 10, 0.2), trained_on(base, 11, 0.1)
    made = {"base": base, "one": one, "two": two, "child": trained_on(one, 12, 0.1), "copy": base, "other": other}
    made |= {"mix": {key: 0.6 * one[key] + 0.4 * two[key] for key in base}, "host": part_from(other, base, "mlp")}
    made |= {"turned": channels_permuted(two, 5), "near": trained_on(other, 13, 0.1)}
    folder = tmp_path_factory.mktemp("models")
    return {name: fingerprint(folder / name, tensors) for name, tensors in made.items()}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were held against another one, each time."""
    found: list[str] = []

    def hold(query: Any, relative: Any, name: str, judge: Judge, **more: Any) -> Any:
        found.append(name)
        return real(query, relative, name, judge, **more)

    real = measurer.hold
    monkeypatch.setattr(measurer, "hold", hold)
    return found


def afresh(registry: Registry, name: str | None = None) -> TreeAnswer:
    """The tree as it is without anything kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptPairs, "look_up", lambda *_: None)
        patch.setattr(KeptPairs, "keep", lambda *_: None)
        return registry.tree(name)


def drawn(answer: TreeAnswer) -> set[tuple[str, str, str, str, float]]:
    return {(*sorted((edge.parent, edge.child)), edge.kind, edge.relation, edge.distance) for edge in answer.edges}  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(3))
def test_the_kept_tree_is_the_tree(opened: Open, models: Mapping[str, Fingerprint], seed: int) -> None:
    draw = random.Random(seed)
    order = draw.sample(sorted(models), len(models))
    with opened() as store, Registry(store) as registry:
        for name in order:
            said = [Claim("base_model", "base", "README.md")] if name in ("one", "other") else []
            registry.add(name, models[name], claims=said)
            if draw.random() < 0.5:
                assert registry.tree(draw.choice(registry.store.names())).edges is not None
        first = registry.tree()
        assert first == registry.tree() == afresh(registry)
        assert drawn(first)
        registry.rename("base", "zzz")  # which asks first of two of one size hangs on their names
        assert registry.tree() == afresh(registry)
        registry.remove("two")
        registry.add("child", models["one"])  # other weights of its family: a revision more
        assert registry.tree() == afresh(registry)
        for name in ("zzz", "mix", "near"):
            assert registry.tree(name) == afresh(registry, name)
        registry.add("two", models["two"])
        with store.batch():
            store.backgrounds.replace([OwnBackground("probe", "mlp", 0.3, 0.1, 12, 4, True)], 3)
        registry.backgrounds = store.backgrounds.used()
        assert registry.tree() == afresh(registry)


def test_the_order_of_coming_draws_no_other_edges(opened: Open, models: Mapping[str, Fingerprint], tmp_path: Path) -> None:
    with opened() as store, Registry(store) as registry, Registry.open(tmp_path / "other.db") as other:
        for name in sorted(models):
            registry.add(name, models[name])
            registry.tree(name)
        names = [name for name in sorted(models, reverse=True) if name not in ("base", "copy")]
        for name in ("base", "copy", *names):  # of two with the same weights the first stands for both
            other.add(name, models[name])
        assert drawn(registry.tree()) == drawn(other.tree())


def test_several_processes_open_the_store_and_draw_the_same(
    opened: Open, models: Mapping[str, Fingerprint], monkeypatch: pytest.MonkeyPatch, held: list[str]
) -> None:
    with opened() as store, Registry(store) as registry:
        for name in models:
            registry.add(name, models[name])
        with monkeypatch.context() as patch:
            patch.setattr(KeptPairs, "keep", lambda *_: None)
            alone = registry.tree()
            once = len(held)
            patch.setattr(trees, "MANY", 1)
            patch.setattr(trees, "processes_for", lambda models: 2)
            assert registry.tree() == alone
            assert len(held) < 2 * once  # what an edge rests on was held elsewhere
        monkeypatch.setattr(trees, "MANY", 1)
        monkeypatch.setattr(trees, "processes_for", lambda models: 2)
        assert registry.tree() == alone
        held.clear()
        assert registry.tree() == alone
        assert held == []  # what the processes found was kept


def test_one_model_more_is_held_alone(opened: Open, models: Mapping[str, Fingerprint], held: list[str]) -> None:
    with opened() as store, Registry(store) as registry:
        for name in ("base", "one", "two", "other", "near"):
            registry.add(name, models[name])
        registry.tree()
        assert held
        held.clear()
        registry.tree()
        assert held == []
        with opened() as again, Registry(again) as later:
            later.tree()
            assert held == []
            later.add("child", models["child"])
            answer = later.tree()
        pairs = list(zip(held[::2], held[1::2], strict=True))  # each pair both ways
        assert pairs
        assert all("child" in pair for pair in pairs)
        assert answer == afresh(registry)


def test_what_is_damaged_or_of_other_code_is_worked_out_again(
    opened: Open, models: Mapping[str, Fingerprint], held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as store, Registry(store) as registry:
        for name in ("base", "one"):
            registry.add(name, models[name])
        wanted = registry.tree()
        key = signature(registry.judge(2))
        (told,) = store.kinship.told(key, [1, 2]).items()
        assert store.kinship.keep(key, [(*told[0], '{"is_link":false}')])
        assert registry.tree().edges == ()  # so it is what is kept that is read
        for change in ({"told": "{}"}, {"b": 1}):
            assert store.kinship.keep(key, [(*told[0], told[1])])
            damage(store, change)
            held.clear()
            assert registry.tree() == wanted
            assert held != []
        monkeypatch.setattr(kept, "_code", lambda: "another build")
        held.clear()
        assert registry.tree() == wanted
        assert held != []


def damage(store: Store, change: Mapping[str, object]) -> None:
    """Change the one kept pair, and not its checksum."""
    with store.batch():
        (column, value), *_ = change.items()
        store.run(f"UPDATE kinship SET {column} = ?", [value])  # type: ignore[attr-defined]  # both engines' own


def test_a_reader_keeps_nothing_and_waits_for_nobody(opened: Open, models: Mapping[str, Fingerprint]) -> None:
    with opened() as store, Registry(store) as registry, opened() as writer:
        for name in ("base", "one"):
            registry.add(name, models[name])
        with writer.batch():
            answer = registry.tree()
        with store.reading():
            assert answer == registry.tree()
        assert answer == registry.tree()
        registry.remove("one")
        assert store.kinship.told(signature(registry.judge(2)), [1, 2]) == {}
        assert store.kinship.keep("somebody", [(1, 2, "{}")])  # of what is gone nothing is kept
        assert store.kinship.told("somebody", [1]) == {}


def test_numbers_come_back_as_they_were(models: Mapping[str, Fingerprint]) -> None:
    from modelkin_registry.relations.pairs import hold

    there = hold(models["base"], models["mix"], "mix", Judge(8, {}, {}))
    relative = there.kin().relative
    told = kept.Told(True, 0.1 + 0.2, None, False, (relative, relative, float("nan"), -1e-300))
    again = kept.read(kept.written(told))
    assert again.views is not None
    assert again.views[0] == relative
    assert (again.closeness, again.views[3]) == (0.1 + 0.2, -1e-300)
    assert again.views[2] != again.views[2]
    assert kept.written(again) == kept.written(told)
