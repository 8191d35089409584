"""A node's blocks on disk: so many bytes and no more; what others gave goes first, the longest unused one of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from computation.errors import PeersError
from computation.files import replacing

__all__ = ["Store"]


class Store:
    """Blocks by their CID's bytes; any thread may use it.

    Parameters
    ----------
    folder : Path
        Where; made if it is missing. What is in it from an earlier time is found again, unpinned.
    most_bytes : int
        Of all blocks.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._pinned: set[bytes] = set()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.block")):
            self._sizes[bytes.fromhex(path.stem)] = path.stat().st_size
        self._bytes = sum(self._sizes.values())
        self._make_room(0)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return self._bytes

    def put(self, cid: bytes, content: bytes, pinned: bool = False) -> bool:
        """Keep a block; tell whether it was here already.

        Raises
        ------
        PeersError
            If it finds no room beside what is pinned.
        """
        with self._lock:
            known = cid in self._sizes
            if not known:
                self._make_room(len(content))
                with replacing(self._path(cid)) as partial:
                    partial.write_bytes(content)
                self._sizes[cid], self._bytes = len(content), self._bytes + len(content)
            if pinned:
                self._pinned.add(cid)
            return known

    def get(self, cid: bytes) -> bytes | None:
        """Return a block, or nothing."""
        with self._lock:
            if cid not in self._sizes:
                return None
            self._sizes.move_to_end(cid)
            return self._path(cid).read_bytes()

    def has(self, cid: bytes) -> bool:
        """Tell whether a block is here."""
        return cid in self._sizes

    def pin(self, cid: bytes) -> None:
        """Let a block stay until it is dropped."""
        with self._lock:
            if cid in self._sizes:
                self._pinned.add(cid)

    def drop(self, cid: bytes) -> None:
        """Forget a block."""
        with self._lock:
            self._remove(cid)

    def cids(self) -> list[bytes]:
        """Return what is here."""
        with self._lock:
            return list(self._sizes)

    def _make_room(self, wanted: int) -> None:
        for cid in [one for one in self._sizes if one not in self._pinned]:
            if self._bytes + wanted <= self.most_bytes:
                return
            self._remove(cid)
        if self._bytes + wanted > self.most_bytes:
            raise PeersError(
                f"the store has no room for {wanted} bytes: {self._bytes} of {self.most_bytes} are pinned; give it more"
            )

    def _remove(self, cid: bytes) -> None:
        self._pinned.discard(cid)
        if cid in self._sizes:
            self._bytes -= self._sizes.pop(cid)
            self._path(cid).unlink(missing_ok=True)

    def _path(self, cid: bytes) -> Path:
        return self.folder / f"{cid.hex()}.block"
