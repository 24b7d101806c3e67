"""The input of map tasks: pieces of files, cut at line ends.

Large files are cut into blocks; small files share one, so that a thousand of them do not become a thousand tasks. The mapper is
run once for each piece, so it can be given the name of the piece's file. A compressed file is the input of a map of its own: it
cannot be cut, and its real size is unknown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from offerd import BadInput
from offerd_frameworks.mapreduce.compressed import is_compressed

MAX_PIECES = 256
"""Most pieces in one split: each needs a process."""


class Piece(NamedTuple):
    """`length` bytes of the file `name` from byte `start`, in whole lines, to be read at `offset` of their source.

    The source is the file itself (then `offset` is `start`), or a block with a copy.
    """

    name: str
    start: int
    length: int
    offset: int


class Place(NamedTuple):
    """A slave that holds a block, and the address of its file server."""

    slave_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Split:
    """The input of one map task. `block` is `SET/FILE` in the data directories of `places`; "" for files by path.

    All pieces are then in that block, one after the other, and `sha256` is the block's digest.
    """

    pieces: tuple[Piece, ...]
    block: str = ""
    places: tuple[Place, ...] = ()
    sha256: str = ""

    @property
    def length(self) -> int:
        """In bytes."""
        return sum(piece.length for piece in self.pieces)

    @property
    def slave_ids(self) -> frozenset[str]:
        """The slaves where it is local; empty if no slave is nearer than another."""
        return frozenset(place.slave_id for place in self.places)


def input_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The files that these paths name, absolute. Of directories all files below, except names that begin with `_` or `.`, as in
    Hadoop.

    Raises `BadInput`, also for a directory that cannot be read.
    """
    found: list[str] = []
    for text in paths:
        path = Path(text).absolute()
        if path.is_file():
            found.append(str(path))
        elif path.is_dir():
            found += sorted(_below(path), key=Path)
        elif path.exists():
            raise BadInput(
                f"the input {text} is neither a file nor a directory; write its contents to a file"
            )
        else:
            raise BadInput(f"there is no input {text}; name files, directories, or data:SET")
    return found


def _below(directory: Path) -> Iterator[str]:
    for base, directories, names in os.walk(directory, onerror=_unreadable):
        directories[:] = [name for name in directories if name[0] not in "._"]
        for name in names:
            path = os.path.join(base, name)
            if name[0] not in "._" and _is_file(path):
                yield path


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False  # a broken link
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    """An unreadable directory is not left out: the job would succeed with less than was asked for."""
    raise BadInput(f"cannot read the directory {error.filename}: {error.strerror}") from None


def split_files(files: Iterable[str], block_bytes: int) -> list[Split]:
    """Cut and collect files into splits of about `block_bytes`. Raises `BadInput` for a file that cannot be read."""
    splits: list[Split] = []
    gathered: list[Piece] = []
    gathered_bytes = 0
    for piece in _pieces(files, block_bytes):
        is_alone = is_compressed(piece.name)
        if gathered and (
            is_alone or gathered_bytes + piece.length > block_bytes or len(gathered) == MAX_PIECES
        ):
            splits.append(Split(tuple(gathered)))
            gathered, gathered_bytes = [], 0
        if is_alone:
            splits.append(Split((piece,)))
            continue
        gathered.append(piece)
        gathered_bytes += piece.length
    if gathered:
        splits.append(Split(tuple(gathered)))
    return splits


def _pieces(files: Iterable[str], block_bytes: int) -> Iterator[Piece]:
    for name in files:
        try:
            with open(name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = 0
                for end in _cuts(file, size, size if is_compressed(name) else block_bytes):
                    yield Piece(name, start, end - start, start)
                    start = end
        except OSError as error:
            raise BadInput(f"cannot read {name}: {error.strerror}") from None


def _cuts(file: BinaryIO, size: int, block_bytes: int) -> Iterator[int]:
    """The ends of pieces: the first line end at or after each multiple of an even block size, and the end of the file."""
    number = max(1, -(-size // max(1, block_bytes)))
    last = 0
    for index in range(1, number):
        nominal = size * index // number
        if nominal <= last:
            continue  # this line is longer than a block
        file.seek(nominal - 1)
        file.readline()
        last = min(file.tell(), size)
        if last < size:
            yield last
    if size:
        yield size
