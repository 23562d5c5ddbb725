"""What sentences call models whose files bear one name."""

from __future__ import annotations

import pytest

from modelkin_registry.explanation.naming import told_apart


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("x/child", "y/base", ("child", "base")),
        ("run1/model.pt", "run2/model.pt", ("run1/model.pt", "run2/model.pt")),
        ("one/run/model.pt", "other/run/model.pt", ("one/run/model.pt", "other/run/model.pt")),
        ("model.pt", "run/model.pt", ("model.pt", "run/model.pt")),
        ("run/model.pt", "run/model.pt", ("model.pt", "model.pt")),
        ("/model.pt", "/", ("model.pt", "/")),
        ("fingerprint", "fingerprint", ("fingerprint", "fingerprint")),
    ],
)
def test_two_models_are_told_apart_by_as_much_of_their_paths_as_it_takes(a: str, b: str, told: tuple[str, str]) -> None:
    assert told_apart(a, b) == told
