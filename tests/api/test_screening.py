"""A batch screened: lists and folders, interruptions, bad and hostile submissions, private keys, and the files that are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

import modelkin
from calls import command, environment, run
from modelkin.errors import OutputInside, SourceNotFound, WrongLine
from modelkin.screening.lineage import RegistryLineage
from modelkin.screening.manifest import read_batch
from modelkin.screening.measuring import Work, measure
from modelkin.wishes import HowToRead, Listener
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.screening import deciding
from modelkin_registry.screening.batch import FAMILY
from modelkin_registry.screening.deciding import decided
from modelkin_registry.screening.declared import Declaration
from modelkin_registry.screening.explained import Entry
from modelkin_registry.screening.policy import read_policy
from modelkin_registry.screening.results import Screening
from modelkin_registry.screening.rules import RULES
from tiny_models import save_model, tiny_llama, tuned

LIST = """name,source,base,from_scratch
declared,child,parent,
undeclared,child2,,
scratch,copy,,text
own,mine,,*
twin-a,twin-a,,
twin-b,twin-b,,
gone,nowhere,,
broken,broken,,
"""
EXPECTED = {
    "declared": "clear",
    "undeclared": "flagged",
    "scratch": "flagged",
    "own": "clear",
    "twin-a": "flagged",
    "twin-b": "flagged",
    "gone": "unreadable",
    "broken": "unreadable",
}


@pytest.fixture
def batch(filled: Path) -> Path:
    """A registry r.db of `parent` and `stranger`, and a list of submissions of every outcome."""
    parent = tiny_llama(1)
    for name, tensors in {"child2": tuned(parent, 5), "copy": parent, "mine": tiny_llama(7), "twin-a": tiny_llama(8)}.items():
        save_model(filled / name, tensors)
    save_model(filled / "twin-b", tiny_llama(8))
    (filled / "broken").mkdir()
    (filled / "broken" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{nonsense")
    (filled / "batch.csv").write_text(LIST, encoding="utf-8")
    return filled


def screen(manifest: str = "batch.csv", **more: Any) -> Screening:
    given: dict[str, Any] = {"registry": "r.db", "out": "out", "jobs": 1}
    return modelkin.screen(manifest, **(given | more))


def outcomes(answer: Screening) -> dict[str, str]:
    return {one.submission: one.outcome for one in answer.results}


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def test_every_outcome_and_its_files(batch: Path) -> None:
    registry = Path("r.db").read_bytes()
    told: list[str] = []
    answer = screen(each=lambda one: told.append(one.submission))
    assert outcomes(answer) == EXPECTED
    assert told == list(EXPECTED)
    assert answer.exit_code == 1
    assert [(ring.members, ring.copies) for ring in answer.rings] == [(("twin-a", "twin-b"), True)]
    assert answer.discovery.tests == 6 * 2 + 15
    assert Path("r.db").read_bytes() == registry  # nothing is registered
    assert json.loads(Path("out/report.json").read_text()) == answer.to_dict()
    lines = [json.loads(line) for line in Path("out/submissions.jsonl").read_text().splitlines()]
    assert lines == [one.to_dict() for one in answer.results]
    for line in lines:
        assert line["contract"] == 1
        for finding in line["findings"]:
            assert {"rule", "component", "family", "relative", "relation", "p_value", "sentence"} <= finding.keys()


def test_processes_give_the_same_answer_and_what_is_kept_is_not_measured_again(batch: Path) -> None:
    first = screen()
    assert screen(out="several", jobs=2) == first
    assert files(Path("several")) == files(Path("out"))
    kept = {path: path.stat().st_mtime_ns for path in Path("out/work").iterdir()}
    assert screen() == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    lax = Path("lax.toml")
    lax.write_text(re.sub('"flag"', '"note"', default()), encoding="utf-8")
    assert outcomes(screen(policy=lax)) == {name: "clear" if said == "flagged" else said for name, said in EXPECTED.items()}


def default() -> str:
    return run("screen", "--show-policy", registry=None).stdout


def test_a_changed_submission_is_measured_again(batch: Path) -> None:
    screen()
    (Path("mine") / "model.safetensors").write_bytes((Path("parent") / "model.safetensors").read_bytes())
    assert outcomes(screen())["own"] == "flagged"


def test_a_changed_submission_that_keeps_its_size_and_time_is_measured_again(batch: Path) -> None:
    assert outcomes(screen())["own"] == "clear"
    weights = Path("mine") / "model.safetensors"
    before = weights.stat()
    weights.write_bytes((Path("parent") / "model.safetensors").read_bytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    assert outcomes(screen())["own"] == "flagged"


def test_damage_of_what_is_kept_is_mended(batch: Path) -> None:
    first = screen()
    for path in Path("out/work").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    again = screen()
    assert outcomes(again) == EXPECTED
    assert again == first


def test_killed_at_any_moment_it_goes_on_and_comes_to_the_same(batch: Path) -> None:
    whole = screen(jobs=2, out="whole")
    call = [*command("screen", "batch.csv", "--out", "out", "--jobs", "2", "--json")]
    for delay in (0.4, 0.8, 1.2, 1.6, 2.0):
        with subprocess.Popen(call, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL if delay % 0.8 else signal.SIGINT)
            process.wait()
    assert screen(jobs=2) == whole
    assert files(Path("out")) == files(Path("whole"))


def test_a_submission_that_ends_its_process_stops_nothing_else(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies over one submission is told as such, and another one goes on."""
    (batch / "killer.py").write_text(
        "import os\nfrom modelkin.screening import workers\nreal = workers.measure\n"
        "def measure(registry, work, listener):\n"
        "    os.kill(os.getpid(), 9) if work.declaration.name == 'own' else None\n    return real(registry, work, listener)\n"
        "workers.measure = measure\nworkers.serve()\n"
    )
    monkeypatch.setattr("modelkin.screening.running.WORKER", (sys.executable, str(batch / "killer.py")))
    answer = screen(jobs=2)
    assert outcomes(answer) == EXPECTED | {"own": "unreadable"}
    assert "was ended" in next(one.reason or "" for one in answer.results if one.submission == "own")
    monkeypatch.undo()
    os.chdir(batch)
    assert outcomes(screen())["own"] == "clear"  # what may not fail another time is not kept


def test_a_submission_that_takes_too_long_stops_nothing_else(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (batch / "sleeper.py").write_text(
        "import time\nfrom modelkin.screening import workers\nreal = workers.measure\n"
        "def measure(registry, work, listener):\n"
        "    time.sleep(600) if work.declaration.name == 'own' else None\n    return real(registry, work, listener)\n"
        "workers.measure = measure\nworkers.serve()\n"
    )
    monkeypatch.setattr("modelkin.screening.running.WORKER", (sys.executable, str(batch / "sleeper.py")))
    began = time.monotonic()
    answer = screen(jobs=2, time_limit=20)
    assert time.monotonic() - began < 300
    assert outcomes(answer) == EXPECTED | {"own": "unreadable"}
    assert "ended after 20 s" in next(one.reason or "" for one in answer.results if one.submission == "own")
    monkeypatch.undo()
    os.chdir(batch)
    said = run("screen", "batch.csv", "--out", "out", "--time-limit", "600", "--json")
    assert json.loads(said.stdout.splitlines()[3])["outcome"] == "clear"


def test_pairs_of_a_process_that_ended_are_held_again(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out they would be copies among the submissions that nobody sees."""
    (batch / "killer.py").write_text(
        "import os\nfrom modelkin.screening import workers\n"
        "def killed(self, batch):\n    os.kill(os.getpid(), 9)\n"
        "workers.Worker._batch_of = killed\nworkers.serve()\n"
    )
    monkeypatch.setattr("modelkin.screening.running.WORKER", (sys.executable, str(batch / "killer.py")))
    answer = screen(jobs=2)
    assert outcomes(answer) == EXPECTED
    assert [ring.members for ring in answer.rings] == [("twin-a", "twin-b")]


def test_a_script_without_a_main_guard_screens(batch: Path) -> None:
    script = "import modelkin\nprint(modelkin.screen('batch.csv', out='o', registry='r.db', jobs=2).counts['flagged'])\n"
    (batch / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"


def test_a_folder_of_submissions_with_hostile_names(batch: Path) -> None:
    given = batch / "given"
    given.mkdir()
    names = ["\x1b[31mred", "a\nb", "<img src=x onerror=alert(1)>", "‮evil", "-rf ..;rm", "=cmd()", "a\udcff\udcfe"]
    for name in names:
        save_model(given / name, tiny_llama(3))
    (given / "link").symlink_to(batch / "parent")
    (given / ".hidden").mkdir()
    (given / "notes.txt").write_text("x")
    answer = screen("given")
    assert len(answer.results) == len(names) + 2
    unreadable = {one.submission: one.reason or "" for one in answer.results if one.outcome == "unreadable"}
    assert unreadable.keys() == {"link", "notes.txt"}
    assert "is a link" in unreadable["link"]
    assert len(answer.rings[0].members) == len(names)
    for name, data in files(Path("out")).items():
        assert b"\x1b" not in data, name
    ElementTree.fromstring(Path("out/junit.xml").read_bytes())
    said = run("screen", "given", "--out", "out")
    assert "\x1b" not in said.output
    assert len(said.stdout.splitlines()) >= len(answer.results)
    assert not [line for line in said.stdout.splitlines() if line.startswith("b:")]


def test_what_is_written_is_no_submission_of_the_next_call(batch: Path) -> None:
    for out in ("given", "given/out", "given/../given/out"):
        (batch / "given").mkdir(exist_ok=True)
        with pytest.raises(OutputInside, match="in the folder of submissions"):
            screen("given", out=out)
        assert list((batch / "given").iterdir()) == []
    assert run("screen", "given", "--out", "given").exit_code == 2
    said = run("screen", "batch.csv", "--out", "out", "--report", "nowhere/page.html")
    assert (said.exit_code, Path("out").exists()) == (2, False)  # told before anything is measured


def test_a_private_key_works_the_same(batch: Path) -> None:
    modelkin.key("new", "our.key")
    modelkin.add("parent", "stranger", registry="private.db", key_file="our.key")
    secret = Path("our.key").read_text().strip()
    answer = screen(registry="private.db", key_file="our.key", jobs=2)
    assert outcomes(answer) == EXPECTED
    assert answer.key.startswith("private")
    assert (answer.warnings, len(screen(out="public").warnings)) == ((), 1)
    for path in (path for path in Path("out").rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes()
        assert bytes.fromhex(secret) not in path.read_bytes()


def test_among_many_of_one_base_the_copies_are_found_and_no_other_is_flagged(filled: Path) -> None:
    """More of them than are held against each: the nearest come first."""
    parent = tiny_llama(1)
    seeds = [*range(20, 20 + FAMILY + 3), 22]  # the last one is a copy of the third
    rows = ["name,source,base"]
    for number, seed in enumerate(seeds):
        save_model(filled / f"team-{number}", tuned(parent, seed))
        rows.append(f"team-{number},team-{number},parent")
    Path("family.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    answer = screen("family.csv")
    twins = ("team-2", f"team-{len(seeds) - 1}")
    assert [(ring.members, ring.copies) for ring in answer.rings] == [(twins, True)]
    assert {name for name, outcome in outcomes(answer).items() if outcome != "clear"} == {*twins}


@pytest.mark.parametrize("by", ["list", "README.md", "allowed", "policy", ""])
def test_a_base_explains_a_larger_family_than_is_weighed(filled: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    middle = tuned(tiny_llama(1), 77, 0.5)
    for number in range(4):
        modelkin.add(save_model(filled / f"sibling-{number}", tuned(middle, number, 0.05)), registry="r.db")
    source = str(save_model(filled / "mine", tuned(middle, 50, 0.05)))
    if by == "README.md":
        (filled / "mine" / "README.md").write_text("---\nbase_model: parent\n---\n")
    said = Declaration("mine", source, base=("parent",) if by == "list" else (), allowed_bases=("parent",) if by == "allowed" else None)
    policy = read_policy(default(), "policy")
    if by == "policy":
        policy = replace(policy, allowed=("parent",))
    policy = replace(policy, must_declare=by not in ("allowed", "policy"))
    monkeypatch.setattr("modelkin.screening.measuring.MOST_KIN", 3)  # the siblings, which are nearer
    with modelkin.Registry.open("r.db") as registry:
        how = HowToRead(key=PUBLIC_KEY)
        _, measured, _ = measure(registry.inner, Work(said, how, policy.audit, policy.named), Listener())
        answer = decided([Entry(said, measured)], [], policy, RegistryLineage(registry.inner), deciding.Asked(6, "public"))
    assert answer.results[0].outcome == ("clear" if by else "flagged")


def test_a_written_fingerprint_is_its_senders_word(batch: Path) -> None:
    modelkin.fingerprint("mine", "mine.modelkin")
    Path("one.csv").write_text("name,source\none,mine.modelkin\n", encoding="utf-8")
    answer = screen("one.csv")
    assert [(one.outcome, one.findings[0].rule) for one in answer.results] == [("inconclusive", "fingerprint-only")]


def test_a_base_is_registered_under_a_licence(batch: Path) -> None:
    (batch / "parent" / "README.md").write_text("---\nlicense: gpl-3.0\n---\n", encoding="utf-8")
    modelkin.add("parent", registry="licensed.db")
    Path("one.csv").write_text("name,source,base,licence\none,child,parent,mit\n", encoding="utf-8")
    answer = screen("one.csv", registry="licensed.db")
    assert [(one.rule, one.relative) for one in answer.results[0].findings] == [("licence-dropped", "parent")]


# lists


def test_both_kinds_of_list_say_the_same(tmp_path: Path) -> None:
    rows = {
        "name": "one",
        "source": "models/one",
        "base": ["org/base", "b"],
        "reused": {"vision": ["clip"], "audio": ["w"]},
        "from_scratch": ["text"],
        "allowed_parts": {"projector": ["*"]},
        "licence": "mit",
        "allowed_licences": ["mit", "apache-2.0"],
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(rows) + "\n\n" + json.dumps({"name": "two", "source": "hf://org/two"}) + "\n")
    (tmp_path / "a.csv").write_text(
        "name,source,base,reused,from_scratch,allowed_parts,licence,allowed_licences\n"
        'one,models/one,"org/base; b",vision=clip;audio=w,text,projector=*,mit,mit;apache-2.0\n\ntwo,hf://org/two,,,,,,\n'
    )
    assert read_batch(tmp_path / "a.csv") == read_batch(tmp_path / "a.jsonl")
    first, second = read_batch(tmp_path / "a.csv")
    assert first.source == str(tmp_path / "models" / "one")
    assert (second.source, second.base, first.reused["vision"]) == ("hf://org/two", (), ("clip",))


@pytest.mark.parametrize(
    ("name", "text", "line", "problem"),
    [
        ("a.csv", "", 1, "no head"),
        ("a.csv", "name,sauce\na,b\n", 1, "no column is named 'sauce'"),
        ("a.csv", "name\na\n", 1, "'source' is missing"),
        ("a.csv", "name,source,name\na,b,c\n", 1, "two columns"),
        ("a.csv", "name,source\na,b\na,c\n", 3, "stands on line 2 too"),
        ("a.csv", 'name,source\n"a\nb",c\nd\n', 4, "1 cells"),
        ("a.csv", "name,source,reused\na,b,vision\n", 2, "component=model"),
        ("a.csv", "name,source,from_scratch\na,b,Not A Part\n", 2, "is no component"),
        ("a.csv", "name,source\n,b\n", 2, "name is empty"),
        ("a.csv", b"name,source\na,\xff\n", 2, "is not UTF-8"),
        ("a.jsonl", '{"name": "a", "source": "b"}\n{"name": }\n', 2, "is no JSON"),
        ("a.jsonl", '{"name": "a", "source": "b", "bass": []}\n', 1, "no field is named 'bass'"),
        ("a.jsonl", '{"name": "a", "name": "b", "source": "c"}\n', 1, "one field twice"),
        ("a.jsonl", '{"name": 3, "source": "b"}\n', 1, "is no text"),
        ("a.jsonl", '{"name": "a", "source": "b", "base": 5}\n', 1, "is no list of names"),
        ("a.jsonl", "[]\n", 1, "is no JSON object"),
        ("a.jsonl", "[" * 100_000 + "\n", 1, "is no JSON"),
        ("a.jsonl", '{"name": ' + "1" * 5_000 + ', "source": "b"}\n', 1, "is no JSON"),
        ("a.jsonl", '{"name": "a", "source": "b"}\n{"name": "c", "source": "\\ud800"}\n', 2, "half a character"),
    ],
)
def test_a_mistake_in_a_list_is_told_with_its_line(tmp_path: Path, name: str, text: str | bytes, line: int, problem: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(WrongLine) as raised:
        read_batch(tmp_path / name)
    assert (raised.value.line, problem in raised.value.problem) == (line, True), raised.value.problem
    assert raised.value.exit_code == 2


def test_a_line_of_a_list_ends_where_csv_ends_it_and_at_no_character_of_a_name(tmp_path: Path) -> None:
    names = ["a\u2028b", "c\x0cd", "e\x85f"]
    (tmp_path / "a.csv").write_bytes(b"name,source\r\n" + "".join(f"{name},models/x\r\n" for name in names).encode())
    assert [one.name for one in read_batch(tmp_path / "a.csv")] == names


def test_what_is_no_list(tmp_path: Path) -> None:
    for name in ("nothing.csv", "list.txt"):
        (tmp_path / "list.txt").write_text("x")
        with pytest.raises(SourceNotFound):
            read_batch(tmp_path / name)


# what code hosts and CI systems read


def test_sarif_has_the_form_that_its_schema_asks_for(batch: Path) -> None:
    """The parts of the SARIF 2.1.0 schema that are used here: its required fields, its closed words, and references that lead somewhere."""
    screen()
    found = json.loads(Path("out/report.sarif").read_text())
    assert found.keys() == {"$schema", "version", "runs"}
    assert found["version"] == "2.1.0"
    (one,) = found["runs"]
    assert one.keys() <= {"tool", "results", "columnKind", "properties"}
    assert one["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    rules = one["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == len(RULES) + 1
    for rule in rules:
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        assert rule["shortDescription"]["text"] in rule["fullDescription"]["text"]  # these and help code hosts ask for
        assert rule["help"]["text"]
        assert rule["name"].casefold() != rule["id"]
    assert {result["level"] for result in one["results"]} == {"error"}
    for result in one["results"]:
        assert result.keys() <= {"ruleId", "ruleIndex", "level", "message", "locations", "properties"}
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        address = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~%/:@-]+", address)  # RFC 3986
        assert location["physicalLocation"]["region"] == {"startLine": 1}  # without one code hosts show nothing
        assert all(part["name"] for part in location["logicalLocations"])


def test_junit_counts_what_it_lists(batch: Path) -> None:
    screen()
    top = ElementTree.fromstring(Path("out/junit.xml").read_bytes())
    (suite,) = top
    cases = {case.get("name"): [part.tag for part in case] for case in suite}
    tags = {"flagged": ["failure"], "unreadable": ["error"], "inconclusive": ["skipped"], "clear": []}
    assert cases == {name: tags[said] for name, said in EXPECTED.items()}
    for told in (top, suite):
        assert [told.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["8", "4", "2", "0"]


# evidence for others


def test_each_pair_that_a_finding_rests_on_has_a_bundle_that_is_verified(batch: Path) -> None:
    plain = screen(out="plain")
    answer = screen(evidence=True, command="modelkin screen batch.csv")
    assert answer == plain
    rows = [json.loads(line) for line in Path("out/evidence.jsonl").read_text().splitlines()]
    expected = [("undeclared", "parent"), ("scratch", "parent"), ("twin-a", "twin-b")]
    assert [(row["submission"], row["relative"]) for row in rows] == expected
    weights = {"undeclared": "child2", "scratch": "copy"}
    for row in rows:
        file = Path("out") / row["file"]
        assert modelkin.verify(file).verdict == "reproduced"
        given = [weights.get(row["submission"], row["submission"]), row["relative"]]
        checked = modelkin.verify(file, weights=given)
        assert (checked.verdict, checked.weights) == ("reproduced", (row["submission"], row["relative"]))
        assert json.loads(file.read_text())["made"]["inputs"][0]["sha256"]
        changed = modelkin.verify(file, weights=["mine"])
        assert changed.verdict == "differs"
    assert {file.name for file in Path("out/evidence").iterdir()} == {Path(row["file"]).name for row in rows}
    lax = Path("lax.toml")
    lax.write_text(re.sub('= "(flag|inconclusive|note)"', '= "off"', default()), encoding="utf-8")
    screen(policy=lax, evidence=True)
    assert list(Path("out/evidence").iterdir()) == []  # nothing of an earlier decision stays


def test_a_registered_models_name_is_no_path_and_a_submissions_name_no_file(filled: Path) -> None:
    """A folder of the registered model's name holds other weights; the submission's name is a path of its own."""
    (filled / "elsewhere").mkdir()
    save_model(filled / "elsewhere" / "copy", tiny_llama(1))
    shutil.rmtree(filled / "parent")
    save_model(filled / "parent", tiny_llama(77))
    Path("one.csv").write_text('name,source,from_scratch\n"../../<b>&",elsewhere/copy,text\n', encoding="utf-8")
    screen("one.csv", evidence=True)
    (row,) = (json.loads(line) for line in Path("out/evidence.jsonl").read_text().splitlines())
    assert (row["submission"], row["relative"], row["file"]) == ("../../<b>&", "parent", "evidence/0001--------b----parent.json")
    assert modelkin.verify(f"out/{row['file']}").relation == "identical"
    assert list(Path("out/evidence").iterdir()) == [Path("out") / row["file"]]


# the command


def test_exit_codes_say_what_happened(batch: Path) -> None:
    assert run("screen", "batch.csv", "--out", "out").exit_code == 1
    assert run("screen", "batch.csv", "--out", "out", "--fail-on", "inconclusive").exit_code == 3  # some are unreadable
    Path("sound.csv").write_text("name,source\nundeclared,child2\n", encoding="utf-8")
    assert run("screen", "sound.csv", "--out", "out", "--fail-on", "inconclusive").exit_code == 0
    Path("two.csv").write_text("name,source\nown,mine\ngone,nowhere\n", encoding="utf-8")
    assert run("screen", "two.csv", "--out", "out").exit_code == 3
    Path("wrong.csv").write_text("name,source\nown\n", encoding="utf-8")
    said = run("screen", "wrong.csv", "--out", "out", "--json")
    assert said.exit_code == 2
    assert "wrong.csv, line 2" in json.loads(said.stdout)["error"]["message"]
    Path("policy.toml").write_text("version = 9\n", encoding="utf-8")
    assert run("screen", "two.csv", "--out", "out", "--policy", "policy.toml").exit_code == 2
    assert run("screen", "two.csv", "--out", "out", registry="none.db").exit_code == 4
    assert run("screen", "two.csv", "--out", "out", "-q").stdout.split() == ["gone"]
