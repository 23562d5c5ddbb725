"""What the Hub's own page of a repository says, beside what its files say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from modelkin_indexer.beside.claims import MAX_OF_A_KIND, MAX_VALUE
from modelkin_indexer.hub.described import Repo
from modelkin_indexer.results.beside import Claim

SAYS = "Hub"
FIELDS = {"pipeline_tag": "task", "library_name": "library", "createdAt": "created", "lastModified": "modified"}
BASE = "base_model:"  # a tag `base_model:org/x`, or with the relation: `base_model:finetune:org/x`
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")


def hub_claims(repo: Repo) -> tuple[Claim, ...]:
    """Task, library, dates, base models with their relation, and digests of the tokenizer's files."""
    return tuple(dict.fromkeys(claim for claim in _said(repo) if claim.value and len(claim.value) <= MAX_VALUE))


def _said(repo: Repo) -> Iterator[Claim]:
    about = repo.about or {}
    for field, kind in FIELDS.items():
        if isinstance(about.get(field), str):
            yield Claim(kind, about[field], SAYS)
    tags = about.get("tags")
    for tag in [tag for tag in tags if isinstance(tag, str)][:MAX_OF_A_KIND] if isinstance(tags, list) else []:
        if tag.startswith(BASE):
            relation, _, model = tag.removeprefix(BASE).rpartition(":")
            yield Claim("base_model", model, SAYS)
            yield Claim("base_model_relation", relation, SAYS)
    for file in repo.files:
        if PurePosixPath(file.name).name == file.name and file.name in TOKENIZERS:
            yield Claim("tokenizer", f"{file.name} {file.digest}", SAYS)
