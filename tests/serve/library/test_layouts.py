"""Where pictures lie on the map."""

from pathlib import Path

import numpy as np
import pytest

from diptych.errors import MissingExtraError, ReaderProcessError, SearchIndexError
from diptych.media.reading.child_process import ChildProcess
from diptych.serve.library.overview import layouts, umap_process
from diptych.serve.library.overview.layouts import Layouts, principal_components, spread
from diptych.serve.library.overview.umap_process import nearest


def clusters(each: int, dim: int = 16, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(count, dim))
    return (np.repeat(centres, each, axis=0) + 0.05 * rng.normal(size=(each * count, dim))).astype(np.float32)


@pytest.fixture
def drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layouts:
    """Layouts whose process is light."""
    monkeypatch.setattr(layouts, "_PROGRAM", "tests.serve.library.drawing_process")
    return Layouts(tmp_path / "maps")


def test_what_is_alike_is_near_by_principal_components(tmp_path: Path) -> None:
    points = Layouts(tmp_path).points(clusters(50), "pca")
    first, second = points[:50].mean(axis=0), points[50:].mean(axis=0)
    assert np.abs(first - second)[0] > 0.8
    assert points[:50, 0].std() < 0.1


def test_components_are_those_of_the_singular_values() -> None:
    vectors = clusters(20, count=3)
    found = principal_components(vectors, 4)
    _, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), sizes[:4], rtol=1e-3)
    np.testing.assert_array_equal(principal_components(vectors, 99).shape, (60, 16))


def test_a_stray_point_squeezes_no_others() -> None:
    points = np.random.default_rng(0).random((500, 2))
    points[0] = 1e6
    inside = spread(points, 1.0)
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert inside[0].min() > 0.99
    assert inside[1:].std() > 0.2


@pytest.mark.parametrize("method", ["pca", "umap"])
@pytest.mark.parametrize("count", [1, 2, 70])
def test_pictures_that_are_all_alike_lie_in_the_middle(drawing: Layouts, count: int, method: layouts.Method) -> None:
    points = drawing.points(np.repeat(clusters(1, count=1), count, axis=0).astype(np.float16), method)
    np.testing.assert_allclose(points, np.full((count, 2), 0.5), atol=0.1)


def test_points_that_are_no_numbers_are_neither_shown_nor_kept(
    drawing: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = drawing.points(clusters(40), "umap")
    (kept,) = (tmp_path / "maps").glob("*.npy")
    np.save(kept, np.full((80, 2), np.nan, np.float32))
    np.testing.assert_array_equal(drawing.points(clusters(40), "umap"), points)
    monkeypatch.setattr(layouts, "principal_components", lambda vectors, count: vectors)
    vectors = clusters(50)
    vectors[0, 0] = 200  # where the process draws no numbers
    with pytest.raises(SearchIndexError, match="at no numbers"):
        drawing.points(vectors, "umap")


@pytest.mark.filterwarnings("ignore:precomputed_knn")
def test_umap_lays_out_a_sample_and_the_others_beside_what_they_are_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umap_process, "SAMPLE", 100)
    vectors, shares = clusters(80, count=3), list[float]()
    points = umap_process._prepared({})(vectors, shares.append)
    groups = points.reshape(3, 80, 2)
    middles = np.median(groups, axis=1)
    apart = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert np.linalg.norm(groups - middles[:, None], axis=2).max() < apart / 2
    assert shares == sorted(shares)
    assert 0.5 < max(shares) <= 1
    assert len(np.unique(points, axis=0)) > 100  # nobody lies on another


def test_the_nearest_are_those_of_all_distances() -> None:
    rng = np.random.default_rng(1)
    vectors, sample = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    rows, squares = nearest(vectors, sample, 3)
    distances = ((vectors[:, None] - sample[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(rows, np.argsort(distances, axis=1)[:, :3])
    np.testing.assert_allclose(squares, np.sort(distances, axis=1)[:, :3], rtol=1e-4, atol=1e-5)


def test_a_map_is_drawn_once_for_its_vectors(drawing: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, steps = clusters(40), list[tuple[int, int]]()
    points = drawing.points(vectors, "umap", lambda done, total: steps.append((done, total)))
    assert steps == [(50, 100)]
    np.testing.assert_allclose(points, spread(principal_components(vectors, 50)[:, :2], 0.1), atol=1e-6)
    monkeypatch.setattr(layouts, "_PROGRAM", "there.is.none")
    np.testing.assert_array_equal(Layouts(tmp_path / "maps").points(vectors, "umap"), points)


def test_a_file_that_is_cut_is_drawn_again(drawing: Layouts, tmp_path: Path) -> None:
    points = drawing.points(clusters(40), "umap")
    (kept,) = (tmp_path / "maps").glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-100])
    np.testing.assert_array_equal(drawing.points(clusters(40), "umap"), points)


def test_few_maps_are_kept(drawing: Layouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "KEPT", 1)
    for each in (40, 41):
        drawing.points(clusters(each), "umap")
    assert len(list((tmp_path / "maps").iterdir())) == 1


@pytest.mark.parametrize(("value", "said"), [(1e6, "has ended .exit code 7"), (np.nan, "ValueError: not a number")])
def test_a_process_that_fails_or_dies_costs_its_map_alone(
    drawing: Layouts, value: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "principal_components", lambda vectors, count: vectors)
    vectors = clusters(40)
    vectors[0, 0] = value
    with pytest.raises(SearchIndexError, match=said):
        drawing.points(vectors, "umap")
    assert drawing.points(clusters(40), "umap").shape == (80, 2)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("a reading process did not start:\nTraceback:\n  File a.py\nImportError: no name UMAP\n", "no name UMAP"),
        ("a reading process did not start (signal 9); its output is above.", "the log of the server says more"),
    ],
)
def test_a_process_that_does_not_start_is_said_without_a_traceback(
    tmp_path: Path, problem: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ChildProcess) -> None:
        raise ReaderProcessError(problem)

    monkeypatch.setattr(layouts, "_PROGRAM", "tests.serve.library.drawing_process")
    monkeypatch.setattr(ChildProcess, "wait_until_ready", broken)
    with pytest.raises(SearchIndexError, match=f"does not start: .*{said}") as raised:
        Layouts(tmp_path).points(clusters(40), "umap")
    assert not {"Traceback", "above"} & {*str(raised.value).replace(":", " ").replace(".", " ").split()}


def test_a_server_that_stops_draws_none(drawing: Layouts) -> None:
    drawing.close()
    with pytest.raises(SearchIndexError, match="stops"):
        drawing.points(clusters(40), "umap")


def test_few_pictures_need_no_umap_and_without_it_many_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "is_importable", lambda name: False)
    monkeypatch.setattr("diptych.extras.is_importable", lambda name: False)
    assert layouts.methods() == ["pca"]
    assert Layouts(tmp_path).points(clusters(20), "umap").shape == (40, 2)
    with pytest.raises(MissingExtraError, match=r"pip install 'diptych\[map\]'"):
        Layouts(tmp_path).points(clusters(40), "umap")
