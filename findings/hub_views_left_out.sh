#!/usr/bin/env bash
# huggingface_hub saves a tensor's part as nothing, and loading leaves zeros there.
#
# Versions: huggingface_hub 2.4.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: tensors that share memory are saved once if they are equal (tied weights), and copied or refused if one is a part of the other.
# Seen: save_torch_state_dict keeps the tensor that covers the memory and drops the others whatever their shape; the note in the file's metadata
# says that the (2, 3) part is the (6, 3) whole. load_torch_model into a model that has not tied them leaves what it held, as strict is False
# unless asked; only the value that it returns names what is missing. safetensors' save_model writes the same file, and its load_model raises.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile huggingface_hub==2.4.0 torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 packaging
cat > "$work/check.py" <<'PY'
import os

import torch
from huggingface_hub import load_torch_model, save_torch_state_dict
from safetensors import safe_open
from safetensors.torch import load_model


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


class Model(torch.nn.Module):
    """A table and, as a buffer, its first two rows; the rows are a view of the table or zeros of their own."""

    def __init__(self, shared):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(1.0, 19).reshape(6, 3) if shared else torch.zeros(6, 3))
        self.register_buffer("first", self.table.data[:2] if shared else torch.zeros(2, 3))


os.makedirs("saved")
save_torch_state_dict(Model(True).state_dict(), "saved")
with safe_open("saved/model.safetensors", "pt") as file:
    seen = {name: file.get_slice(name).get_shape() for name in file.keys()}
    said = file.metadata().get("first")
check("tensors in the file", {"table": [6, 3], "first": [2, 3]}, seen, seen == {"table": [6, 3]})
check("metadata of the one that is not there", None, said, said == "table")
model = Model(False)
load_torch_model(model, "saved")
seen = [float(model.table.detach().sum()), float(model.first.sum())]
check("sums of both after load_torch_model", [171.0, 21.0], seen, seen == [171.0, 0.0])
try:
    load_model(Model(False), "saved/model.safetensors")
    seen = "loaded"
except RuntimeError as error:
    seen = str(error).splitlines()[-1].strip()
check("safetensors.torch.load_model", "an error", seen, seen.startswith("Missing key(s)"))
PY
cd "$work"
venv/bin/python check.py
