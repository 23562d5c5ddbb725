"""Pages to hand on: whole, closed to the outside, readable by machines that read aloud, and equal in every language."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import modelkin
from calls import run
from modelkin.errors import ReportError
from modelkin.reporting import figures, pictures
from modelkin.reporting.languages import LANGUAGES
from modelkin.reporting.page import markdown, pieces
from modelkin.reporting.sentences import Sentences, names_in
from modelkin.reporting.texts import texts_of
from modelkin.reporting.writing import NEEDS_WEASYPRINT
from modelkin_registry.answers.parts import ALTERNATIVES, VERDICTS
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.answers.trajectory import TrajectoryAnswer
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.explanation.parts import FORGEABLE, MAY_BE_TURNED, SAME_GAINS
from modelkin_registry.explanation.relatives import DISTILLATION, UNDO, UNTRAINED
from modelkin_registry.screening import sentences
from modelkin_registry.screening.results import OUTCOMES, Screening
from modelkin_registry.screening.rules import ACTIONS, RULES
from modelkin_registry.trajectories.logs import LOG_LIMITS
from modelkin_registry.trajectories.trajectories import LIMITS
from modelkin_registry.trees.trees import HINTS_ONLY
from pages import Page
from tiny_models import save_model, tiny_llama, tuned

HOSTILE = ("<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "{{7*7}}{% raw %}", "a|b [x](javascript:alert(1)) `c`", "\u202eevil")
LOADS = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
AA = 4.5  # contrast of text that WCAG 2.2 asks for (criterion 1.4.3)
every_language = pytest.mark.parametrize("language", LANGUAGES)


def asked(kind: str) -> tuple[Any, tuple[str, ...]]:
    """An answer of each kind, and the models that it does not name by their paths."""
    call: dict[str, Any] = {"registry": "r.db"}
    if kind == "query":
        return modelkin.query("child", tensors=True, **call), ()
    if kind == "nothing":
        return modelkin.query("fake", show_all=True, **call), ()
    if kind == "compare":
        return modelkin.compare("child", "parent", controls=["stranger"], **call), ("stranger",)
    if kind == "exact":
        return modelkin.compare("fake", "parent", controls=["stranger"], exact=True), ("stranger",)
    if kind == "decompose":
        return modelkin.decompose("child", **call), ()
    if kind == "fit":
        return modelkin.decompose("child", parents=["parent", "stranger"], **call), ("parent", "stranger")
    if kind == "trajectory":
        return modelkin.trajectory("stranger", "parent", "child", **call), ("stranger", "parent", "child")
    if kind == "screen":
        rows = ["name,source,from_scratch", "team,child,text", "copy,child,", "other,fake,", "gone,nowhere,"]
        Path("batch.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        return modelkin.screen("batch.csv", out="out", jobs=1, **call), ()
    modelkin.add("child", **call)
    return modelkin.tree(**call), ()


KINDS = ("query", "nothing", "compare", "exact", "decompose", "fit", "tree", "trajectory", "screen")


@every_language
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_closed_and_can_be_read_aloud(filled: Path, kind: str, language: str) -> None:
    answer, models = asked(kind)
    told = modelkin.report(answer, "page.html", language=language, command="modelkin ask", models=models, registry="r.db")
    assert told.files == ("page.html",)
    page = Page(Path("page.html").read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.elements]
    assert {"script", "iframe", "object", "embed", "form", "base", "img"} & set(tags) == set()
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in LOADS & attributes.keys():
            assert re.match(r"#|data:,$", attributes[name] or ""), (tag, attributes)
    policy = next(a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "url(" not in Path("page.html").read_text(encoding="utf-8")
    assert ("html", {"lang": language}) in page.elements
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    drawn = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 10 for one in drawn)
    assert len(drawn) >= (0 if kind in ("decompose", "fit", "trajectory", "screen") else 1)
    ids = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    regions = [a for _, a in page.elements if "tabindex" in a]
    assert all(a.get("aria-label") or tag == "pre" for tag, a in page.elements if a in regions)


@every_language
def test_a_page_tells_what_the_answer_tells(filled: Path, language: str) -> None:
    answer, _ = asked("query")
    modelkin.report(answer, "page.html", language=language, command="modelkin query child", registry="r.db")
    text, say = Page(Path("page.html").read_text(encoding="utf-8")).text, texts_of(language)
    first = answer.relatives[0]
    told = Sentences(say, names_in(answer))
    assert all(told(sentence).text in text for sentence in (answer.explanation[1:] if language == "en" else answer.explanation))
    assert say("verdict", "related") in text
    assert all(say("way", way, query="child", relative="parent") in text for way in first.alternatives)
    assert all(say("text", f"never-{number}") in text for number in range(1, 5))
    for family in first.components[0].families:
        assert family.family in text
    assert all(row.query in text for row in first.counterparts.tensors)
    assert say("heading", "low") in text
    assert "modelkin query child" in text
    assert "sha256:" in text  # of the registry
    assert modelkin.made.sha256_of(Path("child/model.safetensors")) in text


@every_language
def test_a_batch_is_told_whole(filled: Path, language: str) -> None:
    answer, _ = asked("screen")
    modelkin.report(answer, "page.html", language=language, command="modelkin screen batch.csv", registry="r.db")
    text, say = Page(Path("page.html").read_text(encoding="utf-8")).text, texts_of(language)
    told = Sentences(say, names_in(answer))
    assert {one.outcome for one in answer.results} >= {"flagged", "unreadable"}
    assert say("text", "screening-headline", count=4, **answer.counts) in text
    for one in answer.results:
        assert f"{one.submission} {say('outcome', one.outcome)}" in text
        for found in one.findings:
            assert told(found.sentence).text in text
            assert f"{one.submission} {say('rule', found.rule)}" in text
            assert (found.q_value is None) or figures.probability(found.q_value) in text
        assert one.digest is None or one.digest in text
    assert f"team , copy : {say('text', 'screening-copies')}" in text
    assert f"{answer.discovery.tests}" in text
    assert answer.discovery.procedure in text
    assert all(say("text", f"never-{number}") in text for number in range(1, 5))
    modelkin.report(answer, "page.md", language=language, command="modelkin screen batch.csv", registry="r.db")
    said = Path("page.md").read_text(encoding="utf-8")
    for heading in ("outcomes", "submissions", "measured", "correction", "rings", "never"):
        assert f"# {say('heading', heading)}" in said


def test_an_exact_comparison_keeps_norms_apart_from_what_is_evidence(filled: Path) -> None:
    answer, models = asked("exact")
    modelkin.report(answer, "page.html", models=models)
    text = Page(Path("page.html").read_text(encoding="utf-8")).text
    evidence, _, low = text.partition("Number by number All values")[2].partition("Number by number: low-information")
    assert "text attention" in evidence
    assert "text norm" not in evidence
    assert "text norm" in low
    assert re.search("→ [^→]*stranger", evidence)


def test_nothing_found_is_told_with_what_it_is_worth(filled: Path) -> None:
    answer, _ = asked("nothing")
    for language, words in (("en", "no proof of training from scratch"), ("ko", "증명은 아닙니다")):
        modelkin.report(answer, "page.html", language=language, registry="r.db")
        text = Page(Path("page.html").read_text(encoding="utf-8")).text
        assert words in text
        assert texts_of(language)("text", "no-ways") in text
        assert texts_of(language)("heading", "tree") not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(filled: Path, name: str) -> None:
    save_model(filled / name, tuned(tiny_llama(1), 5))
    assert run("add", "child", "--as", name.replace("\u202e", ""), "--replace").exit_code == 0
    answers = {
        "query": modelkin.query(f"./{name}", registry="r.db"),
        "compare": modelkin.compare(f"./{name}", "parent", registry="r.db"),
        "tree": modelkin.tree(registry="r.db"),
        "trajectory": modelkin.trajectory("stranger", f"./{name}", registry="r.db"),
    }
    row = {"name": name, "source": name, "base": [f"{name} base"], "from_scratch": ["text"]}
    Path("batch.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    answers["screen"] = modelkin.screen("batch.jsonl", out="out", jobs=1, registry="r.db")
    for kind, answer in answers.items():
        modelkin.report(answer, "page.html", command=f"modelkin {kind} {name}", registry="r.db")
        page = Page(Path("page.html").read_text(encoding="utf-8"))
        assert {"img", "script"} & {tag for tag, _ in page.elements} == set()
        assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
        assert "\u202e" not in Path("page.html").read_text(encoding="utf-8")
        assert name.replace("\u202e", "\\u202e") in page.text
        modelkin.report(answer, "page.md", command=f"modelkin {kind} x", registry="r.db")
        said = Path("page.md").read_text(encoding="utf-8")
        assert not re.search(r"(?<!\\)<(img|svg)", said)
        assert not re.search(r"(?<!\\)\[x(?<!\\)\]\(javascript", said)


def test_markdown_has_the_same_content_and_its_pictures_beside_it(filled: Path) -> None:
    answer, _ = asked("query")
    told = modelkin.report(answer, "a page.md", command="modelkin query child", registry="r.db")
    assert told.files[0] == "a page.md"
    text = Path("a page.md").read_text(encoding="utf-8")
    for file in told.files[1:]:
        drawn = ElementTree.fromstring(Path(file).read_text(encoding="utf-8"))
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert drawn.find("{http://www.w3.org/2000/svg}title") is not None
        assert f"]({file.replace(' ', '%20')})" in text
    assert len(told.files) == 5
    modelkin.report(answer, "page.html", command="modelkin query child", registry="r.db")
    html = re.findall(r"<h[1-4][^>]*>([^<]+)</h", Path("page.html").read_text(encoding="utf-8"))
    assert [heading.partition(" ")[2] for heading in re.findall(r"^#+ .*", text, re.MULTILINE)] == html
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count(" |") for line in rows if line.startswith("| attention")}) == 1


def test_commands_in_sentences_are_told_from_words() -> None:
    assert pieces("ask `query --confirm` or a `b") == [("ask ", False), ("query --confirm", True), (" or a `b", False)]
    assert pieces("`<b>`") == [("<b>", True)]


@pytest.mark.parametrize(
    ("given", "told"), [("a_b", r"a\_b"), ("- x", r"\- x"), ("<b>", r"\<b>"), ("1. x", r"\1. x"), ("# x", r"\# x"), ("x|y", r"x\|y")]
)
def test_markdown_marks_are_escaped(given: str, told: str) -> None:
    assert markdown(given) == told


def test_a_page_on_paper_or_a_clear_word_why_not(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, _ = asked("query")
    try:
        modelkin.report(answer, "page.pdf", registry="r.db")
    except ReportError as error:  # no Pango on this system
        assert str(error) == NEEDS_WEASYPRINT  # noqa: PT017
    else:
        assert Path("page.pdf").read_bytes().startswith(b"%PDF-")
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ReportError, match=r"print that page to PDF in a browser"):
        modelkin.report(answer, "page.pdf", registry="r.db")
    with pytest.raises(ReportError, match=r"\.html, \.md, \.pdf"):
        modelkin.report(answer, "page.docx", registry="r.db")
    with pytest.raises(ReportError, match="en, ko"):
        modelkin.report(answer, "page.html", language="xx", registry="r.db")


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["query", "child"], "modelkin --registry r.db query child --report p.html"),
        (["compare", "child", "parent", "--control", "stranger"], "compare child parent --control stranger"),
        (["tree", "parent"], "tree parent"),
        (["decompose", "child"], "decompose child"),
        (["trajectory", "stranger", "parent"], "trajectory stranger parent"),
    ],
)
def test_the_command_line_writes_pages_that_tell_how_they_were_made(filled: Path, arguments: list[str], again: str) -> None:
    said = run(*arguments, "--report", "p.html", "--json")
    assert said.exit_code == 0, said.output
    json.loads(said.stdout)
    assert again in Page(Path("p.html").read_text(encoding="utf-8")).text
    wrong = run(*arguments, "--report", "p.txt", "--json")
    assert wrong.exit_code == 2
    assert json.loads(wrong.stdout)["error"]["kind"] == "UsageError"


def test_a_private_key_is_told_by_its_id_alone(filled: Path) -> None:
    key = modelkin.key("new", "own.key")
    secret = Path("own.key").read_text().strip()
    assert run("refresh", "private.db", "own.key", "--from", ".").exit_code == 0
    said = run("--key-file", "own.key", "query", "child", "--report", "p.html", "--language", "ko", registry="private.db")
    assert said.exit_code == 0, said.output
    text = Path("p.html").read_text(encoding="utf-8")
    assert key.key in text
    assert secret not in text


def test_the_key_is_that_of_the_answer_however_it_was_given(filled: Path) -> None:
    told = modelkin.key("new", "own.key")
    for name in ("child", "parent"):
        modelkin.fingerprint(name, f"{name}.modelkin", key_file="own.key")
    modelkin.report(modelkin.compare("child.modelkin", "parent.modelkin"), "p.html")  # made under it, and nobody gave it here
    assert told.key in Path("p.html").read_text(encoding="utf-8")
    assert run("refresh", "r.db", "own.key", "--from", ".").exit_code == 0
    keys = ("--key-file", "public", "--key-file", "own.key")
    said = run(*keys, "query", "child", "--report", "p.html", "--json")
    assert said.exit_code == 0, said.output
    assert f"{json.loads(said.stdout)['registry']['key']}. " in Page(Path("p.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(("value", "told"), [(-0.0001, "0.000"), (-0.5, "−0.500"), (None, "–"), (1.0, "1.000")])
def test_figures(value: float | None, told: str) -> None:
    assert figures.number(value) == told
    assert figures.correlation(0.99991) == "0.999"  # what is not quite 1 is not shown as 1
    assert figures.share(0.9999) == "over 99 %"
    assert figures.probability(1e-40) == "< 1e-30"


def leaves(table: dict[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        yield from leaves(value, f"{at}{name}/") if isinstance(value, dict) else iter([(at + name, value)])


def test_every_language_has_every_text_with_the_same_places() -> None:
    tables = {
        language: dict(leaves(json.loads((files("modelkin_data") / "texts" / f"{language}.json").read_text(encoding="utf-8"))))
        for language in LANGUAGES
    }
    own = ("answers/", "special/", "relation/", "sentences/", "phrases/")  # which English has from the answers themselves
    for language in LANGUAGES[1:]:
        shared = {name: text for name, text in tables[language].items() if not name.startswith(own)}
        assert shared.keys() == tables["en"].keys()
        for name, text in shared.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", tables["en"][name])), name
        said = json.loads((files("modelkin_data") / "texts" / f"{language}.json").read_text(encoding="utf-8"))
        assert said["answers"].keys() == said["relation"].keys() == RELATIONS.keys()
        assert all("{query}" in text and "{model}" in text for text in said["answers"].values())
    assert RULES.keys() == texts_of("en").table["rule"].keys()
    assert {*ACTIONS} - {"off"} == texts_of("en").table["action"].keys()
    for group in ("outcome", "outcome-words"):
        assert set(OUTCOMES) == texts_of("en").table[group].keys()
    assert set(VERDICTS) == texts_of("en").table["verdict"].keys()
    assert set(ALTERNATIVES) == texts_of("en").table["way"].keys()


def test_every_sentence_of_an_answer_is_in_every_language(filled: Path) -> None:
    for kind in ("query", "compare", "exact", "nothing", "decompose", "fit", "trajectory", "screen", "tree"):
        answer, _ = asked(kind)
        for language in LANGUAGES[1:]:
            told = Sentences(texts_of(language), names_in(answer))
            assert [one for one in spoken(answer) if told(one).english] == [], kind


def spoken(answer: Any) -> Iterator[str]:
    """The sentences of an answer. What of a file is wrong, an error tells, and these are in English alone."""
    yield from (*getattr(answer, "explanation", ()), *answer.warnings)
    if isinstance(answer, Screening):
        yield from (found.sentence for one in answer.results for found in one.findings)
    if isinstance(answer, TrajectoryAnswer):
        yield from (words for found in answer.findings for words in (found.sentence, found.null))
        yield from (f"{verdict[0].upper()}{verdict[1:]}." for verdict in (answer.verdict, *answer.also))
    if isinstance(answer, TreeAnswer):
        yield from (reason for edge in answer.edges for reason in edge.reasons)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_the_table_of_sentences_has_all_that_are_made_of_constants(language: str) -> None:
    told = Sentences(texts_of(language), ["one", "two"])
    words = {"subject": "one", "relative": "two", "relation": "merged", "base": "two", "declared": "x/y", "licence": "mit", "own": "none"}
    rules = [sentence.format(q_value=0.2, **words) for sentence in sentences.RULE_SENTENCES.values()]
    shares = {"share": 0.4, "models": 3, "component": "vision", "code": "rotated", "sentence": "x"}
    fixed = [getattr(sentences, name) for name in ("NOT_BORNE_OUT", "COMMON_START", "NOT_EXAMINED", "PART_NOT_EXAMINED", "UNREAD")]
    fixed += [sentences.SAME_LENGTHS, sentences.ADAPTER_ALONE, sentences.FINGERPRINT_ONLY, sentences.DIRECTION, sentences.PUBLIC]
    rules += [sentence.format(**words, **shares) for sentence in fixed]
    rules += [f"one {row.sentence.format(model='two', stored='')}." for row in RELATIONS.values()]
    rules += [*LIMITS, *LOG_LIMITS, HINTS_ONLY, DISTILLATION, UNDO, UNTRAINED.format(subject="one"), FORGEABLE]
    rules += [text.format(subject="one", models="two", model="two", query="one", relative="two") for text in (SAME_GAINS, MAY_BE_TURNED)]
    assert [one for one in rules if told(one).english] == []
    table = texts_of(language).table["sentences"]
    for english, other in table.items():
        assert set(re.findall(r"\{\w+\}", other)) <= set(re.findall(r"\{\w+\}", english)), english
        assert set(re.findall(r"\{(?:m|s)\d?\}", other)) == set(re.findall(r"\{(?:m|s)\d?\}", english)), english


def test_no_name_makes_one_sentence_look_like_another() -> None:
    """Names that hold sentences: what can be read in two ways stays as it was said."""
    say = texts_of("ko")
    liar = "one shows no evidence of shared weights with two. one"
    told = Sentences(say, ["one", "two", liar])
    said = told(f"{liar} is consistent with a pruned copy of two: 90 % of its comparable weights carry the evidence.")
    assert said.english
    assert said.text.startswith(liar)
    assert Sentences(say, ["other", "parent"])("other shows no evidence of shared weights with parent.").english is False
    assert told("one is very much like two.").english
    assert told("three shows no evidence of shared weights with two.").english  # three is no name of this answer


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_what_is_written_stands_out_from_its_ground() -> None:
    pairs = [(step.ink, step.fill) for step in pictures.SCALE]
    pairs += [(pictures.INK, "#ffffff"), (pictures.FAINT, "#ffffff"), (pictures.FAINT, "#f6f6f6"), (pictures.INK, pictures.LOW_FILL)]
    css = (files("modelkin.reporting") / "templates" / "page.css").read_text(encoding="utf-8")
    for rule in re.findall(r"\{([^{}]*)\}", css):
        ink, ground = re.search(r"(?<!-)color: (#\w{6})", rule), re.search(r"background: (#\w{6})", rule)
        pairs += [(ink[1] if ink else pictures.INK, ground[1] if ground else "#ffffff")] if ink or ground else []
    assert len(pairs) > 12
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for ink, ground in pairs:
        assert contrast(ink, ground) >= AA, (ink, ground)
