"""What folders say of themselves: read with suspicion, stored, shown beside what the weights show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import run
from modelkin_indexer.beside.claims import MAX_OF_A_KIND, MAX_README, MAX_VALUE, claims_of
from modelkin_indexer.results.beside import Claim
from modelkin_registry.claims.declared import lineage_claims, registered_as, texts_in, verdict_on

CARD = "---\nbase_model: org/parent\nlicense: mit\nwidget:\n- tags: no\ntags:\n- merge\n- code\n---\n# Text\n---\nlicense: no\n---\n"


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / {"readme": "README.md", "recipe": "mergekit_config.yml"}.get(name, f"{name}.json")).write_text(text)
    return tmp_path


def test_every_file_of_a_folder_is_heard(tmp_path: Path) -> None:
    config = {"_name_or_path": "org/start", "architectures": ["LlamaForCausalLM"], "transformers_version": "5.0", "hidden_size": 8}
    recipe = "models:\n- model: org/a\n  parameters: {weight: 0.5}\n- model: org/b\nmerge_method: ties\nbase_model: org/base\n"
    adapter = json.dumps({"base_model_name_or_path": "org/adapted", "peft_type": "LORA", "r": 8})
    found, notes = claims_of(folder(tmp_path, readme=CARD, config=json.dumps(config), recipe=recipe, adapter_config=adapter))
    assert notes == ()
    assert {(c.kind, c.value, c.source) for c in found} == {
        ("base_model", "org/parent", "README.md"),
        ("license", "mit", "README.md"),
        ("tag", "merge", "README.md"),
        ("tag", "code", "README.md"),
        ("name_or_path", "org/start", "config.json"),
        ("architecture", "LlamaForCausalLM", "config.json"),
        ("transformers_version", "5.0", "config.json"),
        ("base_model", "org/adapted", "adapter_config.json"),
        ("adapter", "LORA", "adapter_config.json"),
        ("merged_from", "org/a", "mergekit_config.yml"),
        ("merged_from", "org/b", "mergekit_config.yml"),
        ("merge_method", "ties", "mergekit_config.yml"),
        ("base_model", "org/base", "mergekit_config.yml"),
    }


def test_slices_of_a_recipe_are_heard(tmp_path: Path) -> None:
    recipe = "slices:\n- sources:\n  - model: a\n    layer_range: [0, 8]\n- sources:\n  - model: b\n    layer_range: [8, 16]\n"
    assert [claim.value for claim in claims_of(folder(tmp_path, recipe=recipe))[0]] == ["a", "b"]


ALIASES = "a: &a [x, x]\n" + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(15))
HOSTILE = {
    "deep": "[" * 60_000,
    "bomb": ALIASES,
    "recursive": "a: &a [*a]",
    "code": "base_model: !!python/object/apply:os.system ['touch ran']",
    "control": "base_model: a\x1b[31m",
    "long": f"base_model: {'a' * 70_000}",
    "list": "- a\n- b",
    "tab": "base_model:\n\t- a",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("place", ["readme", "recipe"])
def test_hostile_words_are_a_note_or_nothing(tmp_path: Path, text: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, notes = claims_of(folder(tmp_path, **{place: f"---\n{text}\n---\n" if place == "readme" else text}))
    assert {claim.value for claim in found} <= {"touch ran"}
    assert all(note.startswith("claims of") and len(note) < 2 * MAX_VALUE for note in notes)
    assert not (tmp_path / "ran").exists()


def test_claims_are_bounded(tmp_path: Path) -> None:
    tags = "".join(f"- tag{number}\n" for number in range(5 * MAX_OF_A_KIND))
    found, _ = claims_of(folder(tmp_path, readme=f"---\nlicense: {'l' * (MAX_VALUE + 1)}\ntags:\n{tags}---\n"))
    assert len(found) == MAX_OF_A_KIND
    (tmp_path / "README.md").write_text("---\nlicense: mit\n" + "#" * MAX_README + "\n---\n")
    assert claims_of(tmp_path) == ((), ())


def test_a_readme_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").symlink_to("../secret.md")
    found, notes = claims_of(tmp_path / "model")
    assert found == ()
    assert "outside" in notes[0]


def test_a_file_of_its_own_name_is_not_spoken_for_by_its_folder(tmp_path: Path) -> None:
    folder(tmp_path, readme=CARD)
    for name in ("model.safetensors", "other.safetensors"):
        (tmp_path / name).touch()
    assert claims_of(tmp_path / "model.safetensors")[0]
    assert claims_of(tmp_path / "other.safetensors") == ((), ())


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300))
def test_any_text_is_survived(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(f"---\nbase_model: {text}\n---\n", encoding="utf-8")
    (tmp_path / "mergekit_config.yml").write_text(text, encoding="utf-8")
    found, _ = claims_of(tmp_path)
    assert all(claim.value.strip() == claim.value != "" and len(claim.value) <= MAX_VALUE for claim in found)


def test_names_are_matched_only_where_they_can_mean_one_model() -> None:
    aliases = [{"org/a": "org/a", "b": "b", "old": "b", "x/c": "x/c", "y/c": "y/c"}, {"who/b": "who/b", "who/d": "d"}]
    assert registered_as("org/a", aliases) == registered_as("A", aliases) == registered_as("/home/me/a", aliases) == "org/a"
    assert registered_as("other/a", aliases) is None
    assert registered_as("who/B@main", aliases) == registered_as("old", aliases) == "b"
    assert registered_as("who/b", aliases) == "b"  # what was read here is meant before what an import brought
    assert registered_as("who/d", aliases) == "d"
    assert registered_as("c", aliases) is None
    assert registered_as("", aliases) is registered_as("/", aliases) is None
    assert [verdict_on("b", relation) for relation in ("fine-tuned", "norms only", "not comparable")] == [
        "consistent",
        "nothing",
        "not comparable",
    ]


LETTERS = st.text("aAbé_%/\\\\@.~", max_size=6)


@given(LETTERS, st.lists(LETTERS, max_size=6))
def test_the_names_that_a_claim_may_mean_are_all_looked_at(value: str, names: list[str]) -> None:
    """Of the names without the text nothing changes what a claim means."""
    said = [Claim("base_model", value, "README.md"), Claim("license", "b", "README.md")]
    every = [dict(zip(names, names, strict=True)), {}]
    texts = texts_in(said)
    assert texts is None or "b" not in texts or "b" in value.lower()
    few = (
        every
        if texts is None
        else [{name: now for name, now in one.items() if any(text in name.lower() for text in texts)} for one in every]
    )
    assert lineage_claims(said, few) == lineage_claims(said, every)


def test_claims_are_stored_shown_and_withdrawn(models: Path) -> None:
    folder(models / "child", readme="---\nbase_model: some/parent\n---\n")
    assert run("add", "parent", "child").exit_code == 0
    assert "some/parent (in README.md)" in run("show", "child").output
    folder(models / "child", readme="---\nbase_model: '[red]other'\n---\n")
    assert run("add", "child", "--json").exit_code == 0
    shown = json.loads(run("show", "child", "--json").output)
    assert [(c["value"], c["current"]) for c in shown["claims"]] == [("[red]other", True), ("some/parent", False)]
    assert "some/parent (no longer in README.md)" in run("show", "child").output


def test_a_query_tells_claims_beside_what_the_weights_show(filled: Path) -> None:
    folder(filled / "child", readme="---\nbase_model:\n- org/parent\n- stranger\n- nobody/knows\n---\n")
    answer = json.loads(run("query", "child", "--json").output)
    assert {claim["value"]: (claim["model"], claim["verdict"]) for claim in answer["claims"]} == {
        "org/parent": ("parent", "consistent"),
        "stranger": ("stranger", "nothing"),
        "nobody/knows": (None, "not registered"),
    }
    assert [relative["model"] for relative in answer["relatives"]] == ["parent"]
    words = " ".join(run("query", "child", width=200).output.split())
    assert "README.md says base_model 'stranger': the weights show nothing of it (unrelated)." in words


def contradictions(model: str) -> list[tuple[str, str | None, str, str]]:
    answer = json.loads(run("query", model, "--json").output)
    assert all(one["sentence"] in answer["explanation"] for one in answer["contradictions"])
    return [(one["kind"], one["claim"], one["model"], one["relation"]) for one in answer["contradictions"]]


def test_what_claims_and_weights_do_not_agree_on_is_a_finding(filled: Path) -> None:
    assert contradictions("child") == []  # a folder without words claims nothing
    folder(filled / "child", readme="---\nlicense: mit\n---\n")
    assert contradictions("child") == [("claims none", None, "parent", "fine-tuned")]
    folder(filled / "child", readme="---\nbase_model: stranger\n---\n")
    assert contradictions("child") == [("claims another", "stranger", "parent", "fine-tuned")]
    folder(filled / "child", readme="---\nbase_model: nobody/knows\n---\n")
    assert contradictions("child") == []  # a base that is not registered may be the parent of both
    folder(filled / "child", readme="---\nbase_model: org/parent\nbase_model_relation: quantized\n---\n")
    assert contradictions("child") == [("claims another relation", "quantized", "parent", "fine-tuned")]
    folder(filled / "child", readme="---\nbase_model: org/parent\nbase_model_relation: finetune\n---\n")
    assert contradictions("child") == []
    folder(filled / "fake", readme="---\nlicense: mit\n---\n")
    assert contradictions("fake") == []  # strangers are nobody's kin, whatever is not claimed


def test_a_relative_that_names_the_model_accounts_for_their_kinship(filled: Path) -> None:
    folder(filled / "parent", readme="---\nbase_model: org/child\n---\n")
    folder(filled / "child", readme="---\nlicense: mit\n---\n")
    assert run("add", "parent").exit_code == 0
    assert contradictions("child") == []


def test_a_comparison_tells_the_claims_of_both_sides(filled: Path) -> None:
    folder(filled / "child", readme="---\nbase_model: org/parent\n---\n")
    folder(filled / "fake", readme="---\nbase_model: parent\n---\n")
    said = {}
    for pair in (("child", "parent"), ("parent", "child"), ("fake", "parent")):
        answer = json.loads(run("compare", *pair, "--json").output)
        said[pair] = [(claim["source"], claim["model"], claim["verdict"]) for claim in answer["claims"]]
    assert said == {
        ("child", "parent"): [("child's README.md", "parent", "consistent")],
        ("parent", "child"): [("child's README.md", "parent", "consistent")],
        ("fake", "parent"): [("fake's README.md", "parent", "nothing")],
    }


def test_what_a_registered_model_claims_is_shown_beside_its_weights(filled: Path) -> None:
    folder(filled / "child", readme="---\nbase_model:\n- org/parent\n- stranger\n- nobody/knows\n---\n")
    assert run("add", "child").exit_code == 0
    shown = json.loads(run("show", "child", "--json").output)
    assert {(claim["value"], claim["verdict"], claim["relation"]) for claim in shown["weighed_claims"]} == {
        ("org/parent", "consistent", "fine-tuned"),
        ("stranger", "nothing", "unrelated"),
        ("nobody/knows", "not registered", None),
    }
    assert "the weights are consistent with that (fine-tuned)" in " ".join(run("show", "child", width=200).output.split())


def test_claims_do_not_change_what_is_found(filled: Path) -> None:
    before = json.loads(run("query", "fake", "--json").output)
    folder(filled / "fake", readme="---\nbase_model: parent\n---\n")
    after = json.loads(run("query", "fake", "--json").output)
    assert after["relatives"] == before["relatives"]
    assert after["merge"] == before["merge"]
    assert after["claims"][0]["verdict"] == "nothing"
