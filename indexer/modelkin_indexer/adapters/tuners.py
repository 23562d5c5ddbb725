"""The kinds of adapter of peft (0.21), by `peft_type`: what their parameters are called and what they do to a module.

A kind without a function is known by name alone: it changes no weights (prompts), or not in a way that this version follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from modelkin_indexer.adapters.formulas import frozen, low_rank, products, scattered, turned
from modelkin_indexer.adapters.formulas.change import Change
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import Module

Changes = Callable[[Kit, Module], Iterator[Change]]


class Tuner(Struct, frozen=True):
    """`prefix`: what the names of its parameters begin with. `words`: what it is called. `frozen`: parameters drawn from a seed."""

    prefix: str
    words: str
    changes: Changes | None = None
    frozen: tuple[str, ...] = ()


PROMPT = "prompts, which change no weights"
TUNERS: Mapping[str, Tuner] = {
    "LORA": Tuner("lora_", "LoRA", low_rank.changes),
    "ADALORA": Tuner("lora_", "AdaLoRA", low_rank.changes),
    "LOHA": Tuner("hada_", "LoHa", products.loha),
    "LOKR": Tuner("lokr_", "LoKr", products.lokr),
    "VBLORA": Tuner("vblora_", "VB-LoRA", products.vblora, ("vblora_vector_bank",)),
    "C3A": Tuner("c3a_", "C3A", products.c3a),
    "GRALORA": Tuner("gralora_", "GraLoRA", products.gralora),
    "DELORA": Tuner("delora_", "DeLoRA", products.delora),
    "VERA": Tuner("vera_", "VeRA", frozen.vera, ("vera_A", "vera_B")),
    "PVERA": Tuner("pvera_", "PVeRA", frozen.vera, ("pvera_A", "pvera_B")),
    "RANDLORA": Tuner("randlora_", "RandLoRA", frozen.randlora, ("randlora_A", "randlora_B")),
    "OFT": Tuner("oft_", "OFT", turned.oft),
    "BOFT": Tuner("boft_", "BOFT", turned.boft),
    "HRA": Tuner("hra_", "HRA", turned.hra),
    "ROAD": Tuner("road_", "RoAd", turned.road),
    "IA3": Tuner("ia3_", "IA3", turned.ia3),
    "HIRA": Tuner("hira_", "HiRA", turned.hira),
    "SHIRA": Tuner("shira_", "SHiRA", scattered.shira),
    "FOURIERFT": Tuner("fourierft_", "FourierFT", scattered.spectrum),
    "WAVEFT": Tuner("waveft_", "WaveFT", scattered.spectrum),
    "MISS": Tuner("miss_", "MiSS", scattered.miss),
    "TRAINABLE_TOKENS": Tuner("trainable_tokens_", "trainable tokens", scattered.tokens),
    **{
        kind: Tuner(f"{kind.lower()}_", kind.lower())
        for kind in ("ADAMSS", "BEFT", "DEFT", "FROD", "GLORA", "LILY", "LN_TUNING", "OSF", "PEANUT", "POLY", "PSOFT", "SHADOW")
    },
    **{kind: Tuner(f"{kind.lower()}_", kind.lower()) for kind in ("SUPERTUNING", "TINYLORA", "UNILORA", "XLORA")},
    **{
        kind: Tuner("prompt_", PROMPT)
        for kind in ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT")
    },
}
