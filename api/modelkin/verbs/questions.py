"""Questions as functions: each opens the registry that its call means, asks, and closes it.

What one question alone needs is imported when it is asked: the others start sooner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from modelkin.verbs.calls import asked, asked_settings_of, demanded, how_of, key_files_of, listener_of, opened, options_of
from modelkin.wishes import TIME_LIMIT, OpenRegistry, exact_wishes
from modelkin_registry.answers.asked import SHOWN

if TYPE_CHECKING:
    from modelkin.verbs.calls import Call, ComparingCall, ReadingCall
    from modelkin.wishes import Asked
    from modelkin_registry.answers.asked import AuditAnswer, CompareAnswer, DecomposeAnswer, QueryAnswer
    from modelkin_registry.answers.trajectory import TrajectoryAnswer
    from modelkin_registry.answers.tree import TreeAnswer
    from modelkin_registry.screening.results import Screened, Screening


def query(
    source: Asked,
    *,
    k: int = SHOWN,
    show_all: bool = False,
    exact: bool = False,
    tensors: bool = False,
    confirm: bool = False,
    where: Sequence[str] = (),
    starter: bool = True,
    **call: Unpack[ReadingCall],
) -> QueryAnswer:
    """The registered models nearest to a source, with evidence: `Registry.query`.

    `starter`: begin a new registry of the user's own with the models that come with modelkin. Where `key_file` names several keys, the
    registry's models are asked under each (`under_keys`), and what a private key shows decides.
    """
    if len(files := key_files_of(call)) > 1 and not isinstance(call.get("registry"), OpenRegistry):
        from modelkin.answering.nearest import Search
        from modelkin.answering.several import under_each
        from modelkin_registry.store.filters import parse_where

        one: Call = {"registry": call.get("registry"), "offline": call.get("offline", False)}
        parts = [asked_settings_of({**one, "key_file": file}) for file in files]
        search = Search(k, show_all, exact, tensors, confirm, parse_where(where))
        return under_each(parts, source, options_of(call), listener_of(call), search, starter=starter)
    with asked(call, starter=starter) as registry:
        options = options_of(call)
        return registry.query(source, k=k, show_all=show_all, exact=exact, tensors=tensors, confirm=confirm, where=where, **options)


def compare(
    a: Asked,
    b: Asked,
    *,
    controls: Sequence[Asked] = (),
    exact: bool = False,
    align: bool = False,
    tensors: bool = False,
    **call: Unpack[ComparingCall],
) -> CompareAnswer:
    """Model A against model B, family by family, or with `exact` number by number too: `Registry.compare`. Two sources need no registry."""
    from modelkin.answering.comparing import Pair
    from modelkin.answering.comparing import compare as compare_sides

    wishes = exact_wishes(exact, call)
    with demanded(call) as registry:
        return compare_sides(Pair(a, b, controls), how_of(call), registry, listener_of(call), wishes, align=align, tensors=tensors)


def decompose(source: Asked, *, parents: Sequence[Asked] = (), base: Asked | None = None, **call: Unpack[ReadingCall]) -> DecomposeAnswer:
    """What a merge was made of, and in what proportion: `Registry.decompose`. Named parents that are sources need no registry."""
    if parents:
        from modelkin.answering.asking import weigh

        with demanded(call) as registry:
            return weigh(registry, source, parents, how_of(call), listener_of(call), base)
    with asked(call) as registry:
        return registry.decompose(source, base=base, **options_of(call))


def audit(source: Asked, **call: Unpack[ReadingCall]) -> AuditAnswer:
    """What in a source is unusual for a model of its kind, as facts with numbers; no registry is asked.

    What was left out and why, tensors that no loader would use, sizes that differ from config.json's, zeros and NaN, and weights in
    coordinates that training does not leave. Of a fingerprint or a Hub id less can be looked at: `looked` tells what was.

    Raises:
        SourceError: nothing there, or weights that cannot be read.
        FingerprintError: a fingerprint that is damaged.
    """
    from modelkin.auditing.looks import audited

    return audited(source, how_of(call), listener_of(call))


def tree(model: str | None = None, *, depth: int = 2, **call: Unpack[Call]) -> TreeAnswer:
    """The registered models as family trees: `Registry.tree`."""
    with opened(call) as registry:
        return registry.tree(model, depth=depth)


def screen(
    manifest: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    policy: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    time_limit: float = TIME_LIMIT,
    each: Callable[[Screened], None] | None = None,
    evidence: bool = False,
    command: str = "",
    starter: bool = True,
    **call: Unpack[ReadingCall],
) -> Screening:
    """Screen a batch of submissions by a policy, each beside a registry and all against one another: `Registry.screen`."""
    with asked(call, starter=starter) as registry:
        wishes: dict[str, Any] = {"out": out, "policy": policy, "jobs": jobs, "time_limit": time_limit}
        return registry.screen(manifest, each=each, evidence=evidence, command=command, **wishes, **options_of(call))


def trajectory(
    *checkpoints: Asked, log: str | os.PathLike[str] | None = None, starter: bool = True, **call: Unpack[ReadingCall]
) -> TrajectoryAnswer:
    """Whether checkpoints lead from a random start to the last, and whether `log` agrees: `Registry.trajectory`.

    Without a registry (none named, and none of the user's own) the steps are held against no other model.
    """
    with demanded(call) as on_demand:
        if on_demand.may_be_absent(starter=starter):
            from modelkin.answering.series import examined

            return examined(None, checkpoints, log, how_of(call), listener_of(call))
    with asked(call, starter=starter) as registry:
        return registry.trajectory(*checkpoints, log=log, **options_of(call))
