#!/usr/bin/env bash
# After a removal, FAISS' IVF gives a new vector the identity of another one that is still there.
# faiss-cpu 1.15.1, NumPy 2.4.6.
# Expected: add() without identities gives new ones; or, as in the flat index, identities are positions and move up.
# Seen: identities stay (rows 0 and 5 removed, 199 is still 199), and the next vector gets ntotal, 198: two vectors
# answer to 198, and remove_ids([198]) takes both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import sys

import faiss
import numpy as np

vectors = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
index = faiss.IndexIVFFlat(faiss.IndexFlatIP(8), 8, 4, faiss.METRIC_INNER_PRODUCT)
index.train(vectors)
index.add(vectors)
index.nprobe = 4
index.remove_ids(np.array([0, 5]))
index.add(vectors[:1])
found = index.search(vectors[:1], 199)[1][0].tolist()
twice = {number for number in found if found.count(number) > 1}
print("vectors:", index.ntotal, "identities:", len(set(found)), "twice:", twice)
assert index.ntotal == 199 and 199 in found, "identities moved up"
if not twice:
    sys.exit("changed: each vector has an identity of its own")
assert twice == {198} and index.remove_ids(np.array([198])) == 2
PROGRAM
