"""The elements of a page, in order and from one upwards. Not by `query_selector_all`: its list searches the page anew
for each item, which takes seconds for a thousand pictures."""

from __future__ import annotations

from collections.abc import Iterator

from resiliparse.parse.html import DOMNode, ElementNode, HTMLTree

_MOST_NODES = 500_000
_UNSEEN = ("script", "style", "template", "svg", "textarea")  # what is in these is no part of what the page shows


def elements(tree: HTMLTree) -> Iterator[ElementNode]:
    """All elements of a page."""
    node: DOMNode | None = tree.document
    for _ in range(_MOST_NODES):
        if node is None:
            return
        if isinstance(node, ElementNode):
            yield node
        node = _following(node)


def above(node: ElementNode, most: int) -> Iterator[ElementNode]:
    """The elements around one, the nearest first, up to the page's body."""
    parent = node.parent
    for _ in range(most):
        if not isinstance(parent, ElementNode) or parent.tag in ("body", "html"):
            return
        yield parent
        parent = parent.parent


def _following(node: DOMNode) -> DOMNode | None:
    inner = None if node.tag in _UNSEEN else node.first_child
    if inner is not None:
        return inner
    here: DOMNode | None = node
    while here is not None and here.next_sibling is None:
        here = here.parent_node
    return None if here is None else here.next_sibling
