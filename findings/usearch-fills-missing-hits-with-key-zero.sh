#!/usr/bin/env bash
# USearch fills what a batch of searches does not find with key 0, which is the key of a picture.
# usearch 2.26.6, NumPy 2.4.6.
# Expected: three hits for k=5 in an index of three, as a single search gives; or keys that no row has (FAISS: -1).
# Seen: keys [1 2 0 0 0] or the like, with the distances NaN; "counts" has the true number. Iterating over one
# query's matches stops in time, the array does not.
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

vectors = np.eye(4, dtype=np.float32)[:3] + 0.1
index = Index(ndim=4, metric="cos", dtype="f32")
index.add(np.arange(3) + 10, vectors)
single, batch = index.search(vectors[0], 5), index.search(vectors[:2], 5)
print("single:", single.keys, "batch:", batch.keys.tolist(), batch.distances.tolist(), "counts:", batch.counts)
assert len(single.keys) == 3 and batch.counts.tolist() == [3, 3]
if batch.keys.shape[1] == 3 or not (batch.keys[:, 3:] == 0).all():
    sys.exit("changed: what is missing has no key")
PROGRAM
