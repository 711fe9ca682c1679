"""The two contrastive losses, on unit vectors.

The similarity matrix is never whole in memory: it is made a tile of rows at a time, made again where its gradient is
wanted, and forgotten. What is kept grows with the number of pictures and texts, not with their product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import ArgumentError
from diptych.training.objectives.positives import Diagonal, Listed, Positives

if TYPE_CHECKING:
    from jaxtyping import Float

    from diptych.training.objectives.positives import Pairs

TILE_ELEMENTS = {"cpu": 2**23, "cuda": 2**26}  # beyond these a larger tile is no faster
MIN_TILE = 64  # rows; with fewer the matrix product is slow


class Sums(NamedTuple):
    """sum(exp(logits)) = exp(highest) * sums, for each row or each column. They are kept apart, and not as one
    logarithm, for that of 100 would be off by 4e-6 in float32."""

    highest: Float[Tensor, " lines"]
    sums: Float[Tensor, " lines"]

    def add(self, logits: Tensor, dim: int, spare: Tensor) -> None:
        """Take in a tile, in place, along its dimension `dim`; `spare` is of its shape."""
        highest = torch.maximum(self.highest, logits.amax(dim))
        torch.sub(logits, highest.unsqueeze(dim), out=spare).exp_()
        self.sums.mul_((self.highest - highest).exp_()).add_(spare.sum(dim))
        self.highest.copy_(highest)

    def part(self, lines: slice) -> "Sums":
        """A view of some lines."""
        return Sums(self.highest[lines], self.sums[lines])


class Short(NamedTuple):
    """How far the positives of each line fall short of its highest logit: the sum, and how many they are."""

    sums: Float[Tensor, " lines"]
    counts: Float[Tensor, " lines"]

    def add(self, line: Tensor, logits: Tensor, highest: Tensor) -> None:
        """Take in positives, in place: `logits` in these lines, whose highest ones are known so far."""
        self.sums.index_add_(0, line, highest[line] - logits)
        self.counts.index_add_(0, line, torch.ones_like(logits))

    def rise(self, before: Tensor, after: Tensor) -> None:
        """The highest ones have risen, from -inf where there was nothing yet."""
        self.sums.add_(torch.where(self.counts > 0, self.counts * (after - before), 0))


class Part(NamedTuple):
    """Which rows of the matrix are here when its pictures are split over processes: those from `first`, of `pictures`.
    `merge` makes the sums over whole columns out of every part's."""

    first: int
    pictures: int
    merge: Callable[[Sums], Sums]


def softmax_loss(
    image: Float[Tensor, "pictures dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    *,
    pairs: Pairs | Positives | None = None,
    tile: int | None = None,
    part: Part | None = None,
) -> Float[Tensor, ""]:
    """Symmetric cross entropy over the similarity matrix (InfoNCE; Radford et al. 2021, figure 3).

    Without `pairs`, picture i belongs to text i. `pairs` are all that belong together: lists of (pictures, texts), each
    once, or what tells them by rows. Every row's (column's) target is spread evenly over its positives (Yang
    et al. 2022, "Unified contrastive learning", equation 3), and a row or column without one is left out of the mean.

    `tile` is the number of rows that are worked on at a time. With `part`, `image` holds some of the pictures, `text`
    all texts, `pairs` those of all pictures; the value is this part's share, and the shares add up to the loss.
    Arithmetic is in float32, or in float64 where both come so, under autocast too. Not differentiable twice.
    """
    matrix = _Matrix(image, text, scale, None, pairs, tile, part)
    return _apply(_softmax, matrix, image, text, scale, None)


def sigmoid_loss(
    image: Float[Tensor, "pictures dim"],
    text: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    pairs: Pairs | Positives | None = None,
    tile: int | None = None,
    part: Part | None = None,
) -> Float[Tensor, ""]:
    """Each pair is a yes-or-no question of its own (Zhai et al. 2023, section 3.2), summed, per picture.

    The answer is yes for all `pairs`; arguments as in `softmax_loss`.
    """
    matrix = _Matrix(image, text, scale, bias, pairs, tile, part)
    return _apply(_sigmoid, matrix, image, text, scale, bias)


def chance_loss(pictures: int, texts: int, positives: int | None = None) -> float:
    """The loss of a model that guesses, as well as one can without looking: softmax, the mean of ln(texts) and
    ln(pictures); sigmoid, with the number of `positives`, where every pair gets their share q of all pairs: a picture
    costs -texts (q ln q + (1 - q) ln(1 - q)), about ln(pictures) + 1 a caption where each has one picture."""
    if positives is None:
        return (math.log(pictures) + math.log(texts)) / 2
    q = positives / (pictures * texts)
    return -texts * (q * math.log(q) + ((1 - q) * math.log1p(-q) if q < 1 else 0))


class _Gradients(NamedTuple):
    image: Tensor
    text: Tensor
    scale: Tensor
    bias: Tensor | None


class _Tile(NamedTuple):
    """Some rows of the matrix: their `logits`, and where the positives lie in it."""

    rows: slice
    logits: Tensor
    at: Pairs


class _Matrix:
    """scale * image @ text.T + bias, one tile of rows after the other in the same buffer, and the gradient with respect
    to what it is made of."""

    def __init__(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None,
        pairs: Pairs | Positives | None, tile: int | None, part: Part | None,
    ):  # fmt: skip
        dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
        self.image, self.text = image.detach().to(dtype), text.detach().to(dtype)
        self.scale, self.bias = scale.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        self.part = part or Part(0, len(image), lambda columns: columns)
        self.tile = tile or max(MIN_TILE, TILE_ELEMENTS.get(image.device.type, 2**23) // len(text))
        self.scaled = self.image * self.scale
        self.buffer = self.text.new_empty(min(self.tile, len(image)), len(text))
        self.positives = self._positives(pairs)
        self.starts = range(0, len(image), self.tile)

    def _positives(self, pairs: Pairs | Positives | None) -> Positives:
        total, texts = self.part.pictures, len(self.text)
        if pairs is None:
            if total != texts:
                raise ArgumentError(f"{total} pictures and {texts} texts; pairs need as many of each, or pass pairs=.")
            return Diagonal(total, self.text.device)
        # A list is a plain tuple; the other kinds, too, are tuples, but named ones.
        return pairs if hasattr(pairs, "of_rows") else Listed.of(pairs, (total, texts))  # type: ignore[return-value,arg-type]

    def tiles(self, *, again: bool = False) -> Iterator[_Tile]:
        """All tiles; `again` from the last to the first, for the last one's logits are in the buffer still."""
        for start in reversed(self.starts) if again else self.starts:
            rows = slice(start, min(start + self.tile, len(self.image)))
            logits = self.buffer[: rows.stop - rows.start]
            if not again or start != self.starts[-1]:
                torch.mm(self.scaled[rows], self.text.T, out=logits)
                if self.bias is not None:
                    logits += self.bias
            first = self.part.first
            yield _Tile(rows, logits, self.positives.of_rows(first + rows.start, first + rows.stop))

    def empty_gradients(self) -> _Gradients:
        bias = None if self.bias is None else torch.zeros_like(self.bias)
        return _Gradients(torch.empty_like(self.image), torch.zeros_like(self.text), torch.zeros_like(self.scale), bias)

    def add_gradient(self, into: _Gradients, rows: slice, gradient: Tensor) -> None:
        """What `gradient` of a tile's logits means for that which they are made of. A row is in one tile alone."""
        image = torch.mm(gradient, self.text, out=into.image[rows])
        into.scale.add_((image * self.image[rows]).sum())  # the sum over the tile of gradient * cosine
        image.mul_(self.scale)
        into.text.addmm_(gradient.T, self.scaled[rows])
        if into.bias is not None:
            into.bias.add_(gradient.sum())


class _Weights(NamedTuple):
    """What each line (row or column) counts in its mean, halved, and what each of its positives does: an even part."""

    lines: Tensor
    each: Tensor

    @classmethod
    def of(cls, counts: Tensor, dtype: torch.dtype) -> "_Weights":
        some = (counts > 0).to(dtype)
        lines = some / (2 * some.sum())
        return cls(lines, lines / counts.clamp(min=1))


def _softmax(matrix: _Matrix, with_gradients: bool) -> tuple[Tensor, _Gradients | None]:
    """The value is the mean of log(sum) + highest - (mean of the positives), over rows and over columns."""
    part, count = matrix.part, len(matrix.image)
    of_rows, of_columns = (_Weights.of(counts, matrix.text.dtype) for counts in matrix.positives.counts())
    of_rows = _Weights(*(x[part.first : part.first + count] for x in of_rows))
    rows, columns, short_rows, short_columns = _sums(matrix)
    value = of_rows.each @ short_rows.sums + of_columns.each @ short_columns.sums
    value += of_rows.lines @ rows.sums.log() + of_columns.lines @ columns.sums.log() * (count / part.pictures)
    return value, _softmax_gradients(matrix, rows, columns, of_rows, of_columns) if with_gradients else None


def _sums(matrix: _Matrix) -> tuple[Sums, Sums, Short, Short]:
    """Of this part's rows, and of all columns; how far the positives in these rows fall short of either's highest."""
    lines = (matrix.image, matrix.text)
    rows, columns = (Sums(x.new_full((len(x),), -torch.inf), x.new_zeros(len(x))) for x in lines)
    short_rows, short_columns = (Short(x.new_zeros(len(x)), x.new_zeros(len(x))) for x in lines)
    spare = torch.empty_like(matrix.buffer)
    for tile in matrix.tiles():
        block, before = spare[: len(tile.logits)], columns.highest.clone()
        rows.part(tile.rows).add(tile.logits, 1, block)
        columns.add(tile.logits, 0, block)
        short_columns.rise(before, columns.highest)
        positives = tile.logits[tile.at]
        short_rows.add(tile.at[0] + tile.rows.start, positives, rows.highest)
        short_columns.add(tile.at[1], positives, columns.highest)
    whole = matrix.part.merge(columns)
    short_columns.rise(columns.highest, whole.highest)
    return rows, whole, short_rows, short_columns


def _softmax_gradients(
    matrix: _Matrix, rows: Sums, columns: Sums, of_rows: _Weights, of_columns: _Weights
) -> _Gradients:
    """weight * softmax = exp(logit - highest) * (weight / sum), by row and by column; no exponent is above 0."""
    gradients, spare = matrix.empty_gradients(), torch.empty_like(matrix.buffer)
    factors = of_rows.lines / rows.sums, of_columns.lines / columns.sums
    for tile in matrix.tiles(again=True):
        gradient = torch.sub(tile.logits, rows.highest[tile.rows, None], out=spare[: len(tile.logits)])
        gradient.exp_().mul_(factors[0][tile.rows, None])
        gradient.addcmul_(tile.logits.sub_(columns.highest).exp_(), factors[1])
        gradient[tile.at] -= of_rows.each[tile.rows][tile.at[0]] + of_columns.each[tile.at[1]]
        matrix.add_gradient(gradients, tile.rows, gradient)
    return gradients


def _sigmoid(matrix: _Matrix, with_gradients: bool) -> tuple[Tensor, _Gradients | None]:
    """Every logit is its own: value and gradient come of one pass."""
    value, gradients = torch.zeros_like(matrix.scale), matrix.empty_gradients() if with_gradients else None
    for tile in matrix.tiles():
        wrong = tile.logits  # how strongly each question is answered wrongly
        wrong[tile.at] = -wrong[tile.at]
        value -= F.logsigmoid(-wrong).sum() / matrix.part.pictures
        if gradients is not None:
            gradient = wrong.sigmoid_().div_(matrix.part.pictures)
            gradient[tile.at] = -gradient[tile.at]
            matrix.add_gradient(gradients, tile.rows, gradient)
    return value, gradients


Compute = Callable[[_Matrix, bool], tuple[Tensor, _Gradients | None]]


def _apply(compute: Compute, matrix: _Matrix, *inputs: Tensor | None) -> Tensor:
    needed = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _Loss.apply(compute, matrix, needed, *inputs)  # type: ignore[return-value]


class _Loss(torch.autograd.Function):
    """The gradients are made together with the value, while the features are at hand; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, compute: Compute, matrix: _Matrix, needed: bool, *inputs: Tensor | None) -> Tensor:
        with torch.autocast(matrix.text.device.type, enabled=False):
            value, gradients = compute(matrix, needed)
        if gradients is not None:
            ctx.save_for_backward(*gradients)
            ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled = [None if g is None else (g * grad).to(t) for g, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return None, None, None, *scaled
