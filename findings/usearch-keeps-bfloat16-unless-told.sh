#!/usr/bin/env bash
# A usearch index made with its defaults keeps float32 vectors in 16 bits, and hands them out as float32.
# usearch 2.26.6, NumPy 2.4.6.
# Expected: float32 in, float32 kept, as in FAISS and hnswlib; "exact" search gives exact distances.
# Seen: dtype is bfloat16 (or another of 16 bits, by the processor): get() gives float32 numbers that are off in
# the third digit, and search(exact=True) finds distances off by more than 1e-5, so a search among near
# duplicates ranks by rounding. dtype="f32" is exact.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet usearch==2.26.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
from usearch.index import Index

random = np.random.default_rng(0)
vectors = random.normal(size=(200, 64)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)


def errors(**options):
    index = Index(ndim=64, metric="cos", **options)
    index.add(np.arange(200), vectors)
    got = index.get(5)
    assert got.dtype == np.float32
    found = index.search(vectors[0], 200, exact=True)
    true = 1 - vectors[found.keys] @ vectors[0]
    return index.dtype, float(np.abs(got - vectors[5]).max()), float(np.abs(found.distances - true).max())


default, single = errors(), errors(dtype="f32")
print("default:", default, "asked for f32:", single)
assert single[1] == 0 and single[2] < 1e-5, "f32 changed"
if default[1] == 0:
    sys.exit("changed: float32 is kept")
assert default[1] > 1e-5 and default[2] > 1e-5
PROGRAM
