#!/usr/bin/env bash
# safetensors writes the conjugate of a complex tensor as the tensor itself, and -1 as 1.
#
# Versions: safetensors 0.8.0, torch 2.13.0, numpy 2.4.6.
# A good guess: save_file writes the numbers that the tensor shows, or refuses views as it refuses what is not contiguous.
# Seen: PyTorch's conj() copies nothing and sets a mark; a tensor with the mark passes for contiguous, and the bytes below it are
# written. The file holds the numbers before conjugation, without a word. The same holds of the mark for negatives, which the
# imaginary part of a conjugate bears. torch.save keeps both marks, and resolve_conj() or resolve_neg() before saving helps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile safetensors==0.8.0 torch==2.13.0 numpy==2.4.6 packaging
cat > "$work/check.py" <<'PY'
import torch
from safetensors.torch import load_file, save_file


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


spectrum = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
save_file({"a": spectrum.conj()}, "a.safetensors")
seen = load_file("a.safetensors")["a"]
check("[1+2j, 3-4j].conj() after save_file and load_file", [1 - 2j, 3 + 4j], seen.tolist(), torch.equal(seen, spectrum))
save_file({"a": spectrum.conj().resolve_conj()}, "a.safetensors")
seen = load_file("a.safetensors")["a"]
check("the same with resolve_conj()", [1 - 2j, 3 + 4j], seen.tolist(), torch.equal(seen, spectrum.conj()))
imaginary = torch.tensor([1j], dtype=torch.complex64).conj().imag
save_file({"a": imaginary}, "a.safetensors")
seen = load_file("a.safetensors")["a"]
still = imaginary.tolist() == [-1.0] and seen.tolist() == [1.0]
check("the float32 number -1 that is the imaginary part of a conjugate", [-1.0], seen.tolist(), still)
torch.save({"a": imaginary}, "a.pt")
seen = torch.load("a.pt")["a"]
check("the same by torch.save", [-1.0], seen.tolist(), seen.tolist() == [-1.0])
PY
cd "$work"
venv/bin/python check.py
