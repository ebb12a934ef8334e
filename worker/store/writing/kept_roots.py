"""Keeps the newest root trees that this process committed: the next batch need not read its parent's.

Git takes 3 ms to give one of 10,000 devices. A commit's id stands for its tree, so a kept one is right
wherever a batch has that very commit as its parent, whatever other writers did meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from worker.store.git.root_tree import RootTree

#: Memory for all of them, of which a tree of 10,000 devices takes 1.1 MB.
_MOST_BYTES: Final = 16 << 20
#: What a tree takes beside its bytes.
_OVERHEAD_BYTES: Final = 4096


class KeptRoots:
    """Root trees by their commits, the least recently kept first. Safe to share between threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._trees: OrderedDict[str, tuple[RootTree, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, commit: str | None) -> RootTree | None:
        """The tree of a commit, if it is kept. It is the caller's from now on, who may change it."""
        with self._lock:
            tree, size = self._trees.pop(commit or "", (None, 0))
            self._bytes -= size
            return tree

    def keep(self, commit: str, tree: RootTree) -> None:
        """Keep the tree of a commit, which the caller must not use any more."""
        tree.begin_pack()
        size = tree.memory_bytes() + _OVERHEAD_BYTES
        with self._lock:
            self._bytes += size - self._trees.pop(commit, (tree, 0))[1]
            self._trees[commit] = tree, size
            while self._bytes > self._most_bytes:
                _commit, (_tree, least) = self._trees.popitem(last=False)
                self._bytes -= least


#: Those of this process.
of_process: Final = KeptRoots()
