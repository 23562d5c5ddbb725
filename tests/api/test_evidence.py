"""Evidence that others can check: whole, made again from nothing but itself, refused by name when it was changed, and without secrets."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import modelkin
from calls import run
from modelkin.bundles import bundle
from modelkin.bundles.checking import compared
from modelkin.errors import EvidenceError, ModelkinError, UnusableKey
from modelkin.evidencing import FORMS
from modelkin.standards.facts import facts_of
from modelkin.standards.forms import WRITERS
from modelkin_indexer.results import fingerprint as fingerprints
from tiny_models import save_model, tiny_llama, tuned

CHANGES = 12  # benchmarks/reports/changes.py makes 500


@pytest.fixture
def made(filled: Path) -> Path:
    modelkin.evidence("child", "parent", "pair.json", controls=["stranger"], command="modelkin evidence child parent", registry="r.db")
    return Path("pair.json")


def sections(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The bundle with something changed, and all digests made anew by whoever changed it."""
    found = sections(path)
    change(found)
    target = path.with_name("changed.json")
    target.write_bytes(bundle.to_bytes({name: found[name] for name in bundle.SECTIONS}))
    return target


def test_a_bundle_tells_all_that_it_rests_on_and_is_made_again(made: Path) -> None:
    found = sections(made)
    assert found["made"]["spec"]
    assert found["made"]["command"] == "modelkin evidence child parent"
    assert [one["name"] for one in found["made"]["inputs"]] == ["child", "parent", "stranger"]
    weights = Path("child/model.safetensors").read_bytes()
    assert found["made"]["inputs"][0]["files"][-1]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert str(made.resolve().parent) not in made.read_text(encoding="utf-8")  # nor where files lie here
    answer = modelkin.compare("child", "parent", controls=["stranger"], tensors=True, registry="r.db").to_dict()
    for name in ("relation", "components", "p_value", "alternatives", "counterparts", "examined"):
        assert found["answer"][name] == answer[name], name
    done = modelkin.verify(made)
    assert (done.verdict, done.differences) == ("reproduced", ())
    assert done.values > 300
    assert done.models == ("child", "parent", "stranger")
    again = modelkin.verify(made, weights=["child", "parent"])
    assert again.verdict == "reproduced"
    assert again.weights == ("child", "parent")
    assert again.values == 2 * done.values


def test_whatever_byte_is_changed_it_is_refused_by_name(made: Path) -> None:
    data, draw = made.read_bytes(), random.Random(1)
    for _ in range(CHANGES):
        at = draw.randrange(len(data))
        other = draw.choice([byte for byte in range(256) if byte != data[at]])
        _refused(data[:at] + bytes([other]) + data[at + 1 :])


def test_whatever_digit_is_changed_it_is_refused_by_name(made: Path) -> None:
    data, draw = made.read_bytes(), random.Random(2)
    digits = [match.start() for match in re.finditer(rb"\d", data)]
    for at in draw.sample(digits, CHANGES):
        other = draw.choice([digit for digit in b"0123456789" if digit != data[at]])
        _refused(data[:at] + bytes([other]) + data[at + 1 :])


def _refused(data: bytes) -> None:
    """By an error that names the file and the place, or by differences that name the section or field."""
    Path("changed.json").write_bytes(data)
    done, error = verified(Path("changed.json"))
    assert error is None or error.startswith("changed.json: ")
    if done is not None:
        assert done.verdict == "differs"
        assert all(re.split(r"[/\[]", one.where)[0] in (*bundle.SECTIONS, "digests") for one in done.differences)


def verified(path: Path) -> tuple[Any, str | None]:
    """What becomes of checking a bundle: an answer, or an error's words."""
    try:
        return modelkin.verify(path), None
    except ModelkinError as error:
        return None, str(error)


def _set(*way: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(found: dict[str, Any]) -> None:
        inside: Any = found
        for step in way[:-1]:
            inside = inside[step]
        inside[way[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set("answer", "relation", value="unrelated"), "answer/relation"),
        (_set("answer", "components", 0, "families", 0, "r", value=0.5), "answer/components[0]/families[0]/r"),
        (_set("answer", "p_value", value=1e-20), "answer/p_value"),
        (_set("answer", "shared", value=None), "answer/shared"),
        (_set("answer", "extra", value=1), "answer/extra"),
        (_set("answer", "explanation", 0, value="child was stolen from parent."), "answer/explanation[0]"),
        (_set("judge", "shipped", "probe", "default", value=0.001), "judge/shipped/probe/default"),
        (_set("judge", "own", value=[["attention", "probe", 0.9]]), "answer/"),
        (_set("made", "key", value="private-000000000000"), "made/key"),
        (_set("made", "spec", value="1"), "made/spec"),
        (_set("made", "inputs", 0, "files", 0, "sha256", value="0" * 64), "made/inputs/child/sha256"),
        (_set("made", "inputs", 0, "sha256", value=None), "made/inputs/child/sha256"),
        (_set("fingerprints", "child", "content", value="full-0"), "fingerprints/child/content"),
        (_set("fingerprints", "child", "sha256", value="0"), "fingerprints/child/sha256"),
    ],
)
def test_a_change_with_new_digests_is_found_by_making_the_numbers_again(
    made: Path, change: Callable[[dict[str, Any]], None], where: str
) -> None:
    done = modelkin.verify(rewritten(made, change))
    assert done.verdict == "differs"
    assert any(one.where.startswith(where) for one in done.differences)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_set("question", "a", value="parent"), "question"),
        (_set("question", "controls", value=["stranger"] * 100_000), "question"),
        (_set("question", "controls", value=[]), "question"),
        (_set("judge", "searched", value=0), "judge/searched"),  # whose p-values would all be 0
        (_set("judge", "searched", value=-5), "judge/searched"),
        (_set("judge", "searched", value=0.5), "judge/searched"),
        (_set("judge", "searched", value="x"), "judge/searched"),
        (_set("judge", "searched", value=10**400), "judge/searched"),
        (_set("judge", "own", value=[["attention", "probe", -1.0]]), "judge/own"),
        (_set("judge", "own", value=[["attention", "probe", "x"]]), "judge/own"),
        (_set("judge", "own", value=[["attention", "probe", 0.1, 0.1]]), "a section"),
    ],
)
def test_what_no_comparison_is_judged_by_is_refused_by_name(made: Path, change: Callable[[dict[str, Any]], None], named: str) -> None:
    with pytest.raises(EvidenceError, match=rf"changed\.json: {named}:? was changed"):
        modelkin.verify(rewritten(made, change))


def test_files_that_are_not_held_against_digests_are_told(made: Path) -> None:
    def nameless(found: dict[str, Any]) -> None:
        found["made"]["inputs"][0] |= {"files": [], "sha256": None}

    done = modelkin.verify(rewritten(made, nameless), weights=["child", "parent"])
    assert done.verdict == "reproduced"
    assert [note for note in done.notes if "files of child" in note]
    assert not [note for note in done.notes if "files of parent" in note]


def test_fingerprints_of_other_weights_do_not_give_this_answer(made: Path) -> None:
    def exchange(found: dict[str, Any]) -> None:
        found["fingerprints"]["parent"] = found["fingerprints"]["stranger"]

    assert modelkin.verify(rewritten(made, exchange)).verdict == "differs"


def test_other_weights_than_those_of_the_bundle_are_named(made: Path) -> None:
    save_model(Path("other"), tuned(tiny_llama(1), 9))
    done = modelkin.verify(made, weights=["other"])
    assert done.verdict == "differs"
    assert {"weights of child", "files of child"} <= {one.where for one in done.differences}
    with pytest.raises(EvidenceError, match="the bundle is of 3"):
        modelkin.verify(made, weights=["child"] * 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"format": "modelkin evidence", "format": "modelkin evidence"}',
        b'{"format": "modelkin evidence", "version": 2}',
        b'{"format": "modelkin evidence", "version": NaN}',
        b"[" * 100_000,
        b'{"format": "modelkin evidence", "version": ' + b"1" * 10_000 + b"}",
        b'{"format": "\\ud800"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_bundle_is_told_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(EvidenceError, match=r"x\.json"):
        modelkin.verify(tmp_path / "x.json")
    with pytest.raises(EvidenceError, match=r"none\.json"):
        modelkin.verify(tmp_path / "none.json")


@pytest.mark.parametrize("section", bundle.SECTIONS)
@pytest.mark.parametrize("value", [None, [], {}, "x", 3], ids=str)
def test_sections_of_another_form_are_refused(made: Path, section: str, value: Any) -> None:
    done, error = verified(rewritten(made, _set(section, value=value)))
    assert error is None or "changed.json" in error
    assert done is None or done.verdict == "differs" or (section == "claims" and not value)


def test_a_private_key_is_in_no_bundle_and_is_not_needed_to_check_one(filled: Path) -> None:
    told = modelkin.key("new", "own.key")
    secret = bytes.fromhex(Path("own.key").read_text().strip())
    modelkin.evidence("child", "parent", "pair.json", forms=tuple(FORMS), key_file="own.key")
    for file in Path().glob("pair.*"):
        data = file.read_bytes()
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert form not in data
    held = base64.b64decode(sections(Path("pair.json"))["fingerprints"]["child"]["data"])
    assert secret not in held
    assert fingerprints.from_bytes(held).about.key == told.key
    done = modelkin.verify("pair.json")
    assert (done.verdict, done.key) == ("reproduced", told.key)
    assert any("private key" in note for note in done.notes)
    with pytest.raises(UnusableKey, match="Give its key"):
        modelkin.verify("pair.json", weights=["child"])
    assert modelkin.verify("pair.json", weights=["child"], key_file="own.key").verdict == "reproduced"


def test_a_registrys_own_background_is_part_of_what_is_judged_by(filled: Path) -> None:
    modelkin.evidence("child", "parent", "pair.json", registry="r.db")
    with modelkin.Registry.open("r.db") as registry:
        registry.inner.backgrounds = {("attention", "probe"): 0.4}
        registry.evidence("child", "parent", "own.json")
    plain, own = sections(Path("pair.json")), sections(Path("own.json"))
    assert own["judge"]["own"] == [["attention", "probe", 0.4]]
    assert own["answer"]["components"] != plain["answer"]["components"]
    done = modelkin.verify("own.json")
    assert done.verdict == "reproduced"  # without the registry
    assert any("writer's word" in note and "relation is the same" in note for note in done.notes)
    assert not any("writer's word" in note for note in modelkin.verify("pair.json").notes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.98, 0.98 + 1e-7, True),
        (0.98, 0.981, False),
        (1e-12, 2e-12, False),
        (1e-12, 1.0001e-12, True),
        (1, True, False),
        (1, 1.0, True),
        (None, 0.0, False),
        ("r 0.981 of 24", "r 0.982 of 24", True),
        ("r 0.981 of 24", "r 0.983 of 24", False),
        ("r 0.981 of 24", "r 0.981 of 25", False),
        ("is not", "is", False),
        ([1, 2], [1], False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_what_counts_as_the_same(one: Any, other: Any, same: bool) -> None:
    assert (compared(one, other, "x")[1] == []) == same


def test_the_command_line_checks_and_ends_with_its_codes(filled: Path) -> None:
    said = run("evidence", "child", "parent", "--control", "stranger", "-o", "pair.json", "--as", "spdx", "--json")
    assert said.exit_code == 0, said.output
    told = json.loads(said.stdout)
    assert told["sha256"] == hashlib.sha256(Path("pair.json").read_bytes()).hexdigest()
    assert told["beside"] == {"spdx": "pair.spdx.json"}
    assert sections(Path("pair.json"))["made"]["command"].startswith("modelkin --registry r.db evidence child parent --control stranger")
    said = run("verify", "pair.json", "--weights", "child", "parent")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("Reproduced: all ")
    changed = rewritten(Path("pair.json"), _set("answer", "relation", value="identical"))
    said = run("verify", str(changed))
    assert said.exit_code == 1
    assert "answer/relation" in said.stdout
    changed.write_text("{")
    assert run("verify", str(changed)).exit_code == 3
    assert run("evidence", "child", "parent", "-o", "none/pair.json").exit_code == 2


# other standards: what these rules leave open, benchmarks/reports/standards.py asks of each standard's own validator


def told_as(form: str, path: Path) -> str:
    data = path.read_bytes()
    return WRITERS[form](facts_of(json.loads(data), data))


def test_forms_and_writers_are_the_same() -> None:
    assert FORMS.keys() == WRITERS.keys()


def test_a_cyclonedx_document_says_no_more_than_was_measured(made: Path) -> None:
    found = json.loads(told_as("cyclonedx", made))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
    (subject,) = found["components"]
    assert subject["type"] == "machine-learning-model"
    assert subject["pedigree"].keys() == {"variants", "notes"}  # no direction is known, so neither an ancestor nor a descendant
    (other,) = subject["pedigree"]["variants"]
    assert other["name"] == "parent"
    assert {"name": "modelkin:basis", "value": "measured"} in other["properties"]
    assert all(set(one) == {"name", "value"} and isinstance(one["value"], str) for one in subject["properties"])


def test_what_is_declared_stands_apart_from_what_was_measured(filled: Path) -> None:
    Path("child/README.md").write_text("---\nbase_model: parent\n---\n")
    modelkin.evidence("child", "parent", "pair.json")
    found = json.loads(told_as("cyclonedx", Path("pair.json")))
    pedigree = found["components"][0]["pedigree"]
    assert [one["properties"] for one in pedigree["ancestors"]] == [[{"name": "modelkin:basis", "value": "declared"}]]
    assert modelkin.verify("pair.json").verdict == "reproduced"
    assert json.loads(told_as("in-toto", Path("pair.json")))["predicate"]["declaredBases"] == ["parent"]


def test_no_relation_no_pedigree(filled: Path) -> None:
    modelkin.evidence("fake", "parent", "pair.json")
    path = Path("pair.json")
    assert json.loads(told_as("cyclonedx", path))["components"][0]["pedigree"].keys() == {"notes"}
    graph = json.loads(told_as("spdx", path))["@graph"]
    assert {one.get("relationshipType") for one in graph} & {"descendantOf", "ancestorOf"} == set()
    assert "base_model" not in told_as("model-card", path).replace("No base model", "")


WAYS = [(["query from relative"], "ancestors", "ab"), (["relative from query"], "descendants", "ba")]


@pytest.mark.parametrize(("ways", "kind", "ends"), WAYS)
def test_a_direction_that_a_fact_tells_is_said(made: Path, ways: list[str], kind: str, ends: str) -> None:
    path = rewritten(made, _set("answer", "alternatives", value=ways))
    assert kind in json.loads(told_as("cyclonedx", path))["components"][0]["pedigree"]
    (edge,) = [one for one in json.loads(told_as("spdx", path))["@graph"] if one.get("relationshipType") == "descendantOf"]
    assert [edge["from"].rpartition("#")[2], edge["to"][0].rpartition("#")[2]] == list(ends)
    assert ("base_model:" in told_as("model-card", path)) == (ends == "ab")


def test_an_spdx_document_is_one_graph_whose_names_are_all_there(made: Path) -> None:
    found = json.loads(told_as("spdx", made))
    assert found["@context"] == "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
    graph = found["@graph"]
    known = {one.get("spdxId", one.get("@id")) for one in graph}
    assert len(known) == len(graph)
    for one in graph:
        assert one["type"]
        named = {one[name] for name in ("creationInfo", "from") if name in one}
        named |= {other for name in ("to", "element", "rootElement", "createdBy") for other in one.get(name, ())}
        assert named <= known
    (relation,) = [one for one in graph if one.get("relationshipType") == "other"]
    assert "direction unknown" in relation["comment"]


def test_an_in_toto_statement_names_the_files_by_their_digests(made: Path) -> None:
    found = json.loads(told_as("in-toto", made))
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found.keys() == {"_type", "subject", "predicateType", "predicate"}
    digest = hashlib.sha256(Path("child/model.safetensors").read_bytes()).hexdigest()
    assert {"name": "child/model.safetensors", "digest": {"sha256": digest}} in found["subject"]
    assert found["predicate"]["evidence"]["digest"]["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()


def test_a_model_card_is_a_suggestion_with_its_doubt(made: Path) -> None:
    text = told_as("model-card", made)
    head = yaml.safe_load(text.split("---")[1])
    assert head == {"base_model": ["parent"], "base_model_relation": "finetune"}
    assert "paste this only if parent did" in text
    from huggingface_hub import ModelCard

    assert ModelCard(text[text.index("---") :]).data.base_model == ["parent"]


def test_hostile_names_stay_values_in_every_form(filled: Path) -> None:
    name = 'a"}\n---\nbase_model: x\n<script>'.replace("/", "")
    save_model(Path(name), tuned(tiny_llama(1), 3))
    modelkin.evidence(f"./{name}", "parent", "pair.json")
    assert modelkin.verify("pair.json").verdict == "reproduced"
    for form in ("cyclonedx", "spdx", "in-toto"):
        assert json.loads(told_as(form, Path("pair.json")))
    text = told_as("model-card", Path("pair.json"))
    assert [line for line in text.splitlines() if line.startswith("base_model:")] == ["base_model:"]
