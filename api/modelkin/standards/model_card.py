"""The head of a model card for the Hub, as a suggestion to paste: https://huggingface.co/docs/hub/model-cards#specifying-a-base-model."""

from __future__ import annotations

import yaml

from modelkin.standards.facts import CAUTION, Facts, one_line

# What the Hub has a word for; the rest has none that says no more than was measured.
WORDS = {
    "fine-tuned": "finetune",
    "continued": "finetune",
    "low-rank delta": "finetune",
    "vocabulary changed": "finetune",
    "quantized": "quantized",
    "merged": "merge",
}
COMMENT = "# "


def model_card(facts: Facts) -> str:
    """YAML with comments on what it rests on. It suggests nothing where no descent is shown, or where the other is the descendant."""
    told = [facts.sentence, f"Suggested by modelkin {facts.made['modelkin']}; evidence sha256:{facts.digest}.", CAUTION]
    lines = [COMMENT + one_line(line) for line in told]
    if not facts.is_descent or facts.direction == "b from a":
        return "\n".join([*lines, f"{COMMENT}No base model is suggested.", "---", "---", ""])
    if not facts.direction:
        lines.append(f"{COMMENT}Which of the two came first these weights do not tell: paste this only if {one_line(facts.b.name)} did.")
    head: dict[str, object] = {"base_model": [facts.b.hub_id or facts.b.name]}
    if facts.relation in WORDS:
        head["base_model_relation"] = WORDS[facts.relation]
    text = yaml.safe_dump(head, sort_keys=True, allow_unicode=True, default_flow_style=False)
    return "\n".join([*lines, "---", text + "---", ""])
