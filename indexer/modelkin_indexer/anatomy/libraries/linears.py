"""Whether a library stores plain matrices [in, out], as Paddle does: told by the shapes of those that are not square, all together."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_indexer.places import Place, TensorInfo

READ = ("q", "k", "v", "qkv", "kv", "gate", "up", "gate_up")  # roles whose matrices read the residual stream
WRITE = ("o", "down")  # and those that write to it
HEAD = "head"  # the matrix that scores tokens: it reads the stream, and there are more tokens than the stream is wide
TOLD_BY = ("attention", "mlp", "expert", "head")
LINEAR = (*TOLD_BY, "router")  # families of plain matrices: tables of tokens and positions are stored as elsewhere
FEWEST_ROLES = 2  # that have to tell, but for the head: one alone may be another matrix than its name says


class LinearVotes:
    """Takes in the matrices of one model, and tells of each whether it is turned."""

    def __init__(self, told: bool) -> None:
        """`told`: the file says that its library stores them [in, out]."""
        self._told = told
        self._votes: dict[str, set[tuple[str, bool]]] = {}

    def take(self, place: Place, info: TensorInfo, width: int | None) -> None:
        """A matrix of a component whose residual stream is that wide."""
        if info.transposed or place.family not in TOLD_BY or place.role not in (*READ, *WRITE, HEAD) or not width:
            return
        if info.shape[0] != info.shape[1] and width in info.shape:
            votes = self._votes.setdefault(place.component, set())
            votes.add((place.role, info.shape[1 if place.role in WRITE else 0] == width))

    def is_turned(self, place: Place, shape: Sequence[int], width: int | None) -> bool:
        """Whether this matrix is stored [in, out]: all whose shapes tell say so, or none does and the file says it."""
        if place.family not in LINEAR:
            return False
        votes = self._votes.get(place.component, set())
        roles = {role for role, _ in votes}
        agreed = all(says for _, says in votes) and (len(roles) >= FEWEST_ROLES or HEAD in roles)
        turned = agreed or (self._told and not votes)
        if turned and place.family in ("head", "router") and width in shape and shape[0] != shape[1]:
            return shape[0] == width
        return turned
