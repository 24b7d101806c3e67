"""The progress of a pull, from the lines that the engine reports.

Source: the engine's API, POST /images/create: a JSON object for each step of each layer.
"""

from __future__ import annotations

from typing import Any

_WAITS = frozenset({"Pulling fs layer", "Waiting"})
_DOWNLOADED = frozenset({"Verifying Checksum", "Download complete", "Extracting"})
_HERE = frozenset({"Pull complete", "Already exists"})
MB = 1_000_000


class PullProgress:
    """All layers of one pull. The total size is shown once the size of every layer is known: some layers wait for others."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, bool] = {}  # layer: whether it is complete
        self._done_bytes: dict[str, int] = {}
        self._size_bytes: dict[str, int | None] = {}  # None: not known yet

    def note(self, line: dict[str, Any]) -> None:
        """Take one line into account. A line about no layer changes nothing."""
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        if status in _HERE:
            self._layers[layer] = True
        elif status in _WAITS or status in _DOWNLOADED or status == "Downloading":
            self._layers[layer] = False
        else:
            return
        if status in _WAITS:
            self._size_bytes.setdefault(layer, None)
        elif status == "Downloading":
            detail = line.get("progressDetail") or {}
            self._done_bytes[layer] = int(detail.get("current") or 0)
            # Some registries do not say how much they send.
            total = int(detail.get("total") or 0)
            self._size_bytes[layer] = total if total > 0 else None
        else:
            size = self._size_bytes.get(layer) or self._done_bytes.get(layer, 0)
            self._size_bytes[layer] = self._done_bytes[layer] = size

    def text(self) -> str:
        """The progress in words: `pulling debian:12: 3 of 5 layers, 12.3 of 40.1 MB`."""
        if not self._layers:
            return f"pulling {self._image}"
        done_mb = f"{sum(self._done_bytes.values()) / MB:.1f}"
        sizes = [size for size in self._size_bytes.values() if size is not None]
        if len(sizes) == len(self._size_bytes):
            done_mb += f" of {sum(sizes) / MB:.1f}"
        here = sum(self._layers.values())
        return f"pulling {self._image}: {here} of {len(self._layers)} layers, {done_mb} MB"
