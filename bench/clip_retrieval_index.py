"""The index and the metadata that clip-retrieval's back end reads, made by the python of its environment: faiss's exact
index of inner products, and paths and captions in a file of Arrow's, which are the fastest of its choices here.

python bench/clip_retrieval_index.py VECTORS FOLDER
"""

import sys
from pathlib import Path

import faiss  # type: ignore
import numpy as np
import pyarrow as pa  # type: ignore

if __name__ == "__main__":
    vectors, folder = np.load(sys.argv[1]), Path(sys.argv[2])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "image.index"))
    paths = [f"{number // 1000:03}/{number:06}.jpg" for number in range(len(vectors))]
    table = pa.table({"url": paths, "caption": [""] * len(paths)})
    (folder / "metadata").mkdir()
    with pa.ipc.new_file(str(folder / "metadata" / "0.arrow"), table.schema) as file:
        file.write_table(table)
