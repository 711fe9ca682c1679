"""Duplicates and the map, computed in the background."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from diptych.extras import require
from diptych.index.search.near_duplicates import THRESHOLD
from diptych.serve.library.items import found
from diptych.serve.library.jobs import Job, Progress
from diptych.serve.library.overview.duplicates import DuplicateGroups, duplicate_groups
from diptych.serve.library.overview.layouts import Method
from diptych.serve.library.overview.picture_map import PictureMap, picture_map
from diptych.serve.routes.asking import Page, PageSize, answered, prefers
from diptych.serve.service import Library, OfLibrary, Served, Service
from diptych.serve.web.answers import DuplicatesAnswer, JobAnswer, MapAnswer, RegionsAnswer
from diptych.serve.web.requests import Route
from diptych.serve.web.schemas import LIMIT

router = APIRouter(route_class=Route, tags=["overview"])
_RUNNING: dict[int | str, dict[str, Any]] = {202: {"model": JobAnswer, "description": "Under way; ask again."}}
_PACKED = "application/octet-stream"


@router.get("/duplicates", response_model=DuplicatesAnswer, responses=_RUNNING)
def duplicates(
    served: Served,
    library: OfLibrary,
    threshold: Annotated[float, Query(ge=0.5, le=1)] = THRESHOLD,
    offset: Page = 0,
    limit: PageSize = LIMIT,
) -> Response:
    """Groups of pictures that are nearly the same. Nothing is deleted."""

    def work(progress: Progress) -> DuplicateGroups:
        with library.pool.apart() as index:
            return duplicate_groups(index, threshold, progress)

    state = _state(library)
    job = library.jobs.get("duplicates", (threshold, state), work)
    if job.state != "done":
        return _unfinished(job)
    result: DuplicateGroups = job.result
    groups = result.groups[offset : offset + limit]
    with library.pool.reading() as index:
        ids = [id for group in groups for id, _ in group]
        items = {item.id: served.view.of(item) for item in found(index, ids)}
    shown = [
        [items[id] | {"cosine": cosine} for id, cosine in group if id in items] for group in groups
    ]  # fmt: skip
    end = offset + len(groups)
    return answered(
        {
            "state": "done", "threshold": threshold, "searched": result.searched, "unread": result.unread,
            "total": len(result.groups),
            "next_offset": end if groups and end < len(result.groups) else None, "version": state,
            "groups": [{"keep": files[0]["id"], "files": files} for files in shown if len(files) > 1],
        }
    )  # fmt: skip


@router.get(
    "/map",
    response_model=MapAnswer,
    responses={**_RUNNING, 200: {"content": {_PACKED: {"schema": {"type": "string", "format": "binary"}}}}},
)
def picture_points(request: Request, served: Served, library: OfLibrary, method: Method = "pca") -> Response:
    """Every picture as a point; those that are alike are near."""
    state, job = _map(served, library, method)
    if job.state != "done":
        return _unfinished(job)
    points: PictureMap = job.result
    if prefers(request, _PACKED):
        return Response(points.packed(), media_type=_PACKED, headers={"Diptych-Version": state})
    x, y = (column.astype(float).round(5).tolist() for column in points.positions.T)
    return answered(
        {
            "state": "done", "method": method, "version": state, "total": len(points.ids), "ids": points.ids.tolist(),
            "x": x, "y": y, "versions": points.versions, "aspects": points.aspects.astype(float).round(4).tolist(),
        }
    )  # fmt: skip


@router.get("/map/regions", response_model=RegionsAnswer, responses=_RUNNING)
def map_regions(served: Served, library: OfLibrary, method: Method = "pca") -> Response:
    """The parts of the map that a word describes."""
    state, job = _map(served, library, method)
    if job.state != "done":
        return _unfinished(job)
    points: PictureMap = job.result
    regions = [region._asdict() for region in points.regions]
    return answered({"state": "done", "method": method, "version": state, "regions": regions})


def _map(served: Service, library: Library, method: Method) -> tuple[str, Job]:
    """The state of the index, and the job that draws its map. Raises MissingExtraError before the job begins."""
    if method == "umap":
        require("this map", "umap")

    def work(progress: Progress) -> PictureMap:
        with library.pool.apart() as index:
            return picture_map(index, served.model.for_background(), library.layouts, method, progress)

    state = _state(library)
    return state, library.jobs.get("map", (method, state), work)


def _state(library: Library) -> str:
    with library.pool.reading() as index:
        return index.store.state()


def _unfinished(job: Job) -> Response:
    """How far a job is. Raises its error if it failed."""
    if job.error is not None:
        raise job.error
    return answered({"state": "running", "done": job.done, "total": job.total}, 202, {"Retry-After": "1"})
