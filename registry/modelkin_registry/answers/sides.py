"""What an answer says of one of its sides, and what a reader must know of it before believing the answer."""

from __future__ import annotations

from modelkin_indexer.results.fingerprint import UNDECODED, Fingerprint
from modelkin_indexer.spec import PUBLIC
from modelkin_registry.answers.asked import Subject
from modelkin_registry.answers.parts import Unread

COVERAGE_WARNED = 0.95  # below this share of placed bytes the reader is told
GUESSED_WARNED = 0.05  # from this share of guessed places the reader is told
KINDS_TOLD = 4  # kinds of tables that the reader is told
UNREAD_WARNED = 5  # kinds of what was not read that the reader is told
GUESSED = (
    "the places of {share:.0%} of the bytes are guessed from shapes alone: what is said of a family there holds for the weights compared, "
    "but their family may be another."
)


def is_change(fingerprint: Fingerprint) -> bool:
    """Whether this is of an adapter without its base: its vectors are those of changes."""
    return fingerprint.about.adapter is not None and not fingerprint.about.adapter.get("added")


def tables_alone(fingerprint: Fingerprint) -> str:
    """Of a model that holds nothing but tables that anybody computes, and numbers that are all equal: what these are, in words; else ""."""
    about = fingerprint.about
    whole = not (about.unread or about.unplaced or about.shards or about.adapter)
    if not (about.constants and whole) or len(fingerprint.matrices) or not fingerprint.vectors.constant.all():
        return ""
    kinds = dict.fromkeys(reason.removesuffix(" (a fixed table)") for reason in about.constants.values())
    listed = ", ".join(list(kinds)[:KINDS_TOLD]) + (", ..." if len(kinds) > KINDS_TOLD else "")
    return f"nothing but tables that anybody computes ({listed})"


def describe(fingerprint: Fingerprint, source: str) -> Subject:
    """One side as an answer tells of it."""
    about = fingerprint.about
    return Subject(
        source=source,
        level=about.level,
        parameters=about.parameters,
        coverage=about.coverage,
        components=about.components,
        guessed=about.guessed,
        unplaced=about.unplaced,
        bytes_total=about.bytes_total,
        bytes_read=about.bytes_read,
        layers=about.layers,
    )


def unread_of(fingerprint: Fingerprint) -> tuple[Unread, ...]:
    """What of a model was not decoded or not understood: what, bytes and share of all bytes; the largest first."""
    about = fingerprint.about
    named = " ".join(entry["what"] for entry in about.unread)
    told = (Unread(one["what"], one["bytes"], one["bytes"] / about.bytes_total if about.bytes_total else None) for one in about.unread)
    return (*told, *(Unread(name, None, None) for name in about.unplaced if name not in named))


def warnings_about(fingerprint: Fingerprint, source: str) -> tuple[str, ...]:
    """What a reader must know of one side before believing an answer."""
    about = fingerprint.about
    found = []
    if about.level == "probe":
        share = about.bytes_read / about.bytes_total if about.bytes_total else 0.0
        unseen = "rows outside the sample, and copies in other coordinates, are seen at level full only"
        known = ", and anybody can know which rows the public key samples" if about.key == PUBLIC else ""
        found.append(f"{source}: {share:.1%} of the bytes were read (level probe); {unseen}{known}.")
    if about.shards is not None:
        read, every = about.shards
        found.append(f"{source}: {read} of the {every} shards of a model; nothing here speaks of the rest.")
    for entry in about.unread[:UNREAD_WARNED]:
        found.append(f"{source}: not read: {entry['what']} ({entry['bytes']:,} bytes).")
    if tables := tables_alone(fingerprint):
        return (*found, f"{source}: holds {tables}: there are no weights in it to compare.")
    if about.coverage < COVERAGE_WARNED:
        names = ", ".join(about.unplaced[:3]) + (", ..." if len(about.unplaced) > 3 else "")
        rest = f": {names}" if names else ""
        found.append(f"{source}: only {about.coverage:.0%} of the bytes are understood, and nothing here speaks of the rest{rest}.")
    if about.guessed >= GUESSED_WARNED:
        found.append(f"{source}: {GUESSED.format(share=about.guessed)}")
    if is_change(fingerprint):
        found.append(f"{source}: an adapter without its base; its vectors are those of the changes. To see the sum, give --adapter-base.")
    if about.quantization:
        rest = "what is packed is left out" if about.quantization.endswith(UNDECODED) else "its values are rounded"
        found.append(f"{source}: stored quantised ({about.quantization}): {rest}, so sizes of differences are rough.")
    return tuple(found)
