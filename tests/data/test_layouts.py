"""The layouts in which people have pictures with captions: each is recognised, and says as what."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diptych.data.samples import Source, Stream, layout_of
from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from tests.conftest import Cli

WORDS = ("a red kite", "two dogs", "a boat", "an old door", "rain", "snow on a roof")


def draw(*paths: Path) -> None:
    """A small picture at each path, each of its own colour."""
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (40 * number % 256, 90, 200)).save(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """With nothing beside it, for a folder's neighbours may say what is in it."""
    place = tmp_path / "place" / "set"
    place.mkdir(parents=True)
    return place


def source_of(spec: object, **options: bool) -> Source:
    source = open_source(str(spec), **options)
    assert not isinstance(source, Stream)
    return source


def pairs(spec: object, **options: bool) -> dict[str, tuple[str, ...]]:
    """File -> captions; every picture is read."""
    source = source_of(spec, **options)
    samples = [source[index] for index in range(len(source))]
    assert all(isinstance(sample.image, bytes) and sample.image for sample in samples)
    return {Path(sample.key).name: sample.captions for sample in samples}


# --- Hugging Face's imagefolder


def metadata(folder: Path, kind: str, names: list[str]) -> None:
    rows = [{"file_name": name, "text": words} for name, words in zip(names, WORDS, strict=False)]
    if kind == "jsonl":
        write(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    elif kind == "csv":
        write(
            folder / "metadata.csv", "file_name,text\n" + "\n".join(f"{row['file_name']},{row['text']}" for row in rows)
        )
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder_with_its_table_above_the_splits(tmp_path: Path, kind: str) -> None:
    """The folder, the split and the pictures' folder all lead to the same captions."""
    draw(tmp_path / "train" / "1.png", tmp_path / "train" / "2.png", tmp_path / "test" / "1.png")
    metadata(tmp_path, kind, ["train/1.png", "train/2.png", "test/1.png"])
    wanted = {"1.png": ("a red kite",), "2.png": ("two dogs",)}
    assert pairs(tmp_path) == pairs(tmp_path / "train") == wanted
    assert pairs(tmp_path / "test") == pairs(tmp_path, held_out=True) == {"1.png": ("a boat",)}
    assert "metadata" in source_of(tmp_path).form
    assert layout_of(source_of(tmp_path)).left_out == ("test/",)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder_with_a_table_in_each_folder(tmp_path: Path, kind: str) -> None:
    for at, folder in enumerate(("train/a", "train/b", "validation")):
        draw(tmp_path / folder / f"{at}.png")
        metadata(tmp_path / folder, kind, [f"{at}.png"])
    write(tmp_path / "train" / "b" / "more.txt", "this is no table")
    assert set(pairs(tmp_path)) == {"0.png", "1.png"}
    assert set(pairs(tmp_path, held_out=True)) == {"2.png"}
    assert set(pairs(tmp_path / "train" / "b")) == {"1.png"}


def test_a_table_of_the_folder_above_gives_no_other_folder_its_captions(tmp_path: Path) -> None:
    """Names are often numbers: those of a neighbour are not this folder's."""
    draw(tmp_path / "one" / "1.png", tmp_path / "two" / "1.png", tmp_path / "two" / "2.png")
    metadata(tmp_path / "one", "csv", ["1.png"])
    write(tmp_path / "one" / "1.txt", "of the other")
    with pytest.raises(DataError, match="2 pictures and no caption"):
        open_source(tmp_path / "two")


# --- Flickr8k and Flickr30k


def flickr(folder: Path) -> list[str]:
    names = [f"{number}_ab.jpg" for number in range(3)]
    draw(*(folder / name for name in names))
    return names


def test_flickr8k_of_kaggle(tmp_path: Path) -> None:
    names = flickr(tmp_path / "Images")
    lines = [f'{name},"{words} , and so on ."' for name in names for words in WORDS[:2]]
    write(tmp_path / "captions.txt", "\n".join(["image,caption", *lines]))
    wanted = dict.fromkeys(names, ("a red kite , and so on .", "two dogs , and so on ."))
    assert pairs(tmp_path) == pairs(tmp_path / "captions.txt") == pairs(tmp_path / "Images") == wanted
    assert source_of(tmp_path).form == (
        "table captions.txt with columns image (picture) and caption (caption), pictures in Images/"
    )


def test_flickr8k_of_its_makers(tmp_path: Path) -> None:
    """No header, a number behind each name, tabs; and a second table with the words' lemmas."""
    names = flickr(tmp_path / "Flicker8k_Dataset")
    for name, more in (("Flickr8k.token.txt", ""), ("Flickr8k.lemma.token.txt", "be ")):
        lines = [f"{each}#{at}\t{more}{words}" for each in names for at, words in enumerate(WORDS[:2])]
        write(tmp_path / "Flickr8k_text" / name, "\n".join(lines))
    write(tmp_path / "Flickr8k_text" / "Flickr_8k.trainImages.txt", "\n".join(names))
    wanted = dict.fromkeys(names, WORDS[:2])
    assert pairs(tmp_path) == pairs(tmp_path / "Flicker8k_Dataset") == wanted
    assert pairs(tmp_path / "Flickr8k_text" / "Flickr8k.token.txt") == wanted
    assert layout_of(source_of(tmp_path)).left_out == ("Flickr8k_text/Flickr8k.lemma.token.txt",)


def test_flickr30k_of_kaggle(tmp_path: Path) -> None:
    """Bars, spaces behind them, and the row that has lost a bar."""
    names = flickr(tmp_path / "flickr30k_images")
    lines = [f"{name}| {at}| {words}" for name in names for at, words in enumerate(WORDS[:2])]
    table = write(
        tmp_path / "results.csv",
        "\n".join(["image_name| comment_number| comment", *lines, f"{names[0]}| 4   A dog runs ."]),
    )
    assert pairs(table) == pairs(tmp_path) == dict.fromkeys(names, WORDS[:2])
    source = source_of(tmp_path)
    assert source.skipped == {"no caption": 1}
    assert "separated by bars" in source.form


# --- COCO, Karpathy and other JSON


def coco(names: list[str], words: tuple[str, ...]) -> str:
    images = [{"id": 10 + at, "file_name": name} for at, name in enumerate(names)]
    notes = [
        {"id": 7 * at + way, "image_id": 10 + at, "caption": f"{words[at]} {way}"}
        for at in range(len(names))
        for way in (0, 1)
    ]
    return json.dumps({"info": {}, "licenses": [{"id": 1}], "images": images, "annotations": notes})


def test_coco(tmp_path: Path) -> None:
    """Its own names of folders; of instances nobody can learn."""
    for split, words in (("train2017", WORDS), ("val2017", WORDS[2:])):
        names = ["000000000009.jpg", "000000000025.jpg"]
        draw(*(tmp_path / split / name for name in names))
        write(tmp_path / "annotations" / f"captions_{split}.json", coco(names, words))
        boxes = json.loads(coco(names, words))
        boxes["annotations"] = [{"image_id": 10, "bbox": [1, 2, 3, 4]}]
        write(tmp_path / "annotations" / f"instances_{split}.json", json.dumps(boxes))
    train = {"000000000009.jpg": ("a red kite 0", "a red kite 1"), "000000000025.jpg": ("two dogs 0", "two dogs 1")}
    held = {"000000000009.jpg": ("a boat 0", "a boat 1"), "000000000025.jpg": ("an old door 0", "an old door 1")}
    annotations = tmp_path / "annotations"
    assert pairs(tmp_path) == pairs(annotations / "captions_train2017.json") == pairs(tmp_path / "train2017") == train
    assert pairs(tmp_path, held_out=True) == pairs(tmp_path / "val2017") == held
    assert source_of(tmp_path).form == (
        "COCO's JSON annotations/captions_train2017.json with columns file_name (picture) and caption (caption), "
        "pictures in ../train2017/, without val2017/"
    )
    with pytest.raises(DataError, match=r"instances_val2017\.json has COCO's form and no captions"):
        open_source(annotations / "instances_val2017.json")


def test_karpathys_splits(tmp_path: Path) -> None:
    draw(*(tmp_path / "images" / f"{at}.jpg" for at in range(3)))
    images = [
        {"filename": f"{at}.jpg", "split": split, "sentences": [{"raw": words, "tokens": words.split()}]}
        for at, (split, words) in enumerate(zip(("train", "test", "restval"), WORDS, strict=False))
    ]
    table = write(tmp_path / "dataset_flickr8k.json", json.dumps({"images": images, "dataset": "flickr8k"}))
    assert pairs(table) == {"0.jpg": ("a red kite",), "2.jpg": ("a boat",)}
    assert "Karpathy's JSON (1 test left out)" in source_of(tmp_path).form


@pytest.mark.parametrize(
    "content",
    [
        [{"image": "0.jpg", "caption": "a red kite"}, {"image": "1.jpg", "caption": ["two dogs", "dogs"]}],
        {"0.jpg": "a red kite", "1.jpg": ["two dogs", "dogs"]},
        {"0.jpg": {"caption": "a red kite"}, "1.jpg": {"caption": ["two dogs", "dogs"]}},
        {"image": ["0.jpg", "1.jpg"], "caption": ["a red kite", ["two dogs", "dogs"]]},
        {"image": {"0": "0.jpg", "1": "1.jpg"}, "caption": {"0": "a red kite", "1": ["two dogs", "dogs"]}},
        {"version": 1, "data": [{"path": "0", "text": "a red kite"}, {"path": "1", "text": ["two dogs", "dogs"]}]},
    ],
    ids=["objects", "names", "names-of-objects", "columns", "pandas", "wrapped"],
)
def test_json_in_one_piece(tmp_path: Path, content: object) -> None:
    draw(tmp_path / "images" / "0.jpg", tmp_path / "images" / "1.jpg")
    table = write(tmp_path / "data.json", json.dumps(content))
    assert pairs(table) == {Path("0" if "version" in content else "0.jpg").name: ("a red kite",)} | {
        Path("1" if "version" in content else "1.jpg").name: ("two dogs", "dogs")
    }


def test_json_that_holds_no_pairs(tmp_path: Path) -> None:
    for content in ('{"name": "x", "version": "1"}', "[1, 2]", '"a"', '{"a": ', "[" * 100_000):
        with pytest.raises(DataError, match=r"data\.json (holds no pairs|cannot be read as JSON)"):
            open_source(write(tmp_path / "data.json", content))


def test_names_whose_accents_lie_apart_on_the_disk(tmp_path: Path) -> None:
    """As a Mac's archives have them, where tables have them composed; and the other way round."""
    for form, other in (("NFD", "NFC"), ("NFC", "NFD")):
        folder = tmp_path / form
        names = [unicodedata.normalize(form, f"été {at}.jpg") for at in range(2)]
        draw(*(folder / "images" / name for name in names))
        rows = [f"{unicodedata.normalize(other, name)},{words}\n" for name, words in zip(names, WORDS, strict=False)]
        table = write(folder / "captions.csv", "image,caption\n" + "".join(rows))
        assert set(pairs(table).values()) == {("a red kite",), ("two dogs",)}


def test_pictures_behind_a_link(tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "0.jpg", tmp_path / "elsewhere" / "1.jpg")
    table = write(tmp_path / "set" / "captions.csv", "image,caption\n0.jpg,a red kite\n1.jpg,two dogs\n")
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set")  # leads nowhere new
    (tmp_path / "set" / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"pictures are outside its folder \(\S+images\), .* allow_outside=True reads"):
        open_source(table)
    assert pairs(table, allow_outside=True) == {"0.jpg": ("a red kite",), "1.jpg": ("two dogs",)}


# --- Kaggle's tables


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Id,Description", "{}"), ("image_id,text", "{}"), ("ImageId,Caption", "{}.jpg"),
        ("Image Index,title", "{}.JPG"), ("filename,alt text", "C:\\data\\pics\\{}.jpg"),
        ("path,TEXT", "/kaggle/input/set/pics/{}.jpg"), ("filepath,blip2_caption", "pics/{}.jpg"),
        ("picture_path,comment", "./pics/{}.jpg"), ("where,prompt", "{}.jpg"),
    ],
)  # fmt: skip
def test_names_as_tables_have_them(tmp_path: Path, header: str, name: str) -> None:
    """Without an ending, with another machine's folders before them, in another case."""
    draw(tmp_path / "pics" / "a1.jpg", tmp_path / "pics" / "b2.jpg")
    lines = [f"{name.format(each)},{words}" for each, words in zip(("a1", "b2"), WORDS, strict=False)]
    table = write(tmp_path / "train.csv", "\n".join([header, *lines]))
    for place in (table, tmp_path, tmp_path / "pics"):
        assert list(pairs(place).values()) == [("a red kite",), ("two dogs",)]


def test_labels_of_kaggle_are_class_names_and_said_to_be(tmp_path: Path) -> None:
    """The pictures in folders by split, as well as the tables; and what is handed in at the end."""
    draw(*(tmp_path / "train" / f"{name}.jpg" for name in "ab"), tmp_path / "test" / "c.jpg")
    write(tmp_path / "train.csv", "id_code,breed\na,golden retriever\nb,beagle")
    write(tmp_path / "test.csv", "id_code\nc")
    write(tmp_path / "sample_submission.csv", "id_code,breed\nc,beagle")
    assert list(pairs(tmp_path).values()) == [("golden retriever",), ("beagle",)]
    assert "breed (class; its name is the caption)" in source_of(tmp_path).form


def test_folders_that_are_called_as_splits_are_no_classes(tmp_path: Path) -> None:
    draw(*(tmp_path / "train_images" / f"{name}.png" for name in "ab"), tmp_path / "test_images" / "c.png")
    write(tmp_path / "train.csv", "id_code,diagnosis\na,0\nb,1")
    assert pairs(tmp_path) == {"a": ("0",), "b": ("1",)}
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match=r"train_images contains 2 pictures and no caption"):
        open_source(tmp_path)


def test_pictures_in_several_folders_and_in_two_at_once(tmp_path: Path) -> None:
    names = [f"{at}.png" for at in range(6)]
    draw(*(tmp_path / "parts" / f"part{at % 3}" / name for at, name in enumerate(names)))
    table = write(tmp_path / "list.csv", "image,caption\n" + "\n".join(map(",".join, zip(names, WORDS, strict=True))))
    assert pairs(table) == {name: (words,) for name, words in zip(names, WORDS, strict=True)}
    draw(*(tmp_path / "small" / f"part{at % 3}" / name for at, name in enumerate(names)))
    with pytest.raises(DataError, match=r"list\.csv names \d\.png, which is in \S+part\d and in \S+part\d; name the"):
        open_source(table)
    assert len(pairs(tmp_path / "parts")) == 6


def test_two_tables_of_the_same_pictures_are_for_a_person_to_choose(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / "b.png")
    for name in ("short.csv", "long.csv"):
        write(tmp_path / name, "image,caption\na.png,x\nb.png,y")
    with pytest.raises(DataError, match=r"long\.csv and \S+short\.csv name the same pictures; name the one"):
        open_source(tmp_path)
    (tmp_path / "long.csv").rename(tmp_path / "captions.csv")
    assert layout_of(source_of(tmp_path)).left_out == ("short.csv",)


# --- caption files


@pytest.mark.parametrize(
    "name", ["a.txt", "a.TXT", "a.png.txt", "a.caption", "a.text", "a.json", "a.png.json", "a.JSON"]
)
def test_names_of_caption_files(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "a.png")
    write(tmp_path / name, '{"text": "a red kite"}' if name.lower().endswith("json") else "a red kite\n")
    assert pairs(tmp_path) == {"a.png": ("a red kite",)}


def test_of_several_files_the_likeliest_counts(tmp_path: Path) -> None:
    """A .txt beside a .caption holds tags."""
    draw(tmp_path / "a.png")
    write(tmp_path / "a.txt", "kite, red, sky")
    write(tmp_path / "a.caption", "a red kite")
    write(tmp_path / "a.json", '{"url": "x"}')
    assert pairs(tmp_path) == {"a.png": ("a red kite",)}


@pytest.mark.parametrize("below", ["", "train"])
def test_captions_in_a_folder_of_their_own(tmp_path: Path, below: str) -> None:
    """The whole, and the pictures' folder alone."""
    for name, words in zip("ab", WORDS, strict=False):
        draw(tmp_path / "images" / below / f"{name}.jpg")
        write(tmp_path / "captions" / below / f"{name}.txt", words)
        write(tmp_path / "labels" / below / f"{name}.txt", "0 0.5 0.5 0.2 0.1")
    wanted = {"a.jpg": ("a red kite",), "b.jpg": ("two dogs",)}
    assert pairs(tmp_path) == pairs(tmp_path / "images") == wanted
    assert source_of(tmp_path).form == "pictures with caption files in captions/"


def test_labels_of_detectors_are_no_captions(tmp_path: Path) -> None:
    for place in ("beside", "apart"):
        for name in "ab":
            draw(tmp_path / place / "images" / f"{name}.jpg")
            write(tmp_path / place / ("images" if place == "beside" else "labels") / f"{name}.txt", "0 0.5 0.5 0.2 0.1")
        with pytest.raises(DataError, match="all in images, whose name would be the caption of each"):
            open_source(tmp_path / place)


# --- class folders


def class_folders(top: Path) -> Path:
    for kind in ("cat", "dog"):
        draw(*(top / kind / place / "1.png" for place in ("indoor", "outdoor")))
    return top


def test_classes_are_the_outermost_folders(tmp_path: Path) -> None:
    source = source_of(class_folders(tmp_path))
    assert [source.captions(at) for at in range(4)] == [("cat",), ("cat",), ("dog",), ("dog",)]
    assert source.form == "class folders, 2 of them: a folder's name is the caption"
    source = source_of(tmp_path / "dog")
    assert [source.captions(at) for at in range(2)] == [("indoor",), ("outdoor",)]


def test_classes_below_their_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test")
    source = source_of(tmp_path)
    assert ({source.captions(at)[0] for at in range(len(source))}, len(source)) == ({"cat", "dog"}, 4)
    assert source.form.endswith("without test/")


def test_folders_of_one_spelling(tmp_path: Path) -> None:
    draw(
        *(
            tmp_path / name / "1.png"
            for name in ("sports_car", "Sports car", "e\N{COMBINING ACUTE ACCENT}t\xe9", "\xe9t\xe9")
        )
    )
    source = source_of(tmp_path)
    assert {source.captions(at) for at in range(4)} == {("Sports car",), ("\xe9t\xe9",)}
    assert "folders with equivalent names are one class: 'Sports car' and 'sports_car'" in source.form


def test_why_a_table_was_not_taken_is_said(tmp_path: Path) -> None:
    class_folders(tmp_path)
    write(tmp_path / "captions.csv", "image,caption\nx.png,a\ny.png,b\n")
    assert "not used: " in source_of(tmp_path).form
    assert "none of 2 pictures exists" in source_of(tmp_path).form


# --- what inspect says


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda top: write(top / "t.csv", "image;caption\na.png;x\nb.png;y\n"), {"separator": "semicolons"}),
        (lambda top: write(top / "a.txt", "x") and write(top / "b.txt", "y"), {"kind": "pictures with caption files"}),
        (
            lambda top: (top / "t.csv").write_bytes("image,caption\na.png,\xe9t\xe9\nb.png,y\n".encode("latin-1")),
            {"encoding": "Windows-1252", "columns": {"picture": "image", "captions": ["caption"]}},
        ),
    ],
)
def test_inspect_says_what_was_recognised(
    tmp_path: Path, cli: Cli, make: Callable[[Path], object], said: dict[str, object]
) -> None:
    draw(tmp_path / "a.png", tmp_path / "b.png")
    make(tmp_path)
    found = cli("data", "inspect", tmp_path, "--json", "--rate", "1", "--image-size", "8").json["layout"]
    assert said.items() <= found.items()
