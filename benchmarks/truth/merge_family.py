"""Really trained fine-tunes of one small base, to measure what is *not* a merge: same data, mixed data, one training after another.

    python -m benchmarks.truth.merge_family BASE OUT --text code='/usr/lib/python3*/**/*.py' --text headers='/usr/include/**/*.h' \
        --text prose='/usr/share/doc/**/copyright'

BASE is a folder that transformers can load as a causal language model, with its tokenizer. For texts A, B, C in this order it trains
A, A-again (the same documents in another order), A-more (other documents of the same kind), B, C, C-light (few steps), A-and-B
(one training on both, the case nearest to a merge), A-then-B and B-then-A (one after the other, on the very documents of B and A).
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
import transformers
from msgspec import Struct

LENGTH, BATCH = 256, 8  # tokens of a line, lines of a step
DOCUMENT = 20_000  # characters taken of one file at most
SHARE = 400_000  # characters of one set of documents


class Recipe(Struct, frozen=True):
    """One fine-tune: what it starts from, which document sets it sees, in which order, for how long."""

    name: str
    start: str
    sets: tuple[str, ...]
    seed: int
    steps: int


def recipes(a: str, b: str, c: str, steps: int) -> list[Recipe]:
    return [
        Recipe(a, "base", (f"{a}/0",), 1, steps),
        Recipe(f"{a}-again", "base", (f"{a}/0",), 2, steps),
        Recipe(f"{a}-more", "base", (f"{a}/1",), 3, steps),
        Recipe(b, "base", (f"{b}/0",), 4, steps),
        Recipe(c, "base", (f"{c}/0",), 5, steps),
        Recipe(f"{c}-light", "base", (f"{c}/1",), 6, max(steps // 6, 1)),
        Recipe(f"{a}-and-{b}", "base", (f"{a}/0", f"{b}/0"), 7, 2 * steps),
        Recipe(f"{a}-then-{b}", a, (f"{b}/0",), 8, steps),
        Recipe(f"{b}-then-{a}", b, (f"{a}/0",), 9, steps),
    ]


def document_sets(name: str, pattern: str) -> dict[str, list[str]]:
    """Two sets of documents that share no file."""
    files = sorted(map(str, Path("/").glob(pattern.lstrip("/"))))
    random.Random(name).shuffle(files)
    sets: dict[str, list[str]] = {f"{name}/0": [], f"{name}/1": []}
    for at, file in enumerate(files):
        chosen = sets[f"{name}/{at % 2}"]
        if Path(file).is_file() and sum(map(len, chosen)) < SHARE:
            chosen.append(Path(file).read_text(errors="ignore")[:DOCUMENT])
    return sets


def lines(texts: list[str], tokenizer: transformers.PreTrainedTokenizerBase) -> torch.Tensor:
    tokens = [token for text in texts for token in tokenizer(text)["input_ids"]]
    return torch.tensor(tokens[: len(tokens) // LENGTH * LENGTH]).view(-1, LENGTH)


def train(model: torch.nn.Module, rows: torch.Tensor, recipe: Recipe, rate: float) -> tuple[float, float]:
    """Mean loss of the first and last ten steps."""
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    order, losses = torch.empty(0, dtype=torch.long), []
    for step in range(recipe.steps):
        if len(order) < BATCH:
            order = torch.randperm(len(rows))
        batch, order = rows[order[:BATCH]], order[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * (1 - step / recipe.steps)
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[:10]) / len(losses[:10]), sum(losses[-10:]) / len(losses[-10:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", action="append", required=True, metavar="NAME=GLOB", help="three of them")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=5e-4)
    args = parser.parse_args()
    texts = dict(entry.split("=", 1) for entry in args.text)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.base)
    sets = {key: found for name, pattern in texts.items() for key, found in document_sets(name, pattern).items()}
    for recipe in recipes(*texts, steps=args.steps):
        start = args.base if recipe.start == "base" else args.out / recipe.start
        model = transformers.AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
        rows = torch.cat([lines(sets[name], tokenizer) for name in recipe.sets])
        first, last = train(model, rows, recipe, args.rate)
        model.to(torch.bfloat16).save_pretrained(args.out / recipe.name)
        print(f"{recipe.name}: {len(rows)} lines, loss {first:.2f} to {last:.2f}", flush=True)


if __name__ == "__main__":
    main()
