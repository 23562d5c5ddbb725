"""Who imports whom, part by part and folder by folder, and what the command line imports before it needs to."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import rooms
from benchmarks.house.rooms import PACKAGES, PARTS
from tiny_models import save_model, tiny_llama

# Each part's rooms, lowest floor first: a room may import what stands on a floor below it. A new room gets its place here.
FLOORS = {
    "data": [{"reading"}, {"backgrounds", "ctranslate2_names", "gguf_names", "libraries", "policy", "recipes", "starter"}],
    "indexer": [
        {"errors", "places", "plug_ins"},
        {"spec"},
        {"gram_vectors", "sketch"},
        {"results"},
        {"source"},
        {"sources"},
        {"anatomy", "beside", "quantised"},
        {"adapters", "hub", "joined"},
        {"fingerprinting", "formats", "opening"},
        {"exact"},
        {"aligned"},
    ],
    "registry": [
        {"answers"},
        {"evidence", "merging"},
        {"counterparts", "exact", "store"},
        {"relations", "structure"},
        {"claims", "search", "trajectories"},
        {"batches"},
        {"doctor", "explanation", "sharing", "trees"},
        {"asking", "screening"},
        {"questions"},
        {"registry"},
        {"joined"},
    ],
    "api": [
        {"errors", "keys", "readable", "settings", "words"},
        {"wishes"},
        {"registries"},
        {"sources"},
        {"answering", "auditing", "keeping", "made", "taking"},
        {"bundles", "reporting", "working"},
        {"screening", "serving", "standards"},
        {"evidencing"},
        {"asked"},
        {"registry"},
        {"verbs"},
    ],
    "cli": [
        {"options", "pages", "verdicts"},
        {"failures", "output"},
        {"main", "reading_options", "reporting"},
        {"commands", "start"},
        {"__main__"},
    ],
}
# All that the registry takes from the indexer.
DATA_TYPES = {"errors", "gram_vectors", "places", "results", "sketch", "spec"}
HEAVY = {"torch", "faiss", "huggingface_hub", "numpy", "safetensors", "sqlite_utils", "rich", "matplotlib", "gguf"}
# What a query of a model that is stored plainly, in a registry that is there, does without: its answer needs none of it.
NOT_ASKED = {
    "concurrent.futures",
    "importlib.resources",
    "modelkin.evidencing",
    "modelkin.keeping",
    "modelkin.serving",
    "modelkin_indexer.adapters.source",
    "modelkin_indexer.adapters.tuners",
    "modelkin_indexer.quantised.libraries",
    "modelkin_indexer.quantised.schemes",
    "modelkin_registry.answers.shared",
    "modelkin_registry.answers.tree",
    "modelkin_registry.answers.upkeep",
    "modelkin_registry.screening",
    "modelkin_registry.store.copying",
    "sqlite_utils",
}
FEWEST_FILES, MOST_FILES = 3, 13  # of a folder: with fewer it is no wall, with more nobody finds anything
# Rooms of one subject that stand beside larger ones of their kind; the top of a part holds its face.
SMALL_ROOMS = {("indexer", "sources.ctranslate2"), ("registry", "structure"), ("registry", "trajectories")}
ONE_A_VERB = {("cli", "commands")}  # a file a verb: the list is the table of verbs


@pytest.mark.parametrize("part", PARTS)
def test_imports_between_parts_run_one_way(part: str) -> None:
    assert rooms.back_up(part) == set()


@pytest.mark.parametrize("part", PARTS)
def test_rooms_import_only_lower_floors(part: str) -> None:
    floor = {room: number for number, level in enumerate(FLOORS[part]) for room in level}
    found = rooms.arrows(part)
    assert set(found) == set(floor)
    upward = {f"{room} -> {other}" for room, others in found.items() for other in others if floor[other] >= floor[room]}
    assert upward == set()


def test_a_circle_is_seen() -> None:
    assert rooms.circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == "a -> b -> c -> a"
    assert rooms.circle({"a": {"b"}, "b": set()}) == ""


def folders() -> list[tuple[str, str]]:
    packages = {part: rooms.ROOT / part / PACKAGES[part] for part in PARTS}
    found = [(part, path.parent.relative_to(packages[part])) for part in PARTS for path in sorted(packages[part].rglob("__init__.py"))]
    return [(part, ".".join(folder.parts)) for part, folder in found if folder.parts]


@pytest.mark.parametrize(("part", "folder"), folders())
def test_no_circle_between_the_files_of_a_folder(part: str, folder: str) -> None:
    assert rooms.circle(rooms.folder_arrows(part, folder)) == ""


@pytest.mark.parametrize(("part", "folder"), folders())
def test_a_folder_can_be_taken_in_at_a_glance(part: str, folder: str) -> None:
    files = [path for path in (rooms.ROOT / part / PACKAGES[part] / Path(*folder.split("."))).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES or (part, folder) in ONE_A_VERB
    is_data = not any((rooms.ROOT / part / PACKAGES[part] / Path(*folder.split("."))).rglob("[!_]*.py"))
    assert (len(files) < FEWEST_FILES and not is_data) == ((part, folder) in SMALL_ROOMS)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_can_be_taken_in_at_a_glance(part: str) -> None:
    files = [path for path in (rooms.ROOT / part / PACKAGES[part]).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES


def test_a_package_has_no_logic_of_its_own() -> None:
    """An `__init__.py` holds a docstring, and lazy exports at the most."""
    for part in PARTS[1:]:
        for path in (rooms.ROOT / part).rglob("__init__.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            logic = [node for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.For, ast.While, ast.With, ast.Try))]
            functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert not logic, path
            assert functions <= {"__getattr__", "__dir__"}, path


def test_the_registry_takes_only_data_types_from_the_indexer() -> None:
    package = PACKAGES["indexer"] + "."
    taken = {
        name.removeprefix(package)
        for path in rooms.modules("registry").values()
        for name in rooms.imported(path)
        if name.startswith(package)
    }
    assert taken
    assert {name for name in taken if name.split(".")[0] not in DATA_TYPES} == set()


@pytest.mark.parametrize("part", PARTS)
def test_no_module_imports_its_own_top_package(part: str) -> None:
    """`from modelkin_x import module` names a module of it; what stands in the package itself may only be used from outside."""
    package = PACKAGES[part]
    own = {name for path in rooms.modules(part).values() for name in rooms.imported(path) if name.split(".")[0] == package}
    assert {name for name in own if not rooms.room(name, part)} == set()


def loaded_after(*calls: list[str]) -> set[str]:
    """Top-level modules that calls in one process have imported when it ends."""
    return {name.split(".")[0] for name in modules_after(*calls)}


def modules_after(*calls: list[str]) -> set[str]:
    """Modules that calls in one process have imported when it ends."""
    code = (
        "import sys\nfrom modelkin_cli.main import cli\n"
        f"codes = [cli.main(call, standalone_mode=False) for call in {calls!r}]\n"
        "print('\\n' + ' '.join(sys.modules), file=sys.stderr)\nsys.exit(max(codes))"
    )
    paths = os.pathsep.join(str(rooms.ROOT / part) for part in PARTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = loaded_after(arguments or ["--version"])
    assert "modelkin_cli" in loaded
    assert loaded & HEAVY == set()


def test_the_verbs_import_no_torch(tmp_path: Path) -> None:
    model = str(save_model(tmp_path / "a", tiny_llama(1)))
    calls = [["add", model], ["query", model], ["compare", model, "a"]]
    asked = [["--registry", str(tmp_path / f"{level}.db"), *call, "--level", level, "-q"] for level in ("probe", "full") for call in calls]
    loaded = loaded_after(*asked)
    assert "numpy" in loaded
    assert loaded & {"torch", "huggingface_hub", "matplotlib", "gguf", "jinja2", "starlette", "uvicorn", "weasyprint"} == set()


def test_a_query_imports_what_its_answer_needs(tmp_path: Path) -> None:
    model, registry = str(save_model(tmp_path / "a", tiny_llama(1))), ["--registry", str(tmp_path / "models.db")]
    modules_after([*registry, "add", model])
    loaded = modules_after([*registry, "query", model])
    assert "modelkin_registry.relations.pairs" in loaded
    assert loaded & NOT_ASKED == set()


@pytest.mark.parametrize("part", PARTS)
def test_records_are_of_the_kind_that_is_made_quickly(part: str) -> None:
    making = {path.name for path in rooms.modules(part).values() if "dataclasses" in {name.split(".")[0] for name in rooms.imported(path)}}
    assert making == set()
