"""`modelkin audit`: each finding where there is something, and none where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import modelkin
from calls import ROOT, run
from modelkin.auditing.contents import near_grid
from modelkin.auditing.looks import LOOKS
from modelkin_registry.answers.asked import AuditAnswer, Unusual
from modelkin_registry.answers.parts import AUDITED
from models import CONFIG, HEADS, HIDDEN, LAYERS, NEURONS, Tensors, gains_folded, initialised, llama, scales_moved, with_layers, write

SINGLES = np.float32
REAL = ROOT / "tests" / "data" / "real"
LEFT_OUT = {"constants", "unread", "unplaced", "oversized"}
Q, K = "model.layers.2.self_attn.q_proj.weight", "model.layers.2.self_attn.k_proj.weight"


def audit(folder: Path, tensors: Tensors, dtype: type = SINGLES, **config: Any) -> AuditAnswer:
    return modelkin.audit(write(folder, tensors, dtype, {**CONFIG, **config}))


def codes(answer: AuditAnswer) -> set[str]:
    return {one.code for one in answer.findings}


def only(answer: AuditAnswer, code: str) -> Unusual:
    (found,) = [one for one in answer.findings if one.code == code]
    return found


def rotated(tensors: Tensors) -> Tensors:
    """The residual stream turned: gains have to be neutral for it."""
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((HIDDEN, HIDDEN)))[0].astype(np.float32)
    writing = ("o_proj.weight", "down_proj.weight")
    return {k: v if v.ndim == 1 else turn.T @ v if k.endswith(writing) else v @ turn for k, v in tensors.items()}


def changed(name: str, change: Callable[[Any], Any]) -> Tensors:
    tensors = llama(1)
    return {**tensors, name: np.ascontiguousarray(change(tensors[name]), dtype=np.float32)}


def without(part: str) -> Tensors:
    return {name: value for name, value in llama(1).items() if part not in name}


def scaled(size: float) -> Tensors:
    """One layer's q multiplied and its k divided."""
    tensors = llama(1)
    return {**tensors, Q: tensors[Q] * np.float32(size), K: tensors[K] / np.float32(size)}


def crowded(size: float) -> Tensors:
    """BF16 numbers with noise of this relative size."""
    rng = np.random.default_rng(4)
    return {k: coarse(v) * (1 + size * rng.standard_normal(v.shape)).astype(np.float32) for k, v in llama(1).items()}


def coarse(values: Any) -> Any:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def in_two(name: str) -> Tensors:
    """One matrix as a product."""
    tensors, stem = llama(1), name.removesuffix(".weight")
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((HIDDEN, HIDDEN)))[0].astype(np.float32)
    values = tensors.pop(name)
    return {**tensors, f"{stem}.0.weight": turn.T.copy(), f"{stem}.1.weight": values @ turn}


def one_more(name: str, like: str) -> Tensors:
    tensors = llama(1)
    return {**tensors, name: tensors[like] * np.float32(1.5)}


def with_nan(values: Any) -> Any:
    spoiled = values.copy()
    spoiled[3, 5] = np.nan
    return spoiled


CASES: dict[str, tuple[str, Callable[[], Tensors], dict[str, Any]]] = {
    "rotary table": ("constants", lambda: {**llama(1), "model.rotary_emb.inv_freq": 10000 ** -np.linspace(0, 1, 8, dtype=np.float32)}, {}),
    "hidden as a mask": ("unplaced", lambda: {**llama(1), "model.masks": llama(2)[Q]}, {}),
    "long vector": (
        "oversized",
        lambda: {**llama(1), "model.extra.bias": np.random.default_rng(1).standard_normal(20000).astype(SINGLES)},
        {},
    ),
    "name of no table": ("unknown-names", lambda: one_more("model.layers.2.mystery.weight", Q), {}),
    "second q": ("same-place", lambda: one_more("model.layers.2.self_attn.query.weight", Q), {}),
    "Adam's moments": ("training-state", lambda: one_more("optimizer.state.exp_avg.weight", Q), {}),
    "a matrix as a product": ("stored-in-parts", lambda: in_two(Q), {}),
    "fewer layers than said": ("layers", lambda: without(".layers.5."), {}),
    "a gap in the layers": ("layers", lambda: without(".layers.3."), {}),
    "other width": ("hidden-size", lambda: llama(1), {"hidden_size": 2 * HIDDEN, "head_dim": HIDDEN // HEADS}),
    "other vocabulary": ("vocabulary", lambda: llama(1), {"vocab_size": 1000}),
    "other heads": ("heads", lambda: llama(1), {"num_key_value_heads": HEADS // 2}),
    "other neurons": ("mlp-width", lambda: llama(1), {"intermediate_size": NEURONS + 8}),
    "NaN": ("not-finite", lambda: changed(Q, with_nan), {}),
    "infinite": ("not-finite", lambda: changed(Q, lambda v: np.where(v == v.max(), np.inf, v)), {}),
    "zeros": ("zeroed", lambda: changed(Q, np.zeros_like), {}),
    "layers twice": ("repeated-layers", lambda: with_layers(llama(1), [0, 1, 2, 2, 3, 5]), {}),
    "noise on BF16": ("fine-noise", lambda: crowded(5e-4), {}),
    "folded": ("folded", lambda: gains_folded(llama(1)), {}),
    "units rescaled": ("rescaled-units", lambda: scales_moved(llama(1), 2), {}),
    "a layer rescaled": ("rescaled-layers", lambda: scaled(3.0), {}),
    "rotated": ("rotated", lambda: rotated(gains_folded(llama(1))), {}),
}
BESIDE = {
    "rotated": {"folded"},
    "hidden as a mask": {"unknown-names"},
    "Adam's moments": {"unknown-names"},
    "long vector": {"unknown-names", "unplaced"},
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_there_is_found(tmp_path: Path, case: str) -> None:
    code, tensors, config = CASES[case]
    answer = audit(tmp_path / "a", tensors(), **config)
    assert code in codes(answer)
    assert codes(answer) - {code} <= BESIDE.get(case, set())
    for one in answer.findings:
        assert one.code in AUDITED
        assert len(one.tensors) == min(3, one.count)
        assert one.share is None or 0 <= one.share <= 1


def test_every_kind_has_a_case_but_shards_and_what_needs_a_container() -> None:
    assert {code for code, _, _ in CASES.values()} == set(AUDITED) - {"shards", "unread"}
    assert list(LOOKS) == list(AUDITED)


HARMLESS: dict[str, tuple[Callable[[], Tensors], type]] = {
    "a model": (lambda: llama(1), SINGLES),
    "in BF16": (lambda: llama(1), ml_dtypes.bfloat16),
    "in F16": (lambda: llama(1), np.float16),
    "BF16 numbers in F32": (lambda: {k: coarse(v) for k, v in llama(1).items()}, SINGLES),
    "not trained, all gains 1": (lambda: initialised(1), SINGLES),
    "one norm's gains at 1": (lambda: {**llama(1), "model.norm.weight": np.ones(HIDDEN, np.float32)}, SINGLES),
    "rotated, with learned gains": (lambda: rotated(llama(1)), SINGLES),
    "changed by more than the grid's step": (lambda: crowded(0.02), SINGLES),
    "a layer half as large again": (lambda: scaled(1.2), SINGLES),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_nothing_is_found_where_nothing_is(tmp_path: Path, case: str) -> None:
    tensors, dtype = HARMLESS[case]
    assert codes(audit(tmp_path / "a", tensors(), dtype)) == set()


@pytest.mark.parametrize("model", ["akiki", "fracast", "silero"])
def test_real_models_have_no_more_than_fixed_tables(model: str) -> None:
    assert codes(modelkin.audit(REAL / model)) <= {"constants"}


def test_findings_name_their_tensors_with_bytes_and_share(tmp_path: Path) -> None:
    found = only(audit(tmp_path / "a", changed(Q, np.zeros_like)), "zeroed")
    assert found.tensors == (Q,)
    assert found.bytes == HIDDEN * HIDDEN * 4
    total = sum(value.nbytes for value in llama(1).values())
    assert found.share == pytest.approx(found.bytes / total, abs=1e-5)
    whole = {name: np.zeros_like(v) if ".layers.4." in name and v.ndim == 2 else v for name, v in llama(1).items()}
    assert "all matrices of 1 layer" in only(audit(tmp_path / "b", whole), "zeroed").sentence
    assert only(audit(tmp_path / "c", changed(Q, with_nan)), "not-finite").tensors == (Q,)
    assert "Layers 2, 3 of text" in only(audit(tmp_path / "d", with_layers(llama(1), [0, 1, 2, 2, 3, 5])), "repeated-layers").sentence


def test_missing_shards_and_undecoded_bytes_are_told(tmp_path: Path) -> None:
    tensors = write(tmp_path / "a", llama(1)) / "model.safetensors"
    tensors.rename(tmp_path / "a" / "model-00001-of-00002.safetensors")
    answer = modelkin.audit(tmp_path / "a", file="model-00001-of-00002.safetensors")
    assert "1 of the 2 shards" in only(answer, "shards").sentence
    packed = {**llama(1), "model.layers.2.self_attn.extra_packed": np.random.default_rng(1).integers(0, 2**32, (64, 64), np.uint32)}
    write(tmp_path / "b", llama(1))
    safetensors.numpy.save_file(packed, tmp_path / "b" / "model.safetensors")
    assert only(modelkin.audit(tmp_path / "b"), "unread").bytes == 64 * 64 * 4


def test_what_could_not_be_looked_at_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", gains_folded(llama(1)))
    modelkin.fingerprint(folder, tmp_path / "a.modelkin")
    answer = modelkin.audit(tmp_path / "a.modelkin")
    assert codes(answer) == {"folded"}
    states = {one.code: one.state for one in answer.looked}
    assert states["zeroed"] == "nothing found"
    assert {states[code] for code in ("unknown-names", "layers", "rescaled-units", "fine-noise")} == {"not examined"}
    assert answer.explanation[0].startswith(f"{sum(state != 'not examined' for state in states.values())} of {len(AUDITED)} things")
    probed = {one.code: one.reason for one in modelkin.audit(folder, level="probe").looked}
    assert "level probe" in (probed["repeated-layers"] or "")
    assert probed["zeroed"] is None
    nameless = write(tmp_path / "b", {f"part{number}": value for number, value in enumerate(llama(1).values())}, config={})
    unknown = next(one for one in modelkin.audit(nameless).looked if one.code == "unknown-names")
    assert "this architecture is in none of them" in (unknown.reason or "")


def test_heads_that_share_keys_are_compared_in_groups(tmp_path: Path) -> None:
    def grouped(moved: bool) -> Tensors:
        tensors, size = scales_moved(llama(1), 2) if moved else llama(1), HIDDEN // HEADS
        for layer in range(LAYERS):
            name = f"model.layers.{layer}.self_attn.k_proj.weight"
            tensors[name] = tensors[name].reshape(HEADS // 2, 2, size, HIDDEN)[:, 0].reshape(HIDDEN // 2, HIDDEN)
            query = f"model.layers.{layer}.self_attn.q_proj.weight"
            q = tensors[query].reshape(HEADS // 2, 2, size, HIDDEN)
            tensors[query] = np.repeat(q[:, :1], 2, axis=1).reshape(HIDDEN, HIDDEN)
        return {name: np.ascontiguousarray(value) for name, value in tensors.items()}

    found = audit(tmp_path / "a", grouped(True), num_key_value_heads=HEADS // 2)
    assert any("q and k" in one.sentence for one in found.findings if one.code == "rescaled-units")
    assert codes(audit(tmp_path / "b", grouped(False), num_key_value_heads=HEADS // 2)) == set()


def test_numbers_near_a_grid_are_counted_against_chance() -> None:
    rng = np.random.default_rng(6)
    plain = rng.standard_normal(50_000).astype(np.float32)
    assert near_grid(plain, 16) == pytest.approx(1.0, abs=0.05)
    assert near_grid(plain.astype(np.float16).astype(np.float32), 16, stored=13) == pytest.approx(1.0, abs=0.05)
    assert (near_grid(coarse(plain) * np.float32(1 + 1e-5), 16) or 0) > 3.5
    assert near_grid(coarse(plain), 16) is None  # all on it
    signs = np.where(rng.random(50_000) < 0.5, np.float32(128**-0.5), -np.float32(128**-0.5))
    assert near_grid(signs, 16) is None  # one number, off the grid, however often it stands there
    assert near_grid(np.array([np.nan, np.inf, 0.0], np.float32), 16) is None


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    bad = "model.layers.2.\x1b[2J\x1b]0;owned\x07\u202egood\n.weight"
    folder = write(tmp_path / "a", one_more(bad, Q), SINGLES)
    for form in ([], ["-q"], ["--json"]):
        said = run("audit", str(folder), *form, registry=None)
        assert said.exit_code == 0, said.output
        assert not {"\x1b", "\x07", "\u202e"} & set(said.output)
    assert any(bad in one["tensors"] for one in json.loads(said.stdout)["findings"])
    assert "\\x1b" in run("audit", str(folder), registry=None).stdout
    assert "&lt;b&gt;" in modelkin.audit(write(tmp_path / "b", one_more("model.layers.2.<b>.weight", Q)))._repr_html_()


def test_a_config_may_say_anything(tmp_path: Path) -> None:
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "intermediate_size",
    )
    for number, said in enumerate((10**12, 10**4000, -1, True, "6", [6], {"a": 6}, None, 0.5)):
        answer = audit(tmp_path / str(number), llama(1), **dict.fromkeys(names, said))
        assert codes(answer) <= {"layers", "hidden-size", "vocabulary", "mlp-width"}
        assert ("layers" in codes(answer)) == (said == 10**12)
    folder = write(tmp_path / "types", llama(1), SINGLES, {"model_type": {"a": 1}, "text_config": [1]})
    assert codes(modelkin.audit(folder)) == set()


def test_sizes_that_are_usual_are_not_told(tmp_path: Path) -> None:
    tensors = llama(1)
    assert codes(audit(tmp_path / "spare tokens", tensors, vocab_size=1020)) == set()
    assert (
        codes(audit(tmp_path / "narrow tokens", tensors, hidden_size=2 * HIDDEN, embedding_size=HIDDEN, head_dim=HIDDEN // HEADS)) == set()
    )
    gated = {name: np.concatenate([value, value * np.float32(0.9)]) if "q_proj" in name else value for name, value in tensors.items()}
    assert codes(audit(tmp_path / "gated", gated)) == set()
    assert codes(audit(tmp_path / "shared", without(".layers.5."), num_hidden_groups=1)) == set()


def test_findings_fail_a_call_only_where_asked(tmp_path: Path) -> None:
    folder = str(write(tmp_path / "a", changed(Q, np.zeros_like)))
    assert run("audit", folder, registry=None).exit_code == 0
    assert run("audit", folder, "--fail-on", "folded", registry=None).exit_code == 0
    assert run("audit", folder, "--fail-on", "zeroed", "-q", registry=None).exit_code == 1
    assert run("audit", folder, "-q", registry=None).stdout == "zeroed\n"
    assert run("audit", folder, "--fail-on", "nonsense", registry=None).exit_code == 2


def test_the_method_explains_every_code() -> None:
    text = (ROOT / "docs" / "method" / "audit.md").read_text(encoding="utf-8")
    assert [code for code in AUDITED if f"`{code}`" not in text] == []
