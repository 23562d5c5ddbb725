#!/usr/bin/env bash
# A page with a body takes 40 ms from uvicorn when it is handed a socket of socket.create_server, and under 1 ms when it binds its own.
#
# Versions: uvicorn 0.54.0, h11 0.16.0, asyncio of Python 3.11 or later, on Linux (loopback).
# A good guess: asyncio switches Nagle's algorithm off for every TCP connection (its own changelog says so since 3.6), so who binds the
# socket makes no difference.
# Seen: asyncio does so only for sockets whose `proto` is IPPROTO_TCP. socket.create_server, as socket.socket(), leaves it 0, and accepted
# connections inherit that. uvicorn writes headers and body apart, so the body waits until the other side acknowledges the headers, which
# Linux puts off by 40 ms on a connection that is kept. Switching it off on the listening socket helps: connections inherit that too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0
cat > "$work/check.py" <<'PY'
import http.client
import socket
import statistics
import threading
import time

import uvicorn


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def milliseconds(listening):
    """Median of 20 requests over one connection that is kept."""
    server = uvicorn.Server(uvicorn.Config(page, http="h11", ws="none", lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connection = http.client.HTTPConnection(*listening.getsockname())
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    connection.close()
    server.should_exit = True
    thread.join()
    return round(1000 * statistics.median(seconds), 1)


handed = socket.create_server(("127.0.0.1", 0))
check("proto of a socket of create_server", socket.IPPROTO_TCP, handed.proto, handed.proto == 0)
slow = milliseconds(handed)
check("milliseconds a page, over it", "under 5", slow, slow > 25)

named = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
named.bind(("127.0.0.1", 0))
quick = milliseconds(named)
check("over one made with IPPROTO_TCP", "under 5", quick, quick < 25)

switched = socket.create_server(("127.0.0.1", 0))
switched.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
quick = milliseconds(switched)
check("over one of create_server that has TCP_NODELAY", "under 5", quick, quick < 25)
PY
cd "$work"
venv/bin/python check.py
