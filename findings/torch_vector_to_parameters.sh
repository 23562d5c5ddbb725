#!/usr/bin/env bash
# PyTorch's vector_to_parameters makes float32 of bfloat16 parameters, and one layer's file as large as the model's.
#
# Versions: torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: it writes a vector's numbers into the parameters, which stay what they are; so a model that is taken apart with
# parameters_to_vector, moved along a task vector and put together again is the same kind of model.
# Seen: each parameter becomes a view of the one vector, with the vector's type: a bfloat16 layer beside one float32 layer is
# float32 afterwards. torch.save of one small layer writes the whole vector, and safetensors.torch.save_model refuses the model, as no
# parameter covers the storage.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 packaging
cat > "$work/check.py" <<'PY'
import io

import torch
from safetensors.torch import save_model
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


model = torch.nn.Sequential(torch.nn.Linear(4, 4).bfloat16(), torch.nn.LayerNorm(4))
vector_to_parameters(parameters_to_vector(model.parameters()), model.parameters())
seen = [str(p.dtype) for p in model.parameters()]
check("types of a bfloat16 Linear and a float32 LayerNorm", ["torch.bfloat16"] * 2 + ["torch.float32"] * 2, seen, seen == ["torch.float32"] * 4)


def size(tensor):
    file = io.BytesIO()
    torch.save(tensor, file)
    return len(file.getvalue())


model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(500, 500))
before = size(model[0].weight)
vector_to_parameters(parameters_to_vector(model.parameters()), model.parameters())
after = size(model[0].weight)
check("bytes of the 2 x 2 weight by torch.save, before and after", "both about 1,500", [before, after], before < 5000 and after > 4 * 250_000)
try:
    save_model(model, "model.safetensors")
    seen = "saved"
except RuntimeError as error:
    seen = str(error)[:70]
check("safetensors.torch.save_model", "saved", seen, seen.startswith("Error while trying to find names to remove"))
PY
cd "$work"
venv/bin/python check.py
