"""A registry's upkeep: models chosen and counted, tags and notes, patterns, twins told on `add`, backups and what is made of them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import modelkin
from adapters_written import IN, OUT, lora_kin
from calls import run
from modelkin.errors import RegistryError, UnknownModel, WrongFilter
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_registry.registry import Registry as Inner
from modelkin_registry.store.opening import open_store
from postgres import Server
from registry_helpers import real_fingerprint, record, rows

KEPT = ("parent", "stranger")


def lines(*arguments: str) -> list[str]:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


# list


def test_models_are_listed_as_asked_for(filled: Path) -> None:
    assert lines("tag", "parent", "+mine") == ["parent: mine"]
    assert lines("list", "--where", "tag=mine", "-q") == ["parent"]
    assert lines("list", "--where", "family=llama", "--where", "tag!=mine", "-q") == ["stranger"]
    assert lines("list", "--sort", "name", "--reverse", "--limit", "1", "-q") == ["stranger"]
    assert lines("list", "--since", "2999", "--count") == ["0"]
    assert lines("list", "--count") == ["2"]
    head, _, *told = lines("list", "--columns", "model,family,tags")
    assert head.split() == ["model", "family", "tags"]
    assert [line.split() for line in told] == [["parent", "llama", "mine"], ["stranger", "llama"]]
    said = run("list", "--where", "name=par*", "--limit", "0", "--json")
    assert (json.loads(said.stdout)["found"], json.loads(said.stdout)["models"]) == (1, [])
    assert "1 of 2 models in r.db" in run("list", "--limit", "1").stderr
    assert "tags" in lines("list")[0]


@pytest.mark.parametrize("wrong", ["colour=red", "family", "parameters>many", "added>yesterday", "level>full", "component=v*"])
def test_a_condition_that_is_none_is_a_mistake_of_the_call(filled: Path, wrong: str) -> None:
    said = run("list", "--where", wrong, "--json")
    assert said.exit_code == 2
    assert json.loads(said.stdout)["error"]["kind"] == "WrongFilter"
    assert repr(wrong) in said.stderr
    with pytest.raises(WrongFilter):
        modelkin.list(where=[wrong], registry="r.db")


def test_options_that_are_none_are_refused(filled: Path) -> None:
    for options in (["--columns", "model,colour"], ["--count", "--stats"], ["--sort", "colour"]):
        assert run("list", *options).exit_code == 2
    with pytest.raises(WrongFilter, match="no field to sort by"):
        modelkin.list(sort="tag", registry="r.db")


def test_stats_tell_what_models_come_to(filled: Path) -> None:
    modelkin.tag("parent", add=["mine"], registry="r.db")
    stats = modelkin.list(stats=True, registry="r.db").stats
    assert stats is not None
    every = modelkin.list(registry="r.db").models
    assert (stats.models, stats.revisions, stats.adapters, stats.imported) == (2, 2, 0, 0)
    assert stats.parameters == sum(one.parameters or 0 for one in every)
    assert (stats.levels, stats.families, stats.tags) == ({"full": 2}, {"llama": 2}, {"mine": 1})
    shown = {one.kind: one for one in stats.stored}
    assert shown["fingerprints, level full"].table_rows == 2
    assert stats.bytes > sum(one.bytes for one in stats.stored) > 0
    printed = " ".join(" ".join(lines("list", "--stats")).split())
    assert f"parameters {stats.parameters:,}" in printed
    assert "fingerprints, level full 2" in printed
    chosen = modelkin.list(stats=True, where=["tag=mine"], registry="r.db").stats
    assert chosen is not None
    assert (chosen.models, chosen.stored) == (1, stats.stored)


def test_models_are_a_data_frame(filled: Path) -> None:
    with modelkin.open("r.db") as registry:
        frame = registry.to_pandas(where=["name=par*"])
        assert frame.to_dict("records") == registry.list(where=["name=par*"]).rows()
    assert list(modelkin.to_pandas(registry="r.db")["model"]) == [*KEPT]


def test_without_pandas_it_says_what_to_install(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'modelkin\[pandas\]'"):
        modelkin.to_pandas(registry="r.db")


def test_an_adapter_alone_counts_by_what_it_holds(filled: Path) -> None:
    lora = next(one for one in lora_kin().values() if one.words == "LoRA")
    lora.write(Path("lora"))
    held = sum(tensor.size for tensor in lora.stored.values())
    modelkin.add("lora", registry="r.db")
    (line,) = modelkin.list(where=["adapter=LoRA"], registry="r.db").models
    assert (line.model, line.parameters, line.adapter) == ("lora", held, "LoRA")
    assert held < modelkin.read("lora").fingerprint.about.parameters == OUT * IN
    stats = modelkin.list(stats=True, registry="r.db").stats
    assert stats is not None
    assert (stats.adapters, stats.adapter_parameters, stats.adapters_unknown) == (1, held, 0)
    assert "(LoRA alone)" in run("list", width=200).stdout
    assert {finding.state for finding in modelkin.doctor(registry="r.db").findings} == {"ok"}


# tags and notes


def test_tags_come_and_go(filled: Path) -> None:
    assert lines("tag", "*", "+a", "+quick", "-q") == [*KEPT]
    assert lines("tag", "parent", "-quick", "-never", "+b") == ["parent: a b"]
    assert lines("tag", "parent", "stranger") == ["parent: a b", "stranger: a quick"]
    assert json.loads("".join(lines("tag", "stranger", "-a", "-quick", "--json")))["models"] == {"stranger": []}
    for wrong in (["+a"], ["parent", "+two words"]):
        assert run("tag", *wrong).exit_code in (2, 4)
    with pytest.raises(UnknownModel, match=r"of the pattern 'x\*'"):
        modelkin.tag("x*", add=["a"], registry="r.db")
    with pytest.raises(UnknownModel, match="nobody"):
        modelkin.tag("parent", "nobody", add=["z"], registry="r.db")
    assert modelkin.list(where=["tag=z"], count=True, registry="r.db").found == 0


def test_a_note_is_shown(filled: Path) -> None:
    assert lines("note", "parent", "asked") == ["parent: asked"]
    assert "asked" in run("show", "parent").stdout
    assert modelkin.show("parent", registry="r.db").note == modelkin.list(registry="r.db").models[0].note == "asked"
    assert lines("note", "parent", "") == ["parent: no note"]


def test_they_stay_here_and_go_with_a_refresh_and_a_copy(filled: Path) -> None:
    modelkin.tag("parent", add=["mine"], registry="r.db")
    modelkin.note("parent", "secret", registry="r.db")
    modelkin.export("out.modelkin-registry", registry="r.db")
    modelkin.import_("out.modelkin-registry", registry="other.db", starter=False)
    assert [(one.tags, one.note) for one in modelkin.list(registry="other.db").models] == [((), ""), ((), "")]
    assert b"secret" not in Path("out.modelkin-registry").read_bytes()
    modelkin.copy_registry("r.db", "copy.db")
    modelkin.key("new", "our.key")
    modelkin.refresh("private.db", "our.key", registry="r.db")
    for other, key in (("copy.db", None), ("private.db", "our.key")):
        (found, _) = modelkin.list(registry=other, key_file=key).models
        assert (found.tags, found.note) == (("mine",), "secret")


# remove


def test_a_pattern_is_removed_after_a_look(filled: Path) -> None:
    assert lines("remove", "*r*", "--dry-run") == ["Would remove parent.", "Would remove stranger."]
    assert modelkin.remove("par*", "parent", dry_run=True, registry="r.db").removed == ("parent",)
    assert run("remove", "nobody*", "--dry-run").exit_code == 4
    assert lines("list", "--count") == ["2"]
    assert lines("remove", "str*", "--yes") == ["Removed stranger."]
    assert lines("list", "-q") == ["parent"]


def test_of_the_newest_revision_that_is_named_no_other_goes(filled: Path) -> None:
    """By its digits: its own name is the model's."""
    modelkin.add("child", name="parent", registry="r.db")
    newest, older = (f"parent@{one['content'].split('-')[1][:8]}" for one in modelkin.show("parent", registry="r.db").revisions)
    assert lines("remove", newest, older, "--dry-run") == [f"Would remove {newest}.", f"Would remove {older}."]
    assert modelkin.remove(newest, registry="r.db").removed == (newest,)
    assert modelkin.remove(older, dry_run=True, registry="r.db").removed == (older,)
    assert modelkin.list(where=["name=parent"], registry="r.db").models[0].revisions == 1


def test_a_name_that_is_a_pattern_is_that_name(filled: Path) -> None:
    modelkin.add("child", name="p*", registry="r.db")
    assert modelkin.remove("p*", registry="r.db").removed == ("p*",)


# twins


def test_the_same_weights_are_told_on_add(filled: Path) -> None:
    (added,) = modelkin.add("parent", name="again", registry="r.db").results
    assert (added.status, added.same_as) == ("added", ("parent",))
    assert "; the same weights as 'again', 'parent'" in run("add", "parent", "--as", "third").stdout
    assert modelkin.add("child", registry="r.db").results[0].same_as == ()
    for name in ("p1", "p2"):
        said = run("add", "parent", "--as", name, "--level", "probe", registry="probe.db").stdout
    assert "; what level probe reads is the same as of 'p1'" in said


@pytest.mark.parametrize("beside", [True, False])
def test_weights_that_nobody_could_decode_are_no_twins(models: Path, beside: bool) -> None:
    """Whole numbers of an unknown scheme, alone and beside equal weights that were read."""
    for seed in (1, 2):
        held = {"model.layers.0.mlp.up_proj.weight": np.random.default_rng(seed).integers(0, 200, (64, 64)).astype(np.uint8)}
        if beside:
            held["model.layers.0.mlp.gate_proj.weight"] = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
        save_file(held, f"packed-{seed}.safetensors")
        (added,) = modelkin.add(f"packed-{seed}.safetensors", registry="r.db", starter=False).results
        assert (added.status, added.same_as) == ("added", ())


# backups


def test_a_backup_made_beside_a_writer_is_sound(tmp_path: Path) -> None:
    path, stop, put = tmp_path / "r.db", threading.Event(), []

    def write() -> None:
        with open_store(path) as store:
            while not stop.is_set():
                put.append(store.put(record(f"m{len(put)}"), rows(len(put) % 7)).revision)

    with open_store(path):
        writer = threading.Thread(target=write)
        writer.start()
        while len(put) < 20:
            time.sleep(0.01)
        before = len(put)
        answer = modelkin.backup(tmp_path / "backup.db", registry=path)
        after = len(put) + 1
        stop.set()
        writer.join()
    assert before <= answer.models <= after
    assert modelkin.list(count=True, registry=tmp_path / "backup.db").found == answer.models
    with open_store(tmp_path / "backup.db") as copy:
        assert list(copy.inspection.damage()) == list(copy.inspection.orphans()) == []
        assert copy.generation() == answer.models
    assert {one.name for one in tmp_path.glob("*unfinished*")} == set()


def test_what_is_restored_is_what_was_backed_up(filled: Path, postgres: Server) -> None:
    modelkin.tag("parent", add=["mine"], registry="r.db")
    answer = modelkin.backup("backup.db", registry="r.db")
    assert (answer.models, answer.bytes) == (2, Path("backup.db").stat().st_size)
    there = str(postgres.address())
    for place in ("new.db", there):
        assert run("registry", "restore", "backup.db", registry=place).exit_code == 0
        assert modelkin.list(registry=place).models == modelkin.list(registry="r.db").models
    assert modelkin.backup("from-server.db", registry=there).source == there
    assert modelkin.list(registry="from-server.db").models == modelkin.list(registry="r.db").models
    assert [one.model for one in modelkin.query("child", registry="from-server.db").relatives] == ["parent"]


def test_nothing_is_written_over(filled: Path) -> None:
    Path("taken.db").write_bytes(b"mine")
    with pytest.raises(RegistryError, match="is there already"):
        modelkin.backup("taken.db", registry="r.db")
    with pytest.raises(RegistryError, match="the folder nowhere does not exist"):
        modelkin.backup("nowhere/b.db", registry="r.db")
    modelkin.backup("backup.db", registry="r.db")
    with pytest.raises(RegistryError, match="is not empty, and nothing is written over"):
        modelkin.restore("backup.db", registry="r.db")
    with pytest.raises(RegistryError, match=r"not a registry"):
        modelkin.restore("taken.db", registry="new.db")
    assert Path("taken.db").read_bytes() == b"mine"


def test_what_lies_in_the_index_s_place_stops_no_restoring(filled: Path) -> None:
    """A link to a folder elsewhere (of which nothing but the index goes), or a file."""
    modelkin.backup("backup.db", registry="r.db")
    Path("elsewhere").mkdir()
    Path("elsewhere", "mine").touch()
    Path("linked.db.index").symlink_to("elsewhere")
    Path("beside.db.index").write_text("mine")
    for name in ("linked.db", "beside.db"):
        assert run("registry", "restore", "backup.db", registry=name).exit_code == 0
        assert modelkin.list(registry=name, count=True).found == 2
    assert Path("elsewhere", "mine").exists()
    assert Path("beside.db.index").read_text() == "mine"


def test_an_index_of_what_came_after_the_backup_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with Inner.open(path) as registry:
        registry.add("a", fingerprints.from_bytes(real_fingerprint(1)))
    modelkin.backup(tmp_path / "backup.db", registry=path)
    with Inner.open(path) as registry:
        registry.add("b", fingerprints.from_bytes(real_fingerprint(2)))
        registry.index.rebuild()
    for left in tmp_path.glob("r.db*"):
        if left.is_file():
            left.unlink()  # by hand, and its index forgotten
    assert Path(f"{path}.index").exists()
    modelkin.restore(tmp_path / "backup.db", registry=path)
    assert not Path(f"{path}.index", "manifest.json").exists()
    with Inner.open(path) as registry:
        put = registry.add("c", fingerprints.from_bytes(real_fingerprint(3)))  # has the numbers that b had, and other rows
        assert (put.revision, registry.store.generation()) == (2, 2)
        registry.index.rebuild()
        assert {finding.state for finding in registry.examine()} == {"ok"}


# older registries


def test_a_registry_made_before_is_listed_by_what_its_fingerprints_tell(tmp_path: Path) -> None:
    packed = Path(__file__).parents[1] / "data" / "registry_of_spec_1.db.gz"
    path = tmp_path / "old.db"
    path.write_bytes(subprocess.run(["gzip", "-dc", str(packed)], capture_output=True, check=True).stdout)
    found = modelkin.list(registry=path)
    assert len(found.models) == found.found > 0
    for one in found.models:
        where = [f"name={one.model}", f"family={one.family}", f"level={one.level}", f"parameters={one.parameters}"]
        assert modelkin.list(where=where, registry=path).models == (one,)
