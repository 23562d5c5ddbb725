"""The sentences of findings: what weights are consistent with, beside what was said. They accuse nobody."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_registry.screening.declared import ANY
from modelkin_registry.screening.results import Discovery

NAMED = 3  # further models or submissions that a sentence names
RULE_SENTENCES = {
    "from-scratch": "{subject} is said to be trained from scratch; that is not borne out: its weights are consistent with kinship to "
    "{relative} ({relation}).",
    "undeclared": "{subject} is consistent with kinship to {relative} ({relation}), which is not declared.",
    "undeclared-copy": "{subject} is a copy of {relative} ({relation}), which is not declared, though a relative of it is.",
    "not-allowed": "{subject} is consistent with kinship to {relative} ({relation}), which the policy does not allow.",
    "base-unknown": "{subject} is consistent with kinship to {relative} ({relation}). What is declared ({declared}) is not registered, "
    "so whether that explains it cannot be told here.",
    "uncorrected": "{subject} shows some evidence of kinship to {relative} ({relation}), which does not stand the correction over "
    "the batch (q = {q_value:.2g}).",
    "licence-not-allowed": "{subject} is consistent with kinship to {relative} ({relation}), whose licence {licence} the policy does "
    "not allow.",
    "licence-dropped": "{subject} is consistent with kinship to {relative} ({relation}), whose licence {licence} has to be kept; "
    "its own is {own}.",
    "copy-of-submission": "{subject} and the submission {relative} hold the same weights ({relation}). Weights do not tell whose "
    "came first.",
    "kin-of-submission": "{subject} and the submission {relative} have weights in common ({relation}), which nothing registered or "
    "declared explains. Weights do not tell whose came first.",
    "nearer-than-base": "{subject} and the submission {relative} are much nearer to one another than either is to {base}, which "
    "both are kin to. Training on the same texts can leave that too.",
}
NOT_BORNE_OUT = "{base} is declared as its base; the weights show nothing of it."
COMMON_START = (
    "It agrees with {relative} as far as a common start explains, which a public seed or a formula gives to anybody; "
    "that anything learned is shared is not shown."
)
NOT_EXAMINED = "{share:.0%} of its informative weights were held against any of {models} registered models: too little to say anything."
PART_NOT_EXAMINED = (
    "Its {component} component ({share:.0%} of the informative weights) has no counterpart in any of {models} registered models."
)
UNREAD = "{share:.1%} of its bytes were not read or not understood, and nothing here speaks of them."
SAME_LENGTHS = "Its matrices have the lengths of {relative}'s, place by place, though nothing else agrees."
AUDIT = "{code}: {sentence}"
ADAPTER_ALONE = "It is an adapter without its base: its weights are changes, which show nothing of the model that they change."
FINGERPRINT_ONLY = "Only a written fingerprint was given, which is its sender's word: nobody saw the weights."
DIRECTION = (
    "Weights are consistent with kinship; who did what, in which direction, and whether that was allowed, they do not tell. A finding is a "
    "rule of the policy that a measured relation meets."
)
PUBLIC = "All was measured under the public key, which anybody can prepare a model for: `clear` is worth more under a private key."


def subject_of(submission: str, component: str | None) -> str:
    """`team-7`, or `the vision component of team-7`."""
    return submission if component in (None, ANY) else f"the {component} component of {submission}"


def begun(sentence: str) -> str:
    """With a capital where it begins with `the`; a name stays as it is."""
    return "T" + sentence[1:] if sentence.startswith("the ") else sentence


def and_others(others: Sequence[str]) -> str:
    """A sentence about further models, or ""."""
    if not others:
        return ""
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f" So it is with {', '.join(others[:NAMED])}{more}."


def ring_sentence(members: Sequence[str], *, copies: bool) -> str:
    """What a ring is."""
    listed = ", ".join(members)
    if copies:
        return f"{len(members)} submissions hold the same weights as another one of them: {listed}."
    return f"{len(members)} submissions have weights in common that nothing registered or declared explains: {listed}."


def discovery_sentence(found: Discovery) -> str:
    """How the batch was corrected."""
    stood = "1 finding of kinship stands" if found.found == 1 else f"{found.found:,} findings of kinship stand"
    fell = f"; {found.fell:,} more {'does' if found.fell == 1 else 'do'} not" if found.fell else ""
    pairs = "1 pair" if found.tests == 1 else f"{found.tests:,} pairs"
    return f"{stood} a false-discovery rate of {found.rate:g} over {pairs} ({found.procedure}){fell}."
