#!/usr/bin/env bash
# torch.onnx.export writes layers that hold equal numbers once, under the first one's name, unless they have more than 1024.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, numpy 2.4.6.
# A good guess: each parameter is an initializer with its name; two layers share one only if they share the parameter.
# Seen: the exporter looks for equal values: the second of two copied 32 x 32 layers has no initializer; of two 64 x 64 layers both stay,
# without the second's bias. Fresh norms, ones and zeros, are all the first one's. The older exporter does the same, at any size;
# optimize=False does not. So parameters that were equal at the time cannot be told from tied ones, and names do not fit the checkpoint's.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile onnx==1.23.2 onnxscript==0.7.2
cat > "$work/check.py" <<'PY'
import logging
import warnings

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
import onnx
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def names(size, **options):
    model = torch.nn.Sequential(torch.nn.Linear(size, size), torch.nn.ReLU(), torch.nn.Linear(size, size)).eval()
    model[2].load_state_dict(model[0].state_dict())
    torch.onnx.export(model, (torch.ones(2, size),), "model.onnx", verbose=False, **({"dynamo": True, "external_data": False} | options))
    return sorted(one.name for one in onnx.load("model.onnx").graph.initializer)


every = ["0.bias", "0.weight", "2.bias", "2.weight"]
for size, still in [(32, every[:2]), (64, every[:2] + every[3:])]:
    seen = names(size)
    check(f"initializers of two equal layers of {size} x {size}", every, seen, seen == still)
seen = [len(names(size, dynamo=False)) for size in (32, 64)]
check("how many by the older exporter, 32 x 32 and 64 x 64", [4, 4], seen, seen == [2, 2])
seen = names(32, optimize=False)
check("with optimize=False", every, seen, seen == every)
PY
cd "$work"
venv/bin/python check.py
