#!/usr/bin/env bash
# diffusers folds a kohya LoRA's alpha into both factors by powers of two, and splits a qkv LoRA's rank.
#
# Versions: diffusers 0.42.1, torch 2.13.0 (the Flux converter behind load_lora_weights).
# A good guess: down and up stay as they are and alpha goes to the config, or alpha / rank is multiplied into
# one of them.
# Seen: with alpha / rank = 1/4 both factors are halved, with 1/2 only the down one is, with 4 the down one is
# four times itself. A fused qkv whose up matrix is block-diagonal becomes three LoRAs of a third
# of the rank. So a file and its converted copy differ in factors, norms and rank, and agree only in B A.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.23.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from diffusers.loaders import lora_conversion_utils as conversion


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


torch.manual_seed(0)


def converted(name, down, up, alpha):
    out = conversion._convert_kohya_flux_lora_to_diffusers(
        {name + ".lora_down.weight": down.clone(), name + ".lora_up.weight": up.clone(), name + ".alpha": torch.tensor(alpha)})
    return out[0] if isinstance(out, tuple) else out


down, up = torch.randn(4, 64), torch.randn(64, 4)
for alpha, still in [(4.0, (1, 1)), (2.0, (0.5, 1)), (1.0, (0.5, 0.5)), (16.0, (4, 1))]:
    out = converted("lora_unet_double_blocks_0_img_attn_proj", down, up, alpha)
    a, b = (next(v for k, v in out.items() if t in k) for t in ("lora_A", "lora_B"))
    seen = (float((a / down).mean()), float((b / up).mean()))
    exact = torch.allclose(b @ a, up @ down * alpha / 4, atol=1e-4)
    check(f"rank 4, alpha {alpha}: A over down, B over up", (1.0, 1.0), seen, exact and max(abs(s - t) for s, t in zip(seen, still)) < 1e-5)
up = torch.zeros(9216, 6)
for i in range(3):
    up[3072 * i:3072 * (i + 1), 2 * i:2 * (i + 1)] = torch.randn(3072, 2)
out = converted("lora_unet_double_blocks_0_img_attn_qkv", torch.randn(6, 3072), up, 6.0)
ranks = {k.split(".")[-3]: v.shape[0] for k, v in out.items() if "lora_A" in k}
check("rank of q, k, v from a block-diagonal qkv of rank 6", {"to_q": 6, "to_k": 6, "to_v": 6}, ranks, ranks == {"to_q": 2, "to_k": 2, "to_v": 2})
PY
cd "$work"
venv/bin/python check.py
