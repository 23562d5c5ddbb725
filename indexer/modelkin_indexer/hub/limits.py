"""What a Hub's answers may cost: bytes, pages, redirects and seconds. A Hub is a stranger, and a mirror of one even more so."""

from __future__ import annotations

IDLE = 30.0  # seconds without a byte, after which a connection is given up
DEADLINE = 120.0  # seconds for the whole of a call, all tries together; the busiest public pages take about 5
SLOWEST = 32 << 10  # bytes a second that a file has to come at beside the deadline: 64 connections at once on a line of 16 Mbit/s
PATIENCE = 310.0  # seconds in all that a call waits where the server says how long it is busy: the public Hub counts in windows of 300 s
BODY = 6 << 20  # bytes of a description or page once decompressed; 20,000 files take 5 MB, 1,000 models 1 to 3
ITEMS = 200_000  # commas and brackets of one: two may become an object of 240 bytes; 20,000 files have 180,000
FILES = 20_000  # of a repository; the largest public models have about 1,000
ENTRIES = 2000  # of a page, where 1,000 are asked for
THIN = 100  # pages of one list that hold less than a tenth of that and yet lead on; the public Hub's are full but for the last
DRAINED = 64 << 10  # bytes read of a redirect or refusal, so that its connection can be used again; a longer one is closed
HOPS = 10  # redirects of one request; the public Hub needs two
PAGES = 5000  # of one list, 1,000 repositories each: more than there are on any Hub
LINK = 8192  # characters of an address; the public Hub's cursors have 200
LISTED = 0.01  # seconds that each listed repository adds to the deadline of its list: a page of 1,000 may take 10 s
MALFORMED = 100  # entries that cannot be read, after which a description, or a list of which they are a tenth, is taken for none
NAME = 1024  # characters of a repository's or file's name; no file system takes longer paths
SIZE = 1 << 60  # bytes of a file; more cannot be meant
IN_FLIGHT = 48 << 20  # bytes of ranges that are in memory at once, over all threads of a client: 6 whole pieces
MAPPED = 2 << 30  # bytes of a file that has to be on disk whole; a TFLite file's addresses reach no further
OTHER = 40 << 20  # bytes of a file beside the weights, which is fetched in one piece; the largest public vocabularies have 35 MB


def deadline(size: int = 0) -> float:
    """Seconds that a call may take whose answer has so many bytes."""
    return DEADLINE + size / SLOWEST
