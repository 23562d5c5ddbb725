"""Pages made from the code are current, and every public name that the docs mention exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from click.testing import CliRunner

from modelkin_cli.main import VERBS, cli
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.store.copying import copy_store
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import Queued
from postgres import Server
from registry_helpers import record, rows
from tiny_models import save_model, tiny_llama

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["schema", "benchmarks", "formats", "scale"])
def test_pages_made_from_the_code_are_current(name: str) -> None:
    found = script(f"make_{name}_page").page()
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == found, f"run `python docs/make_{name}_page.py`"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))]
    assert len(links) > 30
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_result_is_on_the_page_with_what_its_script_measures() -> None:
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    names = {path.stem for path in (DOCS.parent / "benchmarks" / "results").glob("*.json")}
    assert {name for name in names if f"## {name}\n" in page} == names


def test_blocks_are_found_and_stop_at_the_first_failure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n```text\nnot run\n```\n```bash\ntouch ran\n```\n```python\nassert x == 1\n```\n")
    (tmp_path / "there").mkdir()
    assert script("run_blocks").run(page, tmp_path / "there") == 3
    assert (tmp_path / "there" / "ran").exists()
    (tmp_path / "there" / "ran").unlink()
    assert script("run_blocks").run(page, tmp_path / "there", [1, 3]) == 2
    assert not (tmp_path / "there" / "ran").exists()
    page.write_text("```python\nraise SystemExit(3)\n```\n```bash\ntouch after\n```\n")
    with pytest.raises(subprocess.CalledProcessError):
        script("run_blocks").run(page, tmp_path / "there")
    assert not (tmp_path / "there" / "after").exists()


def test_relations_named_in_the_method_exist() -> None:
    text = (DOCS / "method" / "relations.md").read_text(encoding="utf-8")
    for word in ("continued", "shared initialisation", "reparameterised"):
        assert word in RELATIONS
        assert f"**{word}**" in text


@pytest.mark.parametrize("page", ["first-hour.md", "python.md", "screening.md", "serving.md", "upkeep.md"])
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # where `modelkin` is installed
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("MODELKIN_REGISTRY", "MODELKIN_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert script("run_blocks").run(DOCS / page, tmp_path) > 3


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", (DOCS / "upkeep.md").read_text(encoding="utf-8"), re.DOTALL))
def test_the_queries_of_a_page_answer_alike_on_both_stores(query: str, tmp_path: Path, postgres: Server) -> None:
    psycopg = pytest.importorskip("psycopg")
    with open_store(tmp_path / "r.db") as store, store.batch():
        for name, content in (("org/a", "1"), ("b", "1"), ("c", "2")):
            store.put(record(name, content=content, config={"model_type": "llama"}), rows(1))
        store.hub.enqueue([Queued("org/x", "7", "1", "2026-01-01", "full")], "all")
        store.hub.note("org/x", "failed", reason="not there")
    address = postgres.address()
    with open_store(tmp_path / "r.db") as store, open_store(address) as copy:
        copy_store(store, copy)
    with closing(sqlite3.connect(f"file:{tmp_path}/r.db?mode=ro", uri=True)) as file, psycopg.connect(address.server) as server:
        server.execute(f"SET search_path = {address.schema}")
        found = file.execute(query).fetchall()
        assert found == server.execute(query).fetchall() != []


def test_the_steps_of_a_pipeline_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call of the pipeline on the page, run as it stands there, ends with an exit code for the host and the file that it uploads."""
    text = (DOCS / "screening.md").read_text(encoding="utf-8")
    steps = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["jobs"]["screen"]["steps"]
    (line,) = [step["run"] for step in steps if step.get("run", "").startswith("modelkin ")]
    monkeypatch.chdir(tmp_path)
    for name, seed in (("registered", 1), ("team", 2)):
        save_model(tmp_path / name, tiny_llama(seed))
    assert CliRunner().invoke(cli, ["--registry", "public.db", "add", "registered"]).exit_code == 0
    (tmp_path / "submissions.csv").write_text("name,source\nteam,team\n", encoding="utf-8")
    assert CliRunner().invoke(cli, shlex.split(line)[1:]).exit_code == 0
    (tmp_path / "submissions.csv").write_text("name,source\nteam,registered\n", encoding="utf-8")
    assert CliRunner().invoke(cli, shlex.split(line)[1:]).exit_code == 1
    upload = next(step["with"]["sarif_file"] for step in steps if "with" in step)
    assert (tmp_path / upload).exists()


def test_the_readme_shows_python_that_runs_and_every_verb() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    kinds = [kind for kind, _ in script("run_blocks").BLOCK.findall(text)]
    assert kinds == ["bash", "bash", "python"]
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", text), verb
