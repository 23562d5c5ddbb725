#!/usr/bin/env bash
# torch.onnx.export keeps a convolution's name and changes its numbers; a Linear's the other way round.
#
# Versions: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, numpy 2.4.6.
# A good guess: an initializer that carries a parameter's name holds that parameter; what is folded gets
# a new name (the older exporter made such names up).
# Seen: with the dynamo exporter and its default optimisation a batch norm is folded into the
# convolution before it, under the old name cv.weight; a Linear's weight on a 3-D input is only
# transposed, yet its name is gone (val_N).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


warnings.simplefilter("ignore")
torch.manual_seed(0)
model = torch.nn.Sequential()
model.cv, model.bn, model.fc = torch.nn.Conv1d(4, 4, 3), torch.nn.BatchNorm1d(4), torch.nn.Linear(6, 5)
model.bn.running_var.fill_(4.0)
model.eval()
torch.onnx.export(model, (torch.zeros(2, 4, 8),), "m.onnx", dynamo=True, verbose=False)
got = {i.name: numpy_helper.to_array(i) for i in onnx.load("m.onnx").graph.initializer}
ratio = float(np.median(got["cv.weight"] / model.cv.weight.detach().numpy()))
check("cv.weight in the file over cv.weight of the model", "1.0, or no such name", round(ratio, 4),
      abs(ratio - 0.5) < 1e-3)
w = model.fc.weight.detach().numpy()
holders = [n for n, a in got.items() if a.shape == w.T.shape and np.array_equal(a, w.T)]
check("name of the Linear's weight", "fc.weight", holders, "fc.weight" not in got and len(holders) == 1)
PY
cd "$work"
venv/bin/python check.py
