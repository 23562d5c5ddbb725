#!/usr/bin/env bash
# torch.distributed.checkpoint saves integers to safetensors, and cannot put the shards of them together.
#
# Versions: torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: HuggingFaceStorageWriter with enable_consolidation=True writes any state dict that it writes without it.
# Seen: one integer or boolean tensor (a step count, position ids, num_batches_tracked) and the save ends with
# "torch.finfo() requires a floating point input type", when the shards are already written. The error is a
# CheckpointException, which is a BaseException and no Exception: `except Exception` does not see it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def saved(name, state, **more):
    try:
        dcp.save(state, storage_writer=dcp.HuggingFaceStorageWriter(name, save_distributed=True, **more))
    except BaseException as error:  # which is what its CheckpointException derives from
        return str(error).strip().splitlines()[-1]
    return "saved"


warnings.simplefilter("ignore")
floats = {"w": torch.ones(4, 4)}
state = {**floats, "step": torch.arange(5)}
seen = [saved("apart", state), saved("floats", floats, enable_consolidation=True)]
check("integers in shards; floats put together", ["saved", "saved"], seen, seen == ["saved", "saved"])
seen = saved("both", state, enable_consolidation=True)
check("integers put together", "saved", seen, "torch.finfo()" in seen)
left = sorted(p.relative_to("both").as_posix() for p in Path("both").rglob("*.safetensors"))
check("files that are left", "model-00001-of-00001.safetensors among them", left,
      bool(left) and all(name.startswith("sharded/") for name in left))
PY
cd "$work"
venv/bin/python check.py
