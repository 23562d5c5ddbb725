"""Signatures over what is written for others, by OpenSSF's model_signing with a key of one's own, which asks no network."""

from __future__ import annotations

import subprocess
from pathlib import Path


def new_key(folder: Path) -> tuple[Path, Path]:
    """A private and a public key (P-256), as PEM files."""
    private, public = folder / "key.pem", folder / "key.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


def signed(program: Path, documents: Path, signature: Path, private: Path) -> None:
    """Sign all files of a folder. Raises CalledProcessError."""
    subprocess.run([program, "sign", "key", "--private_key", private, "--signature", signature, documents], check=True, capture_output=True)


def verifies(program: Path, documents: Path, signature: Path, public: Path) -> bool:
    """Whether a signature is of the files of a folder as they are."""
    asked = [program, "verify", "key", "--public_key", public, "--signature", signature, documents]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0
