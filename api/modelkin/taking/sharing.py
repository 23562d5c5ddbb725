"""A registry's export as a dataset repository: under which name it lies there."""

from __future__ import annotations

SHARED_FILE = "registry.modelkin-registry"
