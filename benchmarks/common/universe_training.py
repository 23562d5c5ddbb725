"""Training and storing the small models of a universe (see fresh_universe.py)."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers as tf
from msgspec import Struct
from safetensors.torch import load_file

LENGTH, BATCH = 128, 12  # tokens of a line, lines of a step
INITIAL_SD = 0.02
Tensors = dict[str, torch.Tensor]
Loss = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


class Sizes(Struct, frozen=True):
    """The dimensions of a universe."""

    hidden: int
    heads: int
    keys: int
    neurons: int
    layers: int
    vocabulary: int

    def common(self) -> dict[str, object]:
        heads = {"num_attention_heads": self.heads, "num_key_value_heads": self.keys}
        return {**heads, "hidden_size": self.hidden, "vocab_size": self.vocabulary}


def texts(pattern: str, characters: int = 1_500_000) -> list[str]:
    """Documents that match, in a fixed random order."""
    files = sorted(path for path in Path("/").glob(pattern.lstrip("/")) if path.is_file())
    random.Random(pattern).shuffle(files)
    found: list[str] = []
    for file in files:
        if sum(map(len, found)) > characters:
            break
        found.append(file.read_text(errors="ignore")[:20_000])
    return found


def tokenizer(documents: Sequence[str], vocabulary: int) -> tokenizers.Tokenizer:
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(documents, vocab_size=vocabulary, special_tokens=["<unk>", "<s>", "</s>", "<pad>"])
    return tokenizers.Tokenizer.from_str(made.to_str())


def lines(documents: Sequence[str], with_: tokenizers.Tokenizer) -> torch.Tensor:
    tokens = [token for text in documents for token in with_.encode(text).ids]
    return torch.tensor(tokens[: len(tokens) // LENGTH * LENGTH]).view(-1, LENGTH)


def initialise(model: torch.nn.Module, seed: int) -> None:
    """Normal matrices drawn by sorted name, gains one, biases zero."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for name, value in sorted(model.state_dict().items()):
        if value.ndim >= 2:
            value.copy_(torch.from_numpy(rng.standard_normal(tuple(value.shape), dtype=np.float32) * np.float32(INITIAL_SD)))
        elif name.endswith("bias"):
            value.zero_()
        elif "norm" in name or "ln_" in name:
            value.fill_(1.0)


def next_token(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(input_ids=batch, labels=batch).loss


def masked(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    hidden = torch.rand(batch.shape) < 0.15
    return model(input_ids=batch.masked_fill(hidden, 0), labels=batch.masked_fill(~hidden, -100)).loss


def train(
    model: torch.nn.Module,
    rows: torch.Tensor,
    steps: int,
    rate: float,
    seed: int,
    loss_of: Loss = next_token,
    keep: Mapping[int, str] | None = None,
    save: Callable[[str, torch.nn.Module], None] | None = None,
) -> tuple[float, float]:
    """AdamW with warm-up and linear decay; mean loss of the first and last ten steps."""
    torch.manual_seed(seed)
    model.train()
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.95))
    order, losses = torch.empty(0, dtype=torch.long), []
    for step in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(len(rows))
        batch, order = rows[order[:BATCH]], order[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / steps)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if keep and save and step in keep:
            save(keep[step], model)
    return sum(losses[:10]) / len(losses[:10]), sum(losses[-10:]) / len(losses[-10:])


class Universe:
    """Trains and stores the models of one universe, each once."""

    def __init__(self, out: Path, sizes: Sizes, steps: int, patterns: Sequence[str]) -> None:
        self.out, self.sizes, self.steps = out, sizes, steps
        self.documents = [texts(pattern) for pattern in patterns]
        self.words = tokenizer([text for part in self.documents for text in part[::4]], sizes.vocabulary)
        halves = [(part[::2], part[1::2]) for part in self.documents]
        self.rows = [(lines(first, self.words), lines(second, self.words)) for first, second in halves]

    def path(self, name: str) -> Path:
        return self.out / "models" / name

    def save(self, name: str, model: torch.nn.Module, words: tokenizers.Tokenizer | None = None) -> None:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(self.path(name))
        if words is not None:
            words.save(str(self.path(name) / "tokenizer.json"))

    def load(self, name: str, **changes: object) -> torch.nn.Module:
        """A stored model; with changes to its config, one of that shape whose values are still to be set."""
        if not changes:
            return tf.AutoModelForCausalLM.from_pretrained(self.path(name), dtype=torch.float32)
        config = tf.AutoConfig.from_pretrained(self.path(name))
        for key, value in changes.items():
            setattr(config, key, value)
        return tf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)

    def tensors(self, name: str) -> Tensors:
        return load_file(self.path(name) / "model.safetensors")

    def log(self, name: str, note: str | None, losses: tuple[float, float], steps: int, seconds: float) -> None:
        entry = {"name": name, "note": note, "first": losses[0], "last": losses[1], "steps": steps, "tokens": steps * BATCH * LENGTH}
        with (self.out / "train_log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(f"{name}: loss {losses[0]:.2f} to {losses[1]:.2f}, {seconds:.0f} s", flush=True)

    def make(
        self,
        name: str,
        start: Callable[[], torch.nn.Module],
        rows: torch.Tensor,
        steps: int,
        rate: float,
        note: str | None = None,
        loss_of: Loss = next_token,
        words: tokenizers.Tokenizer | None = None,
        keep: Mapping[int, str] | None = None,
    ) -> None:
        """Train one model from what `start` gives, and store it."""
        if (self.path(name) / "model.safetensors").exists():
            return
        began = time.monotonic()
        model = start()
        losses = train(model, rows, steps, rate, seed=len(name) + sum(map(ord, name)), loss_of=loss_of, keep=keep, save=self.save)
        self.save(name, model, words)
        self.log(name, note, losses, steps, time.monotonic() - began)

    def fresh(self, config: tf.PretrainedConfig, seed: int, kind: type = tf.AutoModelForCausalLM) -> Callable[[], torch.nn.Module]:
        def start() -> torch.nn.Module:
            model = kind.from_config(config, dtype=torch.float32)
            with torch.no_grad():
                initialise(model, seed)
            return model

        return start
