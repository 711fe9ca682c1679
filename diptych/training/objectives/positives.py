"""Which cells of the similarity matrix are positives, computed for some rows at a time: in a batch whose pictures share
one caption all cells are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Int

    Pairs = tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]


class Positives(Protocol):
    """All positive (picture, text) pairs, each once."""

    def for_rows(self, first: int, end: int) -> Pairs:
        """The pairs of the pictures `first` to `end`, counted from `first`, in the order of the pictures."""
        ...

    def counts(self) -> tuple[Int[Tensor, " pictures"], Int[Tensor, " texts"]]:
        """The number of positive texts of each picture, and of positive pictures of each text."""
        ...


class Diagonal(NamedTuple):
    """Picture i belongs to text i."""

    size: int
    device: torch.device

    def for_rows(self, first: int, end: int) -> Pairs:
        return torch.arange(end - first, device=self.device), torch.arange(first, end, device=self.device)

    def counts(self) -> tuple[Tensor, Tensor]:
        one = torch.ones(self.size, dtype=torch.long, device=self.device)
        return one, one


class PairList(NamedTuple):
    """A list of pairs in a matrix of `shape`, in the order of the pictures."""

    pictures: Tensor
    texts: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, pairs: Pairs, shape: tuple[int, int]) -> PairList:
        """From pairs in any order. Raises ValueError if there are none, or one is outside of the matrix."""
        if not len(pairs[0]):
            raise ArgumentError("pairs is empty; the loss needs at least one picture and text that belong together.")
        for index, size, name in zip(pairs, shape, ("pictures", "texts"), strict=True):
            low, high = (int(x) for x in index.aminmax())
            if low < 0 or high >= size:
                raise ArgumentError(f"pairs names {name} {low} to {high}; there are {size}, counted from 0.")
        pictures, order = pairs[0].sort(stable=True)
        return cls(pictures, pairs[1][order], shape)

    def for_rows(self, first: int, end: int) -> Pairs:
        bounds = torch.searchsorted(self.pictures, torch.tensor([first, end], device=self.pictures.device)).tolist()
        rows = slice(*bounds)
        return self.pictures[rows] - first, self.texts[rows]

    def counts(self) -> tuple[Tensor, Tensor]:
        pictures, texts = (torch.bincount(x, minlength=n) for x, n in zip(self[:2], self.shape, strict=True))
        return pictures, texts


class Groups(NamedTuple):
    """Positions by group: group g has members[starts[g] : starts[g] + sizes[g]]."""

    members: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, group: Int[Tensor, " positions"], count: int) -> "Groups":
        """From each position's group, 0 to `count` - 1."""
        sizes = torch.bincount(group, minlength=count)
        return cls(torch.argsort(group, stable=True), sizes.cumsum(0) - sizes, sizes)

    def each(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The members of all `groups` in order, and for each member the index of its group in `groups`."""
        sizes = self.sizes[groups]
        index = torch.repeat_interleave(sizes)
        offset = torch.arange(len(index), device=index.device) - (sizes.cumsum(0) - sizes)[index]
        return self.members[self.starts[groups][index] + offset], index


class GroupedPositives(NamedTuple):
    """Pictures and texts in groups: all pictures of picture group g are positives of all texts of its text groups."""

    picture_group: Int[Tensor, " pictures"]
    text_group: Int[Tensor, " texts"]
    text_groups: Groups  # the text groups of each picture group
    texts: Groups  # the texts of each text group

    @classmethod
    def of(cls, picture_group: Tensor, text_group: Tensor, image_index: Int[Tensor, " texts"]) -> "GroupedPositives":
        """From the group of each picture and of each text, counted from 0, and the picture of each text: a picture
        group has the text groups of all texts of its pictures."""
        pictures, texts = int(picture_group.max()) + 1, int(text_group.max()) + 1
        together = torch.unique(picture_group[image_index] * texts + text_group)
        text_groups = Groups.of(together // texts, pictures)._replace(members=together % texts)  # already sorted
        return cls(picture_group, text_group, text_groups, Groups.of(text_group, texts))

    def for_rows(self, first: int, end: int) -> Pairs:
        groups, rows = self.text_groups.each(self.picture_group[first:end])
        columns, index = self.texts.each(groups)
        return rows[index], columns

    def counts(self) -> tuple[Tensor, Tensor]:
        every = torch.arange(len(self.text_groups.sizes), device=self.picture_group.device)
        text_groups, picture_groups = self.text_groups.each(every)
        rows = torch.zeros_like(self.text_groups.sizes).index_add_(0, picture_groups, self.texts.sizes[text_groups])
        pictures = torch.bincount(self.picture_group, minlength=len(rows))
        columns = torch.zeros_like(self.texts.sizes).index_add_(0, text_groups, pictures[picture_groups])
        return rows[self.picture_group], columns[self.text_group]
