"""A registry copied by its two places."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelkin
from modelkin.errors import RegistryError


def test_a_registry_is_not_copied_onto_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not under another way of writing its place either, and an empty one neither."""
    monkeypatch.chdir(tmp_path)
    modelkin.new_registry(registry="r.db")
    for target in ("r.db", tmp_path / "r.db", "./r.db"):
        with pytest.raises(RegistryError, match="onto itself"):
            modelkin.copy_registry("r.db", target)
    assert modelkin.copy_registry("r.db", "s.db").models == 0
