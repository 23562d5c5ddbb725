"""Small models of every architecture of the installed `transformers`, without values: names, shapes, modules and configs.

    python -m benchmarks.formats.transformers_models llama:LlamaForCausalLM whisper:WhisperModel

Prints one JSON object a class. Widths stay as the config has them (nothing is allocated); only stacks of layers are made shorter.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

LAYER_COUNTS = (
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"),
    *("num_encoder_layers", "depth", "encoder_num_layers", "decoder_num_layers", "num_hidden_groups", "encoder_depth", "decoder_depth"),
    *("encoder_num_hidden_layers", "decoder_num_hidden_layers", "num_encoder_blocks_layers", "text_num_hidden_layers"),
)
FORCED = ("is_decoder",)
COMPLETED = {  # for what configs leave open: `None` where a size is needed
    **{"prediction_length": 24, "vocab_size": 33, "num_key_value_heads": 8, "out_indices": [1, 2, 3, 4], "pad_token_id": 0},
    **{"shared_expert_intermediate_size": 64, "dropout_rate": 0.0, "dropout": 0.0},
}
LAYERS = 5  # layers kept of a stack: mixtures often begin with up to three dense layers
MAX_LAYERS = 9  # more are kept only where a kind of layer comes first there
GROUPS = (  # of each group, the first mapping that has a model type gives one class more
    ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT"),
    ("SPEECH_SEQ_2_SEQ", "CTC", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM", "MULTIMODAL_LM"),
    ("PRETRAINING",),
    ("SEQUENCE_CLASSIFICATION", "IMAGE_CLASSIFICATION", "AUDIO_CLASSIFICATION", "VIDEO_CLASSIFICATION"),
    ("QUESTION_ANSWERING", "TOKEN_CLASSIFICATION", "AUDIO_FRAME_CLASSIFICATION"),
    ("OBJECT_DETECTION", "ZERO_SHOT_OBJECT_DETECTION", "UNIVERSAL_SEGMENTATION", "SEMANTIC_SEGMENTATION"),
    ("DEPTH_ESTIMATION", "MASK_GENERATION", "KEYPOINT_MATCHING", "POSE_ESTIMATION", "IMAGE_TO_IMAGE"),
    ("TIME_SERIES_PREDICTION", "RNNT", "TDT", "TEXT_RECOGNITION", "IMAGE_MATTING"),
)


def class_names() -> list[tuple[str, str]]:
    """(model type, class name) of the base class of every model type, and of one class for each group of tasks it has."""
    from transformers.models.auto import modeling_auto

    found: dict[tuple[str, str], None] = {}
    tables = (("MODEL",), *(tuple(f"MODEL_FOR_{task}" for task in group) for group in GROUPS))
    for group in tables:
        taken: set[str] = set()
        for table in group:
            mapping = getattr(modeling_auto, f"{table}_MAPPING_NAMES", {})
            for model_type, names in mapping.items():
                if model_type not in taken:
                    found |= {(model_type, name): None for name in (names if isinstance(names, list | tuple) else [names])}
            taken |= set(mapping)
    return sorted(found)


def describe(model_type: str, class_name: str) -> dict[str, Any]:
    """One model as JSON: its tensors with their modules, its stacks and its config; or the reason why it cannot be made."""
    try:
        model, config = _made(model_type, class_name)
        found = {"config": _plain(config.to_dict()), "tensors": list(_tensors(model)), "failed": None}
        return {"type": model_type, "class": class_name, **found}
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        return {"type": model_type, "class": class_name, "failed": reason}


def _made(model_type: str, class_name: str) -> tuple[Any, Any]:
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    made = getattr(transformers, class_name)
    troubles: list[Exception] = []
    for config in _configs(CONFIG_MAPPING[model_type], made.config_class):
        shorten(config)
        try:
            with torch.device("meta"):
                return made(config), config
        except Exception as error:
            troubles.append(error)
    raise troubles[0]  # of the default configuration: the rest were attempts to mend it


def _configs(named: Any, own: Any) -> Iterator[Any]:
    """The default configuration, then what may be wrong with it: it is a whole model's, or leaves sizes open that have to be stated."""
    yield named()
    if own is not None and own is not named:
        yield own()
    for kind in dict.fromkeys((named, own)):
        for choices in (COMPLETED, {**COMPLETED, "layer_types": None}, {"is_decoder": True}, {"add_adapter": False}):
            config = kind()
            complete(config, choices)
            yield config


def complete(config: Any, choices: dict[str, Any]) -> None:
    """State sizes that a config leaves open, in place and in the configs inside it."""
    heads, hidden = (getattr(config, name, None) for name in ("num_attention_heads", "hidden_size"))
    for name, value in {**choices, "head_dim": hidden // heads if heads and hidden else None}.items():
        if (value is not None and name in FORCED) or (value is not None and getattr(config, name, 0) is None):
            setattr(config, name, value)
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict"):
            complete(value, choices)


def shorten(config: Any) -> None:
    """Cut the stacks of a config and of the configs inside it, in place."""
    values = vars(config)
    for key in LAYER_COUNTS:
        count = values.get(key)
        if isinstance(count, int) and count > LAYERS:
            kinds = [value for value in values.values() if isinstance(value, list | tuple) and len(value) == count]
            kept = max([LAYERS, *(_all_kinds(value) for value in kinds)])
            for name, value in list(values.items()):
                if isinstance(value, list | tuple) and len(value) == count:
                    setattr(config, name, type(value)(value[:kept]))
            setattr(config, key, kept)
    for value in list(values.values()):
        if hasattr(value, "to_dict"):
            shorten(value)


def _all_kinds(values: Any) -> int:
    """How many of the first layers have every kind of layer."""
    first = {str(value): index + 1 for index, value in reversed(list(enumerate(values)))}
    return min(MAX_LAYERS, max(first.values()))


def _tensors(model: Any) -> Iterator[dict[str, Any]]:
    """Every stored tensor once (tied ones under their first name), with the classes of the modules it sits in, outermost first."""
    modules = dict(model.named_modules())
    parameters = {id(parameter) for parameter in model.parameters()}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or not hasattr(tensor, "shape"):
            continue
        seen.add(id(tensor))
        parts = name.split(".")
        owners = [".".join(parts[:count]) for count in range(len(parts))]
        yield {
            "name": name,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "parameter": id(tensor) in parameters,
            "classes": [type(modules[owner]).__name__ if owner in modules else "?" for owner in owners],
            "configs": [type(getattr(modules.get(owner), "config", None)).__name__ for owner in owners],
        }


def _plain(value: Any) -> Any:
    """What of a config is plain JSON."""
    return json.loads(json.dumps(value, default=str))


def main() -> None:
    """Describe the classes named on the command line."""
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        print(json.dumps(describe(*name.split(":"))), flush=True)


if __name__ == "__main__":
    main()
