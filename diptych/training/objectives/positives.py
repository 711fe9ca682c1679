"""Which cells of the similarity matrix belong together, told for some rows at a time: of a batch in which many pictures
share a caption they are as many as the matrix has cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Int

    Pairs = tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]


class Positives(Protocol):
    """All (picture, text) that belong together, each once."""

    def of_rows(self, first: int, end: int) -> Pairs:
        """Those of the pictures `first` to `end`, which are counted from `first`, by rising picture."""
        ...

    def counts(self) -> tuple[Int[Tensor, " pictures"], Int[Tensor, " texts"]]:
        """How many texts each picture has, and how many pictures each text."""
        ...


class Diagonal(NamedTuple):
    """Picture i belongs to text i."""

    size: int
    device: torch.device

    def of_rows(self, first: int, end: int) -> Pairs:
        return torch.arange(end - first, device=self.device), torch.arange(first, end, device=self.device)

    def counts(self) -> tuple[Tensor, Tensor]:
        one = torch.ones(self.size, dtype=torch.long, device=self.device)
        return one, one


class Listed(NamedTuple):
    """A list, by rising picture, of a matrix of `shape`."""

    pictures: Tensor
    texts: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, pairs: Pairs, shape: tuple[int, int]) -> Listed:
        """From pairs in any order. ValueError where there are none, or one lies outside."""
        if not len(pairs[0]):
            raise ArgumentError("pairs is empty; the loss needs one picture and text that belong together, or more.")
        for index, size, name in zip(pairs, shape, ("pictures", "texts"), strict=True):
            least, most = (int(x) for x in index.aminmax())
            if least < 0 or most >= size:
                raise ArgumentError(f"pairs names {name} {least} to {most}; there are {size}, counted from 0.")
        pictures, order = pairs[0].sort(stable=True)
        return cls(pictures, pairs[1][order], shape)

    def of_rows(self, first: int, end: int) -> Pairs:
        cuts = torch.searchsorted(self.pictures, torch.tensor([first, end], device=self.pictures.device)).tolist()
        own = slice(*cuts)
        return self.pictures[own] - first, self.texts[own]

    def counts(self) -> tuple[Tensor, Tensor]:
        pictures, texts = (torch.bincount(x, minlength=n) for x, n in zip(self[:2], self.shape, strict=True))
        return pictures, texts


class Groups(NamedTuple):
    """Positions by group: those of group g are members[starts[g] : starts[g] + sizes[g]]."""

    members: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, group: Int[Tensor, " positions"], count: int) -> "Groups":
        """From each position's group, 0 to `count` - 1."""
        sizes = torch.bincount(group, minlength=count)
        return cls(torch.argsort(group, stable=True), sizes.cumsum(0) - sizes, sizes)

    def each(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The members of all `groups`, one after the other, and for each member where its group stands there."""
        sizes = self.sizes[groups]
        where = torch.repeat_interleave(sizes)
        place = torch.arange(len(where), device=where.device) - (sizes.cumsum(0) - sizes)[where]
        return self.members[self.starts[groups][where] + place], where


class Shared(NamedTuple):
    """Pictures and texts in kinds, of which whole kinds belong together: text kinds[k] to picture kind k."""

    picture: Int[Tensor, " pictures"]
    text: Int[Tensor, " texts"]
    kinds: Groups
    texts: Groups

    @classmethod
    def of(cls, picture: Tensor, text: Tensor, owners: Int[Tensor, " texts"]) -> "Shared":
        """From each picture's and each text's kind, counted from 0, and each text's own picture: a kind of pictures has
        all the kinds of texts that one of them owns."""
        pictures, texts = int(picture.max()) + 1, int(text.max()) + 1
        together = torch.unique(picture[owners] * texts + text)
        owned = Groups.of(together // texts, pictures)._replace(members=together % texts)  # they are in order
        return cls(picture, text, owned, Groups.of(text, texts))

    def of_rows(self, first: int, end: int) -> Pairs:
        kinds, rows = self.kinds.each(self.picture[first:end])
        columns, where = self.texts.each(kinds)
        return rows[where], columns

    def counts(self) -> tuple[Tensor, Tensor]:
        texts, picture = self.kinds.each(torch.arange(len(self.kinds.sizes), device=self.picture.device))
        rows = torch.zeros_like(self.kinds.sizes).index_add_(0, picture, self.texts.sizes[texts])
        held = torch.bincount(self.picture, minlength=len(rows))
        columns = torch.zeros_like(self.texts.sizes).index_add_(0, texts, held[picture])
        return rows[self.picture], columns[self.text]
