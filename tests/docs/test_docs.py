"""Pages made from the code are current, and every public name that the docs mention exists."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from modelkin_registry.answers.relations import RELATIONS

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_schema_page_is_current() -> None:
    assert (DOCS / "schema.md").read_text(encoding="utf-8") == script("make_schema_page").page()


def test_blocks_are_found_and_stop_at_the_first_failure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n```text\nnot run\n```\n```bash\ntouch ran\n```\n```python\nassert x == 1\n```\n")
    (tmp_path / "there").mkdir()
    assert script("run_blocks").run(page, tmp_path / "there") == 3
    assert (tmp_path / "there" / "ran").exists()


def test_relations_named_in_the_method_exist() -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    for word in ("continued", "shared initialisation", "reparameterised"):
        assert word in RELATIONS
        assert f"**{word}**" in text
