"""What every store must do, whatever engine is behind it: models chosen by conditions, sorted and summed up; tags, notes, twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkin_indexer.errors import RegistryError, WrongFilter
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import Claim
from modelkin_registry.registry import Registry
from modelkin_registry.store import filters
from modelkin_registry.store.copying import back_up
from modelkin_registry.store.filters import CONTAINS, FIELDS, IS, SORTS, Condition, parse_where
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from registry_helpers import real_fingerprint, record, rows

Open = Callable[[], Store]
LORA = {"kind": "LoRA", "rank": 8, "base": "acme/big", "added": False, "parameters": 500}


def put(store: Store, name: str, **changes: Any) -> int:
    about = {"components": changes.pop("components", ["text"]), "adapter": changes.pop("adapter", None)}
    about["quantization"] = changes.pop("quantization", "")
    given = {"claims": (), "about": about | changes.pop("about", {}), "origin": "", **changes}
    return store.put(record(name, **given), rows(len(store.names()))).revision


@pytest.fixture
def zoo(store: Store) -> Store:
    with store.batch():
        fill(store)
    return store


def fill(store: Store) -> None:
    llama, said = {"model_type": "Llama"}, (Claim("license", "MIT", "README.md"), Claim("base_model", "acme/big", "README.md"))
    put(store, "acme/big", parameters=7_000_000_000, bytes_total=14_000, config=llama, level="full", coverage=0.5)
    put(store, "acme/Small_1", parameters=900_000, config=llama, components=["text", "vision"], claims=said, origin="/models/one%")
    put(store, "acmes/lora", parameters=7_000_000_000, adapter=LORA, config=llama)
    put(store, "lone", parameters=10, config={"architectures": ["Conv"]}, quantization="GGUF Q4_K_M", sender="their file")
    put(store, "lone", content="2", parameters=11, sender="their file")
    put(store, "deep/er/still", parameters=12, adapter={**LORA, "added": True})
    store.labels.tag(store.find("acme/big") or 0, ["reviewed", "old"])
    store.labels.tag(store.find("lone") or 0, ["Old"])
    store.labels.note(store.find("lone") or 0, "50% done, ask\nagain")


ALL = {"acme/big", "acme/Small_1", "acmes/lora", "lone", "deep/er/still"}
CHOSEN = {
    "name=acme/*": {"acme/big", "acme/Small_1"},
    "name=ACME/small_1": {"acme/Small_1"},
    "name=acme/small?1": {"acme/Small_1"},
    "name=acme/small%1": set(),
    "name=acme?big": {"acme/big"},
    "name!=*/*": {"lone"},
    "author=acme": {"acme/big", "acme/Small_1"},
    "author=acme*": {"acme/big", "acme/Small_1", "acmes/lora"},
    "author=d*r": set(),
    "author=deep": {"deep/er/still"},
    "author=": {"lone"},
    "author!=acme": {"acmes/lora", "lone", "deep/er/still"},
    "family=LLAMA": {"acme/big", "acme/Small_1", "acmes/lora"},
    "family=": {"lone", "deep/er/still"},
    "component=vision": {"acme/Small_1"},
    "component!=vision": ALL - {"acme/Small_1"},
    "component=": set(),
    "level=full": {"acme/big"},
    "level!=full": ALL - {"acme/big"},
    "quantization=gguf*": set(),
    "adapter=lora": {"acmes/lora"},
    "adapter=": ALL - {"acmes/lora"},
    "parameters>0.8M": {"acme/big", "acme/Small_1"},
    "parameters>=7B": {"acme/big"},
    "parameters=7B": {"acme/big"},
    "parameters=500": {"acmes/lora"},
    "parameters<=12": {"lone", "deep/er/still"},
    "parameters!=12": ALL - {"deep/er/still"},
    "bytes>1k": {"acme/big"},
    "coverage<0.9": {"acme/big"},
    "revisions>1": {"lone"},
    "added>=2020": ALL,
    "added>9": None,
    "updated<2020-01-01": set(),
    "added=20*": None,
    "tag=old": {"acme/big", "lone"},
    "tag=": {"acme/Small_1", "acmes/lora", "deep/er/still"},
    "tag!=": {"acme/big", "lone"},
    "tag!=reviewed": ALL - {"acme/big"},
    "note=*50%*": {"lone"},
    "note=": ALL - {"lone"},
    "license=mit": {"acme/Small_1"},
    "base=acme/*": {"acme/Small_1"},
    "origin=/models/one%": {"acme/Small_1"},
    "origin=": ALL - {"acme/Small_1"},
    "sender=their*": {"lone"},
    "sender=": ALL - {"lone"},
}


@pytest.mark.parametrize(
    "text",
    [
        "added>2026-13",
        "updated<2026-02-30",
        "added>\uff12\uff10\uff12\uff16",
        "parameters>\uff19",
        "name=" + "a?" * 600,
        "note=" + "*a" * 9,
    ],
)
def test_what_no_database_should_be_asked_is_refused(text: str) -> None:
    with pytest.raises(WrongFilter, match=r"is no date|is no number|a pattern has at most"):
        parse_where([text])


@pytest.mark.parametrize("text", CHOSEN)
def test_a_condition_chooses_models(zoo: Store, text: str) -> None:
    wanted = CHOSEN[text]
    if wanted is None:
        with pytest.raises(WrongFilter, match=r"is no date"):
            parse_where([text])
        return
    where = parse_where([text])
    assert {line.model for line in zoo.listed(where)} == wanted
    assert zoo.count_matching(where) == len(wanted) == sum(row["models"] for row in zoo.summed(where))
    assert set(zoo.names_of(zoo.matching(where, current=True)).values()) == wanted


def test_every_field_is_tried() -> None:
    assert {filters.CONDITION.fullmatch(text)[1] for text in CHOSEN} == set(FIELDS)  # type: ignore[index]


def test_all_conditions_have_to_hold_and_older_revisions_are_found_too(zoo: Store) -> None:
    where = parse_where(["author=acme", "family=llama", "parameters>1B"])
    assert [line.model for line in zoo.listed(where)] == ["acme/big"]
    quantised = parse_where(["quantization=gguf*"])  # what the newest revision is no more
    assert [name.partition("@")[0] for name in zoo.names_of(zoo.matching(quantised)).values()] == ["lone"]
    assert zoo.matching(quantised, current=True) == []
    assert zoo.matching(()) == zoo.numbers()


def test_what_came_or_changed_since_a_date(zoo: Store) -> None:
    added = {line.model: line for line in zoo.listed()}
    moment = added["lone"].updated
    assert [line.model for line in zoo.listed(parse_where([], since=moment[:19]))] != []
    assert zoo.listed(parse_where([], since="2999")) == []
    assert {line.model for line in zoo.listed(parse_where([], since=moment[:10]))} == ALL


@pytest.mark.parametrize("sort", SORTS)
def test_models_are_sorted(zoo: Store, sort: str) -> None:
    found = [line.model for line in zoo.listed(sort=sort)]
    back = [line.model for line in zoo.listed(sort=sort, reverse=True)]
    assert set(found) == set(back) == ALL
    assert zoo.listed(sort=sort, limit=2) == zoo.listed(sort=sort)[:2]
    by_name = {line.model: line for line in zoo.listed()}
    keys = {
        "name": lambda line: line.model,
        "author": lambda line: line.model.partition("/")[0] if "/" in line.model else "",
        "bytes": lambda line: -line.bytes_total,
        "parameters": lambda line: -line.parameters,
        "coverage": lambda line: -line.coverage,
        "revisions": lambda line: -line.revisions,
    }
    key = keys.get(sort, lambda line: getattr(line, sort))
    falling = sort in ("added", "updated")
    assert [key(by_name[name]) for name in found] == sorted((key(by_name[name]) for name in found), reverse=falling)


def test_pages_of_a_list_follow_one_another(zoo: Store) -> None:
    for sort in SORTS:
        whole = [row.model for row in zoo.listed((), sort=sort)]
        assert [row.model for start in range(0, 6, 2) for row in zoo.listed((), sort=sort, start=start, limit=2)] == whole


def test_who_is_called_so_comes_first_then_whose_name_begins_so(store: Store) -> None:
    for name in ("a/b_b", "b", "b_b/later", "b%b", "xb_b", "B_B", "c"):
        put(store, name)
    found = [row.model for row in store.listed((Condition("name", CONTAINS, "b_b"),), first="b_b")]
    assert found == ["B_B", "b_b/later", "a/b_b", "xb_b"]
    assert next(row.model for row in store.listed((), first="b%b")) == "b%b"


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Condition("name", CONTAINS, "SMALL_"), {"acme/Small_1"}),
        (Condition("name", CONTAINS, "*"), set()),
        (Condition("name", CONTAINS, "e%"), set()),
        (Condition("author", IS, "Acme"), {"acme/big", "acme/Small_1"}),
        (Condition("author", IS, "acme*"), set()),
        (Condition("author", IS, "acme/b"), set()),
        (Condition("component", IS, "Vision"), {"acme/Small_1"}),
        (Condition("component", IS, "visio"), set()),
        (Condition("component", IS, "*"), set()),
        (Condition("sender", IS, "their file"), {"lone"}),
        (Condition("sender", IS, "their*"), set()),
        (Condition("level", IS, "full"), {"acme/big"}),
    ],
)
def test_a_program_asks_letter_by_letter(zoo: Store, condition: Condition, found: set[str]) -> None:
    assert {row.model for row in zoo.listed((condition,))} == found
    assert zoo.count_matching((condition,)) == len(found)


def test_all_models_are_counted_by_author_and_component(zoo: Store) -> None:
    zoo.rename("acmes/lora", "acme/lora")
    assert zoo.authors(5) == {"acme": 3, "deep": 1}
    assert zoo.authors(1) == {"acme": 3}
    assert zoo.components() == {"text": 5, "vision": 1}
    assert zoo.newest() == max(row.added for row in zoo.listed())


def test_an_empty_registry_has_nothing_to_count(store: Store) -> None:
    assert (store.newest(), store.authors(5), store.components(), store.listed((), limit=5)) == (None, {}, {}, [])


def test_a_line_tells_what_models_are_chosen_by(zoo: Store) -> None:
    (line,) = zoo.listed(parse_where(["name=acmes/lora"]))
    assert (line.parameters, line.adapter, line.family, line.bytes_total) == (500, "LoRA", "llama", 20)
    (lone,) = zoo.listed(parse_where(["name=lone"]))
    assert (lone.tags, lone.note, lone.revisions, lone.parameters) == (("Old",), "50% done, ask\nagain", 2, 11)
    assert zoo.lines([999, *reversed(zoo.numbers(current=True))]) == zoo.lines([*reversed(zoo.numbers(current=True))])
    assert zoo.inspection.facets(zoo.get("lone").revision) == ("probe", "", ("text",), "", "", 11, 20, 1.0)


def test_an_adapter_of_which_the_numbers_are_not_known_counts_as_none(store: Store) -> None:
    put(store, "old", adapter={name: value for name, value in LORA.items() if name != "parameters"}, parameters=10**9)
    assert store.listed()[0].parameters is None
    (row,) = store.summed()
    assert (row["is_adapter"], row["parameters"] or 0, row["unknown"]) == (1, 0, 1)
    assert store.listed(parse_where(["parameters>0"])) == []


def test_a_higher_level_and_a_removed_revision_change_what_is_chosen(store: Store) -> None:
    put(store, "m", content="probe-1", level="probe")
    store.put(record("m", content="full-1", level="full", known_as="probe-1"), rows(2))
    assert store.count_matching(parse_where(["level=full"])) == 1
    put(store, "m", content="full-2222222222", config={"model_type": "bert"})
    assert store.count_matching(parse_where(["family=bert"])) == 1
    store.remove("m@22222222")
    assert (store.count_matching(parse_where(["family=bert"])), store.count_matching(parse_where(["level=full"]))) == (0, 1)


def test_sizes_are_told_by_kind_of_row(zoo: Store) -> None:
    found = {one.kind: one for one in zoo.inspection.sizes()}
    assert found["search rows, sum/mlp"].rows == 2 * 6
    assert found["search rows, sum/mlp"].bytes == 2 * 6 * (2 + 2 * 24)
    assert (found["tags"].rows, found["notes"].bytes) == (3, 19)
    assert zoo.inspection.size() > sum(one.bytes for one in found.values())


def test_what_models_are_chosen_by_is_looked_at_and_made_anew(store: Store) -> None:
    with Registry(store) as registry:
        registry.add("a", fingerprints.from_bytes(real_fingerprint(1)))
        wanted = store.inspection.facets(1)
        for rows_there in ([], [(1, 1, "full", "bert", ",", "", "", 3, 20, 0.5, "2026")]):
            with store.batch():
                store.tables.fill("facet", rows_there)
            assert {one.check for one in registry.examine() if one.state == "broken"} == {"search rows"}
            assert {one.check for one in registry.examine(repair=True) if one.state == "repaired"} == {"search rows"}
            assert store.inspection.facets(1) == wanted
        assert {one.state for one in registry.examine()} == {"ok"}


def test_what_is_of_an_older_spec_is_summed_up_too(zoo: Any) -> None:
    where = parse_where(["name=lone"])
    assert [(row["models"], row["revisions"]) for row in zoo.summed(where)] == [(1, 2)]
    with zoo.batch():
        zoo.run("UPDATE fingerprint SET spec = '1'")
    assert zoo.matching(where) == []
    assert [(row["models"], row["revisions"]) for row in zoo.summed(where)] == [(1, 2)]


@pytest.mark.parametrize("number", ["9" * 20, "9" * 400, "9" * 400 + ".5", "9" * 30 + "T"])
def test_a_number_beyond_all_is_larger_than_any(zoo: Store, number: str) -> None:
    assert zoo.count_matching(parse_where([f"parameters>{number}"])) == 0
    assert zoo.count_matching(parse_where([f"bytes<{number}"])) == zoo.count()


# tags and notes


def test_tags_stay_with_the_model(opened: Open) -> None:
    with opened() as store:
        model = put(store, "a", content="full-1111111111") and (store.find("a") or 0)
        with store.batch():
            store.labels.tag(model, ["new", "한국어", "new"])
            store.labels.note(model, "first")
        generation = store.generation()
        store.rename("a", "b")
        put(store, "b", content="full-2222222222")
        with store.batch():
            store.labels.tag(model, ["x"], ["new", "never"])
            store.labels.note(model, "second")
    with opened() as store:
        assert (store.labels.tags([model, 99]), store.labels.notes([model, 99])) == ({model: ("x", "한국어")}, {model: "second"})
        assert (store.show("a")["tags"], store.show("b")["note"]) == (["x", "한국어"], "second")
        assert store.tags_used() == {"x": 1, "한국어": 1}
        assert [change.what for change in store.changes(generation)] == ["rename", "put"]  # a tag is no change of what is searched
        store.put(record("b", content="full-3333333333"), rows(3), unrelated=True, replace=True)
        assert [(line.model, line.tags) for line in store.listed()] == [("b", ()), ("b@22222222", ("x", "한국어"))]
        with store.batch():
            store.labels.note(model, "")
        assert store.labels.notes([model]) == {}
        store.remove("b@22222222")
        assert store.tags_used() == {}


@pytest.mark.parametrize("wrong", ["", " ", "two words", "a*", "+a", "-a", "x" * 65, "a\nb", "\udc80"])
def test_what_can_be_no_tag_is_refused(store: Store, wrong: str) -> None:
    put(store, "a")
    with store.batch(), pytest.raises(RegistryError, match="cannot be a tag"):
        store.labels.tag(1, [wrong])
    with store.batch(), pytest.raises(RegistryError, match=r"a note of 4,097 characters"):
        store.labels.note(1, "x" * 4097)


# exact duplicates


def test_models_of_one_content_are_twins(store: Store) -> None:
    first = put(store, "a", content="full-1111111111")
    put(store, "a", content="full-2222222222")
    other = put(store, "b", content="full-1111111111")
    assert (store.twins(other), store.twins(first)) == (["a@11111111"], ["b"])
    assert store.twins(put(store, "c", content="full-3333333333")) == []


@pytest.mark.parametrize("part", [{"unread": [{"bytes": 8, "what": "U8"}]}, {"shards": [1, 2]}])
def test_what_was_read_in_part_is_nobodys_twin(store: Store, part: dict[str, Any]) -> None:
    whole = put(store, "a", content="full-1111111111")
    in_part = put(store, "b", content="full-1111111111", about=part)
    assert (store.twins(whole), store.twins(in_part)) == ([], [])
    assert store.twins(put(store, "c", content="full-1111111111")) == ["a"]


# backups


def test_a_backup_is_the_registry_as_it_was(zoo: Store, opened: Open, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with opened() as writer, writer.batch():
        put(writer, "unfinished")
        back_up(zoo, target)
    with open_store(target, create=False) as copy:
        assert copy.names() == sorted(ALL)
        assert copy.listed() == [line for line in zoo.listed() if line.model != "unfinished"]
        assert list(copy.inspection.damage()) == list(copy.inspection.orphans()) == []
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []
