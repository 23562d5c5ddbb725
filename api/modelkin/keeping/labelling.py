"""Several models at once by their names: removed, or given tags; and a note on one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from modelkin_indexer.errors import UnknownModel
from modelkin_registry.answers.upkeep import Noted, Removed, Tagged
from modelkin_registry.store.filters import is_pattern, parse_where
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import DISPLACED

Sure = Callable[[Sequence[str]], bool]


def named(store: Store, names: Iterable[str]) -> tuple[str, ...]:
    """The models that names and patterns (`acme/*`) mean, by their present names, each once.

    Raises:
        UnknownModel: a name that no model has, or a pattern that none meets.
    """
    found: dict[str, None] = {}
    with store.reading():
        for name in names:
            if name not in store and is_pattern(name):
                models = [line.model for line in store.listed(parse_where([f"name={name}"]))]
                if not models:
                    raise UnknownModel(f"{store.name}: no model's name is of the pattern {name!r}. `modelkin list` shows all names.")
                found |= dict.fromkeys(models)
            else:
                found[_address(store, name)] = None
    return tuple(found)


def _address(store: Store, name: str) -> str:
    """The present name of a model, or of one revision where that was named: of the newest too, which else goes by the model's name."""
    stored = store.get(name)
    of_revision = stored.name != name and store.find(name.rpartition(DISPLACED)[0]) == stored.model_id
    return name if of_revision else stored.name


def removed(store: Store, names: Iterable[str], *, dry_run: bool, sure: Sure | None) -> Removed:
    """Forget models: all of those meant, or none if one is not there. `sure` is shown them, and may refuse. Raises UnknownModel."""
    models = named(store, names)
    if dry_run:
        return Removed(models, dry_run=True)
    if sure is not None and not sure(models):
        return Removed(())
    with store.batch():
        for model in models:
            store.remove(model)
    return Removed(models)


def tagged(store: Store, names: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> Tagged:
    """Give models tags and take others from them, all or none. Raises UnknownModel, RegistryError."""
    add, remove = tuple(add), tuple(remove)
    with store.batch() if add or remove else store.reading():
        models = {name: store.find(name) or 0 for name in named(store, names)}
        for model in models.values():
            store.labels.tag(model, add, remove)
        tags = store.labels.tags(models.values())
    return Tagged({name: tags.get(model, ()) for name, model in models.items()})


def noted(store: Store, name: str, text: str) -> Noted:
    """Put a note on a model, in the place of the one that it had. Raises UnknownModel, RegistryError."""
    with store.batch():
        model = store.get(name).model_id
        store.labels.note(model, text)
        return Noted(store.name_of(model), store.labels.notes([model]).get(model, ""))
