"""A demo: searches, classifies and compares pictures, prints the results and writes demo/report.html. It needs no
network; the pictures are scikit-image's photographs and drawn scenes."""

import base64
import contextlib
import io
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import jinja2
import skimage.data
from PIL import Image

import diptych
import diptych.cli
from diptych.display.plots import thumbnail
from diptych.media.scanning.image_files import find_images
from diptych.scenes.scene import COLOURS, Scene, Scenes

HERE = Path(__file__).parent
OUT = Path("demo")
PHOTOGRAPHS = {
    "cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg", "cameraman": "camera.png",
    "motorcycle": "motorcycle_left.png", "grass": "grass.png", "bricks": "brick.png", "stars": "hubble_deep_field.jpg",
    "page": "page.png",
}  # fmt: skip
PHOTO_QUERIES = (
    "a cat with green eyes",
    "something to drink",
    "a motorbike in a workshop",
    "a photographer with a tripod",
    "the night sky",
    "text on paper",
)
QUERY_SCENES = (3, 14, 25, 36, 47)  # each gives a query about a thing in it
LABELS = (
    "a cat", "a cup of coffee", "a motorcycle", "a man with a camera", "the night sky", "grass", "a brick wall",
    "text on paper",
)  # fmt: skip
CAPTIONS = (
    "a rocket launch at night", "a man with a camera", "a motorbike", "a cup of espresso", "a cat with green eyes",
)  # fmt: skip
COMPARED = ("rocket", "cameraman", "motorcycle", "coffee", "cat")
SCENE_COUNT, SINGLE_COUNT = 60, 18


def main() -> None:
    """Run every part and write the report."""
    started_s = time.monotonic()
    photos, scenes = write_photographs(), write_scenes()
    queries = [f"a {scenes[index].things[-1].colour} {scenes[index].things[-1].kind}" for index in QUERY_SCENES]
    model = diptych.load()
    print(model)
    parts = {
        "photo_search": [search(model, photos, query) for query in PHOTO_QUERIES],
        "scene_search": [search(model, OUT / "scenes", query, scenes) for query in queries],
        "photo_labels": classify(model, photos, LABELS, "{}"),
        "scene_labels": classify(model, write_single_things(), COLOURS, "a {} thing in the picture"),
        "matrix": matrix(model, photos),
    }
    seconds = time.monotonic() - started_s
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (HERE / "report.html.jinja").read_text(encoding="utf-8")
    )
    page = template.render(
        model=str(model).rpartition("bundled: ")[2].strip(">"), seconds=seconds, scenes=SCENE_COUNT, **parts
    )
    (OUT / "report.html").write_text(page, encoding="utf-8")
    print(f"\nwrote {OUT / 'report.html'} in {seconds:.0f} s")


def write_photographs() -> Path:
    """Write a folder of photographs."""
    folder, source = OUT / "photographs", Path(skimage.data.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in PHOTOGRAPHS.items():
        (folder / f"{name}{Path(file).suffix}").write_bytes((source / file).read_bytes())
    return folder


def write_scenes() -> list[Scene]:
    """Write a folder of drawn scenes, scene-0.png and so on; return the scenes."""
    (OUT / "scenes").mkdir(parents=True, exist_ok=True)
    scenes = list(Scenes(SCENE_COUNT, seed=8, split="test", things=(1, 3)))
    for index, scene in enumerate(scenes):
        scene.image.save(OUT / "scenes" / f"scene-{index}.png")
    return scenes


def write_single_things() -> Path:
    """Write a folder of drawings of one thing each, in a colour that its kind never had in training."""
    folder = OUT / "things"
    folder.mkdir(parents=True, exist_ok=True)
    for scene in Scenes(SINGLE_COUNT, seed=9, split="test", things=(1, 1)):
        scene.image.save(folder / f"{scene.things[0].colour}-{scene.things[0].kind}.png")
    return folder


def show(*arguments: str) -> None:
    """Print a command as a reader would type it. The lines below it equal its output, but for the rounding of bfloat16
    (tests/test_demo.py)."""
    print(f"\n$ {shlex.join(['diptych', *arguments])}", flush=True)


def search(model: diptych.Embedder, folder: Path, query: str, scenes: Sequence[Scene] = ()) -> dict:
    """The four best pictures, with the things in drawn ones."""
    show("search", query, str(folder), "--limit", "4")
    with diptych.open_index(folder, model=model) as index:
        index.update(reindex=True)  # a former run may have had another model
        result = index.search(query, limit=4)
    for hit in result.hits:
        path = folder / hit.path.relative_to(index.root)
        print(f"{hit.score:6.3f}  {'-' if hit.z is None else format(hit.z, '.1f'):>5}  {path}")
    hits = [
        {"picture": embedded(thumbnail(hit.path)), "name": title(hit.path, scenes), "score": hit.score}
        for hit in result.hits
    ]
    return {"query": query, "hits": hits}


def title(path: Path, scenes: Sequence[Scene]) -> str:
    """The things in a drawn scene, or the name of a photograph."""
    if not scenes:
        return path.stem
    return ", ".join(f"{thing.colour} {thing.kind}" for thing in scenes[int(path.stem.partition("-")[2])].things)


def classify(model: diptych.Embedder, folder: Path, labels: tuple[str, ...], template: str) -> list[dict]:
    """The three most probable labels of each picture."""
    show("classify", str(folder), "--labels", ",".join(labels), "--template", template)
    pictures = find_images(folder)
    result = model.classify(pictures, labels, templates=[template])
    rows = []
    for path, shares in zip(pictures, result.probabilities, strict=True):
        best = [{"label": labels[j], "share": float(shares[j])} for j in (-shares).argsort()[:3]]
        print(f"{path}  " + "  ".join(f"{row['label']} {row['share']:.1%}" for row in best))
        rows.append({"picture": embedded(thumbnail(path)), "name": path.stem, "labels": best})
    return rows


def matrix(model: diptych.Embedder, photos: Path) -> str:
    """The similarity matrix as a heat map."""
    captions, plot = OUT / "captions.txt", OUT / "matrix.png"
    captions.write_text("".join(f"{caption}\n" for caption in CAPTIONS), encoding="utf-8")
    pictures = [photos / f"{name}{Path(PHOTOGRAPHS[name]).suffix}" for name in COMPARED]
    more = [word for picture in pictures[1:] for word in ("--image", str(picture))]
    arguments = ("compare", str(pictures[0]), str(captions), *more, "--plot", str(plot))
    show(*arguments)
    with contextlib.redirect_stderr(io.StringIO()):  # it would print the model and the device again
        if code := diptych.cli.run(arguments):
            raise SystemExit(code)
    right = sum(int(row.argmax() == i) for i, row in enumerate(model.similarity(pictures, CAPTIONS)))
    print(f"{right} of {len(pictures)} pictures are nearest to the caption written for them")
    return "data:image/png;base64," + base64.b64encode(plot.read_bytes()).decode()


def embedded(picture: Image.Image) -> str:
    """A picture as a data: URL."""
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    main()
