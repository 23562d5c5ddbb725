"""Workers on a Ray cluster: Ray begins them on its machines and says which died, and all that makes a job done once lies in the registry.

On its machine each runs as a process of its own, as it would without Ray: so its memory is bounded, and it ends when Ray's process does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO, cast

from msgspec.structs import replace

from modelkin.working.crew import Reply
from modelkin.working.processes import Processes
from modelkin.working.worker import Begun, Ended
from modelkin_indexer.errors import LaunchError
from modelkin_registry.store.address import Address

NEEDS_EXTRA = "Ray is not installed here. Install it: pip install 'modelkin[ray]', in the version that the cluster has."
THREADS = "ray_"  # how the names of Ray's own threads begin
FROM_OUTSIDE = "ray://"  # an address of Ray's client, which has no way back for what a worker tells


def on_node(begun: Begun) -> Iterator[Reply]:
    """Be the process of Ray that has one worker: what that one tells."""
    with TemporaryDirectory(prefix="modelkin-work-") as folder:
        yield from Processes().begin(replace(begun, parent=os.getpid(), folder=Path(folder)))


class OnRay:
    """Workers on the machines of a cluster. Nothing of this machine's environment goes there: no token, no password."""

    def __init__(self, address: str) -> None:
        """Join the cluster, unless the program has done so.

        Raises:
            LaunchError: Ray is not installed here, or no cluster answers at the address.
        """
        self._ray = _ray()
        self._joined = not self._ray.is_initialized()
        self._printing = redirect_stdout(cast(TextIO, _Apart(sys.stdout)))
        if self._joined:
            _join(self._ray, address)
        self._printing.__enter__()
        self._loop = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(on_node)
        self._tasks: list[Any] = []

    def require_reach(self, place: Path | Address) -> None:
        """A registry in a file is for one machine. Raises LaunchError."""
        here = self._ray.util.get_node_ip_address()
        others = {node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]} - {here}
        if others and not isinstance(place, Address):
            raise LaunchError(
                f"{place}: a registry in a file is for one machine, and the cluster has {len(others)} more. "
                "Copy it to PostgreSQL first: modelkin registry copy."
            )

    def begin(self, begun: Begun) -> Iterator[Reply]:
        """Begin one, on whichever machine has a processor free."""
        task = self._loop.remote(begun)
        self._tasks.append(task)
        return self._heard(task)

    def end(self) -> None:
        """Let none of them go on."""
        for task in self._tasks:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(task, force=True)

    def leave(self) -> None:
        """Leave the cluster, where this call joined it."""
        self._printing.__exit__(None, None, None)
        if self._joined:
            self._ray.shutdown()

    def _heard(self, task: Any) -> Iterator[Reply]:
        try:
            for reference in task:
                yield self._ray.get(reference)
        except self._ray.exceptions.TaskCancelledError:
            return
        except self._ray.exceptions.RayTaskError as error:  # such as no modelkin on that machine, or another version
            yield Ended(f"on a machine of the cluster: {error.cause!r}", "fault")
        except self._ray.exceptions.RayError:  # the process or its machine is gone
            return


class _Apart:
    """Standard output, but for what Ray's threads print: this is no data, and goes to standard error."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return (sys.stderr if threading.current_thread().name.startswith(THREADS) else self._out).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


def _ray() -> Any:
    """Ray. Raises LaunchError."""
    try:
        import ray  # an extra, with half a second of imports
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise LaunchError(NEEDS_EXTRA) from error
    return ray


def _join(ray: Any, address: str) -> None:
    if address.startswith(FROM_OUTSIDE):
        raise LaunchError(f"{address}: call this on a machine of the cluster, with `auto` or the head's HOST:PORT.")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise LaunchError(
            f"{address}: no Ray cluster answers there ({said}). `ray start --head` begins one; to one that asks for a token, "
            "set RAY_AUTH_MODE=token."
        ) from error
