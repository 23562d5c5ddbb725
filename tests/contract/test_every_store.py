"""What every store must do, whatever engine is behind it: models, their revisions and names, transactions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelkin_indexer.errors import NameTaken, RegistryError, UnknownModel
from modelkin_indexer.results.beside import Claim
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.rows import IndexRows
from registry_helpers import record, rows, units

Open = Callable[[], Store]


# putting


def test_get_returns_what_was_put(opened: Open) -> None:
    given = record("org/a", config={"hidden_size": 8})
    with opened() as store:
        result = store.put(given, rows(1))
    with opened() as store:
        found = store.get("org/a")
        assert (result.status, result.model_id, result.revision) == ("added", found.model_id, found.revision)
        same = "name content level spec key parameters bytes_total coverage about config origin blob sender"
        for field in same.split():
            assert getattr(found, field) == getattr(given, field)
        assert (store.count(), store.names(), store.numbers()) == (1, ["org/a"], [found.revision])
        assert store.stored([found.revision, 999]) == {found.revision: found}
        assert store.names_of([found.revision, 999]) == {found.revision: "org/a"}
        assert store.blob(found.digest) == given.blob


def test_same_content_is_unchanged_and_its_source_refreshed(store: Store) -> None:
    store.put(record(), rows(1))
    before, generation = store.show("m")["revisions"][0]["sources"][0], store.generation()
    assert store.put(record(claims=(Claim("license", "mit", "README"),)), rows(2)).status == "unchanged"
    after = store.show("m")["revisions"][0]["sources"]
    assert [source["first_seen"] for source in after] == [before["first_seen"]]
    assert after[0]["last_seen"] > before["last_seen"]
    assert store.put(record(who="somebody else")).status == "unchanged"
    assert [source["who"] for source in store.show("m")["revisions"][0]["sources"]] == ["somebody else", "tester"]
    assert {claim["kind"] for claim in store.show("m")["claims"]} == {"base_model", "license"}
    assert store.generation() == generation


@pytest.mark.parametrize("order", [("probe", "full"), ("full", "probe")])
def test_the_higher_level_stands_for_the_revision(store: Store, order: tuple[str, str]) -> None:
    revisions = {store.put(record(level=level), rows(seed)).revision for seed, level in enumerate(order)}
    assert len(revisions) == 1
    found = store.get("m")
    assert found.level == "full"
    assert len(store.show("m")["revisions"][0]["fingerprints"]) == 2
    vectors = store.vectors.of(found.revision)
    assert {one.fingerprint for one in vectors} == {found.fingerprint}
    assert units(order.index("full"), 1).astype("<f2").tobytes() in {one.data for one in vectors}


def test_the_content_of_the_higher_level_names_both(store: Store) -> None:
    store.put(record(content="probe-1"), rows(1))
    assert store.put(record(content="full-1", level="full", known_as="probe-1"), rows(2)).status == "added"
    assert (store.get("m").content, store.listed()[0].revisions) == ("full-1", 1)


def test_rows_of_another_size_are_refused_with_the_whole_put(store: Store) -> None:
    store.put(record("a"), rows(1))
    before = store.generation()
    for bad in (
        [IndexRows("sum/mlp", "text", (-1,), units(1, 1, 8))],
        [*rows(1), rows(1)[0]],
        [IndexRows("sum/mlp", "text", (-1,), 2 * units(1, 1))],
        [IndexRows("sum/mlp", "text", (-1,), units(1, 1) * float("nan"))],
        [IndexRows("sum/mlp", "text", (-1, 0), units(1, 1))],
        [IndexRows("sum/mlp", "../text", (-1,), units(1, 1))],
    ):
        with pytest.raises(ValueError, match=r"rows|kind"):
            store.put(record("b"), bad)
    assert (store.names(), store.generation()) == (["a"], before)


def test_words_that_are_no_text_do_not_stop_a_put(store: Store) -> None:
    store.put(record(origin="/models/\udc80", claims=(Claim("base_model", "\udcff", "config.json"),)))
    assert (store.get("m").origin, store.show("m")["claims"][0]["value"]) == ("/models/\\udc80", "\\udcff")


@pytest.mark.parametrize(
    "change", [{"key": "private-1"}, {"spec": "0"}, {"level": "half"}, {"name": ""}, {"name": "a\nb"}, {"name": "\udc80"}]
)
def test_records_that_do_not_belong_are_refused(store: Store, change: dict[str, str]) -> None:
    with pytest.raises(RegistryError, match=r": .*\. (Index|Give)"):
        store.put(record(**change))


# revisions


HISTORY = (("full-1111111111", "full"), ("probe-2222222222", "probe"), ("probe-3333333333", "probe"))


def test_other_content_is_a_new_revision_and_every_one_is_searched(store: Store) -> None:
    made = [store.put(record(content=content, level=level), rows(seed)) for seed, (content, level) in enumerate(HISTORY)]
    assert len({one.model_id for one in made}) == 1
    numbers = [one.revision for one in made]
    assert numbers == sorted(set(numbers)) == store.numbers() == store.revisions_of(made[0].model_id)
    assert store.numbers(current=True) == store.current_of(["m"]) == numbers[-1:]
    assert (store.get("m").content, store.get("m").level, store.get("m").current) == ("probe-3333333333", "probe", True)
    assert [revision["content"] for revision in store.show("m")["revisions"]] == [content for content, _ in reversed(HISTORY)]
    assert (store.listed()[0].revisions, store.count(), store.count_revisions()) == (3, 1, 3)
    for seed, number in enumerate(numbers):
        assert units(seed, 1).astype("<f2").tobytes() in {one.data for one in store.vectors.of(number)}
    assert store.models_of([*numbers, 99]) == dict.fromkeys(numbers, made[0].model_id)


def test_a_content_that_comes_back_is_a_revision_again(store: Store) -> None:
    made = [store.put(record(content=content), rows(1)).revision for content in ("1", "2", "1", "1")]
    assert made == [1, 2, 3, 3]
    assert (store.get("m").content, store.listed()[0].revisions) == ("1", 3)


def test_an_older_revision_has_a_name(store: Store) -> None:
    for seed, (content, level) in enumerate(HISTORY):
        store.put(record(content=content, level=level), rows(seed))
    names = ["m@11111111", "m@22222222", "m"]
    assert [store.names_of([number])[number] for number in store.numbers()] == names
    assert [store.get(name).content for name in names] == [content for content, _ in HISTORY]
    assert [store.get(name).name for name in ("m@11111111", "m@33333333")] == ["m@11111111", "m"]
    assert [one["content"] for one in store.show("m@11111111")["revisions"]] == ["full-1111111111"]
    assert "m@22222222" in store
    assert "m@44444444" not in store
    store.rename("m", "n")
    assert [store.names_of([number])[number] for number in store.numbers()] == ["n@11111111", "n@22222222", "n"]
    assert store.get("m@11111111").name == "n@11111111"
    with pytest.raises(RegistryError, match="revision of 'n'"):
        store.rename("n@11111111", "x")
    with pytest.raises(RegistryError, match="name of a revision"):
        store.put(record("n@11111111"))


def test_a_revision_may_be_removed_alone(store: Store) -> None:
    for seed, (content, level) in enumerate(HISTORY):
        store.put(record(content=content, level=level), rows(seed))
    store.remove("m@22222222")
    assert [one["content"] for one in store.show("m")["revisions"]] == [HISTORY[2][0], HISTORY[0][0]]
    assert store.changed(3) == [2]
    store.remove("m@33333333")
    assert (store.get("m").content, store.names_of([1])) == (HISTORY[0][0], {1: "m"})
    store.remove("m@11111111")
    assert (store.names(), store.numbers()) == ([], [])


# names


def test_a_former_name_resolves(store: Store) -> None:
    model = store.put(record("a", content="c"), rows(1)).model_id
    store.rename("a", "b")
    store.rename("a", "c")
    assert {store.find(name) for name in "abc"} == {model}
    assert (store.get("a").name, store.names(), store.count()) == ("c", ["c"], 1)
    assert store.show("b")["former_names"] == ["a", "b"]
    result = store.put(record("a", content="c"))
    assert (result.status, result.name, result.model_id) == ("unchanged", "c", model)
    store.rename("c", "a")
    assert (store.names(), store.show("a")["former_names"]) == (["a"], ["b", "c"])


def test_rename_refuses_a_taken_name(store: Store) -> None:
    for name in ("a", "b"):
        store.put(record(name), rows(1))
    store.rename("b", "c")
    for taken in ("b", "c"):
        with pytest.raises(RegistryError, match="is taken by 'c'"):
            store.rename("a", taken)
    assert store.names() == ["a", "c"]


def test_unknown_model_suggests_close_names(store: Store) -> None:
    store.put(record("org/llama-7b"), rows(1))
    for ask in (store.get, store.show, store.remove):
        with pytest.raises(UnknownModel, match="Did you mean 'org/llama-7b'"):
            ask("org/lama-7b")
    with pytest.raises(UnknownModel, match="modelkin list"):
        store.get("zzz")


def test_unrelated_content_does_not_take_a_name(store: Store) -> None:
    first = store.put(record(content="full-1111111111", parameters=1234), rows(1))
    before = store.generation()
    words = r"'m' .*1,234 parameters, added 20..-..-.., from /models/m.*`--as NAME`.*`--replace`.*'m@11111111'"
    with pytest.raises(NameTaken, match=words):
        store.put(record(content="full-2222222222"), rows(2), unrelated=True)
    assert (store.generation(), store.get("m").content) == (before, "full-1111111111")
    result = store.put(record(content="full-2222222222"), rows(2), unrelated=True, replace=True)
    assert (result.status, result.name, result.kept) == ("added", "m", "m@11111111")
    assert (store.names(), store.find("m@11111111")) == (["m", "m@11111111"], first.model_id)
    assert store.numbers(current=True) == [first.revision, result.revision]
    assert store.show("m@11111111")["claims"] == store.claims.of_model(first.model_id) != []
    again = store.put(record(content="full-1111111111"), rows(1), unrelated=True, replace=True)
    assert (again.status, again.model_id, again.kept) == ("unchanged", first.model_id, "m@22222222")
    assert store.names() == ["m", "m@22222222"]


def test_unrelated_content_frees_a_former_name(store: Store) -> None:
    store.put(record("a", content="full-1111111111"), rows(1))
    store.rename("a", "b")
    with pytest.raises(NameTaken, match="now named 'b'"):
        store.put(record("a", content="full-2222222222"), rows(2), unrelated=True)
    assert store.put(record("a", content="full-2222222222"), rows(2), unrelated=True, replace=True).kept == "b"
    assert (store.names(), store.show("b")["former_names"]) == (["a", "b"], [])


def test_an_imported_model_gives_way_and_takes_nothing(store: Store) -> None:
    store.put(record("m", content="full-1111111111", sender="their file"), rows(1))
    assert store.get("m").origin == "from their file: /models/m"
    assert store.listed()[0].sender == store.show("m")["sender"] == "their file"
    mine = store.put(record("m", content="full-2222222222"), rows(2))
    assert (mine.status, mine.kept) == ("added", "m#11111111")
    assert (store.get("m").sender, store.get("m#11111111").sender) == ("", "their file")
    with pytest.raises(RegistryError, match="the name 'm' is that of another model"):
        store.put(record("m", content="full-1111111111", sender="their file"), rows(1))
    assert store.names() == ["m", "m#11111111"]


# removing


def test_remove_leaves_nothing_and_numbers_are_not_given_again(store: Store) -> None:
    store.put(record("kept"), rows(1))
    gone = store.put(record("gone"), rows(2))
    store.rename("gone", "soon gone")
    store.remove("gone")
    assert (store.names(), store.find("gone"), store.find("soon gone"), store.vectors.of(gone.revision)) == (["kept"], None, None, [])
    assert store.put(record("gone"), rows(2)).revision > gone.revision
    assert [change.what for change in store.changes(1)] == ["put", "rename", "remove", "put"]
    assert store.changed(1) == [gone.revision, gone.revision + 1]
    assert list(store.inspection.orphans()) == list(store.inspection.lost_references()) == list(store.inspection.damage()) == []


# transactions


def test_batch_is_one_transaction_and_its_parts_may_fail_alone(opened: Open) -> None:
    with opened() as store, opened() as other:
        with store.batch():
            store.put(record("a"), rows(1))
            with pytest.raises(ValueError, match="rows"):
                store.put(record("b"), [*rows(1), *rows(1)])
            store.put(record("c"), rows(1))
            assert other.names() == []
        assert other.names() == ["a", "c"]

        def half_a_batch() -> None:
            with store.batch():
                store.put(record("d"))
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            half_a_batch()
        assert other.names() == ["a", "c"]


def test_reading_sees_one_moment(opened: Open) -> None:
    with opened() as store, opened() as writer:
        store.put(record("a"))
        with store.reading():
            assert store.count() == 1
            writer.put(record("b"))
            assert store.count() == 1
        assert store.count() == 2


def test_contents_are_told_by_number_and_looked_up(store: Store) -> None:
    added = {name: store.put(record(name, content=content)).revision for name, content in (("a", "one"), ("b", "two"), ("c", "one"))}
    shards = store.put(record("d", content="three", about={"components": ["text"], "shards": [1]})).revision
    unread = store.put(record("e", content="four", about={"unread": [{"what": "MLX"}]})).revision
    assert store.contents() == {added["a"]: "one", added["b"]: "two", added["c"]: "one", shards: "three", unread: "four"}
    assert store.contents({"one", "nothing has it"}) == {added["a"]: "one", added["c"]: "one"}
    assert store.contents(set()) == {}
    assert store.in_part(store.contents()) == {shards, unread}
    assert store.in_part([added["a"]]) == set()
