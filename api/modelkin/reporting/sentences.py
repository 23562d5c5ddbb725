"""The sentences of an answer in another language.

An answer has its sentences in English, put together where they are found out. A table of `modelkin_data/texts` has for each of them the
same sentence in another language, with places in braces for what differs. Names of models are anybody's words: where one stands, nothing
but a name of this answer may, and a text that can be read in two ways is in no table. What is in no table stays English.

Places: `{m}`, `{m2}`, ... a name, or names in a row; `{s}` a submission, or a component of one; `{rel}` relations; `{a}` to `{e}` a number
or share; all others whatever stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from msgspec import Struct

from modelkin.reporting.texts import Texts, texts_of
from modelkin_registry.answers.relations import RELATIONS

PLACE = re.compile(r"\{([a-z]+\d?)\}")
NUMBER = r"(?:over |under |below )?\S+?(?: %)?"
ANYTHING = r"(?:(?!\. [A-Z]).)+?"  # within one sentence
RELATED = "[a-z -]+(?:, [a-z -]+)*"
COMPOSED = ("a", "b", "c", "list", "rest", "s", "x")  # what may stand there is words of ours, as lists and shares are
# Fields of answers that hold somebody's words.
NAMING = frozenset(
    (
        "model",
        "source",
        "submission",
        "relative",
        "others",
        "members",
        "name",
        "declared_base",
        "value",
        "around",
        "alone",
        "copies",
        "base",
    )
)
MOST_WAYS = 8  # in which a text is read before it is left as it is
EVIDENCE = "{{m}} {sentence}: {{share}} of its comparable weights carry the evidence{also}."


class Told(Struct, frozen=True):
    """A sentence, and whether it is still English where the page is not."""

    text: str
    english: bool = False


class Sentences:
    """What is said of one answer, in the page's language."""

    def __init__(self, say: Texts, names: Iterable[str]) -> None:
        self.say = say
        self._names = sorted(set(names) - {""}, key=lambda name: (-len(name), name))

    def __call__(self, sentence: str) -> Told:
        if self.say.is_english:
            return Told(sentence)
        names = tuple(name for name in self._names if name in sentence)
        told = {" ".join(one) for one in islice(self._ways(sentence, names), MOST_WAYS)}
        return Told(told.pop()) if len(told) == 1 else Told(sentence, english=True)

    def all(self, sentences: Iterable[str]) -> list[Told]:
        """Each of them."""
        return [self(one) for one in sentences]

    def _ways(self, text: str, names: tuple[str, ...]) -> Iterator[list[str]]:
        """A text as sentences of the table, one behind the other, in every way in which that can be done."""
        for row in _table(self.say.language):
            if row.longest not in text:
                continue
            whole, begun = row.patterns(names)
            if (found := whole.match(text)) is not None:
                yield [self._filled(row.words, found.groupdict())]
            if (found := begun.match(text)) is not None:
                said = self._filled(row.words, found.groupdict())
                yield from ([said, *rest] for rest in self._ways(text[found.end() :], names))

    def _filled(self, words: str, values: Mapping[str, str]) -> str:
        return PLACE.sub(lambda place: self._value(place[1], values[place[1]]), words)

    def _value(self, place: str, value: str) -> str:
        if place == "rel":
            value = ", ".join(self.say.known("relation", one) for one in value.split(", "))
        for english, other in self.say.table["phrases"].items() if place in COMPOSED else ():
            value = re.sub(english, other, value)
        return value


def names_in(answer: Any) -> Iterator[str]:
    """Every name in an answer, whole and as the end of a path."""
    if isinstance(answer, Struct):
        for name in answer.__struct_fields__:
            value = getattr(answer, name)
            if name in NAMING:
                yield from _shown(value)
            else:
                yield from names_in(value)
    elif isinstance(answer, Mapping):
        for value in answer.values():
            yield from names_in(value)
    elif isinstance(answer, (list, tuple)):
        for value in answer:
            yield from names_in(value)


def _shown(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (value, value.rstrip("/").rpartition("/")[2])
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _shown(one)
    else:
        yield from names_in(value)


class _Row(Struct, frozen=True):
    """A sentence in English and in another language. `longest`: of its words between places the most in a row."""

    english: str
    words: str
    longest: str

    def patterns(self, names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What matches it as a whole text, and as the first sentence of one."""
        one = "|".join(map(re.escape, names)) or r"(?!)"
        listed = f"(?:{one})(?:(?:, | and )(?:{one}))*"
        kinds = {"m": listed, "s": f"(?:[Tt]he [a-z0-9_.-]+ component of )?(?:{one})", "rel": RELATED, **dict.fromkeys("abcde", NUMBER)}
        seen: set[str] = set()

        def place(name: str) -> str:
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            return f"(?P<{name}>{kinds.get(name.rstrip('0123456789'), ANYTHING)})"

        parts = PLACE.split(self.english)  # every second one is the name of a place
        pattern = "".join(place(part) if number % 2 else re.escape(part) for number, part in enumerate(parts))
        return re.compile(pattern + r"\Z"), re.compile(pattern + r" (?=\S)")


@cache
def _table(language: str) -> tuple[_Row, ...]:
    """The sentences of the table, and those of relations."""
    say = texts_of(language)
    rows = dict(say.table["sentences"])
    for name, row in RELATIONS.items():
        sentence = row.sentence.format(model="{m2}", stored="")
        words = say.table["answers"][name].format(query="{m}", model="{m2}")
        rows[f"{{m}} {sentence}."] = words
        if row.descent:
            share = say.table["special"]["share"]
            rows[EVIDENCE.format(sentence=sentence, also="")] = f"{words} {share}"
            rows[EVIDENCE.format(sentence=sentence, also=" (also: {rel})")] = f"{words} {share} {say('special', 'also')}"
    return tuple(_Row(english, words, max(PLACE.split(english)[::2], key=len)) for english, words in rows.items())
