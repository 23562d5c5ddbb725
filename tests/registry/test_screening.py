"""Decisions over a batch: rules of a policy, the correction over all pairs, rings. Measurements are given; nothing is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import Struct, field
from msgspec.structs import replace
from scipy.stats import false_discovery_control

from modelkin.errors import WrongLine
from modelkin_data.policy import default_policy
from modelkin_registry.screening.deciding import Asked, Unreadable, decided, exit_code
from modelkin_registry.screening.declared import Declaration
from modelkin_registry.screening.discovery import harmonic, q_values
from modelkin_registry.screening.explained import MANIFEST, Entry
from modelkin_registry.screening.lines import line_of
from modelkin_registry.screening.measured import Kinship, Measured, Said
from modelkin_registry.screening.policy import SCHEMA, read_policy
from modelkin_registry.screening.results import Screening
from modelkin_registry.screening.rings import Between
from modelkin_registry.screening.rules import RULES
from modelkin_registry.screening.sentences import RULE_SENTENCES

POLICY = default_policy()


class Family(Struct, frozen=True):
    """A registry of models whose kin and licences are given."""

    kin: Mapping[tuple[str, str], Collection[str] | Mapping[str, float]] = field(default_factory=dict)
    names: Collection[str] = ("base", "child", "other")
    said: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def registered(self, name: str) -> str | None:
        return name if name in self.names else None

    def kindred(self, model: str, base: str) -> Mapping[str, float]:
        found = self.kin.get((model, base), ())
        return found if isinstance(found, Mapping) else dict.fromkeys(found, 0.0)

    def licences(self, model: str) -> Sequence[str]:
        return self.said.get(model, ())


def kin(relative: str, relation: str = "fine-tuned", component: str = "text", *, p_value: float = 1e-30, apart: float = 0.1) -> Kinship:
    return Kinship(relative, component, component, relation, relation, "attention", p_value, 3, 1.0, apart)


def measured(*rows: Kinship, **more: Any) -> Measured:
    about: dict[str, Any] = {
        "level": "full",
        "key": "private-1",
        "parameters": 1000,
        "coverage": 1.0,
        "shares": {"text": 1.0},
        "uncompared": (),
        "verdict": "related" if rows else "nothing found",
        "examined_share": 1.0,
        "models": 3,
        "same_lengths": (),
        "started": (),
        "bases": (),
        "licence": (),
        "audit": (),
        "from_weights": True,
        "is_change": False,
        "digest": "full-1",
    }
    return Measured(kin=rows, **(about | more))


def entry(name: str, *rows: Kinship, said: Mapping[str, Any] | None = None, **more: Any) -> Entry:
    return Entry(Declaration(name, f"models/{name}", **(said or {})), measured(*rows, **more))


def decide(*batch: Entry | Unreadable, pairs: Sequence[Between] = (), policy: str = POLICY, lineage: Family | None = None) -> Screening:
    return decided(batch, pairs, read_policy(policy, "policy.toml"), lineage or Family(), Asked(3, "private-1"))


def rules(answer: Screening, name: str) -> list[str]:
    return [one.rule for result in answer.results if result.submission == name for one in result.findings]


def outcome(answer: Screening, name: str) -> str:
    return next(one.outcome for one in answer.results if one.submission == name)


# the correction


def test_q_values_are_those_of_another_implementation() -> None:
    values = np.random.default_rng(1).uniform(size=50) ** 4
    padded = [*values, *([1.0] * 200)]
    expected = false_discovery_control(padded, method="by")[:50]
    found = q_values(dict(enumerate(values.tolist())), 250)
    assert np.allclose([found[n] for n in range(50)], expected)
    assert harmonic(1001) == pytest.approx(sum(1 / n for n in range(1, 1002)), abs=1e-7)
    assert q_values({}, 0) == {}
    with pytest.raises(ValueError, match="2 p-values of 1 tests"):
        q_values({"a": 0.1, "b": 0.2}, 1)


def test_evidence_that_does_not_stand_the_batch_is_not_flagged() -> None:
    strangers = [entry(f"s{n}") for n in range(300)]
    weak, strong = entry("weak", kin("base", p_value=1e-5)), entry("strong", kin("base"))
    answer = decide(*strangers, weak, strong)
    assert outcome(answer, "strong") == "flagged"
    assert (outcome(answer, "weak"), rules(answer, "weak")) == ("inconclusive", ["uncorrected"])
    assert answer.discovery.tests == 302 * 3 + 302 * 301 // 2
    assert (answer.discovery.found, answer.discovery.fell) == (1, 1)
    assert f"{answer.discovery.tests:,} pairs (Benjamini-Yekutieli)" in " ".join(answer.explanation)
    assert outcome(decide(weak), "weak") == "flagged"  # alone it stands


# what is declared, allowed, claimed


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ["undeclared"]),
        ({"base": ("base",)}, []),
        ({"base": ("other",)}, ["undeclared"]),
        ({"base": ("org/unknown",)}, ["base-unknown"]),
        ({"base": ("base",), "from_scratch": ("text",)}, ["from-scratch"]),
        ({"from_scratch": ("*",)}, ["from-scratch"]),
        ({"from_scratch": ("vision",)}, ["undeclared"]),
        ({"reused": {"text": ("base",)}}, []),
        ({"reused": {"vision": ("base",)}}, ["undeclared"]),
        ({"allowed_parts": {"text": ("*",)}}, []),
        ({"allowed_bases": ("base",)}, ["undeclared"]),
        ({"allowed_bases": ("base",), "base": ("base",)}, []),
        ({"allowed_bases": ("other",), "base": ("base",)}, ["not-allowed"]),
        ({"allowed_bases": ()}, ["not-allowed"]),
        ({"allowed_bases": ("*",), "base": ("base",)}, []),
    ],
)
def test_what_explains_a_kinship(said: dict[str, Any], expected: list[str]) -> None:
    answer = decide(entry("one", kin("base"), said=said))
    assert rules(answer, "one") == expected
    assert outcome(answer, "one") == ("clear" if not expected else "inconclusive" if expected == ["base-unknown"] else "flagged")


def test_a_relative_of_the_declared_base_is_explained_by_it_and_only_then() -> None:
    rows = (kin("base"), kin("child"))
    said = {"base": ("base",)}
    assert rules(decide(entry("one", *rows, said=said), lineage=Family({("child", "base"): ("text",)})), "one") == []
    assert rules(decide(entry("one", *rows, said=said)), "one") == ["undeclared"]  # they have nothing in common
    assert rules(decide(entry("one", *rows, said=said), lineage=Family({("child", "base"): ("vision",)})), "one") == ["undeclared"]
    away = decide(entry("one", kin("child"), said=said), lineage=Family({("child", "base"): ("text",)}))
    assert rules(away, "one") == ["undeclared"]  # of the base itself it shows nothing


def test_a_base_explains_what_it_has_itself_though_a_common_start_is_all_that_is_told_of_it() -> None:
    """A relation at the border: of the submission it is called kinship, of the base, as near to the same model, a start."""
    rows, said = (kin("base", "identical", apart=0.01), kin("child", "continued", apart=0.21)), {"base": ("base",)}
    assert rules(decide(entry("one", *rows, said=said), lineage=Family({("child", "base"): {"text": 0.22}})), "one") == []
    assert rules(decide(entry("one", *rows, said=said), lineage=Family({("child", "base"): {"text": 0.24}})), "one") == ["undeclared"]
    assert rules(decide(entry("one", *rows, said=said), lineage=Family({("child", "base"): {"vision": 0.2}})), "one") == ["undeclared"]


def test_a_copy_of_the_bases_child_is_told_though_the_base_is_declared() -> None:
    family = Family({("child", "base"): ("text",)})
    copy = entry("one", kin("child", "identical", apart=0.0), kin("base"), said={"base": ("base",)})
    assert rules(decide(copy, lineage=family), "one") == ["undeclared-copy"]
    twice = entry("one", kin("child", "identical"), kin("base", "identical"), said={"base": ("base",)})
    assert rules(decide(twice, lineage=family), "one") == []  # the base itself, which is registered twice


def test_what_a_folder_says_counts_only_where_the_policy_reads_it() -> None:
    one = entry("one", kin("base"), bases=(Said("base", "base", "consistent", "README.md"),))
    assert outcome(decide(one), "one") == "clear"
    assert outcome(decide(one, policy=POLICY.replace("folder_claims = true", "folder_claims = false")), "one") == "flagged"


def test_a_claim_of_which_nothing_is_seen_is_not_borne_out_and_not_called_false() -> None:
    one = entry("one", said={"base": ("base",)}, bases=(Said("base", "base", "nothing", MANIFEST),))
    answer = decide(one)
    assert (outcome(answer, "one"), rules(answer, "one")) == ("inconclusive", ["base-not-borne-out"])
    scratch = decide(entry("one", kin("base"), said={"from_scratch": ("*",)}))
    words = " ".join(one.sentence for result in (*answer.results, *scratch.results) for one in result.findings)
    assert "not borne out" in words
    assert not any(word in words.lower() for word in ("false", "stole", "stolen", "theft", "copied from", "plagiar"))


def test_a_base_among_the_submissions_explains_what_it_may_have_itself() -> None:
    first, second = entry("first", kin("base"), said={"base": ("base",)}), entry("second", kin("base"), said={"base": ("first",)})
    assert [one.outcome for one in decide(first, second).results] == ["clear", "clear"]
    bare = entry("first", kin("base"))
    assert [one.outcome for one in decide(bare, second).results] == ["flagged", "flagged"]
    each_other = entry("first", kin("base"), said={"base": ("second",)})
    assert [one.outcome for one in decide(each_other, second).results] == ["flagged", "flagged"]


@pytest.mark.parametrize("where", ["list", "README.md"])
def test_submissions_that_declare_one_another_in_a_circle_explain_nothing(where: str) -> None:
    def one(name: str, *bases: str) -> Entry:
        if where == "list":
            return entry(name, kin("base"), said={"base": bases})
        return entry(name, kin("base"), bases=[Said(base, None, "not registered", where) for base in bases])

    circle = [one("a", "b"), one("b", "c"), one("c", "a")]
    answer = decide(*circle, entry("own"))
    assert [one.outcome for one in answer.results] == ["flagged", "flagged", "flagged", "clear"]
    told = decide(*circle[:2], one("c", "a", "base"))  # the last one tells where all of it comes from
    assert [one.outcome for one in told.results] == ["clear", "clear", "clear"]


def test_many_submissions_that_declare_all_before_them_take_no_time() -> None:
    names = [f"s{number}" for number in range(60)]
    batch = [entry(name, kin("base"), said={"base": tuple(names[:at])}) for at, name in enumerate(names)]
    assert {one.outcome for one in decide(*batch).results} == {"flagged"}


def test_a_submission_that_takes_a_registered_models_name_explains_nothing() -> None:
    planted, other = entry("base", kin("other")), entry("one", kin("other"), said={"base": ("base",)})
    assert outcome(decide(planted, other), "one") == "flagged"


# how much was looked at


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"verdict": "not examined", "examined_share": 0.1}, "not-examined"),
        ({"verdict": "not examined", "same_lengths": ("base",)}, "same-lengths"),
        ({"shares": {"text": 0.7, "vision": 0.3}, "uncompared": ("vision",)}, "part-not-examined"),
        ({"coverage": 0.9}, "unread"),
        ({"audit": (("rotated", "It is turned."),)}, "audit"),
        ({"from_weights": False}, "fingerprint-only"),
        ({"is_change": True}, "adapter-alone"),
    ],
)
def test_what_was_not_looked_at_is_never_clear(more: dict[str, Any], rule: str) -> None:
    answer = decide(entry("one", **more))
    assert (outcome(answer, "one"), rules(answer, "one")) == ("inconclusive", [rule])
    assert answer.exit_code == 1
    lax = decide(entry("one", **more), policy=POLICY.replace(f'\n{rule} = "inconclusive"', f'\n{rule} = "note"'))
    assert (outcome(lax, "one"), lax.exit_code) == ("clear", 0)


def test_an_audit_finding_is_a_note_where_kinship_was_found_and_a_common_start_always() -> None:
    found = decide(entry("one", kin("base"), said={"base": ("base",)}, audit=(("rotated", "It is turned."),)))
    assert [(one.rule, one.action) for one in found.results[0].findings] == [("audit", "note")]
    assert found.results[0].outcome == "clear"
    started = decide(entry("one", started=("base", "other")))
    assert [(one.rule, one.relative) for one in started.results[0].findings] == [("common-start", "base")]
    assert started.results[0].outcome == "clear"


# licences


def test_licences_of_what_a_submission_is_kin_to() -> None:
    strict = Family({("child", "base"): ("text",)}, said={"base": ("gpl-3.0",), "child": ("cc-by-nc-4.0",)})
    rows, said = (kin("base"), kin("child")), {"base": ("base",)}
    dropped = decide(entry("one", *rows, said=said | {"licence": "MIT"}), lineage=strict)
    assert rules(dropped, "one") == ["licence-dropped"]  # of the base that is declared; not of its other children
    assert "gpl-3.0" in dropped.results[0].findings[0].sentence
    assert rules(decide(entry("one", *rows, said=said | {"licence": "GPL-3.0"}), lineage=strict), "one") == []
    assert rules(decide(entry("one", *rows, said=said, licence=("gpl-3.0",)), lineage=strict), "one") == []
    allowed = said | {"licence": "gpl-3.0", "allowed_licences": ("apache-2.0",)}
    assert rules(decide(entry("one", *rows, said=allowed), lineage=strict), "one") == ["licence-not-allowed"]
    unknown = decide(entry("one", kin("child"), said={"base": ("org/unknown",), "licence": "MIT"}), lineage=strict)
    assert (rules(unknown, "one"), outcome(unknown, "one")) == (["base-unknown"], "inconclusive")  # both may come from that base


# submissions against one another


def test_copies_and_rings_are_named_whoever_came_first() -> None:
    batch = [entry(name) for name in ("a", "b", "c", "d", "e", "f")]
    pairs = [
        Between("a", "c", (kin("c", "identical", apart=0.0),)),
        Between("c", "e", (kin("e", "fine-tuned"),)),
        Between("b", "f", (kin("f", "recast", apart=0.0),)),
    ]
    answer = decide(*batch, pairs=pairs)
    assert [(one.name, one.members, one.copies) for one in answer.rings] == [
        ("ring-1", ("a", "c", "e"), False),
        ("ring-2", ("b", "f"), True),
    ]
    assert [one.outcome for one in answer.results] == ["flagged", "flagged", "flagged", "clear", "flagged", "flagged"]
    assert rules(answer, "c") == ["copy-of-submission", "kin-of-submission"]
    assert "whose came first" in answer.results[0].findings[0].sentence
    reversed_pairs = [replace(one, first=one.second, second=one.first, rows=(replace(one.rows[0], relative=one.first),)) for one in pairs]
    assert decide(*batch, pairs=reversed_pairs).rings == answer.rings


def test_what_a_common_base_explains_is_no_ring() -> None:
    said = {"base": ("base",)}
    a, b = entry("a", kin("base", apart=0.02), said=said), entry("b", kin("base", apart=0.03), said=said)
    apart = Between("a", "b", (kin("b", apart=0.05),))
    assert [one.outcome for one in decide(a, b, pairs=[apart]).results] == ["clear", "clear"]
    near = decide(a, b, pairs=[Between("a", "b", (kin("b", apart=0.001),))])
    assert [rules(near, name) for name in "ab"] == [["nearer-than-base"], ["nearer-than-base"]]
    assert near.rings == ()
    copy = decide(a, b, pairs=[Between("a", "b", (kin("b", "identical", apart=0.0),))])
    assert [rules(copy, name) for name in "ab"] == [["copy-of-submission"], ["copy-of-submission"]]


def test_two_copies_of_a_registered_model_are_no_ring() -> None:
    said = {"base": ("base",)}
    pair = Between("a", "b", (kin("b", "identical", apart=0.0),))
    a, b = (entry(name, kin("base", "identical", apart=0.0), said=said) for name in "ab")
    assert [one.outcome for one in decide(a, b, pairs=[pair]).results] == ["clear", "clear"]
    silent = entry("b", kin("base", "identical", apart=0.0))
    answer = decide(a, silent, pairs=[pair])
    assert [one.outcome for one in answer.results] == ["clear", "flagged"]  # an honest one is not flagged for another's silence
    assert (rules(answer, "b"), answer.rings) == (["undeclared"], ())


def test_a_declared_submission_explains_a_copy_of_it() -> None:
    a, b = entry("a"), entry("b", said={"base": ("a",)})
    answer = decide(a, b, pairs=[Between("a", "b", (kin("b", "identical"),))])
    assert [one.outcome for one in answer.results] == ["clear", "clear"]


# the policy


def test_the_default_policy_says_something_of_every_rule_and_key() -> None:
    policy = read_policy(POLICY, "default")
    assert policy.actions == {name: rule.action for name, rule in RULES.items()}
    lines = POLICY.splitlines()
    for table, keys in SCHEMA.items():
        for key in keys:
            at = line_of(POLICY, table, key) - 1
            assert lines[at].startswith(key)
            assert "#" in lines[at] or lines[at - 1].startswith("#"), f"{key} is not explained"
    assert set(RULE_SENTENCES) <= set(RULES)


@pytest.mark.parametrize(
    ("old", "new", "line_with", "problem"),
    [
        ("rate = 0.01", "rate = 2", "rate = 2", "above 0 and below 1"),
        ("rate = 0.01", "rat = 0.01", "rat = 0.01", "no key is named 'rat'"),
        ("rate = 0.01\n", "\n", "[discovery]", "rate is missing"),
        ("[discovery]", "[discoveries]", "[discoveries]", "no table is named 'discoveries'"),
        ("least = 0.5", 'least = "half"', "least =", "a share, from 0 to 1"),
        ("least = 0.5", "least = true", "least =", "a share, from 0 to 1"),
        ('allowed = "declared"', 'allowed = "anything"', 'allowed = "any', '"declared", or a list'),
        ('undeclared = "flag"', 'undeclared = "accuse"', 'undeclared = "acc', '"flag", "inconclusive"'),
        ('undeclared = "flag"', 'undeclard = "flag"', "undeclard", "no rule is named"),
        ("version = 1", "version = 2", "version = 2", "the version of the schema"),
        ("version = 1", "version = ", "version = ", "is no TOML"),
        ("version = 1", "version = " + "1" * 5_000, "# The policy", "is no TOML"),
        ('adapter-alone = "inconclusive"', 'adapter-alone = ["', 'adapter-alone = ["', "is no TOML"),
        ('fail_on = ["flagged", "inconclusive"]', 'fail_on = ["bad"]', "fail_on", "a list of these"),
        ("\n[parts]", '\n[parts]\nvision = "clip"', 'vision = "clip"', "a list of names"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line_with: str, problem: str) -> None:
    text = POLICY.replace(old, new, 1)
    with pytest.raises(WrongLine, match=r"policy\.toml, line ") as raised:
        read_policy(text, "policy.toml")
    assert problem in raised.value.problem
    assert text.splitlines()[raised.value.line - 1].startswith(line_with)


def test_a_rule_that_is_off_tells_nothing() -> None:
    text = POLICY.replace('copy-of-submission = "flag"', 'copy-of-submission = "off"')
    answer = decide(entry("a"), entry("b"), pairs=[Between("a", "b", (kin("b", "identical"),))], policy=text)
    assert (answer.rings, [one.outcome for one in answer.results]) == ((), ["clear", "clear"])


# the whole


def test_exit_codes_and_order() -> None:
    bad = Unreadable(Declaration("bad", "bad"), "damaged")
    answer = decide(bad, entry("one"))
    assert [(one.submission, one.outcome, one.reason) for one in answer.results] == [
        ("bad", "unreadable", "damaged"),
        ("one", "clear", None),
    ]
    assert answer.exit_code == 3
    assert exit_code(answer.results, ("unreadable",)) == 1
    assert decide(entry("one")).exit_code == 0
    assert decide(bad, entry("one", kin("base"))).exit_code == 1
    assert decide().exit_code == 0


def test_measurements_come_back_as_they_were_kept() -> None:
    found = measured(kin("base"), bases=(Said("x", None, "not registered", MANIFEST),), audit=(("rotated", "so"),), started=("other",))
    assert Measured.of_dict(found.to_dict()) == found
    with pytest.raises(KeyError):
        Measured.of_dict({})
