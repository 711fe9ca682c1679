"""Looking closer: labels for pictures, and where a phrase fits in one."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from diptych.errors import ImageError
from diptych.inference.heat_map import HeatMap, heat_maps
from diptych.inference.labels import LabelSet, label_vectors
from diptych.scoring.zero_shot import label_names
from diptych.serve.library.items import found, one, stored_vectors
from diptych.serve.model.pictures import decoded_base64
from diptych.serve.routes.asking import answered
from diptych.serve.service import OfLibrary, Served, Service, library_of
from diptych.serve.web.answers import ClassifyAnswer, LocateAnswer
from diptych.serve.web.problems import RequestProblem, gone_as_missing, invalid
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import ClassifyBody, LocateBody, Picture

router = APIRouter(route_class=Route, tags=["looking closer"])
MOST_PROMPTS, MOST_CHARACTERS = 100_000, 20_000_000  # of labels in templates
WIDTH = 1280  # pixels of the longer side of the picture in which a phrase is looked for
_HEAT_PX = 512  # of the map that is laid over a thumbnail


@router.post("/classify", response_model=ClassifyAnswer)
def classify(body: ClassifyBody, request: Request, served: Served) -> Response:
    """Which label fits each picture."""
    others = sum(picture.item is None for picture in body.pictures)
    if others > served.settings.max_pictures:
        most = served.settings.max_pictures
        raise invalid(f"{others:,} pictures are not of the index; at most {most:,} are taken.", "pictures")
    _check_prompts(body)
    vectors = label_vectors(served.model, body.labels, templates=body.templates, truncate=body.truncate)
    names = tuple(label_names(body.labels))
    label_set = LabelSet.of(served.model, names, vectors, multi_label=body.multi_label, patches=False)
    rows, failures = _picture_vectors(request, served, body.pictures)
    kept = sorted(rows)
    results = []
    if kept:
        cosines = np.stack([rows[index] for index in kept]) @ label_set.vectors.T
        result = label_set.classify(cosines)
        results = [
            _result(index, body.pictures[index].item, result, cosines[row], row) for row, index in enumerate(kept)
        ]
    return answered({"labels": list(names), "multi_label": body.multi_label, "results": results, "failures": failures})


def _check_prompts(body: ClassifyBody) -> None:
    """Raises RequestProblem (422) for more names and templates than can be embedded in a request's time."""
    names = [name for names in label_names(body.labels).values() for name in names]
    count, characters = len(names) * len(body.templates), 0
    for template in body.templates:
        slots = template.count("{}")
        characters += len(names) * len(template) + slots * sum(map(len, names))
    if count > MOST_PROMPTS or characters > MOST_CHARACTERS:
        raise invalid(
            f"labels and templates make {count:,} prompts of {characters:,} characters; at most {MOST_PROMPTS:,} of "
            f"{MOST_CHARACTERS:,} characters are taken.", "templates",
        )  # fmt: skip


def _result(index: int, item: int | None, result: Any, cosines: np.ndarray, row: int) -> dict[str, Any]:
    probabilities = [round(float(each), 5) for each in result.probabilities[row]]
    best = int(np.argmax(result.probabilities[row]))
    return {
        "index": index, "item": item, "label": result.labels[best], "probability": probabilities[best],
        "probabilities": probabilities, "scores": [round(float(each), 5) for each in cosines[: len(result.labels)]],
    }  # fmt: skip


def _picture_vectors(
    request: Request, served: Service, pictures: list[Picture]
) -> tuple[dict[int, np.ndarray], list[dict[str, Any]]]:
    """The vectors of pictures by their index, and why the others have none."""
    rows, failures = dict[int, np.ndarray](), list[dict[str, Any]]()
    ids = {index: picture.item for index, picture in enumerate(pictures) if picture.item is not None}
    if ids:
        with library_of(request).pool.reading() as index:
            there = {item.id for item in found(index, list(dict.fromkeys(ids.values())))}
            known = dict(zip(sorted(there), stored_vectors(index, sorted(there)), strict=True)) if there else {}
        rows |= {number: known[id] for number, id in ids.items() if id in known}
    for number, picture in enumerate(pictures):
        if number in rows:
            continue
        try:
            if picture.item is not None:
                raise ImageError("missing", f"item {picture.item}", "Its file may have changed or gone.")
            with gone_as_missing(f"picture {number}"):
                rows[number] = _vector(request, served, picture, f"pictures.{number}")
        except ImageError as error:
            failures.append({"index": number, "item": picture.item, "reason": error.reason, "detail": error.detail})
    return rows, failures


def _vector(request: Request, served: Service, picture: Picture, where: str) -> np.ndarray:
    if picture.upload is not None:
        return library_of(request).uploads.get(picture.upload).vector
    return served.pictures.vectors([_content(served, picture, where)])[0]


def _content(served: Service, picture: Picture, where: str) -> bytes:
    if picture.data is not None:
        return decoded_base64(picture.data, f"{where}.data")
    return served.pictures.fetched(picture.url or "", f"{where}.url")


@router.post("/locate", response_model=LocateAnswer)
def locate(body: LocateBody, request: Request, served: Served) -> Response:
    """Where in a picture a phrase fits."""
    jpeg, size = _whole(request, served, body.picture)
    found = _heat(served, jpeg, body.phrase, body.method, body.threshold)
    scales = size[0] / found.image.width, size[1] / found.image.height  # one of them is rounded in a thin picture
    rows, columns = found.relative_likelihood.shape
    likelihood = np.clip(found.relative_likelihood * 255, 0, 255).astype(np.uint8)
    return answered(
        {
            "phrase": body.phrase, "method": found.method, "width": size[0], "height": size[1], "rows": rows,
            "columns": columns, "likelihood": base64.b64encode(likelihood.tobytes()).decode(),
            "best_score": round(float(found.scores.max()), 5),
            "boxes": [_scaled(box, *scales) for box in found.boxes],
        }
    )  # fmt: skip


def _scaled(box: Any, across: float, down: float) -> dict[str, Any]:
    """A box in whole pixels of the picture; its edges are rounded, so that none lies outside."""
    left, right = round(box.x * across), round((box.x + box.width) * across)
    top, bottom = round(box.y * down), round((box.y + box.height) * down)
    sides = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return sides | {"score": round(float(box.score), 5)}


@router.get("/items/{id:int}/heat", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def heat(
    id: Annotated[int, Path(ge=1, le=2**53)],
    request: Request,
    served: Served,
    library: OfLibrary,
    phrase: Annotated[str, Query(min_length=1, max_length=2000)],
    method: Literal["auto", "patches", "windows"] = "auto",
) -> Response:
    """A map of where a phrase fits, with transparency, to lay over the picture."""
    jpeg, _ = _whole(request, served, Picture.model_validate({"item": id}))
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(_overlay(_heat(served, jpeg, phrase, method, None)), media_type="image/png", headers=headers)


def _whole(request: Request, served: Service, picture: Picture) -> tuple[bytes, tuple[int, int]]:
    """A picture as a JPEG, its longer side WIDTH at most, and its own size."""
    if picture.item is not None:
        library = library_of(request)
        with library.pool.reading() as index:
            item = one(index, picture.item)
        if item.kind == "text":
            raise RequestProblem(422, "RequestError", f"item {item.id} is a text.", argument="picture.item")
        return library.thumbnails.get(item, WIDTH), (item.details.width or WIDTH, item.details.height or WIDTH)
    if picture.upload is not None:
        uploads = library_of(request).uploads
        kept = uploads.get(picture.upload)
        return uploads.jpeg(picture.upload), (kept.width, kept.height)
    return served.pictures.whole(_content(served, picture, "picture"), WIDTH)


def _heat(served: Service, jpeg: bytes, phrase: str, method: Any, threshold: float | None) -> HeatMap:
    """The map, made when the model is free. The JPEG is of our own making."""
    model = served.model.embedder
    options = {"method": method, "threshold": threshold, "truncate": True}
    return served.model.call(lambda: heat_maps(model, jpeg, [phrase], **options)[0])


def _overlay(found: HeatMap) -> bytes:
    """The map in colours, more opaque where the phrase fits, as PNG."""
    from PIL import Image

    from diptych.display.plots import heat_colours

    likelihood = found.relative_likelihood
    low, high = float(np.median(likelihood)), float(likelihood.max())
    share = np.clip((likelihood - low) / max(high - low, 1e-6), 0, 1)
    scale = _HEAT_PX / max(found.image.size)
    width, height = (max(1, round(side * scale)) for side in found.image.size)
    heat = Image.fromarray((share * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(heat, np.float32) / 255
    alpha = (255 * (0.15 + 0.55 * values) * (values > 0.02)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.dstack([heat_colours(values).astype(np.uint8), alpha])).save(file, "PNG", compress_level=1)
    return file.getvalue()
