#!/usr/bin/env bash
# clip-retrieval's reader of folders cannot read the layout that it is made for, a.jpg beside a.txt.
# clip-retrieval 2.45.0 (its clip_inference/reader.py is loaded alone, without its servers), torch 2.13.0,
# Pillow 13.0.0, NumPy 2.4.6.
# Expected: one sample a name, with picture and caption.
# Seen: pictures and captions are listed by their whole names, suffix and all; the samples are those of the
# captions, so the picture is looked for under "a.txt": KeyError. Pictures alone work.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --no-deps clip-retrieval==2.45.0
cd "$folder"
"$folder/venv/bin/python" - <<'PROGRAM'
import importlib.metadata
import importlib.util
import pathlib
import sys

from PIL import Image

source = next(
    path for path in importlib.metadata.files("clip-retrieval") if str(path).endswith("clip_inference/reader.py")
)
spec = importlib.util.spec_from_file_location("reader", source.locate())
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)

pathlib.Path("pictures").mkdir()
for name in ("a", "b"):
    Image.new("RGB", (8, 8)).save(f"pictures/{name}.jpg")
    pathlib.Path(f"pictures/{name}.txt").write_text(f"words of {name}")


def samples(**which):
    return reader.get_image_dataset()(lambda picture: picture.size, lambda texts: texts, "pictures", **which)


alone = samples(enable_text=False)
print("pictures alone:", alone.keys)
assert len(alone) == 2 and alone[0]["image_tensor"] == (8, 8)
both = samples()
print("pictures with captions:", both.keys)
try:
    both[0]
except KeyError as error:
    print("KeyError:", error)
else:
    sys.exit("changed: a picture and its caption are found")
PROGRAM
