"""Backgrounds measured on a registry's own strangers: when they are used, what they change, how they are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import models
from calls import run
from modelkin_data import backgrounds
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.batches.calibration import FEWEST_LINEAGES, measure_backgrounds
from modelkin_registry.registry import Registry

COUNT = FEWEST_LINEAGES + 2
ALIKE = 0.22  # of each stranger's matrices is the same in all: r 0.05, wider than what is shipped and too little to be evidence


def strangers(folder: Path, alike: float) -> dict[str, Fingerprint]:
    common = models.llama(1000, 3)
    made = {f"m{seed:02}": models.llama(seed, 3) for seed in range(COUNT)}
    mixed = {name: {k: v + alike * common[k] if v.ndim > 1 else v for k, v in tensors.items()} for name, tensors in made.items()}
    return {name: models.fingerprint(folder / name, tensors) for name, tensors in mixed.items()}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    return strangers(tmp_path_factory.mktemp("strangers"), ALIKE)


def test_wider_backgrounds_of_enough_lineages_replace_the_shipped_ones(known: dict[str, Fingerprint]) -> None:
    found = {(one.channel, one.family): one for one in measure_backgrounds(known.items())}
    assert {("probe", "attention"), ("gram", "mlp"), ("anchored", "attention"), ("probe", "norm")} <= found.keys()
    assert found["probe", "attention"].used
    for (channel, family), one in found.items():
        assert one.used == (one.sd > one.shipped)
        assert one.lineages == len(known)
        assert one.pairs == len(known) * (len(known) - 1) // 2
        assert one.shipped == backgrounds.between_models(family, channel)
        assert 0 <= one.sd < 0.2


def test_strangers_closer_together_than_usual_narrow_nothing(tmp_path: Path) -> None:
    found = measure_backgrounds(strangers(tmp_path, 0.0).items())
    assert any(one.sd < one.shipped for one in found)
    assert not any(one.used for one in found if one.sd < one.shipped)


def test_one_lineage_counts_once_and_too_few_change_nothing(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    tuned = {
        f"tuned-{seed}": models.fingerprint(tmp_path / str(seed), models.trained_on(models.llama(0, 3), seed, 0.1))
        for seed in range(50, 50 + FEWEST_LINEAGES)
    }
    found = measure_backgrounds([("m00", known["m00"]), *tuned.items(), ("m01", known["m01"])])
    assert {one.lineages for one in found} == {2}
    assert {one.pairs for one in found} == {1}
    assert not any(one.used for one in found)


def test_a_registry_judges_by_its_own_backgrounds_and_says_so(known: dict[str, Fingerprint], tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with Registry.open(path) as registry:
        for name, fingerprint in known.items():
            registry.add(name, fingerprint)
        query = known["m00"]
        assert registry.query(query, show_all=True).registry.calibrated is None
        before = registry.compare(query, known["m01"])
        measured = {(one.family, one.channel): one.sd for one in registry.calibrate() if one.used}
        wider = dict.fromkeys(measured, 0.5)
    with Registry.open(path) as registry:
        assert registry.backgrounds == pytest.approx(measured)
        told = registry.query(query).registry.calibrated
        assert told is not None
        assert (told.models, told.used) == (len(known), len(measured))
        assert "measured on" in next(finding.detail for finding in registry.examine() if finding.check == "backgrounds")
        registry.backgrounds = wider
        after = registry.compare(query, known["m01"])
        assert all(f.null_sd is not None and f.null_sd >= 0.5 for f in after.components[0].families if f.family == "mlp")
        assert registry.forget_backgrounds() == ()
        assert registry.compare(query, known["m01"]) == before
        assert registry.query(query).registry.calibrated is None


def test_every_verb_judges_by_the_registrys_own_backgrounds(tmp_path: Path) -> None:
    """What a comparison calls unrelated among wide strangers, no tree draws and no trajectory calls descent."""
    base = models.llama(1, 3)
    near = {name: models.fingerprint(tmp_path / name, t) for name, t in (("base", base), ("child", models.trained_on(base, 2, 0.3)))}
    with Registry.open(tmp_path / "r.db") as registry:
        for name, fingerprint in near.items():
            registry.add(name, fingerprint)
        sides = list(near.values())
        assert registry.compare(*sides[::-1]).relation == "fine-tuned"
        assert [(edge.parent, edge.child) for edge in registry.tree().edges] == [("base", "child")]
        families = {(f.family, channel) for c in registry.compare(*sides).components for f in c.families for channel in CHANNELS}
        registry.backgrounds = dict.fromkeys(families, 2.0)
        assert registry.compare(*sides[::-1]).relation == "unrelated"
        assert registry.query(near["child"], k=2, show_all=True).relatives[-1].relation == "unrelated"
        assert registry.tree().edges == registry.tree("base").edges == ()
        assert [step.relation for step in registry.trajectory(list(near), sides).steps] == [None, "unrelated"]


def test_calibrate_on_the_command_line(filled: Path) -> None:
    answer = json.loads(run("calibrate", "--json").stdout)
    assert (answer["contract"], answer["models"], answer["calibrated"]) == (1, 2, False)
    assert {"channel", "family", "sd", "shipped", "pairs", "lineages", "used"} == answer["backgrounds"][0].keys()
    few = run("calibrate")
    assert few.exit_code == 0
    assert "come with modelkin are used" in few.stderr
    assert "shipped" in few.stdout
    compared = json.loads(run("compare", "parent", "stranger", "--json").stdout)
    assert compared["relation"] == "unrelated"
    assert run("calibrate", "--reset", "-q").stdout == ""
    assert np.isfinite([one["sd"] for one in answer["backgrounds"]]).all()
