#!/usr/bin/env bash
# rdflib writes a score of 0.99999999 to Turtle as 1, and to its other formats as it is.
#
# Versions: rdflib 7.6.0, numpy 2.4.6.
# A good guess: a graph comes back from every format with the same literals; turtle is the default one.
# Seen: doubles are written with six decimals in Turtle and N3: 0.99999999 is read back as 1.0, 123456789.5 as 123456800. N-Triples, RDF/XML and
# JSON-LD keep every digit, so the digest of a canonical form depends on the format that the graph went through. A NumPy
# float32 as a literal has no type at all, and is a string to queries; float64 is a double.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile rdflib==7.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from rdflib import Graph, Literal, URIRef


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def through(form, number):
    graph = Graph()
    graph.add((URIRef("urn:model"), URIRef("urn:score"), Literal(number)))
    return float(next(Graph().parse(data=graph.serialize(format=form), format=form).objects()))


for number, short in [(0.99999999, 1.0), (123456789.5, 123456800.0)]:
    for form in ("turtle", "n3", "nt", "xml", "json-ld"):
        seen = through(form, number)
        check(f"{number} through {form}", number, seen, seen == (short if form in ("turtle", "n3") else number))
seen = [None if kind is None else kind.split("#")[1] for kind in (Literal(np.float32(0.5)).datatype, Literal(np.float64(0.5)).datatype)]
check("types of literals of NumPy's float32 and float64", ["float", "double"], seen, seen == [None, "double"])
PY
cd "$work"
venv/bin/python check.py
