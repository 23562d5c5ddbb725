"""Names of an adapter's tensors taken apart: which module of the base they belong to, and which parameter of the tuner they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

PREFIX = "base_model.model."  # what peft puts before the base's names
SHARED = "base_model."  # and before what all modules share
BASE_LAYER, SAVED = ".base_layer", ".modules_to_save"
# What names of a tuner's parameters begin with (tuners.py), and what other libraries' have somewhere (foreign.py).
OWN = (
    "adamss_", "beft_", "boft_", "c3a_", "deft_", "delora_", "fourierft_", "frod_", "glora_", "gralora_", "hada_",
    "hira_", "hra_", "ia3_", "lily_", "ln_tuning_", "lokr_", "lora_", "miss_", "oft_", "osf_", "peanut_", "poly_", "prompt_", "psoft_",
    "pvera_", "randlora_", "road_", "shadow_", "shira_", "supertuning_", "tinylora_", "trainable_tokens_", "unilora_", "vblora_", "vera_",
    "waveft_", "xlora_",
)  # fmt: skip
FOREIGN = ("lora", "lycoris_", "hada", "lokr", "dora_scale", "alpha", "diff", "w_norm", "b_norm")
TOKENS = "token_adapter"  # rows of a token table that are trained beside any tuner


class Module(Struct):
    """A module of the base that an adapter changes. `parameters`: of the tuner, by name -> the adapter's tensor."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, parameter: str) -> str:
        return self.parameters[parameter]

    def get(self, parameter: str) -> str:
        """The tensor, "" if there is none."""
        return self.parameters.get(parameter, "")


class Sorted(Struct, frozen=True):
    """An adapter's tensors: those of modules, those that all modules share, and the rest with the names that the base has for them."""

    modules: Mapping[str, Module]
    shared: Mapping[str, str]
    whole: Mapping[str, str]  # the adapter's name -> the base's
    repeated: tuple[str, str] | None = None  # two tensors that are the same parameter of a module


def sorted_names(names: Iterable[str], own: str, prefix: str = "") -> Sorted:
    """The tensors of an adapter of peft. `own` is what its tuner's parameters begin with; `prefix` stands before all names."""
    pattern = re.compile(rf"(?:^|\.)(?P<parameter>(?:{re.escape(own)}\w+|{TOKENS}))(?P<rest>(?:\.[\w-]+)*)$")
    modules: dict[str, Module] = {}
    shared, whole = {}, {}
    repeated = None
    for name in names:
        if not name.startswith(prefix):
            continue
        plain = name.removeprefix(prefix)
        found = pattern.search(plain)
        if found is None:
            whole[name] = _of_base(plain)
            continue
        parameter = _parameter(found["parameter"], found["rest"])
        module = plain[: found.start()]
        if module in ("", SHARED[:-1]):
            shared[parameter] = name
            continue
        mine = modules.setdefault(module, Module(module.removeprefix(PREFIX)))
        repeated = repeated or ((name, mine[parameter]) if mine.get(parameter) else None)
        mine.parameters[parameter] = name
    return Sorted(modules, shared, whole, repeated)


def _parameter(name: str, rest: str) -> str:
    """`lora_A.default.weight` is lora_A, `lora_B.bias` is lora_B.bias; names of adapters and `weight` say nothing."""
    words = [word for word in rest.split(".") if word]
    if words and words[-1] == "weight":
        words.pop()
    if words and words[0] not in KEPT:
        words.pop(0)  # the adapter's name
    return ".".join([name, *words])


# What may follow a parameter's name without being an adapter's name.
KEPT = (
    "bias",
    "trainable_tokens_delta",
    "Xd",
    "Xu",
    "zeros",
    "vector",
    "constant",
    "S_low",
    "U_low",
    "V_low",
    "module_logits",
    "0",
    "1",
    "2",
)


def _of_base(name: str) -> str:
    """What the base calls a tensor that the adapter holds whole."""
    plain = re.sub(rf"{re.escape(SAVED)}\.[\w-]+(?=\.)", "", name.removeprefix(PREFIX))
    return plain.replace(BASE_LAYER, "")
