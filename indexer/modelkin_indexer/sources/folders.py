"""Which files of a folder are its model: shards of one model belong together, and of several forms of the same weights one is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.errors import SourceError, SourceNotFound, UnsupportedFormat
from modelkin_indexer.sources.register import (
    CONTAINERS,
    OTHER_SUFFIXES,
    Container,
    Weights,
    container_of,
    is_refused,
    is_unknown,
    others,
    owner_of,
    rank,
)
from modelkin_indexer.sources.sliced import SLICE
from modelkin_indexer.sources.stored.files import CACHE_PREFIX, CHECK_ACCESS, PICK, cache_folder
from modelkin_indexer.sources.stored.shards import SHARD, missing_shards, numbers_of

INDEX_ENDING = ".index.json"
# Stems of the files that libraries write a whole model to; they go before any other.
MAIN_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model", "openvino_model", "tf_model", "flax_model")
# File names that say nothing of the model; its folder's name is taken instead.
PLAIN_STEMS = (*MAIN_STEMS, "adapter_model", "consolidated", "variables", "config")
# How publishers mark a form of the same weights that is stored with other or fewer bits: model.fp16, x-Q4_K_M, x.i1-IQ2_XS.
VARIANT = re.compile(
    r"[-._](?:(?:i1|ud)-)?(?:i?q\d\w*|tq\d_\d|mxfp4\w*|nvfp4|bf16|fp?16|fp?32|fp8\w*|u?int[48]|bnb4|quantized|half)", re.IGNORECASE
)
# What training leaves beside a model, parts that llama.cpp keeps in a file of their own, and single arrays.
NOT_WEIGHTS = re.compile(
    r"training_args|openvino_(?:de)?tokenizer|optimizer|scheduler|scaler|rng_state|random_states|tokenizer|imatrix|(?:.*[-._])?mmproj|.*\.npy$",
    re.IGNORECASE,
)
PROJECTOR = re.compile(r"(?:.*[-._])?mmproj.*\.gguf", re.IGNORECASE)  # the vision or audio part that llama.cpp keeps apart
PIECES = re.compile(r"shard-\d{5}-(?:.*-)?\d{5}-of-\d{5}\.safetensors")  # torch.distributed's, of several processes
SLICES = "slices"  # files that hold a slice of each matrix, or all of one checkpoint
MOST_BELOW = 1000  # entries of a folder without weights that are looked into
DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")  # the numbers of a checkpoint of TensorFlow's
NUMBERS = ".bin"  # of a graph, in a file beside it
PACKAGE = ".mlpackage"
ORBAX_MANIFEST, ORBAX_METADATA, ZARR = "manifest.ocdbt", "_METADATA", (".zarray", "zarr.json")
ITEMS = ("params", "model", "model_params", "default")  # which of the parts of a training Orbax's users call the model
MOST_LEVELS = 4  # of folders: the run, a step, a part of it
EACH = "`modelkin add --each` takes all of them."
LISTED = 5  # file names in one message


class _Form(Struct, frozen=True):
    """One form of a model in a folder: the files of one container that belong together. `key` is what its name says of the model.

    `spare`: files that are complete by their names, for an index that names others. `unread`: the same model's name, saved another way.
    """

    container: Container
    stem: str
    files: tuple[Path, ...]
    index: Path | None = None
    spare: tuple[Path, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        stem = re.sub(rf"(?:{VARIANT.pattern})+$", "", self.stem, flags=re.IGNORECASE)
        return MAIN_STEMS[0] if stem in MAIN_STEMS else stem

    @property
    def label(self) -> str:
        return (self.index or self.files[0]).name

    @property
    def order(self) -> tuple[int, int, str]:
        """The most faithful container first; in it the form with most bytes, which is the least quantised one."""
        size = sum(path.stat().st_size for path in self.files if path.is_file())
        return rank(self.container), -size, self.label


def weights_in(folder: Path) -> tuple[Container, Weights]:
    """The container and the files of the one model in a folder; what was left out is in the notes.

    Raises:
        SourceNotFound: the folder cannot be listed, has no weights, or lacks some shards.
        UnsupportedFormat: weights of another kind only, or several models.
    """
    if (program := package_in(folder)) is not None:
        return container_of(program), Weights(folder, folder_name(folder).removesuffix(PACKAGE), (program,))
    names = _names(folder)
    if (found := _checkpoint(folder, names)) is not None:
        return found
    forms = sorted(_forms(folder, names, CONTAINERS) or _forms(folder, names, others()), key=lambda form: form.order)
    if not forms:
        return _one_below(folder, names)
    chosen = next((form for form in forms if form.key == MAIN_STEMS[0]), forms[0])
    if chosen.key != MAIN_STEMS[0] and len({form.key for form in forms}) > 1:
        problem = f"has {len(forms)} files or sets of shards that may be different models ({_listed(sorted(form.label for form in forms))})"
        raise UnsupportedFormat(problem, path=folder, remedy=f"To read one of them, {PICK} {EACH}")
    left = [*chosen.unread, *(form.label for form in forms if form is not chosen)]
    left += [f"{below}/{file}" for below in _below(folder, names) for file in _files_in(folder / below)]
    notes = (f"{chosen.label} is read, and left out: {_listed(left)}. To read another, {PICK}",) if left else ()
    projectors = [name for name in names if PROJECTOR.fullmatch(name)]
    if projectors and chosen.container.suffixes == (".gguf",):
        told = (
            f"The model's vision or audio part is in a file of its own and is left out: {_listed(projectors)}. To read it instead, {PICK}"
        )
        notes = (*notes, told)
    if chosen.index is None and (missing := _missing(chosen.files)):
        there, count = numbers_of(path.name for path in chosen.files)
        lacking = f"number {', '.join(map(str, missing))} missing"
        told = f"Only {len(there)} of {count} shards are here ({lacking}): they are read as the part that they are."
        notes = (*notes, told)
    files = chosen.files if chosen.index is None else chosen.spare
    return chosen.container, Weights(folder, folder_name(folder), files, chosen.index, notes)


def package_in(folder: Path) -> Path | None:
    """The program of a CoreML package, which is a folder."""
    program = folder / "Data" / "com.apple.CoreML" / "model.mlmodel"
    return program if program.is_file() and program.resolve().is_relative_to(folder.resolve()) else None


def _checkpoint(folder: Path, names: list[str]) -> tuple[Container, Weights] | None:
    """The one checkpoint of Orbax's in a folder, or in one up to three levels down: steps, and what of the training each part of it is."""
    inside, below = [folder], list[str]()
    for _ in range(MOST_LEVELS):
        held = {one: names if one == folder else _names(one) for one in inside}
        if any(_weighs(name) for listed in held.values() for name in listed):
            return None  # what else is read goes before
        marks = {one: mark for one, listed in held.items() if (mark := _mark_of(one, listed)) is not None}
        if len(marks) > 1:
            below = sorted(one.relative_to(folder).as_posix() for one in marks)
            model = [one for one in marks if one.name in ITEMS]
            if len(model) != 1:
                problem = f"has {len(marks)} checkpoints of Orbax's ({_listed(below)})"
                raise UnsupportedFormat(problem, path=folder, remedy=f"Name one of them as the source: {folder / below[-1]}")
            marks = {model[0]: marks[model[0]]}
        for one, mark in marks.items():
            way = one.relative_to(folder).as_posix()
            notes = (f"The weights lie deeper, in {way}/.",) if one != folder else ()
            return container_of(mark), Weights(folder, folder_name(folder), (mark,), notes=notes)
        inside = [one for parent in inside for one in _folders_in(parent)][:MOST_BELOW]
    return None


def _mark_of(folder: Path, names: list[str]) -> Path | None:
    """The file by which a checkpoint of Orbax's is known."""
    if ORBAX_MANIFEST in names:
        return folder / ORBAX_MANIFEST
    named = [name for name in names[:MOST_BELOW] if "." in name[1:] or ORBAX_METADATA in names]
    arrays = (folder / name / said for name in named for said in ZARR)
    array = next((one for one in arrays if one.is_file() and one.parent.resolve().is_relative_to(folder.resolve())), None)
    return array if array is None or ORBAX_METADATA not in names else folder / ORBAX_METADATA


def _folders_in(folder: Path) -> list[Path]:
    root = folder.resolve()
    found = [folder / name for name in _names(folder)[:MOST_BELOW] if not name.startswith(".")]
    return [one for one in found if one.is_dir() and one.resolve().is_relative_to(root)]


def _weighs(name: str) -> bool:
    return name != ORBAX_MANIFEST and any(one.suffix_of(name) for one in CONTAINERS)


def models_in(folder: Path) -> tuple[str, ...]:
    """The models in a folder that holds several, or in its subfolders: of each the file, index or first shard by which `--file` picks it.

    Raises:
        SourceNotFound: the folder cannot be listed.
    """
    names = _names(folder)
    found = _most_faithful(_forms(folder, names, CONTAINERS) or _forms(folder, names, others()))
    if found:
        return found
    below = _below(folder, names)
    forms = {name: _forms(folder / name, _names(folder / name), CONTAINERS) for name in below}
    return tuple(f"{name}/{label}" for name in below for label in _most_faithful(forms[name]))


def _most_faithful(forms: Iterable[_Form]) -> tuple[str, ...]:
    """Of each model the form that would be read."""
    chosen: dict[str, _Form] = {}
    for form in sorted(forms, key=lambda form: form.order):
        chosen.setdefault(form.key, form)
    return tuple(sorted(form.label for form in chosen.values()))


def weights_of(path: Path, chosen: Path) -> tuple[Container, Weights]:
    """The container and the files of one file or shard index, `chosen`; `path` is what the user gave."""
    if chosen.suffix == ".bin" and (owner := owner_of(chosen.name, _names(chosen.parent))):
        chosen = chosen.with_name(owner)
    elif (cut := DATA.fullmatch(chosen.name)) is not None and chosen.with_name(f"{cut[1]}.index").exists():
        chosen = chosen.with_name(f"{cut[1]}.index")
    named = chosen.with_name(chosen.name.removesuffix(INDEX_ENDING))
    if is_refused(chosen):
        raise UnsupportedFormat(f"is a {chosen.suffix} file", path=chosen, remedy=CONVERT)
    if named == chosen and is_unknown(chosen):
        raise UnsupportedFormat("is a file of no kind that is known here", path=chosen, remedy=CONVERT)
    container = container_of(named)
    stem = named.name[: len(named.name) - len(container.suffix_of(named.name))]
    name = folder_name(chosen.parent) if stem in PLAIN_STEMS else stem
    if named != chosen and container.suffix_of(named.name):
        return container, Weights(path, name, (), chosen)
    return container, Weights(path, name, (chosen,))


def folder_name(folder: Path) -> str:
    """What to call the model in a folder: `org/name` in a Hugging Face cache, else the real folder's name."""
    real = Path(os.path.realpath(folder))
    cache = cache_folder(real)
    return cache.name.removeprefix(CACHE_PREFIX).replace("--", "/") if cache else real.name


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise SourceNotFound(f"cannot be listed ({error})", path=folder, remedy=CHECK_ACCESS) from error


def _forms(folder: Path, names: list[str], among: Iterable[Container]) -> list[_Form]:
    """The forms in these containers, by stem: its index, else the file of that name, else its shards."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    containers: dict[tuple[str, str], Container] = {}
    for name in names:
        plain = name.removesuffix(INDEX_ENDING)
        suffixes = [suffix for container in among if (suffix := container.suffix_of(plain))]
        if not suffixes or NOT_WEIGHTS.match(plain) or owner_of(name, names) or _lacks_numbers(folder, plain, names):
            continue
        stem, kind = plain[: -len(suffixes[0])], "index" if plain != name else "file"
        shard = SHARD.fullmatch(stem)
        if PIECES.fullmatch(name):
            stem, kind = "pieces", SLICES
        elif shard is not None and kind == "file":
            stem, kind = shard["stem"] + (shard["variant"] or ""), f"shards of {shard['count']}"
        elif kind == "file" and any(suffixes[0] in container.suffixes and container.together for container in among):
            stem, kind = MAIN_STEMS[0], SLICES
        elif kind == "file" and (cut := SLICE.fullmatch(stem)) is not None:
            stem, kind = stem.removesuffix(f".{cut[1]}"), SLICES
        found.setdefault((stem, suffixes[0]), {}).setdefault(kind, []).append(name)
        containers.setdefault((stem, suffixes[0]), container_of(folder / plain))
    return [_form(folder, containers[key], key[0], kinds) for key, kinds in found.items()]


def _lacks_numbers(folder: Path, name: str, names: list[str]) -> bool:
    """Whether a file is one whose numbers lie in another, which is not there: many `.xml` are no graphs, many `.index` no models."""
    for one in CONTAINERS:
        if suffix := one.suffix_of(name):
            if NUMBERS in one.beside and name.removesuffix(suffix) + NUMBERS not in names:
                return True
            if one.needs and not any(part.exists() for part in one.companions(folder / name)):
                return True
    return False


def _form(folder: Path, container: Container, stem: str, kinds: dict[str, list[str]]) -> _Form:
    files = {kind: tuple(folder / name for name in names) for kind, names in kinds.items()}
    if SLICES in files:
        return _Form(container, stem, files[SLICES])
    sets = [files[kind] for kind in sorted(files) if kind not in ("index", "file")]
    whole = next((shards for shards in sets if not _missing(shards)), files.get("file", ()))
    if "index" in files:
        unread = tuple(path.name for path in files.get("file", ()) if path not in whole)
        return _Form(container, stem, whole or next(iter(sets), ()), files["index"][0], whole, unread)
    if "file" in files:
        return _Form(container, stem, files["file"], unread=tuple(shards[0].name for shards in sets))
    return _Form(container, stem, whole or sets[0])


def _missing(shards: tuple[Path, ...]) -> list[int]:
    return missing_shards([path.name for path in shards], LISTED)


def _one_below(folder: Path, names: list[str]) -> tuple[Container, Weights]:
    """The weights of the only subfolder that has some. Raises SourceNotFound, UnsupportedFormat."""
    below = _below(folder, names)
    packages = [name for name in names[:MOST_BELOW] if name.endswith(PACKAGE) and package_in(folder / name) is not None]
    if not below and len(packages) == 1:
        container, weights = weights_in(folder / packages[0])
        return container, replace(weights, path=folder)
    if not below and packages:
        problem = f"has {len(packages)} CoreML packages ({_listed(packages)})"
        raise SourceNotFound(problem, path=folder, remedy=f"Name one of them as the source: {folder / packages[0]}")
    if not below:
        raise _no_weights(folder, names)
    if len(below) > 1:
        files = [f"{name}/{_files_in(folder / name)[0]}" for name in below]
        problem = f"has no weights in it, but {len(below)} of its subfolders have ({_listed(files)})"
        raise SourceNotFound(problem, path=folder, remedy=f"Name a subfolder as the source, or pass `--file {files[0]}`. {EACH}")
    container, weights = weights_in(folder / below[0])
    note = f"The weights lie one level down, in {below[0]}/."
    return container, replace(weights, path=folder, name=folder_name(folder), notes=(note, *weights.notes))


def _below(folder: Path, names: list[str]) -> list[str]:
    """The subfolders that have files which may be weights."""
    return [name for name in names[:MOST_BELOW] if not name.startswith(".") and (folder / name).is_dir() and _files_in(folder / name)]


def _files_in(folder: Path) -> list[str]:
    """Files of a folder that may be weights, by their names; none of one that leads out or cannot be listed."""
    try:
        inside = folder.resolve().is_relative_to(folder.parent.resolve())
        names = _names(folder) if inside else []
    except (SourceError, OSError):
        return []
    plain = [name for name in names if not NOT_WEIGHTS.match(name) and any(one.suffix_of(name) for one in CONTAINERS)]
    return [name for name in plain if (folder / name).is_file() and not _lacks_numbers(folder, name, names)]


def _no_weights(path: Path, names: list[str]) -> SourceNotFound | UnsupportedFormat:
    others = [name for name in names if Path(name).suffix in OTHER_SUFFIXES]
    if others:
        return UnsupportedFormat(f"has no weights but {others[0]} ({len(others)} such files)", path=path, remedy=CONVERT)
    return SourceNotFound("has no weights in it", path=path, remedy="Name a folder or file with weights.")


def _listed(labels: Iterable[str]) -> str:
    names = list(labels)
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


CONVERT = f"This version reads {', '.join(container.name for container in CONTAINERS)}; convert the weights, or get another form of them."
