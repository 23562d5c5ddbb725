"""`compare --exact` and `--align`: which sources are opened, what is read of them, and where the journal goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from modelkin.sources.naming import FINGERPRINT_SUFFIX, existing
from modelkin.wishes import Begin, ExactWishes, HowToRead, Listener
from modelkin_indexer.errors import SourceNotFound
from modelkin_indexer.exact.comparison import ExactOptions, common_places, compare_places, pair_bytes, read_exact
from modelkin_indexer.exact.journal import Journal, identity
from modelkin_indexer.exact.pairing import Contents, LayerMaps
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.exact import TensorComparison
from modelkin_indexer.source import Source
from modelkin_indexer.sources.turned import TurnedSource
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.counterparts.table import alike_in_order
from modelkin_registry.exact.aligned import with_recovery
from modelkin_registry.exact.judging import judge_exact
from modelkin_registry.exact.sentences import with_exact
from modelkin_registry.explanation.parts import FORGEABLE

Turned = Mapping[str, frozenset[str]]  # of each name the tensors that are read as stored [in, out]


def add_exact(
    answer: CompareAnswer, names: Sequence[str], how: HowToRead, turned: Turned, wishes: ExactWishes, listener: Listener
) -> CompareAnswer:
    """The answer with an exact comparison beside it, on the layer map and the counterparts (`tensors`) that the fingerprints show.

    `names`: A, B and the controls; `turned` their tensors that are read as stored [in, out].

    Raises:
        SourceError: a side is no weights, or they cannot be read.
        JournalError: the journal is damaged or another comparison's.
    """
    maps = {c.query: (c.relative, c.layer_map) for c in answer.components}
    contents = alike_in_order(answer.counterparts)
    a, b, *controls = names
    with ExitStack() as stack:
        sources = {name: stack.enter_context(closing(open_weights(name, how, turned))) for name in dict.fromkeys(names)}
        journal = None
        if wishes.resume is not None:
            journal = stack.enter_context(closing(Journal(wishes.resume, identity(list(sources.values())))))
            listener.say(f"{wishes.resume}: {len(journal)} tensors are done already.")
        reading = _Reading(listener.begin, how, journal)
        first, second = sources[a], sources[b]
        options = reading.options("a-b", first, second, maps, contents, wishes.all_layers)
        measured = read_exact(first, second, options)
        third = {
            Path(name).name: (reading.pairs(f"a-{name}", first, sources[name]), reading.pairs(f"b-{name}", second, sources[name]))
            for name in controls
        }
    answer = replace(answer, warnings=tuple(note for note in answer.warnings if note != FORGEABLE))  # the weights are at hand here
    return with_exact(answer, judge_exact(measured, third))


def add_aligned(answer: CompareAnswer, a: str, b: str, how: HowToRead, turned: Turned, listener: Listener) -> CompareAnswer:
    """The answer with the aligned test beside it, on the layer map that the fingerprints show.

    Raises:
        SourceError: a side is no weights, or they cannot be read.
    """
    from modelkin_indexer.aligned.comparison import read_aligned  # brings scipy, which takes longer to import than a comparison starts

    maps = {c.query: (c.relative, c.layer_map) for c in answer.components}
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(open_weights(name, how, turned))) for name in (a, b))
        listener.say("Working out which channels and units are which; large models take minutes.")
        return with_recovery(answer, read_aligned(first, second, maps))


def open_weights(name: str, how: HowToRead, turned: Turned) -> Source:
    """The weights that a name stands for: an exact comparison reads them, so that a registered name or a fingerprint will not do."""
    path = existing(name, from_hub=False)
    if path.is_file() and path.suffix == FINGERPRINT_SUFFIX:
        raise SourceNotFound("is a fingerprint, not weights", path=path, remedy="Name the weights: every number of them is read.")
    weights = open_source(path, how.file)
    return TurnedSource(weights, turned[name]) if turned.get(name) else weights


class _Reading(Struct, frozen=True):
    """How pairs of sources are read: where progress is told, and where what is done is kept."""

    begin: Begin
    how: HowToRead
    journal: Journal | None

    def options(
        self,
        pair: str,
        a: Source,
        b: Source,
        maps: LayerMaps | None = None,
        contents: Contents | None = None,
        all_layers: bool = False,
    ) -> ExactOptions:
        places = common_places(a, b, maps, contents)
        total = sum(pair_bytes(a, b, common) for common in places[0])
        told = self.begin(f"{a.name} against {b.name}", total)
        return ExactOptions(maps, contents, self.journal, pair, self.how.threads, told, all_layers, places)

    def pairs(self, pair: str, a: Source, b: Source) -> list[TensorComparison]:
        options = self.options(pair, a, b)
        assert options.places is not None
        return list(compare_places(a, b, options.places[0], options))
