"""A bundle checked: sections against their digests, every number made again from the fingerprints, and from the weights where they are."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from modelkin.bundles import bundle
from modelkin.bundles.gathering import answer_of
from modelkin.made import InputFile, input_of, release, whole_digest
from modelkin.registries import OnDemand
from modelkin.sources.sides import Side, say_notes, sides_of
from modelkin.wishes import Asked, HowToRead, Listener
from modelkin_data import backgrounds
from modelkin_indexer.errors import EvidenceError, FingerprintError, UnusableKey
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.beside import Claim
from modelkin_registry.answers.plain import to_plain
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.store.digests import content_digest

SAME = 1e-5  # two numbers are the same up to this difference: sums of 128 single-precision numbers in another order differ by 1e-7
SAME_SHARE = 1e-3  # and as a share of them: z and p of far tails, where 1e-6 of r is 1e-4 of p
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
MOST_SEARCHED = 1 << 40  # models: more than any registry holds
MOST_TOLD = 100  # differences that are listed; the count has all


class Difference(Struct, frozen=True):
    """Where a bundle is not what it says: the field, what it says, and what was found."""

    where: str
    told: Any
    found: Any


class Check(Struct, frozen=True):
    """What was checked: numbers and other values compared, what differs, and what a reader should know of how it was checked.

    `models`, `relation` and `key` are what the bundle says; `weights` those of its models that were read.
    """

    values: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    weights: tuple[str, ...]
    models: tuple[str, ...]
    relation: str
    key: str


def check(path: Path, weights: Sequence[Asked], how: HowToRead, registry: OnDemand, listener: Listener) -> Check:
    """Everything of a bundle made again. `weights`: A, B and the controls, in the bundle's order, or the first of them.

    Raises:
        EvidenceError: no bundle, or one that cannot be read to the end.
        UnusableKey: weights are to be read, and the bundle's key is not the one given.
        SourceError: weights that cannot be read.
    """
    found = bundle.read(path)
    differences = [Difference(name, "its digest", "other contents") for name in bundle.changed_sections(found)]
    try:
        sides, judge, broken = _sides(found, str(path))
        differences += broken
        answer = to_plain(answer_of(sides, judge))
        differences += _inconsistent(found, sides)
        relation, key = str(found["answer"]["relation"]), str(found["made"]["key"])
        values, differing = compared(found["answer"], answer, "answer")
        differences += differing
        notes = [*_notes(found), *_by_own_backgrounds(sides, judge, relation)]
        read: list[str] = []
        if weights:
            more, differing, read, unread = _from_weights(found, sides, judge, weights, how, registry, listener)
            values, differences, notes = values + more, differences + differing, [*notes, *unread]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        changed = ", ".join(bundle.changed_sections(found)) or "a section"
        raise EvidenceError(f"{path}: {changed} was changed: {type(error).__name__} {error}. {bundle.AGAIN}") from error
    models = tuple(side.name for side in sides)
    return Check(values, tuple(differences), tuple(notes), tuple(read), models, relation, key)


def _sides(found: Mapping[str, Any], origin: str) -> tuple[list[Side], Judge, list[Difference]]:
    """The sides as the bundle holds them, what they are judged by, and what of these is not what it says."""
    question, broken = found["question"], []
    names = (question["a"], question["b"], *question["controls"])
    if len(set(names)) < len(names) or set(names) != set(found["fingerprints"]):  # else one fingerprint were read a million times
        raise EvidenceError(f"{origin}: question: was changed: its models are not those of fingerprints, each once. {bundle.AGAIN}")
    sides = []
    for name in names:
        held = found["fingerprints"][name]
        try:
            data = base64.b64decode(held["data"], validate=True)
            fingerprint = fingerprints.from_bytes(data, f"{origin}: fingerprints/{name}")
        except (ValueError, FingerprintError) as error:
            raise EvidenceError(f"{origin}: fingerprints/{name}: was changed or damaged ({error}). {bundle.AGAIN}") from error
        told = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "content": content_digest(fingerprint),
            "level": fingerprint.about.level,
        }
        broken += [Difference(f"fingerprints/{name}/{field}", held[field], value) for field, value in told.items() if held[field] != value]
        said = found["claims"].get(name, ())
        sides.append(Side(name, fingerprint, tuple(Claim(one["kind"], one["value"], one["source"]) for one in said)))
    _, differing = compared(found["judge"]["shipped"], backgrounds.table(), "judge/shipped")
    return sides, _judge(found["judge"], origin), broken + differing


def _judge(judged: Mapping[str, Any], origin: str) -> Judge:
    """What was judged by. Raises EvidenceError for what no registry judges by: no model searched, or a spread that is none."""
    searched, spreads = judged["searched"], [spread for _, _, spread in judged["own"]]
    if type(searched) is not int or not 1 <= searched <= MOST_SEARCHED:
        raise EvidenceError(f"{origin}: judge/searched: was changed: {str(searched)[:40]} is no number of models. {bundle.AGAIN}")
    if not all(type(spread) in (int, float) and 0.0 <= spread <= 1.0 for spread in spreads):
        raise EvidenceError(f"{origin}: judge/own: was changed: a spread of cosines is a number from 0 to 1. {bundle.AGAIN}")
    return Judge(searched, {(family, channel): float(spread) for family, channel, spread in judged["own"]}, {})


def _inconsistent(found: Mapping[str, Any], sides: Sequence[Side]) -> list[Difference]:
    """What `made` says of the fingerprints against the fingerprints themselves."""
    made, about = found["made"], sides[0].fingerprint.about
    told: dict[str, tuple[Any, Any]] = {"made/key": (made["key"], about.key), "made/spec": (made["spec"], about.spec)}
    inputs = [one["name"] for one in made["inputs"]]
    told["made/inputs"] = (inputs, [side.name for side in sides])
    for one in made["inputs"]:
        files = [InputFile(file["name"], file["bytes"], file["sha256"]) for file in one["files"]]
        told[f"made/inputs/{one['name']}/sha256"] = one["sha256"], whole_digest(files)
    return [Difference(where, said, is_) for where, (said, is_) in told.items() if said != is_]


def _notes(found: Mapping[str, Any]) -> list[str]:
    made = found["made"]
    told = [f"Made by modelkin {made['modelkin']}, checked by {release()}."] if made["modelkin"] != release() else []
    private = made["key"] != "public"
    if private:
        told.append(f"Made under the private key {made['key']}: fingerprints are checked without it, weights with its file alone.")
    return [*told, "Digests show accidents. Who made the bundle, only a signature over the file can show."]


def _by_own_backgrounds(sides: Sequence[Side], judge: Judge, relation: str) -> list[str]:
    """What a reader should know of numbers that no one else can make again: what a registry measured on its own strangers."""
    if not judge.backgrounds:
        return []
    shipped = answer_of(sides, replace(judge, backgrounds={})).relation
    told = "the same" if shipped == relation else f"another: {shipped}"
    return [f"Judged by what a registry measured on its own strangers, the writer's word; by the shipped table the relation is {told}."]


def _from_weights(
    found: Mapping[str, Any],
    sides: Sequence[Side],
    judge: Judge,
    weights: Sequence[Asked],
    how: HowToRead,
    registry: OnDemand,
    listener: Listener,
) -> tuple[int, list[Difference], list[str], list[str]]:
    """The same numbers from the weights: values, differences, the models that were read, and notes on files that could not be compared."""
    if len(weights) > len(sides):
        raise EvidenceError(f"{len(weights)} models were given, the bundle is of {len(sides)}. Give A, B and the controls, in its order.")
    key = sides[0].fingerprint.about.key
    if how.key.name != key:
        raise UnusableKey(f"the bundle was made with key {key!r}, not {how.key.name!r}. Give its key with --key-file to check weights.")
    read = sides_of(weights, how, registry, listener)
    say_notes(read, listener)
    fresh = [Side(side.name, one.fingerprint, side.claims) for side, one in zip(sides, read, strict=False)]
    differences: list[Difference] = []
    notes = []
    for asked, side, one, told in zip(weights, sides, fresh, found["made"]["inputs"], strict=False):
        content, held = content_digest(one.fingerprint), content_digest(side.fingerprint)
        if content != held:
            differences.append(Difference(f"weights of {side.name}", held, content))
        files = input_of(told["role"], asked, None, listener, offline=how.offline)
        if not told["sha256"] or not files.sha256 or files.kind != told["kind"]:
            notes.append(
                f"The files of {side.name} were not held against digests: the bundle has none of files like those that were given."
            )
        elif files.sha256 != told["sha256"]:
            differences.append(Difference(f"files of {side.name}", told["sha256"], files.sha256))
    values, differing = compared(found["answer"], to_plain(answer_of([*fresh, *sides[len(fresh) :]], judge)), "answer from weights")
    return values, differences + differing, [side.name for side in fresh], notes


def compared(told: Any, found: Any, where: str) -> tuple[int, list[Difference]]:
    """How many values two JSON values have, and where they differ by more than the order of sums explains."""
    pairs = list(_pairs(told, found, where))
    return len(pairs), [Difference(at, one, other) for at, one, other in pairs if not _same(one, other)]


def _pairs(told: Any, found: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(told, dict) and isinstance(found, dict):
        for name in sorted({*told, *found}):
            yield from _pairs(told.get(name, ABSENT), found.get(name, ABSENT), f"{where}/{name}")
    elif isinstance(told, list) and isinstance(found, list):
        for at in range(max(len(told), len(found))):
            one, other = (side[at] if at < len(side) else ABSENT for side in (told, found))
            yield from _pairs(one, other, f"{where}[{at}]")
    else:
        yield where, told, found


ABSENT = "nothing there"


def _same(one: Any, other: Any) -> bool:
    """Numbers but for the order of sums; sentences but for the last digit of numbers in them; else equal."""
    if type(one) is not type(other) and not {type(one), type(other)} <= {int, float}:
        return False
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME_SHARE, abs_tol=SAME if max(abs(one), abs(other)) > SAME else 0.0)
    if isinstance(one, str) and one != other and NUMBER.sub("#", one) == NUMBER.sub("#", other):
        return all(_same_digits(a, b) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True))
    return bool(one == other)


def _same_digits(one: str, other: str) -> bool:
    """Whether two printed fractions differ by one unit of their last digit at most; whole numbers are equal or not."""
    if "." not in one or "." not in other or "e" in one + other:
        return one == other
    digits = len(one.partition(".")[2])
    return digits == len(other.partition(".")[2]) and abs(float(one) - float(other)) <= 1.5 * 10.0**-digits
