"""Texts of the store: what can be stored, and how alike two licences are."""

from __future__ import annotations

from collections import Counter

ALMOST_ALL = 0.9999  # of the words of a text that is not quite the same


def storable(words: str) -> str:
    """Words that a database can hold: a file's name may be bytes that are no text."""
    if words.isascii() and "\0" not in words:
        return words
    return words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def kept_words(old: str, new: str) -> float:
    """The share of runs of three words that two texts have in common (Dice 1945): 1 for the same words only, whatever their layout."""
    a, b = (text.casefold().split() for text in (old, new))
    if a == b:
        return 1.0
    runs = [Counter(zip(words, words[1:], words[2:], strict=False)) for words in (a, b)]
    every = sum(one.total() for one in runs)
    return min(round(2 * (runs[0] & runs[1]).total() / every, 4), ALMOST_ALL) if every else 0.0
