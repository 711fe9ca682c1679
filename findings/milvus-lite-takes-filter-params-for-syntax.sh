#!/usr/bin/env bash
# Milvus Lite does not know the values of filter_params, which its client takes and sends.
# pymilvus 3.0.2, milvus-lite 3.2.2.
# Expected: filter="path == {path}", filter_params={"path": "cat.jpg"} selects as filter='path == "cat.jpg"' does; pymilvus
# takes filter_params in search, query and delete, and it is the way that does not quote what users type.
# Seen: the values are sent and dropped: MilvusException code 6, "unexpected character '{' at column 9", in query, search and
# delete alike. Values must be quoted by hand where the same program runs on a file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pymilvus==3.0.2 milvus-lite==3.2.2
cd "$folder"
timeout 120 "$folder/venv/bin/python" - 2>log <<'PROGRAM'
import sys

import pymilvus

client = pymilvus.MilvusClient("pictures.db", timeout=30)
client.create_collection("pictures", dimension=4)
rows = [{"id": number, "vector": [1, 0, 0, number], "path": path} for number, path in enumerate(["cat.jpg", "dog.jpg"])]
client.insert("pictures", rows)


def answer(call, *arguments, **named):
    try:
        return len(call("pictures", *arguments, **named))
    except pymilvus.MilvusException as error:
        return error.message.splitlines()[0]


quoted = answer(client.query, filter='path == "cat.jpg"')
template = {"filter": "path == {path}", "filter_params": {"path": "cat.jpg"}}
answers = {
    "query": answer(client.query, **template),
    "search": answer(client.search, data=[[1, 0, 0, 0]], limit=2, **template),
    "delete": answer(client.delete, **template),
}
print("quoted:", quoted, "by filter_params:", answers)
assert quoted == 1
if any("unexpected character" not in str(words) for words in answers.values()):
    sys.exit("changed: filter_params are filled in")
PROGRAM
