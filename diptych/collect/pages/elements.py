"""The elements of a page, in order and from one upwards. The list of `query_selector_all` searches the page anew for
each item, which takes seconds for a thousand pictures; a slice of it searches once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resiliparse.parse.html import ElementNode, HTMLTree

_MOST = 500_000


def elements(tree: HTMLTree, tags: Sequence[str]) -> Iterator[ElementNode]:
    """The elements of a page with one of these tags, in the page's order. What is in drawings (SVG) and templates is no
    part of what a page shows."""
    if tree.document is None:
        return
    wanted, unseen = ",".join([*tags, "svg"]), 0
    for node in tree.document.query_selector_all(wanted)[:_MOST]:
        if unseen:
            unseen -= 1
        elif node.tag == "svg":
            unseen = len(node.query_selector_all(wanted))  # they are what follows
        else:
            yield node


def above(node: ElementNode, most: int) -> Iterator[ElementNode]:
    """The elements around one, the nearest first, up to the page's body."""
    parent = node.parent
    for _ in range(most):
        if not isinstance(parent, ElementNode) or parent.tag in ("body", "html"):
            return
        yield parent
        parent = parent.parent
