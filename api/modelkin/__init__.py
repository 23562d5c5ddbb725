"""What is this model closest to, in which of its parts, and how sure can we be?

    import modelkin

    answer = modelkin.query("models/mystery")     # a path, a Hub id, or a fingerprint
    answer.relatives[0].relation                  # "fine-tuned"
    answer.to_dict(), answer.to_pandas()

Every verb of the command line is a function here; each opens the registry that `registry=` names, by default the user's own, and closes it.
`open()` and `Registry.open()` keep one open. Nothing is printed: results are frozen records, and errors those of `modelkin.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelkin import errors as errors
    from modelkin.asked import Registries as Registries
    from modelkin.keys import key as key
    from modelkin.readable import formats as formats
    from modelkin.registry import Registry as Registry
    from modelkin.verbs.fingerprints import fingerprint as fingerprint
    from modelkin.verbs.fingerprints import read as read
    from modelkin.verbs.keeping import add as add
    from modelkin.verbs.keeping import backup as backup
    from modelkin.verbs.keeping import calibrate as calibrate
    from modelkin.verbs.keeping import copy_registry as copy_registry
    from modelkin.verbs.keeping import doctor as doctor
    from modelkin.verbs.keeping import export as export
    from modelkin.verbs.keeping import import_ as import_
    from modelkin.verbs.keeping import journal as journal
    from modelkin.verbs.keeping import list as list
    from modelkin.verbs.keeping import new_registry as new_registry
    from modelkin.verbs.keeping import note as note
    from modelkin.verbs.keeping import open as open
    from modelkin.verbs.keeping import pull as pull
    from modelkin.verbs.keeping import push as push
    from modelkin.verbs.keeping import refresh as refresh
    from modelkin.verbs.keeping import remove as remove
    from modelkin.verbs.keeping import rename as rename
    from modelkin.verbs.keeping import restore as restore
    from modelkin.verbs.keeping import show as show
    from modelkin.verbs.keeping import sync as sync
    from modelkin.verbs.keeping import tag as tag
    from modelkin.verbs.keeping import to_pandas as to_pandas
    from modelkin.verbs.keeping import upgrade as upgrade
    from modelkin.verbs.keeping import work as work
    from modelkin.verbs.publishing import evidence as evidence
    from modelkin.verbs.publishing import report as report
    from modelkin.verbs.publishing import serve as serve
    from modelkin.verbs.publishing import verify as verify
    from modelkin.verbs.questions import audit as audit
    from modelkin.verbs.questions import compare as compare
    from modelkin.verbs.questions import decompose as decompose
    from modelkin.verbs.questions import query as query
    from modelkin.verbs.questions import screen as screen
    from modelkin.verbs.questions import trajectory as trajectory
    from modelkin.verbs.questions import tree as tree
    from modelkin.wishes import Listener as Listener
    from modelkin.wishes import Reading as Reading
    from modelkin_indexer.results.fingerprint import Fingerprint as Fingerprint

_QUESTIONS = ("audit", "compare", "decompose", "query", "screen", "trajectory", "tree")
_FINGERPRINTS = ("fingerprint", "read")
_KEEPING = (
    "add",
    "backup",
    "calibrate",
    "copy_registry",
    "doctor",
    "export",
    "import_",
    "journal",
    "list",
    "new_registry",
    "note",
    "open",
    "pull",
    "push",
    "refresh",
    "remove",
    "rename",
    "restore",
    "show",
    "sync",
    "tag",
    "to_pandas",
    "upgrade",
    "work",
)
_PUBLISHING = ("evidence", "report", "serve", "verify")
_WISHES = ("Listener", "Reading")
_HOME = {
    **dict.fromkeys(_QUESTIONS, "modelkin.verbs.questions"),
    **dict.fromkeys(_FINGERPRINTS, "modelkin.verbs.fingerprints"),
    **dict.fromkeys(_KEEPING, "modelkin.verbs.keeping"),
    **dict.fromkeys(_PUBLISHING, "modelkin.verbs.publishing"),
    **dict.fromkeys(_WISHES, "modelkin.wishes"),
    "Registries": "modelkin.asked",
    "Registry": "modelkin.registry",
    "formats": "modelkin.readable",
    "key": "modelkin.keys",
    "Fingerprint": "modelkin_indexer.results.fingerprint",
}
__all__ = sorted([*_HOME, "errors"])


def __getattr__(name: str) -> Any:
    """Each name is imported when it is used first (PEP 562): `import modelkin` brings nothing heavy."""
    if name == "errors":
        return import_module("modelkin.errors")
    if name not in _HOME:
        raise AttributeError(f"module 'modelkin' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> Sequence[str]:
    return __all__
