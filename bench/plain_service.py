"""What a search service around an index is without `diptych serve`: FastAPI, one route, and one search at a time, since
an index is one thread's at a time. It embeds and searches as `diptych serve` does, and answers with ids, paths, scores
and sizes. It leaves out thumbnails, pages that stay the same while the index changes, filters, limits, deadlines, the
checks of who asks, and metrics.

python bench/plain_service.py FOLDER PORT
"""

import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

import diptych

app = FastAPI()
lock = threading.Lock()


@app.get("/search")
def search(q: str, limit: int = 60) -> dict[str, Any]:
    """The best hits for a text."""
    with lock:
        result = app.state.index.search(q, limit=limit)
    return {
        "hits": [
            {"id": hit.id, "path": str(hit.path), "score": hit.score, "width": hit.width, "height": hit.height}
            for hit in result.hits
        ]
    }


if __name__ == "__main__":
    app.state.index = diptych.open_index(sys.argv[1])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
