"""Evidence of a screening for others: a bundle for each pair that a finding rests on, made of what was measured, and a list of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.bundles import bundle
from modelkin.bundles.gathering import bundle_of
from modelkin.made import Input, input_of, made, registered_input
from modelkin.screening.kept import Kept, write_whole
from modelkin.sources.sides import Side
from modelkin.wishes import HowToRead, Listener
from modelkin_indexer.errors import EvidenceError, ModelkinError
from modelkin_indexer.results.beside import Claim
from modelkin_registry.questions import Questions
from modelkin_registry.screening.declared import Declaration
from modelkin_registry.screening.explained import MANIFEST
from modelkin_registry.screening.results import Screening

FOLDER, LIST = "evidence", "evidence.jsonl"
LONGEST = 40  # characters of a name in a file's: two of them with a number are far below the 255 bytes that file systems take
GONE = "what was measured of {name} is gone from the output folder: start again"


class Submitted(Struct, frozen=True):
    """The readable submissions: what each declares, and under which identity it is kept."""

    declared: Mapping[str, Declaration]
    identities: Mapping[str, str]


class Evidence(Struct, frozen=True):
    """Who makes the bundles of a screening."""

    registry: Questions
    kept: Kept
    submitted: Submitted
    how: HowToRead
    listener: Listener
    command: str

    def write(self, answer: Screening, out: Path) -> int:
        """Write a bundle for each pair, and the list of them: which submission, which relative, which rules. Returns how many were made.

        A pair of which none can be made stands in the list with the reason, and stops no other. Those of an earlier call are removed.

        Raises OSError where the folder cannot be written.
        """
        folder = out / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("[0-9][0-9][0-9][0-9]-*.json"):
            old.unlink()
        lines, count = [], 0
        for number, ((submission, relative, in_batch), rules) in enumerate(pairs_of(answer).items(), 1):
            told = {"submission": submission, "relative": relative, "in_batch": in_batch, "rules": rules}
            file = f"{number:04}-{_plain(submission)}--{_plain(relative)}.json"
            try:
                write_whole(folder / file, self._bundle(submission, relative, in_batch=in_batch))
            except ModelkinError as error:
                self.listener.say(f"{submission} and {relative}: no evidence was written: {error}")
                lines.append({**told, "file": None, "reason": str(error)})
                continue
            count += 1
            lines.append({**told, "file": f"{FOLDER}/{file}", "reason": None})
        write_whole(out / LIST, "".join(json.dumps(line) + "\n" for line in lines).encode())
        self.listener.say(f"{count} bundles of evidence: {folder}. `modelkin verify FILE` makes the numbers of one again.")
        return count

    def _bundle(self, submission: str, relative: str, *, in_batch: bool) -> bytes:
        a, first = self._submission("a", submission, in_batch=in_batch)
        b, second = self._submission("b", relative, in_batch=True) if in_batch else self._registered(relative)
        sides = (a, replace(b, name=f"{b.name} (2)") if a.name == b.name else b)
        told = made(
            key=a.fingerprint.about.key,
            command=self.command,
            asked=(),
            registry=self.registry,
            listener=self.listener,
            offline=self.how.offline,
        )
        inputs = tuple(replace(one, name=side.name) for one, side in zip((first, second), sides, strict=True))
        return bundle.to_bytes(bundle_of(sides, self.registry.judge(1), replace(told, inputs=inputs))[0])

    def _submission(self, role: str, name: str, *, in_batch: bool) -> tuple[Side, Input]:
        """A submission as it was measured: its kept fingerprint, and the digests of its files."""
        said, identity = self.submitted.declared[name], self.submitted.identities[name]
        fingerprint = self.kept.as_stored(identity) if in_batch else self.kept.fingerprint(identity)
        if fingerprint is None:
            raise EvidenceError(GONE.format(name=name))
        claims = tuple(Claim("base_model", base, MANIFEST) for base in said.named)
        asked = str(Path(said.source, said.file)) if said.file else said.source
        return Side(name, fingerprint, claims), input_of(role, asked, None, self.listener, offline=self.how.offline)

    def _registered(self, name: str) -> tuple[Side, Input]:
        side = Side(name, self.registry.get(name), self.registry.claims_of(name))
        return side, registered_input("b", name, self.registry)


def pairs_of(answer: Screening) -> dict[tuple[str, str, bool], list[str]]:
    """Each pair that findings rest on: (submission, relative, whether that is one too) -> their rules. Of two submissions one pair."""
    found: dict[tuple[str, str, bool], list[str]] = {}
    for pair, rule in _rested_on(answer):
        turned = (pair[1], pair[0], pair[2])
        rules = found.setdefault(turned if pair[2] and turned in found else pair, [])
        rules += [] if rule in rules else [rule]
    return found


def _rested_on(answer: Screening) -> Iterator[tuple[tuple[str, str, bool], str]]:
    for one in answer.results:
        for finding in one.findings:
            if finding.relative is not None and finding.relation is not None:
                for relative in (finding.relative, *finding.others):
                    yield (one.submission, relative, finding.in_batch), finding.rule


def _plain(name: str) -> str:
    """A name of anybody's as part of a file's."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name[:LONGEST]) or "model"
