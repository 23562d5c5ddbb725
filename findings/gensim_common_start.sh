#!/usr/bin/env bash
# Two gensim Word2Vec models of different texts begin with the same vectors, word by word in order of frequency.
#
# Versions: gensim 4.4.0, numpy 2.4.6.
# A good guess: a vector's start follows from its word (by a hash of word and seed), or is fresh in each model; so the
# vectors of strangers do not correlate.
# Seen: the whole table is drawn at once from the seed, 1 unless another is given, and words take its rows by rank. Two models of one
# width begin equal in all rows that both have, though they share no word; after an epoch over 3,000 sentences their tables still correlate
# at over 0.9. No sign that one was made from the other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gensim==4.4.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from gensim.models import Word2Vec


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def sentences(language, seed):
    """3,000 sentences of a language of 2,000 words, frequent ones as in any language."""
    random = np.random.default_rng(seed)
    often = 1 / np.arange(1, 2001)
    return [[f"{language}{word}" for word in random.choice(2000, 20, p=often / often.sum())] for _ in range(3000)]


texts = [sentences("a", 1), sentences("b", 2)]
models = [Word2Vec(vector_size=64, min_count=1, workers=1, epochs=1) for _ in texts]
for model, text in zip(models, texts, strict=True):
    model.build_vocab(text)
rows = min(len(model.wv) for model in models)
words = set(models[0].wv.index_to_key) & set(models[1].wv.index_to_key)
check("words that both know", 0, len(words), not words)


def alike():
    first, second = (model.wv.vectors[:rows] - model.wv.vectors[:rows].mean(0) for model in models)
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


same = np.array_equal(models[0].wv.vectors[:rows], models[1].wv.vectors[:rows])
check("rows that both have begin equal", False, same, same)
for model, text in zip(models, texts, strict=True):
    model.train(text, total_examples=len(text), epochs=1)
r = alike()
check("centred correlation after an epoch", "about 0", round(r, 3), r > 0.8)
other = Word2Vec(vector_size=64, min_count=1, workers=1, epochs=1, seed=2)
other.build_vocab(texts[1])
moved = bool((other.wv.vectors[:rows] != models[0].wv.vectors[:rows]).any())
check("another seed gives other ones", True, moved, moved)
PY
cd "$work"
PYTHONHASHSEED=0 venv/bin/python check.py
