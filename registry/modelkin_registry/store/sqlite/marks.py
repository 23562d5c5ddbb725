"""What marks a file as a registry of this version: enough to open one that is up to date without the migrations and what they import."""

APPLICATION_ID = 0x6D6B696E  # "mkin" in the file's header: tells a registry from any other SQLite file
MIGRATIONS = "modelkin"  # the name under which sqlite-utils notes the steps done, in its table _sqlite_migrations
STEPS = (
    "1 identity, observation, source, vectors",
    "2 journal of the Hub",
    "3 structure",
    "4 backgrounds",
    "5 revisions are searched, senders",
    "6 fingerprints by spec",
    "7 checksums of rows",
    "8 checksums of what is said",
    "9 leases of the queue",
    "10 tags, notes, facets",
    "11 pairs of family trees",
    "12 indexes to browse by",
)  # all steps of schema.py, in order
