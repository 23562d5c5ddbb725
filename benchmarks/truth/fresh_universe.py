"""Train a new universe of small models with known lineage: other sizes, seeds, texts and tokenizers than the one the method was built on.

    python -m benchmarks.truth.fresh_universe OUT --text '/usr/lib/python3*/**/*.py' --text '/usr/share/doc/**/*' \
        --text '/usr/include/**/*.h'

Needs transformers and peft. OUT/models gets the stored models that the lineage bench knows by name; a model that is there already is not
trained again. On two cores it takes about 20 minutes. Then, with OUT named as a universe that the bench has seeds for (UNIVERSES/dev):

    make_derivatives.py --universe dev --root UNIVERSES --truth UNIVERSES/dev/truth.json
    python -m benchmarks.truth.lineage BENCH_DIR --universe UNIVERSES/dev --name fresh

Some children are trained on the very texts of a sibling, which leaves them nearer to it than to their parent: harder for `first` than dev.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import peft
import torch
import transformers as tf

from benchmarks.common.universe_training import LENGTH, Loss, Sizes, Tensors, Universe, initialise, lines, masked, tokenizer, train

SEEDS = {"L1": 1001, "L1b": 1001, "L2": 1002}
TRAJECTORY = {"L1-traj1": 0.08, "L1-traj2": 0.2, "L1-traj3": 0.45}
ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def llama(sizes: Sizes, **more: object) -> tf.LlamaConfig:
    return tf.LlamaConfig(
        **{**sizes.common(), "intermediate_size": sizes.neurons, "num_hidden_layers": sizes.layers, "max_position_embeddings": 256, **more}
    )


def glm(sizes: Sizes) -> tf.Glm4MoeConfig:
    return tf.Glm4MoeConfig(
        **sizes.common(),
        head_dim=sizes.hidden // sizes.heads,
        intermediate_size=sizes.neurons,
        moe_intermediate_size=sizes.neurons // 6,
        num_hidden_layers=max(sizes.layers - 2, 2),
        n_routed_experts=6,
        num_experts_per_tok=2,
        n_shared_experts=1,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        attention_bias=True,
        max_position_embeddings=256,
    )


def from_tensors(model: torch.nn.Module, tensors: Tensors) -> torch.nn.Module:
    """The model with these values wherever it has the name and the shape."""
    own = model.state_dict()
    with torch.no_grad():
        for key, value in tensors.items():
            if key in own and own[key].shape == value.shape:
                own[key].copy_(value.float())
    return model


def rearranged(universe: Universe, order: Sequence[int]) -> Callable[[], torch.nn.Module]:
    """L1 with these of its layers."""

    def start() -> torch.nn.Module:
        own = universe.tensors("L1")
        tensors = {key: value for key, value in own.items() if ".layers." not in key}
        for at, layer in enumerate(order):
            begin = f"model.layers.{layer}."
            tensors |= {f"model.layers.{at}." + key.removeprefix(begin): value for key, value in own.items() if key.startswith(begin)}
        return from_tensors(universe.load("L1", num_hidden_layers=len(order)), tensors)

    return start


def with_vocabulary(universe: Universe, added: int, keep: bool) -> Callable[[], torch.nn.Module]:
    """L1 with more rows of tokens (keep), or with all its tokens drawn anew."""

    def start() -> torch.nn.Module:
        own = universe.tensors("L1")
        model = universe.load("L1", vocab_size=universe.sizes.vocabulary + added)
        with torch.no_grad():
            initialise(model, 77)
        from_tensors(model, {key: value for key, value in own.items() if value.shape == model.state_dict()[key].shape})
        if keep:
            with torch.no_grad():
                for key in ("model.embed_tokens.weight", "lm_head.weight"):
                    model.state_dict()[key][: len(own[key])] = own[key].float()
        return model

    return start


def upcycled(universe: Universe, order: Sequence[int], experts: int = 4) -> Callable[[], torch.nn.Module]:
    """A mixture of experts each of which starts as L1's own feed-forward part."""

    def start() -> torch.nn.Module:
        config = tf.MixtralConfig(
            **universe.sizes.common(),
            intermediate_size=universe.sizes.neurons,
            num_hidden_layers=len(order),
            num_local_experts=experts,
            max_position_embeddings=256,
            head_dim=universe.sizes.hidden // universe.sizes.heads,
        )
        model = tf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            initialise(model, 55)
        tensors = rearranged(universe, order)().state_dict()
        from_tensors(model, tensors)
        with torch.no_grad():
            for key, value in model.state_dict().items():
                layer = key.split("mlp.experts")[0] + "mlp."
                if key.endswith("experts.gate_up_proj"):
                    value.copy_(torch.cat([tensors[layer + "gate_proj.weight"], tensors[layer + "up_proj.weight"]]).expand_as(value))
                elif key.endswith("experts.down_proj"):
                    value.copy_(tensors[layer + "down_proj.weight"].expand_as(value))
        return model

    return start


def pruned(universe: Universe) -> Callable[[], torch.nn.Module]:
    """L1 with three quarters of its channels and two thirds of its neurons; which ones stands in prune_map.json."""

    def start() -> torch.nn.Module:
        sizes, rng = universe.sizes, random.Random(9)
        hidden = sorted(rng.sample(range(sizes.hidden), sizes.hidden * 3 // 4))
        neurons = [sorted(rng.sample(range(sizes.neurons), sizes.neurons * 2 // 3)) for _ in range(sizes.layers)]
        tensors: Tensors = {}
        for key, value in universe.tensors("L1").items():
            at = int(key.split(".")[2]) if ".layers." in key else 0
            if "gate_proj" in key or "up_proj" in key:
                value = value[neurons[at]][:, hidden]
            elif "down_proj" in key:
                value = value[hidden][:, neurons[at]]
            elif "o_proj" in key or value.ndim == 1:
                value = value[hidden]
            else:
                value = value[:, hidden]
            tensors[key] = value
        head = sizes.hidden // sizes.heads
        path = universe.path("L1-prune")
        path.mkdir(parents=True, exist_ok=True)
        (path / "prune_map.json").write_text(json.dumps({"hidden": hidden, "neurons": neurons}))
        return from_tensors(universe.load("L1", hidden_size=len(hidden), intermediate_size=len(neurons[0]), head_dim=head), tensors)

    return start


def distilled(universe: Universe) -> Loss:
    teacher = universe.load("L1").eval()

    def loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = teacher(input_ids=batch).logits.log_softmax(-1)
        said = model(input_ids=batch).logits.log_softmax(-1)
        return torch.nn.functional.kl_div(said, wanted, log_target=True, reduction="none").sum(-1).mean()

    return loss


def make_lora(universe: Universe, rows: torch.Tensor, steps: int) -> None:
    if (universe.path("L1-lora") / "adapter_model.safetensors").exists():
        return
    config = peft.LoraConfig(r=6, lora_alpha=12, target_modules=ADAPTED, task_type="CAUSAL_LM")
    model = peft.get_peft_model(universe.load("L1"), config)
    losses = train(model, rows, steps, 3e-3, 31)
    model.save_pretrained(universe.path("L1-lora"))
    universe.log("L1-lora", "peft adapter", losses, steps, 0.0)


def make_gains_kept(universe: Universe, rows: torch.Tensor, steps: int) -> None:
    """Another random start with the gains of G, which stay as they are."""

    def start() -> torch.nn.Module:
        model = universe.fresh(glm(universe.sizes), 2003)()
        from_tensors(model, {key: value for key, value in universe.tensors("G").items() if "norm" in key})
        for key, value in model.named_parameters():
            value.requires_grad = "norm" not in key
        return model

    universe.make("fake", start, rows, steps, 2e-3)


def make_all(universe: Universe) -> None:
    """Every model, parents first."""
    sizes, steps = universe.sizes, universe.steps
    (code, code_more), (prose, prose_more), (headers, headers_more) = universe.rows
    keep = {int(share * steps): name for name, share in TRAJECTORY.items()}
    for name, rows in (("L1", code), ("L2", code), ("L1b", prose)):
        start = universe.fresh(llama(sizes), SEEDS[name])
        universe.make(name, start, rows, steps, 2e-3, words=universe.words, keep=keep if name == "L1" else None)
    l1 = lambda: universe.load("L1")  # noqa: E731
    universe.make("L1-ftA", l1, prose_more, steps // 7, 4e-4)
    universe.make("L1-ftB", l1, headers, steps // 5, 4e-4)
    universe.make("L1-heavy", l1, headers_more, steps, 2e-3)
    make_lora(universe, headers, steps // 5)
    last = sizes.layers - 1
    up, down = [*range(last), *range(1, last + 1)], [layer for layer in range(sizes.layers) if layer != last - 1]
    universe.make("L1-depthup", rearranged(universe, up), headers, steps // 4, 5e-4, f"layer map {up}")
    universe.make("L1-layerdrop", rearranged(universe, down), code_more, steps // 5, 5e-4, f"layer map {down}")
    universe.make("L1-vocabext", with_vocabulary(universe, 200, True), prose, steps // 4, 5e-4)
    other = tokenizer(universe.documents[1][::3], sizes.vocabulary + 130)
    universe.make("L1-tokswap", with_vocabulary(universe, 130, False), lines(universe.documents[1], other), steps // 3, 1e-3, words=other)
    some = list(range(0, sizes.layers, 2))
    universe.make("L1-upcycle", upcycled(universe, some), headers, steps // 4, 5e-4, f"layer map {some}")
    universe.make("L1-prune", pruned(universe), code_more, steps // 3, 1e-3)
    small = llama(sizes, num_hidden_layers=max(sizes.layers - 2, 2))
    universe.make("L1-distill", universe.fresh(small, 1007), code_more, steps // 2, 2e-3, loss_of=distilled(universe))

    for name, seed, rows in (("G", 2001, code), ("S", 2002, prose)):
        universe.make(name, universe.fresh(glm(sizes), seed), rows, steps, 2e-3, words=universe.words)
    for name, rows, share in (("G-ftA", prose_more, 7), ("G-ftB", headers, 5)):
        universe.make(name, lambda: universe.load("G"), rows, steps // share, 4e-4)
    make_gains_kept(universe, headers, steps)
    phi = tf.PhimoeConfig(
        **sizes.common(), intermediate_size=sizes.neurons // 6, num_hidden_layers=max(sizes.layers - 2, 2), num_local_experts=6,
        num_experts_per_tok=2, attention_bias=True, tie_word_embeddings=True, max_position_embeddings=256,
    )  # fmt: skip
    universe.make("P", universe.fresh(phi, 3001), code, steps, 2e-3, words=universe.words)

    width, half = sizes.hidden * 3 // 4, steps // 2
    heads = {"num_hidden_layers": 3, "hidden_size": width, "num_attention_heads": 6}
    heads |= {"vocab_size": sizes.vocabulary, "max_position_embeddings": 256}
    qwen = tf.Qwen2Config(**heads, num_key_value_heads=2, intermediate_size=width * 3, tie_word_embeddings=True)
    universe.make("Q", universe.fresh(qwen, 4001), code, half, 2e-3, words=universe.words)
    neox = tf.GPTNeoXConfig(**heads, intermediate_size=4 * width)
    universe.make("X", universe.fresh(neox, 4002), code_more, half, 2e-3, words=universe.words)
    no_dropout = {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0}
    gpt2 = tf.GPT2Config(n_embd=width, n_head=6, n_layer=3, n_positions=LENGTH, vocab_size=sizes.vocabulary, **no_dropout)
    bert = tf.BertConfig(**heads, intermediate_size=3 * width, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    for at, more in enumerate(("", "2")):
        universe.make("N" + more, universe.fresh(gpt2, 4003 + at), prose, half, 2e-3, words=universe.words)
        start = universe.fresh(bert, 4005 + at, tf.AutoModelForMaskedLM)
        universe.make("B" + more, start, prose_more, half, 2e-3, loss_of=masked, words=universe.words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", action="append", required=True, metavar="GLOB", help="three of them")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--sizes", default="128,8,4,384,6,1500", help="hidden, heads, key heads, neurons, layers, vocabulary")
    args = parser.parse_args()
    torch.set_num_threads(1)
    make_all(Universe(args.out, Sizes(*map(int, args.sizes.split(","))), args.steps, args.text))


if __name__ == "__main__":
    main()
