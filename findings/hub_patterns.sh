#!/usr/bin/env bash
# In huggingface_hub '*.json' reaches into folders and '**/*.json' leaves out the top folder.
#
# Version: huggingface_hub 2.4.0 (filter_repo_objects, behind allow_patterns and ignore_patterns).
# A good guess: shell or pathlib rules: '*.json' is the top folder only, '**/*.json' is everywhere,
# 'sub' is the folder.
# Seen: fnmatch on the whole path: '*' also matches '/', so '**' means a slash must be there; 'sub'
# matches nothing ('sub/' does); and the brackets of a name such as 'a[1].bin' are a character class.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cat > "$work/check.py" <<'PY'
from huggingface_hub.utils import filter_repo_objects


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


files = ["config.json", "sub/config.json", "a/b/config.json", "a[1].bin"]
for pattern, guess, still in [
    ("*.json", ["config.json"], ["config.json", "sub/config.json", "a/b/config.json"]),
    ("**/*.json", ["config.json", "sub/config.json", "a/b/config.json"], ["sub/config.json", "a/b/config.json"]),
    ("*/config.json", ["sub/config.json"], ["sub/config.json", "a/b/config.json"]),
    ("sub", ["sub/config.json"], []),
    ("a[1].bin", ["a[1].bin"], []),
]:
    seen = list(filter_repo_objects(files, allow_patterns=pattern))
    check(repr(pattern), guess, seen, seen == still)
PY
cd "$work"
venv/bin/python check.py
