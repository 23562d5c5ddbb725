"""Exports of registries, changed as a hostile author would change them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from modelkin_registry.sharing.shared_files import MANIFEST, MODELS

Entries = dict[str, bytes]


def rewritten(file: Path, change: Callable[[Entries], None], *, consistent: bool = True) -> None:
    """The archive with other entries; with digests that agree again, as a hostile author would make them."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    if consistent:
        said = json.loads(entries[MANIFEST])
        said |= {"models_digest": blake3(entries[MODELS]).hexdigest(), "models": entries[MODELS].count(b"\n")}
        entries[MANIFEST] = json.dumps(said | {"fingerprints": sum("fingerprints/" in name for name in entries)}).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
