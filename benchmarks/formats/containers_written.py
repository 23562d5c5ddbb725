"""Small models that libraries write in their own containers, with the weights taken out of the library's arrays."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

Arrays = dict[str, Any]
DEVICES = 4
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={DEVICES}")  # jax takes the one processor for several
WIDTH, NEURONS, TOKENS, LAYERS = 96, 320, 601, 4


class Written(Struct, frozen=True):
    """A file or folder, and what it holds as PyTorch would lay it out."""

    path: Path
    truth: Arrays


class Case(Struct, frozen=True):
    """How a form is written in a folder, by seed; which modules that needs, and to how many bits the weights were rounded."""

    write: Callable[[Path, int], Written]
    modules: tuple[str, ...]
    bits: int = 32


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Random weights whose outputs, along the last axis, differ in size; gains and offsets around 1 and 0."""
    if len(shape) < 2:
        return (1 + 0.2 * rng.standard_normal(shape)).astype(np.float32)
    return (0.05 * rng.standard_normal(shape) * np.exp(0.3 * rng.standard_normal(shape[-1]))).astype(np.float32)


def llama_names(rng: np.random.Generator) -> Arrays:
    """The weights of a small llama, under its published names."""
    found = {"model.embed_tokens.weight": uneven(rng, (TOKENS, WIDTH)), "model.norm.weight": uneven(rng, (WIDTH,))}
    for layer in range(LAYERS):
        front = f"model.layers.{layer}."
        for role in ("q", "k", "v", "o"):
            found[f"{front}self_attn.{role}_proj.weight"] = uneven(rng, (WIDTH, WIDTH))
        found[f"{front}mlp.gate_proj.weight"] = uneven(rng, (NEURONS, WIDTH))
        found[f"{front}mlp.up_proj.weight"] = uneven(rng, (NEURONS, WIDTH))
        found[f"{front}mlp.down_proj.weight"] = uneven(rng, (WIDTH, NEURONS))
        found[f"{front}input_layernorm.weight"] = uneven(rng, (WIDTH,))
        found[f"{front}post_attention_layernorm.weight"] = uneven(rng, (WIDTH,))
    found["lm_head.weight"] = uneven(rng, (TOKENS, WIDTH))
    return found


def _keras_model(seed: int) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    layers, rng = keras.layers, np.random.default_rng(seed)
    tokens, image = keras.Input((24,), dtype="int32"), keras.Input((24, 24, 3))
    x = layers.Embedding(TOKENS, WIDTH, name="tokens")(tokens)
    for n in range(LAYERS):
        x = layers.LayerNormalization(name=f"norm_{n}")(x + layers.MultiHeadAttention(4, WIDTH // 4, name=f"attention_{n}")(x, x))
        hidden = layers.Dense(NEURONS, activation="gelu", name=f"up_{n}")(x)
        x = layers.LayerNormalization(name=f"norm_after_{n}")(x + layers.Dense(WIDTH, name=f"down_{n}")(hidden))
    y = layers.BatchNormalization()(layers.Conv2D(32, 3)(image))
    y = layers.DepthwiseConv2D(3)(layers.SeparableConv2D(24, 3)(y))
    y = layers.GlobalAveragePooling2D()(layers.Conv2DTranspose(16, 3)(y))
    both = layers.Concatenate()([layers.LSTM(WIDTH)(x), layers.GRU(WIDTH)(x), y])
    model = keras.Model([tokens, image], layers.Dense(11)(both))
    model.set_weights([uneven(rng, weight.shape) for weight in model.get_weights()])
    return model


def _keras_truth(model: Any) -> Arrays:
    """The weights as PyTorch lays them out: by the classes of the layers, which the reader does not see."""
    found: Arrays = {}
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            array, name = np.asarray(variable), f"{layer.name}.{variable.path}".replace("/", ".")
            kind = type(layer).__name__
            if array.dtype.kind != "f":
                continue
            if kind == "EinsumDense":
                if variable.name == "kernel":
                    reads = layer.name in ("query", "key", "value")
                    array = array.reshape(array.shape[0], -1).T if reads else array.reshape(-1, array.shape[-1]).T
                else:
                    array = array.reshape(-1)
            elif kind == "GRUCell":  # z, r, h as r, z, n
                parts = np.split(array, 3, axis=-1)
                array = np.concatenate([parts[1], parts[0], parts[2]], axis=-1)
                array = array if variable.name == "bias" else array.T
            elif kind in ("Dense", "LSTMCell") and array.ndim == 2:
                array = array.T
            elif "depthwise" in variable.name or (kind == "DepthwiseConv2D" and array.ndim == 4):
                array = array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
            elif array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            found[name] = array
    return found


def keras_case(suffix: str, mode: str = "") -> Case:
    def write(folder: Path, seed: int) -> Written:
        model = _keras_model(seed)
        truth = _keras_truth(model)
        if mode:
            model.quantize(mode)
        path = folder / f"model{suffix}"
        (model.save_weights if suffix == ".weights.h5" else model.save)(path)
        return Written(path, truth)

    return Case(write, ("keras", "jax"), {"int8": 8, "int4": 4}.get(mode, 32))


def _torch_model(seed: int) -> Any:
    """A small transformer of plain modules."""
    import torch

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input_layernorm = torch.nn.LayerNorm(WIDTH)
            self.q_proj, self.k_proj = (torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
            self.up_proj, self.down_proj = torch.nn.Linear(WIDTH, NEURONS), torch.nn.Linear(NEURONS, WIDTH)

        def forward(self, x: Any) -> Any:
            y = self.input_layernorm(x)
            return x + self.down_proj(torch.nn.functional.gelu(self.up_proj(self.k_proj(y) + self.q_proj(y))))

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = torch.nn.Embedding(TOKENS, WIDTH)
            self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))
            self.lm_head = torch.nn.Linear(WIDTH, TOKENS, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.embed_tokens(tokens)
            for layer in self.layers:
                x = layer(x)
            return self.lm_head(x)

    model, rng = Model().eval(), np.random.default_rng(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.from_numpy(uneven(rng, tuple(weight.shape[::-1])).T.copy()))
    return model


def openvino_case(mode: str = "", bits: int = 32, **options: Any) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import openvino
        import torch

        model = _torch_model(seed)
        graph = openvino.convert_model(model, example_input=torch.zeros(1, 16, dtype=torch.long))
        if mode:
            import nncf

            graph = nncf.compress_weights(graph, mode=getattr(nncf.CompressWeightsMode, mode), **options)
        openvino.save_model(graph, folder / "openvino_model.xml")
        return Written(folder / "openvino_model.xml", {name: value.numpy() for name, value in model.state_dict().items()})

    return Case(write, ("openvino", "torch", *(["nncf"] if mode else [])), bits)


def _flax_tree(seed: int, scanned: bool = False) -> Any:
    """The variables of a small model of Flax's modules."""
    import flax.linen as nn
    import jax

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.LayerNorm(name="norm")(x + nn.MultiHeadDotProductAttention(4, qkv_features=WIDTH, name="attention")(x, x))
            x = x + nn.Dense(WIDTH, name="down")(nn.gelu(nn.Dense(NEURONS, name="up")(x)))
            return (x, None) if scanned else x

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any, image: Any) -> Any:
            x = nn.Embed(TOKENS, WIDTH, name="embed_tokens")(tokens)
            if scanned:
                x, _ = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=LAYERS)(name="layers")(x)
            for n in range(0 if scanned else LAYERS):
                x = Layer(name=f"layers_{n}")(x)
            y = nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3))(image))
            return nn.Dense(10)(x.mean(1)), nn.Conv(16, (3, 3), feature_group_count=16)(y)

    tokens, image = np.zeros((1, 8), int), np.zeros((1, 8, 8, 3), np.float32)
    tree, rng = Model().init(jax.random.PRNGKey(seed), tokens, image), np.random.default_rng(seed)
    return jax.tree.map(lambda array: uneven(rng, array.shape), tree)


def _flax_truth(tree: Any) -> Arrays:
    found: Arrays = {}
    for key, array in _leaves(tree):
        if "layers" in key:
            found |= {"/".join((*key, str(n))): _of_flax(key, one) for n, one in enumerate(array)}
        else:
            found["/".join(key)] = _of_flax(key, array)
    return found


def flax_case(chunk: int = 0, scanned: bool = False) -> Case:
    def write(folder: Path, seed: int) -> Written:
        from flax import serialization

        tree = _flax_tree(seed, scanned)
        before, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, chunk or serialization.MAX_CHUNK_SIZE
        (folder / "flax_model.msgpack").write_bytes(serialization.to_bytes(tree))
        serialization.MAX_CHUNK_SIZE = before
        return Written(folder / "flax_model.msgpack", _flax_truth(tree))

    return Case(write, ("flax", "jax"))


def orbax_case(scanned: bool = False, devices: bool = False, steps: bool = False, **options: Any) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import jax
        import orbax.checkpoint as ocp

        tree = _flax_tree(seed, scanned)
        truth = _flax_truth(tree)
        if devices:
            mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
            cut = {axis: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[None] * axis, "x")) for axis in range(4)}
            plain = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            axis_of = lambda array: next((axis for axis in range(array.ndim) if array.shape[axis] % DEVICES == 0), None)  # noqa: E731
            tree = jax.tree.map(lambda array: jax.device_put(array, cut.get(axis_of(array), plain)), tree)
        path = folder / "checkpoint"
        if steps:
            with ocp.CheckpointManager(path) as manager:
                manager.save(7, args=ocp.args.Composite(state=ocp.args.StandardSave(tree), about=ocp.args.JsonSave({"seed": seed})))
                manager.wait_until_finished()
        else:
            ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)).save(path, tree)
        return Written(path, truth)

    return Case(write, ("flax", "jax", "orbax.checkpoint", "zstandard"))


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Any:
    for key, part in tree.items():
        yield from _leaves(part, (*path, key)) if isinstance(part, dict) else [((*path, key), np.asarray(part))]


def _of_flax(key: tuple[str, ...], array: Any) -> Any:
    """An array as PyTorch lays it out."""
    if key[-1] == "bias":
        return array.reshape(-1)
    if key[-1] != "kernel":
        return array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return (array.reshape(array.shape[0], -1) if key[-2] in ("query", "key", "value") else array.reshape(-1, array.shape[-1])).T


def tensorflow_case(kind: str) -> Case:
    def write(folder: Path, seed: int) -> Written:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        truth = llama_names(np.random.default_rng(seed))
        stored = {name: array.T if array.ndim == 2 and "embed" not in name else array for name, array in truth.items()}
        words = {name: _tensorflow_name(name) for name in stored}
        if kind == "Saver":
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                for name, array in stored.items():
                    tf.compat.v1.get_variable(words[name], initializer=array)
                tf.compat.v1.get_variable("global_step", initializer=np.int64(3))
                session.run(tf.compat.v1.global_variables_initializer())
                tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"))
            return Written(folder, truth)
        module = tf.Module()
        module.weights = [tf.Variable(array, name=words[name]) for name, array in stored.items()]
        if kind == "SavedModel":
            tf.saved_model.save(module, str(folder / "model"))
        else:
            (folder / "model").mkdir()
            tf.train.Checkpoint(model=module, step=tf.Variable(3)).save(str(folder / "model" / "ckpt"))
        return Written(folder / "model", truth)

    return Case(write, ("tensorflow",))


def _tensorflow_name(name: str) -> str:
    leaf = "gamma" if "norm" in name else "embeddings" if "embed" in name else "kernel"
    return name.replace("layers.", "layers_").removesuffix(".weight").replace(".", "/") + f"/{leaf}"


def litert_case(kind: str, recipe: str = "", bits: int = 32) -> Case:
    """Dense layers and a table as TFLite's converter writes them, rounded by the AI Edge Quantizer, alone or in a bundle."""

    def write(folder: Path, seed: int) -> Written:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf

        rng = np.random.default_rng(seed)
        truth = {"tokens": uneven(rng, (TOKENS, WIDTH))}
        for n in range(LAYERS):
            truth |= {f"layers_{n}_up": uneven(rng, (WIDTH, NEURONS)).T, f"layers_{n}_down": uneven(rng, (NEURONS, WIDTH)).T}
        module = tf.Module()
        module.weights = {name: tf.Variable(array.T if name != "tokens" else array, name=name) for name, array in truth.items()}

        def forward(tokens: Any) -> Any:
            x = tf.gather(module.weights["tokens"], tokens)
            for n in range(LAYERS):
                x = x + tf.matmul(tf.nn.gelu(tf.matmul(x, module.weights[f"layers_{n}_up"])), module.weights[f"layers_{n}_down"])
            return x

        function = tf.function(forward).get_concrete_function(tf.TensorSpec((4,), tf.int32))
        data = bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert())
        if recipe:
            from ai_edge_quantizer import quantizer
            from ai_edge_quantizer import recipe as recipes

            (folder / "plain.tflite").write_bytes(data)
            made = quantizer.Quantizer(str(folder / "plain.tflite"), getattr(recipes, recipe)()).quantize()
            data = bytes(made.quantized_model)
        return Written(_bundled(folder, kind, data), truth)

    modules = ("tensorflow", *(["ai_edge_quantizer"] if recipe else []), *(["litert_lm_builder"] if kind == ".litertlm" else []))
    return Case(write, modules, bits)


def _bundled(folder: Path, kind: str, data: bytes) -> Path:
    path = folder / f"model{kind}"
    if kind == ".task":
        with zipfile.ZipFile(path, "w") as archive:  # as mediapipe's bundler does
            archive.writestr("TF_LITE_PREFILL_DECODE", data)
            archive.writestr("METADATA", b"about")
    elif kind == ".litertlm":
        from litert_lm_builder import litertlm_builder

        (folder / "inside.tflite").write_bytes(data)
        builder = litertlm_builder.LitertLmFileBuilder()
        builder.add_system_metadata(litertlm_builder.Metadata("Authors", "nobody", litertlm_builder.DType.STRING))
        builder.add_tflite_model(str(folder / "inside.tflite"), litertlm_builder.TfLiteModelType.PREFILL_DECODE)
        with path.open("wb") as stream:
            builder.build(stream)
    else:
        path.write_bytes(data)
    return path


def paddle_case(kind: str) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import paddle

        layers = [paddle.nn.TransformerEncoderLayer(WIDTH, 4, NEURONS) for _ in range(LAYERS)]
        net = paddle.nn.Sequential(paddle.nn.Embedding(TOKENS, WIDTH), *layers, paddle.nn.Linear(WIDTH, TOKENS))
        rng, truth = np.random.default_rng(seed), {}
        for name, weight in net.state_dict().items():
            weight.set_value(array := uneven(rng, tuple(weight.shape)))
            truth[name] = array.T if array.ndim == 2 and name != "0.weight" else array
        net.eval()
        if kind == ".pdparams":
            paddle.save(net.state_dict(), str(folder / "model_state.pdparams"))
            return Written(folder / "model_state.pdparams", truth)
        paddle.jit.save(net, str(folder / "inference"), input_spec=[paddle.static.InputSpec([None, 8], "int64")])
        return Written(folder / "inference.pdiparams", truth)

    return Case(write, ("paddle",))


def torch_case(kind: str) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import torch
        import torch.distributed.checkpoint as dcp

        state = _torch_model(seed).state_dict()
        truth = {name: value.numpy() for name, value in state.items()}
        if kind == ".distcp":
            dcp.save({"model": state, "optimizer": {"step": torch.zeros(3)}}, checkpoint_id=folder / "step-1")
            return Written(folder / "step-1", truth)
        torch.save(state, folder / "model_weights.ckpt")
        (folder / "model_config.yaml").write_text("name: model\n", encoding="utf-8")
        with tarfile.open(folder / "model.nemo", "w:") as archive:  # as nemo.core.connectors.save_restore_connector does
            for name in ("model_config.yaml", "model_weights.ckpt"):
                archive.add(folder / name, f"./{name}")
        return Written(folder / "model.nemo", truth)

    return Case(write, ("torch",))


def executorch_case(kind: str) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import torch
        from executorch.exir import ExecutorchBackendConfig, to_edge

        model = _torch_model(seed)
        exported = to_edge(torch.export.export(model, (torch.zeros(1, 16, dtype=torch.long),)))
        program = exported.to_executorch(ExecutorchBackendConfig(external_constants=kind == ".ptd"))
        truth = {name: value.numpy() for name, value in model.state_dict().items()}
        if kind == ".ptd":
            program.write_tensor_data_to_file(str(folder))
            (path,) = folder.glob("*.ptd")
            return Written(path, truth)
        (folder / "model.pte").write_bytes(program.buffer)
        return Written(folder / "model.pte", truth)

    return Case(write, ("executorch", "torch"))


def pieces_case(processes: int) -> Case:
    """Safetensors of torch.distributed, each process with its own part of each tensor, along changing axes."""

    def write(folder: Path, seed: int) -> Written:
        import torch

        state = {name: value.contiguous() for name, value in _torch_model(seed).state_dict().items()}
        path = folder / "model"
        torch.multiprocessing.spawn(_save_pieces, args=(processes, str(path), state), nprocs=processes)
        return Written(path, {name: value.numpy() for name, value in state.items()})

    return Case(write, ("torch",))


def _save_pieces(rank: int, processes: int, path: str, state: dict[str, Any]) -> None:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    meeting = f"file://{path}.meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))
    cut = {name: distribute_tensor(value, mesh, [Shard(at % value.ndim)]) for at, (name, value) in enumerate(state.items())}
    dcp.save(cut, storage_writer=dcp.HuggingFaceStorageWriter(path, save_distributed=True))
    dist.destroy_process_group()


def spacy_case() -> Case:
    def write(folder: Path, seed: int) -> Written:
        import spacy

        pipeline, rng, truth = spacy.blank("en"), np.random.default_rng(seed), {}
        pipeline.add_pipe("tok2vec")
        pipeline.add_pipe("ner").add_label("ORG")
        pipeline.add_pipe("tagger").add_label("NN")
        pipeline.initialize()
        for component, pipe in pipeline.pipeline:
            for number, node in enumerate(pipe.model.walk()):
                for key in node.param_names:
                    if node.has_param(key) and node.get_param(key).size:
                        node.set_param(key, array := uneven(rng, node.get_param(key).shape))
                        rows = array.reshape(-1, array.shape[-1]) if key == "W" else array
                        leaf = {"W": "weight", "E": "weight", "G": "weight", "b": "bias"}.get(key, key)
                        truth[f"{component}.{number}.{node.name[:40]}.{leaf}"] = rows
        pipeline.to_disk(folder / "pipeline")
        return Written(folder / "pipeline", truth)

    return Case(write, ("spacy",))


def coreml_case(bits: int = 32, palette: bool = False, **options: Any) -> Case:
    def write(folder: Path, seed: int) -> Written:
        import coremltools
        import coremltools.optimize.coreml as optimize
        import torch

        model, path = _torch_model(seed), folder / "Tiny.mlpackage"
        traced = torch.jit.trace(model, torch.zeros(1, 16, dtype=torch.long))
        inputs = [coremltools.TensorType("tokens", (1, 16), dtype=np.int32)]
        made = coremltools.convert(traced, inputs=inputs, minimum_deployment_target=coremltools.target.iOS18, skip_model_load=True)
        if palette:
            config = optimize.OptimizationConfig(global_config=optimize.OpPalettizerConfig(nbits=bits, mode="uniform", **options))
            made = optimize.palettize_weights(made, config)
        elif options:
            config = optimize.OptimizationConfig(global_config=optimize.OpLinearQuantizerConfig(**options))
            made = optimize.linear_quantize_weights(made, config)
        made.save(str(path))
        truth = {name: value.numpy() for name, value in model.state_dict().items()}
        if palette:  # the library's own decoding: uniform palettes are coarse
            found = optimize.get_weights_metadata(optimize.decompress_weights(made), weight_threshold=1000)
            decoded = [np.asarray(one.val, np.float32) for one in found.values()]
            for name, array in truth.items():
                if array.size >= 1000:
                    truth[name] = max((one for one in decoded if one.shape == array.shape), key=lambda one: (one * array).sum())
        return Written(path, truth)

    return Case(write, ("coremltools", "torch"), 16 if palette else bits)


GROUPS = {"group_size": 32, "all_layers": True, "ratio": 1.0}
CASES: dict[str, Case] = {
    "Keras .keras": keras_case(".keras"),
    "Keras .weights.h5": keras_case(".weights.h5"),
    "Keras .h5": keras_case(".h5"),
    "Keras .keras, int8": keras_case(".keras", "int8"),
    "Keras .weights.h5, int8": keras_case(".weights.h5", "int8"),
    "Keras .weights.h5, int4": keras_case(".weights.h5", "int4"),
    "OpenVINO, float16": openvino_case(),
    "OpenVINO, int8": openvino_case("INT8_ASYM", 8),
    "OpenVINO, int8 symmetric": openvino_case("INT8_SYM", 8),
    "OpenVINO, int4": openvino_case("INT4_ASYM", 4, **GROUPS),
    "OpenVINO, int4 symmetric": openvino_case("INT4_SYM", 4, **GROUPS),
    "OpenVINO, NF4": openvino_case("NF4", 4, **GROUPS),
    "OpenVINO, MXFP4": openvino_case("MXFP4", 4, **GROUPS),
    "OpenVINO, NVFP4": openvino_case("NVFP4", 4, **{**GROUPS, "group_size": 16}),
    "OpenVINO, FP8": openvino_case("FP8_E4M3", 8, all_layers=True, group_size=-1),
    "Flax": flax_case(),
    "Flax, in chunks": flax_case(20_000),
    "Flax, layers scanned": flax_case(scanned=True),
    "Orbax, OCDBT": orbax_case(use_ocdbt=True),
    "Orbax, OCDBT with Zarr 3": orbax_case(use_ocdbt=True, use_zarr3=True),
    "Orbax, a folder an array": orbax_case(use_ocdbt=False),
    "Orbax, over four devices": orbax_case(devices=True, use_ocdbt=True),
    "Orbax, over four devices, Zarr 3": orbax_case(devices=True, use_ocdbt=True, use_zarr3=True),
    "Orbax, a step of a manager": orbax_case(steps=True),
    "Orbax, layers scanned": orbax_case(scanned=True, use_ocdbt=True),
    "TensorFlow, checkpoint of objects": tensorflow_case("objects"),
    "TensorFlow, SavedModel": tensorflow_case("SavedModel"),
    "TensorFlow, Saver": tensorflow_case("Saver"),
    "TFLite": litert_case(".tflite"),
    "TFLite, int8": litert_case(".tflite", "dynamic_wi8_afp32", 8),
    "TFLite, int4": litert_case(".tflite", "dynamic_wi4_afp32", 4),
    "TFLite, int4 in blocks": litert_case(".tflite", "dynamic_wi4b32_afp32", 4),
    "TFLite, int8 turned": litert_case(".tflite", "dynamic_wi8c_hr_afp32", 8),
    "TFLite, int4 turned": litert_case(".tflite", "dynamic_wi4c_hr_afp32", 4),
    "LiteRT-LM, int4 in blocks": litert_case(".litertlm", "dynamic_wi4b32_afp32", 4),
    "MediaPipe task, int8": litert_case(".task", "dynamic_wi8_afp32", 8),
    "ExecuTorch, tensors by name": executorch_case(".ptd"),
    "ExecuTorch, a program's constants": executorch_case(".pte"),
    "safetensors in pieces of two processes": pieces_case(2),
    "safetensors in pieces of three processes": pieces_case(3),
    "spaCy": spacy_case(),
    "CoreML, float16": coreml_case(),
    "CoreML, int8": coreml_case(8, mode="linear_symmetric"),
    "CoreML, int4": coreml_case(4, mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32),
    "CoreML, palette of 8 bits": coreml_case(8, palette=True),
    "CoreML, palette of 6 bits": coreml_case(6, palette=True),
    "CoreML, palette of 4 bits in groups": coreml_case(4, palette=True, granularity="per_grouped_channel", group_size=32),
    "torch.distributed": torch_case(".distcp"),
    "NeMo, as its connector packs": torch_case(".nemo"),
    "Paddle .pdparams": paddle_case(".pdparams"),
    "Paddle .pdiparams": paddle_case(".pdiparams"),
}
