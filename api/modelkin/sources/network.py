"""The one way to the Hub: whether this call may ask it, and what is told before it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modelkin.wishes import Say
from modelkin_indexer.errors import Offline

if TYPE_CHECKING:
    from modelkin_indexer.hub.client import HubClient

OFFLINE = ("MODELKIN_OFFLINE", "HF_HUB_OFFLINE")  # environment, ours and the Hub's own: any word but those of NO forbids requests
NO = ("", "0", "false", "no", "off")


def is_offline(asked: bool = False) -> bool:
    """Whether requests are forbidden, by the call itself or by one of OFFLINE."""
    return asked or any(os.environ.get(name, "").strip().lower() not in NO for name in OFFLINE)


def hub_client(wanted: str, say: Say, *, offline: bool = False, rate: float | None = None) -> HubClient:
    """A client of the Hub, once it has been said what will be asked of it.

    Args:
        wanted: what it will be asked for, in words.
        rate: requests a second at most; the client's own where None.

    Raises:
        Offline: requests are forbidden.
        HubError: the Hub's name cannot be resolved.
    """
    if is_offline(offline):
        raise Offline(
            f"the Hub may not be asked (--offline, or {' or '.join(OFFLINE)} in the environment)",
            path=wanted,
            remedy="Give what is here, or allow requests.",
        )
    from modelkin_indexer.hub.client import RATE, HubClient  # a quarter of a second that no local model needs

    client = HubClient(rate=rate or RATE)
    say(f"Asking {client.endpoint} for {wanted}.")
    _require_host(client.endpoint)
    return client


def _require_host(endpoint: str) -> None:
    """That the Hub's name can be resolved, which its client would try for 23 seconds. A proxy resolves it itself."""
    from socket import gaierror, getaddrinfo
    from urllib.request import getproxies, proxy_bypass  # brings a client that no local model needs

    address = urlsplit(endpoint)
    if address.hostname is None or (address.scheme in getproxies() and not proxy_bypass(address.hostname)):
        return
    try:
        getaddrinfo(address.hostname, address.port or address.scheme)
    except gaierror as error:
        from modelkin_indexer.hub.errors import HubError

        said = f"the Hub cannot be reached: its name is not known here ({error.strerror})"
        raise HubError(said, path=endpoint, remedy="Check the connection and HF_ENDPOINT.", passing=True) from error
