"""Contact sheets and heat maps: their sizes, and texts and names that are not what they seem."""

import io
import warnings

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from diptych.display import plots
from diptych.display.plots import contact_sheet, file_name, forgetting_figure, shortened, thumbnail
from diptych.display.similarity_plot import MAX_SIDE_PX, MOST, similarity_figure


def drawn(figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def squares(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (60, 40), "red") for _ in range(count)]


def test_thumbnail_keeps_the_shape() -> None:
    assert thumbnail(Image.new("RGB", (400, 100))).size == (160, 40)
    assert thumbnail(np.zeros((30, 20, 3), np.uint8)).size == (20, 30)


@pytest.mark.parametrize(("count", "size"), [(1, (176, 196)), (3, (512, 196)), (5, (848, 196)), (6, (848, 384))])
def test_contact_sheet(count: int, size: tuple[int, int]) -> None:
    sheet = contact_sheet(
        [(picture, f"a name that is far too long for its place {'x' * 99}") for picture in squares(count)]
    )
    assert sheet.size == size
    red = (np.asarray(sheet) == (255, 0, 0)).all(axis=-1).sum()
    assert red == pytest.approx(count * 160 * 107, rel=0.02)  # each fills its place


@pytest.mark.parametrize(("rows", "columns", "measures"), [(1, 1, 3), (2, 12, 1), (40, 1, 1)])
def test_heat_map_has_a_number_in_each_cell(rows: int, columns: int, measures: int) -> None:
    rng = np.random.default_rng(0)
    matrices = {name: rng.normal(size=(rows, columns)) for name in ("cosine", "dot", "euclidean")[:measures]}
    figure = similarity_figure(matrices, squares(rows), ["a dog"] * columns)
    assert [axes.get_xlabel() for axes in figure.axes] == list(matrices)
    for axes, matrix in zip(figure.axes, matrices.values(), strict=True):
        assert [text.get_text() for text in axes.texts] == [f"{value:z.2f}" for value in matrix.flat]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(figure).height > rows * 80


def test_numbers_can_be_read_on_their_ground() -> None:
    """Bright is near: a high cosine, a small distance. Also where all values are one."""
    values = np.array([[0.0, 1.0]])
    for name, matrix, colours in [
        ("cosine", values, ["white", "black"]),
        ("euclidean", values, ["black", "white"]),
        ("cosine", np.ones((1, 1)), ["white"]),
        ("euclidean", np.ones((1, 1)), ["black"]),
    ]:
        axes = similarity_figure({name: matrix}, squares(1), ["a"] * matrix.shape[1]).axes[0]
        assert [text.get_color() for text in axes.texts] == colours


def test_a_large_heat_map_stays_within_bounds() -> None:
    figure = similarity_figure({"cosine": np.zeros((MOST, MOST))}, squares(MOST), ["a"] * MOST)
    assert max(figure.get_size_inches() * figure.dpi) <= MAX_SIDE_PX + 1


def test_names_and_a_bar_of_colours() -> None:
    names = ["cat.jpg", "a-name-that-is-far-too-long-for-its-place.jpeg", "$x$.png"]
    figure = similarity_figure({"cosine": np.arange(6).reshape(3, 2) / 9}, squares(3), ["a", "b"], names=names)
    assert drawn(figure).format == "PNG"
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert {"cat.jpg", "a-name-that-i…ace.jpeg", "$x$.png"} <= set(shown)
    assert len(figure.axes[0].child_axes) == 1
    single = similarity_figure({"cosine": np.full((1, 1), -0.001)}, squares(1), ["a"]).axes[0]
    assert not single.child_axes  # one colour needs no key
    assert [text.get_text() for text in single.texts] == ["0.00"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (32, 4), (3, 2)])
@pytest.mark.parametrize("text", ["a", "a motorcycle in a garage, with a long sentence that goes on"])
def test_a_heat_map_is_no_larger_than_it_must_and_cuts_nothing_off(rows: int, columns: int, text: str) -> None:
    names = ["a-rather-long-name-of-a-file.jpg"] * rows
    matrix = np.random.default_rng(0).random((rows, columns))
    figure = similarity_figure({"cosine": matrix}, squares(rows), [text] * columns, names=names)
    width, height = drawn(figure).size
    assert 110 * (0.9 * columns + 1.3) < width < 110 * (0.9 * columns + 1.3) + 250
    assert 88 * rows < height < 88 * rows + 300
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 * 110 <= width
    assert box.y1 * 110 <= height


def test_a_dollar_is_no_mathematics() -> None:
    figure = similarity_figure({"cosine": np.zeros((1, 1))}, squares(1), [r"a $\frac{$ dog"])
    assert drawn(figure).format == "PNG"  # matplotlib would fail to parse it
    assert figure.axes[0].get_xticklabels()[0].get_text() == r"a $\frac{$ dog"


def test_short_forms() -> None:
    assert shortened("two  dogs\nrun") == "two dogs run"
    assert shortened("word " * 20) == ("word " * 11).strip() + "…"
    assert shortened("x" * 99) == "x" * 59 + "…"
    assert len(shortened("x " * 99)) <= 60
    assert file_name("a/b/cat.jpg") == "cat.jpg"
    assert file_name("caf\udce9\n.png") == "caf��.png"


@pytest.mark.parametrize(("rows", "columns"), [(400, 3), (3, 200), (300, 300)])
def test_many_are_drawn_as_colours_with_a_dot_at_the_nearest(rows: int, columns: int) -> None:
    matrix = np.random.default_rng(0).random((rows, columns))
    texts, names = [f"sentence {at}" for at in range(columns)], [f"{at}.jpg" for at in range(rows)]
    figure = similarity_figure({"cosine": matrix, "euclidean": -matrix}, [], texts, names=names)
    for axes in figure.axes[:2]:
        (dots,) = axes.collections
        assert np.asarray(dots.get_offsets())[:, 0].tolist() == matrix.argmax(axis=1).tolist()
        assert axes.get_yticklabels()[0].get_text() == "0.jpg"
    picture = drawn(figure)
    assert max(picture.size) < 5000


def test_a_contact_sheet_has_a_title_and_lines() -> None:
    (square,) = squares(1)
    plain, titled = (contact_sheet([(square, "1\nb")], title=title, lines=2) for title in ("", "a dog"))
    assert titled.height == plain.height + 28
    assert (np.asarray(titled)[8:24] < 128).any()
    one, two = (contact_sheet([(square, name)], lines=3) for name in ("x" * 60, "x" * 10))
    assert (np.asarray(one)[-20:] < 128).sum() > (np.asarray(two)[-20:] < 128).sum()  # a long name goes on below


@pytest.mark.parametrize("width", [200, 160, 96, 32])
def test_a_name_on_a_contact_sheet_keeps_its_ending_on_one_line(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    drawn_lines: list[str] = []
    text = plots.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        plots.ImageDraw.ImageDraw, "text",
        lambda draw, at, line, *style: drawn_lines.append(line) or text(draw, at, line, *style),
    )  # fmt: skip
    names = ["short.jpg", "1000268201_693b08cb0e_in_the_mountains_of_somewhere.jpg", "i" * 200 + ".png"]
    tiles = [(picture, f"1.  0.312\n{name}") for picture, name in zip(squares(3), names, strict=True)]
    contact_sheet(tiles, lines=2, size_px=width, are_names=True)
    assert drawn_lines[::2] == ["1.  0.312"] * 3 or width == 32
    assert len(drawn_lines) == 6
    font = plots.ImageFont.load_default(12)
    for name, line in zip(names, drawn_lines[1::2], strict=True):
        start, _, end = line.partition("…")
        assert font.getlength(line) <= width
        assert name.startswith(start)
        assert name.endswith(end)
        assert line == name or width == 32 or end.endswith(name[-4:])
    assert width == 32 or drawn_lines[1] == "short.jpg"
    assert font.getlength(drawn_lines[5]) > width - 20  # no more is left out than must be


def test_names_of_what_may_be_forgotten_are_no_formulas() -> None:
    kept = {r"$\frac{$": [1.0, 2.0], "_hidden": [2.0, 1.0]}
    figure = forgetting_figure([0.0, 1.0], [None, None], kept, measure="top 1, %", saved=1.0)
    figure.savefig(io.BytesIO())
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert shown == [r"$\frac{$", " _hidden"]
