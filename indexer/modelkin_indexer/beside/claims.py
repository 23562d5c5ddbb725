"""What a model's folder says of itself: README.md, config.json, adapter_config.json, mergekit_config.yml.

Claims are words of a stranger: never evidence, never trusted, always bounded, and what cannot be read of them never stops indexing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import SourceError
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.sources.folders import PLAIN_STEMS
from modelkin_indexer.sources.stored.files import MAX_CONFIG, is_folder, read_small, read_start

# What `claims_of` may return as a claim's kind. The first three name other models.
README_KEYS = {
    "base_model": "base_model",
    "base_models": "base_model",
    "base_model_relation": "base_model_relation",
    "datasets": "dataset",
    "library_name": "library",
    "license": "license",
    "license_name": "license",
    "tags": "tag",
}
CONFIG_KEYS = {"_name_or_path": "name_or_path", "architectures": "architecture", "transformers_version": "transformers_version"}
ADAPTER_KEYS = {"base_model_name_or_path": "base_model", "peft_type": "adapter"}
MERGE_KEYS = {"model": "merged_from", "base_model": "base_model", "merge_method": "merge_method"}  # `model` at any depth: mergekit nests it

MAX_README = 1 << 20  # bytes read of a README: front matter stands first, and the longest public ones (lists of scores) stay under this
MAX_YAML = 1 << 16  # characters parsed: the parser takes 0.2 s for so many
MAX_OF_A_KIND = 64  # claims of one kind in one file; the largest public merges name fewer models
MAX_VALUE = 512  # characters of a claim, as of a model's name; longer ones are left out, not cut
FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
TOP_KEY = re.compile(r"([A-Za-z_][\w-]*)[ \t]*:")


def claims_of(path: Path) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """What the folder of this model declares, and notes about what could not be read.

    A single file has claims only where its folder names the model (`model.safetensors`): other files may lie beside strangers.
    """
    folder = _folder(path)
    found: dict[Claim, None] = {}
    notes = []
    for name, read in READERS.items():
        try:
            if folder is not None and os.path.lexists(folder / name):
                found |= dict.fromkeys(_bounded(name, read(folder / name)))
        except (SourceError, OSError, ValueError, RecursionError) as error:
            notes.append(f"claims of {name} left out: {_brief(error)}")
    return tuple(found), tuple(notes)


def _folder(path: Path) -> Path | None:
    try:
        if is_folder(path):
            return path
    except SourceError:
        return None
    return path.parent if path.name.split(".")[0] in PLAIN_STEMS else None


def _bounded(file: str, said: Iterator[tuple[str, str]]) -> Iterator[Claim]:
    counts: dict[str, int] = {}
    for kind, value in said:
        value = value.strip()
        if value and len(value) <= MAX_VALUE and counts.get(kind, 0) < MAX_OF_A_KIND:
            counts[kind] = counts.get(kind, 0) + 1
            yield Claim(kind, value, file)


def _readme(path: Path) -> Iterator[tuple[str, str]]:
    text = read_start(path, MAX_README).decode("utf-8-sig", "replace")
    found = FRONT_MATTER.match(text)
    return _values(_parsed(_wanted(found[1])), README_KEYS) if found else iter(())


def _wanted(front_matter: str) -> str:
    """The top-level entries that are looked at: lists of scores and examples beside them can be a hundred times as long."""
    kept, keep = [], False
    for line in front_matter.splitlines():
        if found := TOP_KEY.match(line):
            keep = found[1] in README_KEYS
        if keep:
            kept.append(line)
    return "\n".join(kept)


def _parsed(text: str) -> Any:
    """YAML as strings, lists and maps alone. In Python: the C parser ends the process on a thousand opening brackets."""
    if len(text) > MAX_YAML:
        raise ValueError(f"has {len(text):,} characters, more than the {MAX_YAML:,} that are parsed")
    import yaml  # only where there is some

    try:
        return yaml.load(text, yaml.BaseLoader)  # noqa: S506  # BaseLoader makes nothing but strings, lists and maps
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _json_claims(keys: Mapping[str, str]) -> Callable[[Path], Iterator[tuple[str, str]]]:
    return lambda path: _values(json.loads(read_small(path, MAX_CONFIG).decode("utf-8")), keys)


def _recipe(path: Path) -> Iterator[tuple[str, str]]:
    return _nested(_parsed(read_small(path, MAX_YAML).decode("utf-8", "replace")), set())


def _nested(value: Any, seen: set[int]) -> Iterator[tuple[str, str]]:
    """mergekit's keys wherever they stand. Each part is looked at once, however many aliases name it."""
    if not isinstance(value, (dict, list)) or id(value) in seen:
        return
    seen.add(id(value))
    yield from _values(value, MERGE_KEYS)
    for item in value.values() if isinstance(value, dict) else value:
        yield from _nested(item, seen)


def _values(said: Any, keys: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(kind, value) of the wanted keys; of a list each item, of what is no plain text nothing."""
    for key, kind in keys.items() if isinstance(said, dict) else ():
        value = said.get(key)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield kind, item.encode("utf-8", "backslashreplace").decode()


def _brief(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:MAX_VALUE]


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    "README.md": _readme,
    "config.json": _json_claims(CONFIG_KEYS),
    "adapter_config.json": _json_claims(ADAPTER_KEYS),
    "mergekit_config.yml": _recipe,
}
