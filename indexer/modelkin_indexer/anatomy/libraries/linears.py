"""Whether a library stores plain matrices [in, out], as Paddle does: told by the shapes of those that are not square, all together."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_indexer.places import TensorInfo

READ = ("q", "k", "v", "qkv", "kv", "gate", "up", "gate_up")  # roles whose matrices read the residual stream
WRITE = ("o", "down")  # and those that write to it
HEAD = "head"  # the matrix that scores tokens: it reads the stream, and there are more tokens than the stream is wide
TELLING = frozenset({*READ, *WRITE, HEAD})
TOLD_BY = ("attention", "mlp", "expert", "head")
LINEAR = (*TOLD_BY, "router")  # families of plain matrices: tables of tokens and positions are stored as elsewhere
FEWEST_ROLES = 2  # that have to tell, but for the head: one alone may be another matrix than its name says


class LinearVotes:
    """Takes in the matrices of one model, and tells of each whether it is turned."""

    def __init__(self, told: bool) -> None:
        """`told`: the file says that its library stores them [in, out]."""
        self._told = told
        self._votes: dict[str, set[tuple[str, bool]]] = {}

    def take(self, component: str, role: str, info: TensorInfo, width: int) -> None:
        """A matrix of one of TOLD_BY, in a component whose residual stream is that wide."""
        if role in TELLING and not info.transposed and info.shape[0] != info.shape[1] and width in info.shape:
            self._votes.setdefault(component, set()).add((role, info.shape[1 if role in WRITE else 0] == width))

    def agree(self, component: str) -> bool:
        """Whether matrices of this component are stored [in, out]: all whose shapes tell say so, or none does and the file says it."""
        votes = self._votes.get(component)
        if not votes:
            return self._told
        return all(says for _, says in votes) and (len(votes) >= FEWEST_ROLES or (HEAD, True) in votes)

    def is_turned(self, component: str, family: str, shape: Sequence[int], width: int | None) -> bool:
        """Whether this matrix is stored [in, out]."""
        if family not in LINEAR or not self.agree(component):
            return False
        if family in ("head", "router") and width in shape and shape[0] != shape[1]:
            return shape[0] == width
        return True
