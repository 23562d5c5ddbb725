"""`import modelkin`: every verb as a function, a registry that takes paths, results as JSON, tables and pages. Nothing is printed."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import logging
import pkgutil
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelkin
import modelkin_registry.answers
from calls import ROOT, environment, run
from modelkin.errors import FingerprintError, ModelkinError, Offline, RegistryError, SourceNotFound, UnknownModel, UnusableValues
from modelkin.settings import Settings
from modelkin_cli.main import VERBS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.plain import TABLES, Plain
from tiny_models import save_model, tiny_llama

API = ROOT / "api" / "modelkin"
MODULES = sorted(API.rglob("*.py"))


# the face


def test_every_name_is_there_once_and_in_order() -> None:
    assert list(modelkin.__all__) == sorted(set(modelkin.__all__))
    assert dir(modelkin) == modelkin.__all__
    for name in modelkin.__all__:
        assert getattr(modelkin, name).__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = modelkin.nonsense


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((API / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(modelkin.__all__)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function(verb: str) -> None:
    assert callable(getattr(modelkin, {"import": "import_", "registry": "new_registry"}.get(verb, verb)))


def test_importing_it_brings_nothing_heavy() -> None:
    code = "import modelkin, sys; modelkin.__all__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & {"numpy", "click", "rich", "sqlite3", "faiss", "huggingface_hub", "modelkin_indexer", "modelkin_registry"} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(API)))
def test_it_has_no_screen(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    of_sys = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys"
    }
    assert not imported & {"click", "rich", "modelkin_cli"}
    # processes of its own are started so, and told over their input what to do; and what Ray prints is kept out of a program's output
    assert of_sys <= {"executable", "path", "stdin"} | ({"stdout", "stderr"} if path.name == "on_ray.py" else set())
    assert not called & {"print", "input", "exit"}


# asking


@pytest.fixture
def registry(filled: Path) -> Any:
    with modelkin.open("r.db") as registry:
        yield registry


def test_paths_fingerprints_and_readings_get_the_answer_of_the_command(filled: Path) -> None:
    said = json.loads(run("query", "child", "--json").stdout)
    reading = modelkin.read("child")
    assert isinstance(reading.fingerprint, modelkin.Fingerprint)
    modelkin.fingerprint("child", "child.modelkin")
    for source in ("child", Path("child"), reading, reading.fingerprint, "child.modelkin"):
        answer = modelkin.query(source, registry="r.db")
        assert [r.to_dict() for r in answer.relatives] == said["relatives"]
    assert modelkin.query("child", registry="r.db").to_dict() == said


def test_comparing_needs_no_registry_and_takes_names_of_one(filled: Path, own_folder: Path) -> None:
    said = json.loads(run("compare", "child", "parent", "--control", "stranger", "--json").stdout)
    assert modelkin.compare("child", "parent", controls=["stranger"], registry="r.db").to_dict() == said
    assert modelkin.compare("child", "parent").relation == "fine-tuned"
    assert not own_folder.exists()
    (filled / "parent").rename(filled / "moved")
    assert modelkin.compare("child", "parent", registry="r.db").relation == "fine-tuned"
    read = modelkin.read("child"), modelkin.read("moved").fingerprint
    assert modelkin.compare(*read).relation == "fine-tuned"
    with pytest.raises(ValueError, match="give paths"):
        modelkin.compare(*read, exact=True)
    with pytest.raises(RegistryError):
        modelkin.compare("child", "nobody", registry="none.db")


def test_an_exact_comparison(filled: Path) -> None:
    answer = modelkin.compare("child", "parent", exact=True, resume="j", registry="r.db")
    assert Path("j").exists()
    assert answer.exact
    assert json.dumps(answer.to_dict(), allow_nan=False)
    said = json.loads(run("compare", "child", "parent", "--exact", "--json").stdout)
    assert answer.to_dict() == said


def test_options_of_an_exact_comparison_need_one(registry: modelkin.Registry) -> None:
    for options in ({"layers": "all"}, {"resume": "j"}):
        with pytest.raises(ValueError, match="exact=True"):
            modelkin.compare("child", "parent", **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="exact=True"):
            registry.compare("child", "parent", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'same' or 'all'"):
        registry.compare("child", "parent", exact=True, layers="each")  # type: ignore[arg-type]
    whole = registry.compare("child", "parent", exact=True, layers="all")
    assert whole.exact_summary is not None
    assert whole.exact_summary.layer_matrices


def test_damaged_tensors_are_refused_where_that_is_asked_for(filled: Path) -> None:
    tensors = tiny_llama(1)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_model(filled / "damaged", tensors)
    assert modelkin.query("damaged", registry="r.db").relatives[0].model == "parent"
    modelkin.fingerprint("damaged", "damaged.modelkin")
    for source in ("damaged", "damaged.modelkin"):
        with pytest.raises(UnusableValues, match="up_proj"):
            modelkin.query(source, registry="r.db", strict=True)
        said = run("query", source, "--strict", "--json")
        assert (said.exit_code, json.loads(said.stdout)["error"]["kind"]) == (3, "UnusableValues")
    assert [one.status for one in modelkin.add("damaged", "child", registry="r.db", strict=True).results] == ["failed", "added"]


def test_taking_apart_and_series(registry: modelkin.Registry) -> None:
    assert registry.decompose("child").merge is None
    weighed = registry.decompose("child", parents=["parent", modelkin.read("stranger")], base="parent")
    assert [row["model"] for row in weighed.rows()] == ["parent", "stranger"]
    with pytest.raises(SourceNotFound, match="no registered model"):
        registry.decompose("child", parents=["nobody"])
    answer = registry.trajectory("parent", "child")
    assert [step.name for step in answer.steps] == ["parent", "child"]
    assert registry.trajectory(*map(modelkin.read, ("parent", "child"))).steps == answer.steps


# a registry that stays open


def test_a_registry_that_is_not_there_is_made_only_if_asked(models: Path) -> None:
    for opening in (modelkin.Registry.open, modelkin.open):
        with pytest.raises(RegistryError, match=r"none\.db"):
            opening("none.db")
    assert not Path("none.db").exists()
    with modelkin.Registry.open("none.db", create=True) as registry:
        assert len(registry) == 0
        assert modelkin.add("parent", registry=registry).results[0].status == "added"  # an empty one is used too
        assert "parent" in registry
        assert modelkin.query("child", registry=registry).relatives[0].model == "parent"
        assert registry.query("child").relatives[0].model == "parent"  # and was not closed by the function
    with modelkin.open("none.db", create=True) as registry:
        assert len(registry) == 1


def test_the_environment_names_the_registry(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKIN_REGISTRY", "r.db")
    assert [one.model for one in modelkin.list().models] == ["parent", "stranger"]
    monkeypatch.setenv("MODELKIN_OFFLINE", "1")
    with pytest.raises(Offline):
        modelkin.query("org/name")
    monkeypatch.delenv("MODELKIN_OFFLINE")
    with pytest.raises(Offline):
        modelkin.query("org/name", offline=True)
    with modelkin.Registry.open("r.db", offline=True) as registry, pytest.raises(Offline):
        modelkin.query("org/name", registry=registry)


def test_upkeep(registry: modelkin.Registry, filled: Path) -> None:
    assert registry.show("parent").model == "parent"
    assert registry.rename("parent", "mother").to_dict() == {"contract": 1, "model": "mother", "former": "parent"}
    assert registry.doctor().clean
    assert registry.calibrate().models == 2
    assert registry.calibrate(reset=True).backgrounds == ()
    assert registry.export("out").models == 2
    with pytest.raises(modelkin.errors.SharedFileError, match="there already"):
        registry.export("out")
    taken = modelkin.import_("out", registry="new.db")
    assert (taken.added, taken.models, taken.renamed) == (2, 2, ())
    asked: list[Any] = []
    assert registry.remove("mother", "parent", sure=lambda models: bool(asked.append(models))).removed == ()
    assert asked == [("mother",)]
    with pytest.raises(UnknownModel):
        registry.remove("mother", "nobody")
    assert registry.remove("mother").removed == ("mother",)
    assert [one.model for one in registry.list().models] == ["stranger"]
    assert registry.journal().entries == ()
    assert isinstance(registry.get("stranger"), Fingerprint)
    assert modelkin.doctor(registry=registry).clean
    assert modelkin.doctor(registry="r.db").registry == "r.db"


def test_adding_tells_of_each_as_it_is_done_and_never_stops(models: Path) -> None:
    seen: list[str] = []
    with modelkin.open("r.db", create=True) as registry:
        answer = registry.add("parent", "nothing", modelkin.read("child"), each=lambda one: seen.append(one.status))
        assert seen == [one.status for one in answer.results] == ["added", "failed", "added"]
        assert (answer.exit_code, answer.counts) == (3, {"added": 2, "failed": 1})
        fingerprint = modelkin.read("stranger").fingerprint
        assert "name=" in str(registry.add(fingerprint).results[0].reason)
        assert registry.add(fingerprint, name="stranger").exit_code == 0
        assert registry.add(Path("parent")).results[0].status == "unchanged"
        with pytest.raises(ValueError, match="one source"):
            registry.add("parent", "child", name="x")
        with pytest.raises(ValueError, match="level"):
            registry.add("parent", level="half")  # type: ignore[arg-type]


def test_a_private_key(models: Path) -> None:
    Path("key").write_text("ab" * 32)
    with modelkin.Registry.open("r.db", create=True, key_file="key") as registry:
        registry.add("parent")
        assert registry.query("child").relatives[0].model == "parent"
        with pytest.raises(FingerprintError):
            registry.query(modelkin.read("child"))
    with pytest.raises(RegistryError):
        modelkin.Registry.open("r.db")


def test_a_wrong_name_for_a_fingerprint_is_told_before_the_weights_are_read(models: Path) -> None:
    with pytest.raises(ValueError, match=r"\.modelkin"):
        modelkin.fingerprint("nothing", "x.txt")
    with pytest.raises(OSError, match="nowhere"):
        modelkin.fingerprint("child", "nowhere/x.modelkin")


# who is told


def test_a_listener_is_told_and_else_the_log(filled: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, Any]] = []

    def begin(name: str, total: int) -> Any:
        told.append((name, total))
        return lambda done: told.append((name, done))

    modelkin.read("child", listener=modelkin.Listener(begin=begin))
    assert told[0][0] == "child"
    assert 0 < sum(number for _, number in told[1:]) <= told[0][1]  # vectors are not counted
    with caplog.at_level(logging.INFO, "modelkin"), modelkin.open("empty.db", create=True) as registry:
        registry.query("child")
    assert "registry is empty" in caplog.text
    assert capfd.readouterr() == ("", "")


# what answers can do


def plain_classes() -> list[type[Plain]]:
    for module in pkgutil.iter_modules(modelkin_registry.answers.__path__, "modelkin_registry.answers."):
        importlib.import_module(module.name)
    return sorted(Plain.__subclasses__(), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", plain_classes(), ids=lambda kind: kind.__name__)
def test_answers_are_frozen_and_named_once(kind: type[Plain]) -> None:
    assert kind.__struct_config__.frozen
    assert len([one for one in plain_classes() if one.__name__ == kind.__name__]) == 1


def test_every_table_leads_through_fields() -> None:
    kinds = {kind.__name__: kind for kind in plain_classes()}
    for name, ways in TABLES.items():
        assert {way[0] for way in ways} <= set(kinds[name].__struct_fields__)


def test_an_answer_as_a_table(filled: Path) -> None:
    import pandas

    answer = modelkin.query("child", registry="r.db", show_all=True)
    frame = answer.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["model"]) == ["parent", "stranger"]
    assert list(frame["relation"]) == ["fine-tuned", "unrelated"]
    families = answer.relatives[0].to_pandas()
    assert {"family", "r", "p_value", "null_sd", "inherited"} <= set(families.columns)
    assert list(modelkin.compare("child", "parent").to_pandas()["family"]) == list(families["family"])
    assert list(modelkin.list(registry="r.db").to_pandas()["model"]) == ["parent", "stranger"]
    assert len(modelkin.tree(registry="r.db").to_pandas()) == 0
    assert modelkin.rename("parent", "mother", registry="r.db").to_pandas().iloc[0].to_dict() == {"model": "mother", "former": "parent"}


def test_counterparts_as_a_table(filled: Path) -> None:
    answer = modelkin.compare("child", "parent", tensors=True)
    assert answer.counterparts is not None
    frame = answer.counterparts.to_pandas()
    assert list(frame.columns) == ["query", "relative", "found", "r", "channel", "parameters"]
    assert (frame["query"] == frame["relative"]).all()
    assert len(frame) == answer.counterparts.total > 0
    asked = modelkin.query("child", registry="r.db", tensors=True).relatives[0].counterparts
    assert asked == answer.counterparts
    plain = modelkin.compare("child", "parent").counterparts
    assert plain is not None
    assert plain.tensors is None
    assert plain.total == answer.counterparts.total


def test_without_pandas_it_is_said_how_to_get_it(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'modelkin\[pandas\]'"):
        modelkin.list(registry="r.db").to_pandas()
    assert modelkin.list(registry="r.db").rows()[0]["model"] == "parent"


HOSTILE = "<script>alert('x')</script>&"


def test_a_page_of_a_notebook_escapes_every_name(models: Path) -> None:
    save_model(models / "named", tiny_llama(1))
    with modelkin.open("r.db", create=True) as registry:
        registry.add("named", name=HOSTILE)
        answers: list[Plain] = [registry.query("child"), registry.list(), registry.show(HOSTILE), registry.tree(), registry.doctor()]
        answers += [registry.query("child").relatives[0], registry.compare("child", HOSTILE), registry.rename(HOSTILE, HOSTILE + "<i>")]
    for answer in answers:
        page = answer._repr_html_()
        assert "<script>" not in page
        assert "<i>" not in page
        assert page.startswith('<div class="modelkin">')
    shown = answers[0]._repr_html_()
    assert "&lt;script&gt;" in shown
    assert shown.index("<strong>") < shown.index("<table>")
    assert "<th>model</th>" in shown


def test_what_is_not_quite_one_is_not_shown_as_one() -> None:
    from modelkin_registry.answers.upkeep import OwnBackground

    page = OwnBackground("probe", "mlp", 0.99999, 1.0, 3, 2, True)._repr_html_()
    assert "<td>0.9999</td><td>1</td>" in page


def test_a_long_table_is_cut_and_says_so() -> None:
    from modelkin_registry.answers.upkeep import ListedModel, Listing

    page = Listing(tuple(ListedModel(f"m{n}", "full", 1, (), "", "", 1) for n in range(60)))._repr_html_()
    assert page.count("<tr>") == 51
    assert "10 more rows" in page


def test_errors_are_one_family() -> None:
    assert isinstance(modelkin.errors, types.ModuleType)
    for name in modelkin.errors.__all__:
        found = getattr(modelkin.errors, name)
        assert not isinstance(found, type) or issubclass(found, Plain) or issubclass(found, ModelkinError)


def test_what_was_left_out_of_a_folder_is_part_of_the_answer(filled: Path) -> None:
    """A script does not see what is said beside, and a copy of all that was read is none of what was left out."""
    shutil.copy("stranger/model.safetensors", "child/model_extra.safetensors")
    left = "child: model.safetensors is read, and left out: model_extra.safetensors"
    for answer in (modelkin.query("child", registry="r.db"), modelkin.compare("child", "parent"), modelkin.compare("parent", "child")):
        assert [warning for warning in answer.warnings if warning.startswith(left)]
    said: list[str] = []
    modelkin.evidence("child", "parent", "pair.json", listener=modelkin.Listener(say=said.append))
    assert any(one.startswith(left) for one in said)


@pytest.mark.parametrize("kind", [*plain_classes(), Settings], ids=lambda kind: kind.__name__)
def test_help_tells_the_fields_of_an_answer(kind: type[Plain]) -> None:
    """`help()` resolves the annotations of a record: a name that only type checkers import ends it with an error."""
    assert [*inspect.signature(kind).parameters] == [*kind.__struct_fields__]
