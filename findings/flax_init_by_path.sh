#!/usr/bin/env bash
# In Flax a layer's first weights follow from its name, whatever the rest of the model is.
#
# Versions: flax 0.12.8, jax 0.10.2, numpy 2.4.6.
# A good guess: layers draw one after the other, so with the same seed a layer has other weights once a layer is put
# before it, as in PyTorch.
# Seen: the key of a parameter is made from the seed and the names that lead to it. Two models of different depth that
# call a layer "head" begin with the same weights in it; under another name it has others.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


class Model(nn.Module):
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x):
        for name in self.names:
            x = nn.Dense(4, name=name)(x)
        return x


def head(*names):
    made = Model(names).init(jax.random.key(0), jnp.ones((1, 4)))
    return np.asarray(made["params"][names[-1]]["kernel"])


seen = np.array_equal(head("head"), head("first", "second", "head"))
check("equal after one layer and after three", False, seen, seen)
seen = np.array_equal(head("head"), head("top"))
check("equal under another name", True, seen, not seen)
PY
cd "$work"
venv/bin/python check.py
