"""A bundle made: both models and controls read, held against each other, and all that this rests on put into one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelkin.answering.comparing import Pair
from modelkin.bundles import bundle
from modelkin.made import Made, made
from modelkin.registries import OnDemand
from modelkin.sources.sides import Side, judge_of, say_notes, sides_of
from modelkin.wishes import HowToRead, Listener
from modelkin_data import backgrounds
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.plain import to_plain
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.store.digests import content_digest


def gather(pair: Pair, how: HowToRead, registry: OnDemand, listener: Listener, *, command: str = "") -> tuple[bytes, CompareAnswer, Made]:
    """The bundle of a comparison, its answer, and how that came to be.

    Raises:
        SourceError: a side that is not there, or cannot be read.
        FingerprintError: sides made with different keys.
    """
    given = (pair.a, pair.b, *pair.controls)
    sides = named_apart(sides_of(given, how, registry, listener))
    say_notes(sides, listener)
    judge = judge_of(registry)
    roles = ("a", "b", *("control" for _ in pair.controls))
    key = sides[0].fingerprint.about.key
    opened = registry.opened
    told = made(
        key=key, command=command, asked=list(zip(roles, given, strict=True)), registry=opened, listener=listener, offline=how.offline
    )
    told = replace(told, inputs=tuple(replace(one, name=side.name) for one, side in zip(told.inputs, sides, strict=True)))
    sections, answer = bundle_of(sides, judge, told)
    return bundle.to_bytes(sections), answer, told


def bundle_of(sides: Sequence[Side], judge: Judge, told: Made) -> tuple[dict[str, Any], CompareAnswer]:
    """The sections of a bundle of sides that were read already (A, B, controls; names apart), and its answer."""
    answer = answer_of(sides, judge)
    sections = {
        "made": told.to_dict(),
        "question": {"a": sides[0].name, "b": sides[1].name, "controls": [side.name for side in sides[2:]]},
        "judge": judge_section(judge),
        "claims": {side.name: to_plain(list(side.claims)) for side in sides[:2]},
        "fingerprints": {side.name: _written(side.fingerprint) for side in sides},
        "answer": to_plain(answer),
    }
    return sections, answer


def named_apart(sides: Sequence[Side]) -> list[Side]:
    """The sides by the last part of their paths: nobody else's business where files lie here. Equal names get a number."""
    found: list[Side] = []
    taken: dict[str, int] = {}
    for side in sides:
        path = Path(side.name)
        name = (path.name or side.name) if path.is_absolute() or path.exists() else side.name
        taken[name] = taken.get(name, 0) + 1
        found.append(replace(side, name=name if taken[name] == 1 else f"{name} ({taken[name]})"))
    return found


def answer_of(sides: Sequence[Side], judge: Judge) -> CompareAnswer:
    """The comparison of the first two sides with the others as controls: all that follows from fingerprints, judge and claims."""
    a, b, *controls = sides
    return compare_fingerprints(
        a.fingerprint,
        b.fingerprint,
        a_name=a.name,
        b_name=b.name,
        controls={side.name: side.fingerprint for side in controls},
        judge=judge,
        claims={side.name: side.claims for side in (a, b)},
        tensors=True,
    )


def judge_section(judge: Judge) -> dict[str, Any]:
    """What is judged by, as a bundle holds it: spreads of strangers by channel and family."""
    own = [[family, channel, spread] for (family, channel), spread in sorted(judge.backgrounds.items())]
    return {"searched": judge.searched, "own": own, "shipped": backgrounds.table()}


def _written(fingerprint: Fingerprint) -> dict[str, str]:
    data = fingerprint.to_bytes()
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "content": content_digest(fingerprint),
        "level": fingerprint.about.level,
        "data": base64.b64encode(data).decode(),
    }
