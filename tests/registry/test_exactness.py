"""What exact comparisons are said to show: of strangers, copies, kept norms, and through the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from msgspec.structs import replace

import calls
import models
from modelkin_indexer.exact.comparison import ExactOptions, common_places, compare_places, read_exact
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.exact import TensorComparison
from modelkin_registry.answers.exact import ExactAnswer
from modelkin_registry.exact.judging import judge_exact, p_value, stands_out
from modelkin_registry.exact.preservation import selective_preservation
from modelkin_registry.exact.sentences import exact_sentences


def judged(folder: Path, a: models.Tensors, b: models.Tensors, *controls: models.Tensors, dtype: type = np.float32) -> ExactAnswer:
    first, second, *third = [open_source(models.write(folder / str(i), t, dtype)) for i, t in enumerate((a, b, *controls))]
    reading = read_exact(first, second, ExactOptions())
    found = {
        source.name: tuple([*compare_places(side, source, common_places(side, source)[0], ExactOptions())] for side in (first, second))
        for source in third
    }
    return judge_exact(reading, found)  # type: ignore[arg-type]


def findings(answer: ExactAnswer) -> dict[str, str]:
    return {f.family: f.finding for f in answer.families}


def only_test(answer: ExactAnswer) -> Any:
    (found,) = selective_preservation(answer.families)
    return found


def test_strangers_show_nothing_and_their_norms_are_what_strangers_have(tmp_path: Path) -> None:
    answer = judged(tmp_path, models.llama(1), models.llama(2), models.llama(3, 2))
    assert findings(answer) == {"attention": "none", "embedding": "none", "mlp": "none", "norm": "none"}
    test = only_test(answer)
    assert test.outcome == "strangers"
    assert test.norm_cosine == pytest.approx(test.norm_floor, abs=0.01)
    assert test.norm_cosine > 0.97
    text = " ".join(exact_sentences(answer, [test], descends=True))
    assert "no evidence of shared weights" in text
    assert "A with 2: raw 0.9" in text
    for group in answer.roles:
        assert {s.name for s in group.strangers} >= {"A with 2", "B with 2"}


def test_strangers_p_values_are_uniform(tmp_path: Path) -> None:
    values = []
    first = open_source(models.write(tmp_path / "a", models.llama(0)))
    for seed in range(1, 7):
        second = open_source(models.write(tmp_path / str(seed), models.llama(seed)))
        pairs = compare_places(first, second, common_places(first, second)[0], ExactOptions())
        values += [p for p in (p_value(pair).value for pair in pairs) if p is not None]
    values.sort()
    distance = np.abs(np.array(values) - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert len(values) == 6 * (6 * 9 + 3)
    assert distance < 1.63 / np.sqrt(len(values))  # the 1 % point of the Kolmogorov distribution


def test_channels_in_one_place_by_chance_are_no_evidence(tmp_path: Path) -> None:
    """Both strangers have one huge channel, and it happens to be the same: a plain correlation is fooled."""
    sides = [models.llama(seed) for seed in (1, 2)]
    for tensors in sides:
        for value in tensors.values():
            value[..., 7] *= 40
    answer = judged(tmp_path, *sides)
    assert max(abs(row.pearson or 0.0) for row in answer.rows) > 0.9
    assert set(findings(answer).values()) == {"none"}


@pytest.mark.parametrize("size", [0.1, 1.0])
def test_copies_stand_out_in_all_families(tmp_path: Path, size: float) -> None:
    answer = judged(tmp_path, models.llama(1, 2), models.trained_on(models.llama(1, 2), 2, size), models.llama(3, 2))
    found = findings(answer)
    assert {found[name] for name in ("attention", "mlp", "embedding")} == {"shared"}
    assert only_test(answer).outcome == "all kept"
    assert "agree beyond anything that strangers show" in exact_sentences(answer, [], descends=True)[0]


def test_kept_norms_are_selective_preservation(tmp_path: Path) -> None:
    norms_kept = models.part_from(models.llama(2, 3), models.llama(1, 3), "norm")
    answer = judged(tmp_path, models.llama(1, 3), norms_kept)
    assert findings(answer) == {"attention": "none", "embedding": "none", "mlp": "none", "norm": "identical"}
    test = only_test(answer)
    assert test.outcome == "selective"
    assert "norms were kept and nothing else" in test.sentence
    assert "no evidence of shared weights" in exact_sentences(answer, [], descends=True)[0]


def test_matrices_kept_under_new_norms(tmp_path: Path) -> None:
    answer = judged(tmp_path, models.llama(1, 2), models.part_from(models.llama(1, 2), models.llama(2, 2), "norm"))
    assert only_test(answer).outcome == "matrices only"


def test_a_part_taken_over_is_told_apart(tmp_path: Path) -> None:
    answer = judged(tmp_path, models.llama(1), models.part_from(models.llama(2), models.llama(1), "layers.3.mlp"))
    found = findings(answer)
    assert found["mlp"] == "partly shared"
    assert found["attention"] == "none"
    assert "Of 18 tensors in mlp, 3 stand out" in " ".join(exact_sentences(answer, [], descends=True))


def test_a_figure_that_a_control_reaches_is_none(tmp_path: Path) -> None:
    root = models.llama(1, 2)
    siblings = [models.trained_on(root, seed, 0.5) for seed in (2, 3, 4)]
    assert set(findings(judged(tmp_path / "alone", *siblings[:2])).values()) == {"shared"}
    assert set(findings(judged(tmp_path / "with", *siblings)).values()) <= {"none", "faint"}


def test_differences_in_words(tmp_path: Path) -> None:
    rng, adapted = np.random.default_rng(5), dict(models.llama(1, 2))
    for name in [name for name in adapted if "q_proj" in name]:
        change = 0.001 * rng.standard_normal((models.HIDDEN, 4)) @ rng.standard_normal((4, models.HIDDEN))
        adapted[name] = (adapted[name] + change).astype(np.float32)
    text = " ".join(exact_sentences(judged(tmp_path / "lora", models.llama(1, 2), adapted), [], descends=True))
    assert f"{len(adapted) - 2} of {len(adapted)} tensors are equal bit by bit." in text
    assert f"In 2 of {len(adapted)} tensors B - A has rank 4" in text
    narrow = {name: value.astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in models.llama(1, 2).items()}
    first = open_source(models.write(tmp_path / "f32", models.llama(1, 2), np.float32))
    second = open_source(models.write(tmp_path / "bf16", narrow))
    recast = " ".join(exact_sentences(judge_exact(read_exact(first, second, ExactOptions()), {}), [], descends=True))
    assert "differ by no more than half a unit of the coarser type" in recast
    assert "adapter" not in recast


def comparison(**changes: Any) -> TensorComparison:
    fields: dict[str, Any] = dict.fromkeys(TensorComparison.__struct_fields__, 0.5) | {"role": "q", "family": "attention", "delta": None}
    return TensorComparison(**(fields | {"channels": 100, "permutations": 0, "exceeded": 0, "channel_t": 1.0} | changes))


def test_p_values_say_how_they_were_come_by() -> None:
    assert p_value(comparison()).kind == "channels"
    assert p_value(comparison(channel_t=-1.0)).value == p_value(comparison()).value == pytest.approx(0.3198, abs=1e-3)
    assert p_value(comparison(permutations=999, exceeded=49)) == replace(p_value(comparison()), value=0.05, kind="sampled")
    assert p_value(comparison(permutations=999, channel_t=2.0)).value == 0.001  # the floor of sampling
    sharp = p_value(comparison(permutations=999, channel_t=20.0))
    assert sharp.kind == "channels"
    assert sharp.value == pytest.approx(6.7e-37, rel=1) or sharp.value == 1e-30
    assert p_value(comparison(pearson=None)).value is None
    assert p_value(comparison(role="q_norm", family="norm")).value is None


@pytest.mark.parametrize(("r", "t", "expected"), [(0.5, 20.0, True), (0.01, 20.0, False), (0.5, 2.0, False), (-0.5, -20.0, True)])
def test_a_finding_needs_a_size_and_a_p_value(r: float, t: float, expected: bool) -> None:
    assert stands_out(comparison(pearson=r, channel_t=t), 10, informative=True) is expected


def command(folder: Path, *names: str, options: Sequence[str] = ()) -> Any:
    return calls.run("compare", *(str(folder / name) for name in names), "--exact", *options, width=100)


def test_the_command_prints_the_contract(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        models.write(tmp_path / str(seed), models.llama(seed, 2))
    done = command(tmp_path, "1", "2", options=["--json", "--layers", "all", "--control", str(tmp_path / "3")])
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    contract = {"a", "b", "component", "layer", "family", "role", "n", "cosine", "cosine_floor", "pearson"}
    contract |= {"p_value", "equal_fraction", "relative_l2"}
    assert len(answer["exact"]) == 2 * 9 + 3
    for row in answer["exact"]:
        assert contract <= set(row)
    assert answer["relation"] == "unrelated"
    summary = answer["exact_summary"]
    assert {group["finding"] for group in summary["families"]} == {"none"}
    assert {strangers["name"] for group in summary["families"] for strangers in group["strangers"]} >= {"A with 3", "B with 3", "within A"}
    assert {matrix["sides"] for matrix in summary["layer_matrices"]} == {"a-b", "a-a", "b-b"}
    assert "no evidence of shared weights" in answer["explanation"][1]
    assert summary["preservation"][0]["outcome"] == "strangers"


def test_the_command_shows_tables_and_resumes(tmp_path: Path) -> None:
    models.write(tmp_path / "a", models.llama(1, 2))
    models.write(tmp_path / "b", models.trained_on(models.llama(1, 2), 2, 0.1))
    journal = ["--resume", str(tmp_path / "journal"), "--layers", "all"]
    first, second = (command(tmp_path, "a", "b", options=journal) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert "0 tensors are done already" in first.stderr
    assert "21 tensors are done already" in second.stderr
    assert first.stdout == second.stdout
    for words in ("attention: shared", "norm attention_input: shared", "within A", "KS", "99 % |d|", "Layer by layer, centred r"):
        assert words in first.stdout
    models.write(tmp_path / "b", models.llama(4, 2))
    refused = command(tmp_path, "a", "b", options=journal)
    assert refused.exit_code == 3
    assert "another comparison" in refused.stderr


def test_the_command_needs_weights(tmp_path: Path) -> None:
    models.write(tmp_path / "a", models.llama(1, 2))
    assert calls.run("fingerprint", str(tmp_path / "a"), "-o", str(tmp_path / "a.modelkin")).exit_code == 0
    refused = command(tmp_path, "a", "a.modelkin")
    assert refused.exit_code == 3
    assert "every number of them is read" in refused.stderr
    assert calls.run("compare", str(tmp_path / "a"), str(tmp_path / "a"), "--resume", str(tmp_path / "j")).exit_code == 2


def test_sources_are_closed(tmp_path: Path) -> None:
    with closing(open_source(models.write(tmp_path / "a", models.llama(1, 1)))) as source:
        assert len(read_exact(source, source, ExactOptions()).pairs) == 12
