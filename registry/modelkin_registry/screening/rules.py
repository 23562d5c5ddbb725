"""The rules that a policy may turn on and off, one row each: the one place where a rule is described."""

from __future__ import annotations

from typing import NamedTuple

FLAG, INCONCLUSIVE, NOTE, OFF = "flag", "inconclusive", "note", "off"
ACTIONS = (FLAG, INCONCLUSIVE, NOTE, OFF)


class Rule(NamedTuple):
    """One rule: its name in policies and findings, what it does unless a policy says otherwise, and what it is met by."""

    name: str
    action: str
    words: str


TABLE = (
    Rule("from-scratch", FLAG, "A component that is said to be trained from scratch is consistent with kinship to another model."),
    Rule("undeclared", FLAG, "A component is consistent with kinship to a model that the submission does not declare."),
    Rule("undeclared-copy", FLAG, "The submission is a copy of a model that it does not declare, but whose relative it declares."),
    Rule("not-allowed", FLAG, "A component is consistent with kinship to a model that the policy does not allow."),
    Rule("base-unknown", INCONCLUSIVE, "A component is kin to a model that is not declared, and a declared base is not registered."),
    Rule("base-not-borne-out", INCONCLUSIVE, "The weights show nothing of a registered model that the submission declares as its base."),
    Rule("copy-of-submission", FLAG, "The submission is a copy of another one of the batch, or the other of it."),
    Rule("kin-of-submission", FLAG, "The submission has weights in common with another one that nothing registered or declared explains."),
    Rule("nearer-than-base", INCONCLUSIVE, "Two submissions are much nearer to one another than either is to the base that both declare."),
    Rule("licence-not-allowed", FLAG, "A model that the submission is kin to has a licence that the policy does not allow."),
    Rule(
        "licence-dropped", FLAG, "A model that the submission is kin to has a licence that has to be kept, and the submission has another."
    ),
    Rule(
        "common-start", NOTE, "The submission and a registered model were started from the same random numbers; nothing learned is shared."
    ),
    Rule("uncorrected", INCONCLUSIVE, "Evidence of kinship that does not stand the correction over the whole batch."),
    Rule("not-examined", INCONCLUSIVE, "Too little of the submission was held against any registered model to say that nothing was found."),
    Rule("part-not-examined", INCONCLUSIVE, "A component of some size has no counterpart in any registered model."),
    Rule("unread", INCONCLUSIVE, "More of its bytes than the policy allows were not read or not understood."),
    Rule(
        "same-lengths", INCONCLUSIVE, "Its matrices have the lengths of a registered model's, place by place, though nothing else agrees."
    ),
    Rule("audit", INCONCLUSIVE, "Something in the file is unusual in a way that can keep kinship from being found."),
    Rule(
        "adapter-alone",
        INCONCLUSIVE,
        "The submission is an adapter without its base, and shows nothing of what it changes.",
    ),
    Rule("fingerprint-only", INCONCLUSIVE, "Only a written fingerprint was given: nobody saw the weights."),
)
RULES = {rule.name: rule for rule in TABLE}
