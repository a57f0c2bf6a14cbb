"""What holds of every syntax tree; reader.py lists the kinds of nodes."""

from typing import Any

Tree = tuple[Any, ...]


def holds(tree: Tree, kind: str) -> bool:
    """Whether there is a node of this kind."""
    return tree[0] == kind or any(holds(part, kind) for part in tree[1:] if isinstance(part, tuple))


def contains(tree: Tree, part: Tree) -> bool:
    """Whether `part` is the tree or a part of it."""
    return tree == part or any(contains(one, part) for one in tree[1:] if isinstance(one, tuple))
