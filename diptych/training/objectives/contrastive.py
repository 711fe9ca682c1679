"""The softmax loss of CLIP and the sigmoid loss of SigLIP, on unit vectors.

The similarity matrix is never in memory as a whole: it is computed a tile of rows at a time, and again for the
gradient. Memory grows with the number of pictures and texts, not with their product. "Lines" are its rows (pictures) or
columns (texts).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diptych.errors import ArgumentError
from diptych.training.objectives.positives import Diagonal, PairList, Positives

if TYPE_CHECKING:
    from jaxtyping import Float

    from diptych.training.objectives.positives import Pairs

TILE_ELEMENTS = {"cpu": 2**23, "cuda": 2**26}  # beyond these a larger tile is no faster
MIN_TILE = 64  # rows; with fewer the matrix product is slow


class RunningLogSumExp(NamedTuple):
    """sum(exp(logits)) = exp(max) * sum of each line, updated tile by tile (Milakov and Gimelshein 2018). The two are
    separate because one logarithm of about 100 would have an error of 4e-6 in float32."""

    max: Float[Tensor, " lines"]
    sum: Float[Tensor, " lines"]

    def update(self, logits: Tensor, dim: int, buffer: Tensor) -> None:
        """Add a tile along its dimension `dim`; `buffer` has the tile's shape."""
        new_max = torch.maximum(self.max, logits.amax(dim))
        torch.sub(logits, new_max.unsqueeze(dim), out=buffer).exp_()
        self.sum.mul_((self.max - new_max).exp_()).add_(buffer.sum(dim))
        self.max.copy_(new_max)

    def view(self, lines: slice) -> "RunningLogSumExp":
        """A view of some lines."""
        return RunningLogSumExp(self.max[lines], self.sum[lines])


class PositiveShortfall(NamedTuple):
    """The sum over each line's positives of (maximum of the line - logit), and their count."""

    sums: Float[Tensor, " lines"]
    counts: Float[Tensor, " lines"]

    def add(self, lines: Tensor, logits: Tensor, maxima: Tensor) -> None:
        """Add positives with `logits` in `lines`, given the maxima so far."""
        self.sums.index_add_(0, lines, maxima[lines] - logits)
        self.counts.index_add_(0, lines, torch.ones_like(logits))

    def rebase(self, before: Tensor, after: Tensor) -> None:
        """Follow the maxima from `before` (-inf where a line had none yet) to `after`."""
        self.sums.add_(torch.where(self.counts > 0, self.counts * (after - before), 0))


class LocalRows(NamedTuple):
    """The rows of the matrix in this process, if several processes share its pictures: those from `offset`, of `total`.
    `merge` combines every process's sums over its part of the columns."""

    offset: int
    total: int
    merge: Callable[[RunningLogSumExp], RunningLogSumExp]


def softmax_loss(
    image_embeddings: Float[Tensor, "pictures dim"],
    text_embeddings: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    *,
    pairs: Pairs | Positives | None = None,
    tile: int | None = None,
    local_rows: LocalRows | None = None,
) -> Float[Tensor, ""]:
    """Symmetric cross entropy over logits = scale * I_e T_e^T (InfoNCE; Radford et al. 2021, figure 3).

    `pairs` are all positives: lists of (pictures, texts), each pair once, or `Positives`; by default picture i and text
    i. The target of every row and column is spread evenly over its positives (Yang et al. 2022, "Unified contrastive
    learning", equation 3). A row or column without any is left out of the mean.

    `tile` is the number of rows computed at a time. With `local_rows`, `image_embeddings` has some of the pictures,
    `text_embeddings` all texts and `pairs` the positives of all pictures; the values of all processes add up to the
    loss. Arithmetic is in float32, or in float64 if an input is, also under autocast. Not differentiable twice.
    """
    matrix = _Matrix(image_embeddings, text_embeddings, scale, None, pairs, tile, local_rows)
    return _apply(_softmax, matrix, image_embeddings, text_embeddings, scale, None)


def sigmoid_loss(
    image_embeddings: Float[Tensor, "pictures dim"],
    text_embeddings: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    pairs: Pairs | Positives | None = None,
    tile: int | None = None,
    local_rows: LocalRows | None = None,
) -> Float[Tensor, ""]:
    """A binary classification of every pair (SigLIP; Zhai et al. 2023, algorithm 1), summed, per picture:
    -1/n sum_ij log sigmoid(z_ij (t x_i . y_j + b)), where z_ij is 1 for `pairs` and -1 for all others.

    Other arguments are those of `softmax_loss`.
    """
    matrix = _Matrix(image_embeddings, text_embeddings, scale, bias, pairs, tile, local_rows)
    return _apply(_sigmoid, matrix, image_embeddings, text_embeddings, scale, bias)


def chance_loss(n_images: int, n_texts: int, positives: int | None = None) -> float:
    """The least loss of a model whose scores do not depend on its input. Softmax: the mean of ln(n_texts) and
    ln(n_images). Sigmoid, with the number of `positives`: every pair gets their share q of all pairs, and a picture
    costs -n_texts (q ln q + (1 - q) ln(1 - q)), about ln(n_images) + 1 per caption if each caption has one picture."""
    if positives is None:
        return (math.log(n_images) + math.log(n_texts)) / 2
    q = positives / (n_images * n_texts)
    return -n_texts * (q * math.log(q) + ((1 - q) * math.log1p(-q) if q < 1 else 0))


class _Gradients(NamedTuple):
    image: Tensor
    text: Tensor
    scale: Tensor
    bias: Tensor | None


class _Tile(NamedTuple):
    """Some rows of the matrix: their `logits`, and the (row, column) of the positives in it."""

    rows: slice
    logits: Tensor
    positives: Pairs


class _Matrix:
    """logits = scale * I_e T_e^T + bias, one tile of rows at a time in the same buffer, and the gradient with respect
    to its factors."""

    def __init__(
        self, image_embeddings: Tensor, text_embeddings: Tensor, scale: Tensor, bias: Tensor | None,
        pairs: Pairs | Positives | None, tile: int | None, local_rows: LocalRows | None,
    ):  # fmt: skip
        dtype = torch.promote_types(torch.promote_types(image_embeddings.dtype, text_embeddings.dtype), torch.float32)
        self.image, self.text = image_embeddings.detach().to(dtype), text_embeddings.detach().to(dtype)
        self.scale, self.bias = scale.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        self.local_rows = local_rows or LocalRows(0, len(self.image), lambda columns: columns)
        self.tile = tile or max(MIN_TILE, TILE_ELEMENTS.get(self.image.device.type, 2**23) // len(self.text))
        self.scaled = self.image * self.scale
        self.buffer = self.text.new_empty(min(self.tile, len(self.image)), len(self.text))
        self.positives = self._positives(pairs)
        self.starts = range(0, len(self.image), self.tile)

    def _positives(self, pairs: Pairs | Positives | None) -> Positives:
        n_images, n_texts = self.local_rows.total, len(self.text)
        if pairs is None:
            if n_images != n_texts:
                raise ArgumentError(
                    f"{n_images} pictures and {n_texts} texts; pairs need as many of each, or pass pairs=."
                )
            return Diagonal(n_images, self.text.device)
        # A list is a plain tuple; the other kinds are named tuples.
        return pairs if hasattr(pairs, "for_rows") else PairList.of(pairs, (n_images, n_texts))  # type: ignore[return-value,arg-type]

    def tiles(self, *, reverse: bool = False) -> Iterator[_Tile]:
        """All tiles. With `reverse` from the last, whose logits are still in the buffer, to the first."""
        for start in reversed(self.starts) if reverse else self.starts:
            rows = slice(start, min(start + self.tile, len(self.image)))
            logits = self.buffer[: rows.stop - rows.start]
            if not reverse or start != self.starts[-1]:
                torch.mm(self.scaled[rows], self.text.T, out=logits)
                if self.bias is not None:
                    logits += self.bias
            offset = self.local_rows.offset
            yield _Tile(rows, logits, self.positives.for_rows(offset + rows.start, offset + rows.stop))

    def empty_gradients(self) -> _Gradients:
        bias = None if self.bias is None else torch.zeros_like(self.bias)
        return _Gradients(torch.empty_like(self.image), torch.zeros_like(self.text), torch.zeros_like(self.scale), bias)

    def add_gradient(self, into: _Gradients, rows: slice, gradient: Tensor) -> None:
        """Add the gradient through a tile, given that of its logits. Each row is in one tile."""
        image = torch.mm(gradient, self.text, out=into.image[rows])
        into.scale.add_((image * self.image[rows]).sum())  # the sum over the tile of gradient * cosine
        image.mul_(self.scale)
        into.text.addmm_(gradient.T, self.scaled[rows])
        if into.bias is not None:
            into.bias.add_(gradient.sum())


class _Weights(NamedTuple):
    """Half the weight of each line in the mean over its kind, and the even share of each of its positives."""

    lines: Tensor
    per_positive: Tensor

    @classmethod
    def of(cls, counts: Tensor, dtype: torch.dtype) -> "_Weights":
        has_positives = (counts > 0).to(dtype)
        lines = has_positives / (2 * has_positives.sum())
        return cls(lines, lines / counts.clamp(min=1))


def _softmax(matrix: _Matrix, with_gradients: bool) -> tuple[Tensor, _Gradients | None]:
    """(loss_i + loss_t) / 2, each the mean over its lines of log(sum) + max - (mean of the positives)."""
    local_rows, count = matrix.local_rows, len(matrix.image)
    row_weights, column_weights = (_Weights.of(counts, matrix.text.dtype) for counts in matrix.positives.counts())
    row_weights = _Weights(*(x[local_rows.offset : local_rows.offset + count] for x in row_weights))
    rows, columns, row_shortfall, column_shortfall = _sums(matrix)
    loss = row_weights.per_positive @ row_shortfall.sums + column_weights.per_positive @ column_shortfall.sums
    loss += row_weights.lines @ rows.sum.log() + column_weights.lines @ columns.sum.log() * (count / local_rows.total)
    return loss, _softmax_gradients(matrix, rows, columns, row_weights, column_weights) if with_gradients else None


def _sums(matrix: _Matrix) -> tuple[RunningLogSumExp, RunningLogSumExp, PositiveShortfall, PositiveShortfall]:
    """The sums of the local rows and of all columns, and the shortfall of the positives in the local rows to both."""
    lines = (matrix.image, matrix.text)
    rows, columns = (RunningLogSumExp(x.new_full((len(x),), -torch.inf), x.new_zeros(len(x))) for x in lines)
    row_shortfall, column_shortfall = (PositiveShortfall(x.new_zeros(len(x)), x.new_zeros(len(x))) for x in lines)
    buffer = torch.empty_like(matrix.buffer)
    for tile in matrix.tiles():
        block, before = buffer[: len(tile.logits)], columns.max.clone()
        rows.view(tile.rows).update(tile.logits, 1, block)
        columns.update(tile.logits, 0, block)
        column_shortfall.rebase(before, columns.max)
        positives = tile.logits[tile.positives]
        row_shortfall.add(tile.positives[0] + tile.rows.start, positives, rows.max)
        column_shortfall.add(tile.positives[1], positives, columns.max)
    merged = matrix.local_rows.merge(columns)
    column_shortfall.rebase(columns.max, merged.max)
    return rows, merged, row_shortfall, column_shortfall


def _softmax_gradients(
    matrix: _Matrix, rows: RunningLogSumExp, columns: RunningLogSumExp, row_weights: _Weights, column_weights: _Weights
) -> _Gradients:
    """weight * softmax = exp(logit - max) * (weight / sum), by row and by column; no exponent is above 0."""
    gradients, buffer = matrix.empty_gradients(), torch.empty_like(matrix.buffer)
    row_factors, column_factors = row_weights.lines / rows.sum, column_weights.lines / columns.sum
    for tile in matrix.tiles(reverse=True):
        gradient = torch.sub(tile.logits, rows.max[tile.rows, None], out=buffer[: len(tile.logits)])
        gradient.exp_().mul_(row_factors[tile.rows, None])
        gradient.addcmul_(tile.logits.sub_(columns.max).exp_(), column_factors)
        row, column = tile.positives
        gradient[row, column] -= row_weights.per_positive[tile.rows][row] + column_weights.per_positive[column]
        matrix.add_gradient(gradients, tile.rows, gradient)
    return gradients


def _sigmoid(matrix: _Matrix, with_gradients: bool) -> tuple[Tensor, _Gradients | None]:
    """Loss and gradient in one pass, since every logit is independent."""
    loss, gradients = torch.zeros_like(matrix.scale), matrix.empty_gradients() if with_gradients else None
    n_images = matrix.local_rows.total
    for tile in matrix.tiles():
        signed_logits = tile.logits  # -z_ij * logits
        signed_logits[tile.positives] = -signed_logits[tile.positives]
        loss -= F.logsigmoid(-signed_logits).sum() / n_images
        if gradients is not None:
            gradient = signed_logits.sigmoid_().div_(n_images)
            gradient[tile.positives] = -gradient[tile.positives]
            matrix.add_gradient(gradients, tile.rows, gradient)
    return loss, gradients


Compute = Callable[[_Matrix, bool], tuple[Tensor, _Gradients | None]]


def _apply(compute: Compute, matrix: _Matrix, *inputs: Tensor | None) -> Tensor:
    with_gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _Loss.apply(compute, matrix, with_gradients, *inputs)  # type: ignore[return-value]


class _Loss(torch.autograd.Function):
    """Computes the gradients with the value; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, compute: Compute, matrix: _Matrix, with_gradients: bool, *inputs: Tensor | None) -> Tensor:
        with torch.autocast(matrix.text.device.type, enabled=False):
            loss, gradients = compute(matrix, with_gradients)
        if gradients is not None:
            ctx.save_for_backward(*gradients)
            ctx.dtypes = [None if x is None else x.dtype for x in inputs]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled = [None if g is None else (g * grad).to(t) for g, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
        return None, None, None, *scaled
