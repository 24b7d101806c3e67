"""Data sets: files cut into blocks, with replicas in the slaves' data directories, and a manifest that lists them.

Each slave with a part of a set holds some of its blocks and a copy of the set's manifest. So a client of the master finds every
set without a name server:

    DATA_DIR/@OWNER/SET/manifest.json
    DATA_DIR/@OWNER/SET/block-00000 ...
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

import offerd
from offerd import BadInput, FilesAccess, OfferdError
from offerd_frameworks.mapreduce import digests
from offerd_frameworks.mapreduce.compressed import is_compressed
from offerd_frameworks.mapreduce.failures import Incomplete, TransferError
from offerd_frameworks.mapreduce.report import Amount, Digest
from offerd_frameworks.mapreduce.splits import Piece, Place, Split, input_files, split_files
from offerd_frameworks.mapreduce.transfer import Server

MANIFEST = "manifest.json"
UPLOADS = 4
MAX_BLOCK_BYTES = 1 << 30
"""As much as a slave's file server accepts."""
MAX_BLOCKS = 9_999
"""Most blocks of one set: with its manifest, as many files as a slave's file server lists."""
JOB_PREFIX = "job-"
"""Sets with such a name hold the files of running jobs; `offerd data ls` shows them only if asked."""


@dataclass(frozen=True, slots=True)
class Host:
    """A slave that holds data."""

    slave_id: str
    hostname: str
    files: FilesAccess
    owner: str | None = None  # the owner of the sets; None: ourselves

    def path(self, name: str = "", file: str = "") -> str:
        """The path on its file server of a set, a file in it, or (without a name) all sets."""
        return self.files.data_path(name, file, owner=self.owner)


@dataclass(slots=True)
class Block:
    """One block of a set, and the slaves that hold a replica now."""

    name: str
    length: int
    sha256: str
    pieces: list[Piece]
    places: list[Host] = field(default_factory=list)


class _Block(msgspec.Struct):
    """A block as the manifest lists it."""

    name: Annotated[str, Meta(pattern=r"\Ablock-[0-9]{5}\Z")]
    bytes: Amount
    sha256: Digest
    pieces: list[tuple[str, Amount, Amount, Amount]]


class _Manifest(msgspec.Struct):
    bytes: Amount
    replicas: Amount
    created_s: float
    blocks: list[_Block]


@dataclass(slots=True)
class DataSet:
    """A set and where its blocks are."""

    name: str
    length: int
    replicas: int
    created_s: float
    blocks: list[Block]

    @property
    def missing(self) -> list[Block]:
        """Blocks without any available replica."""
        return [block for block in self.blocks if not block.places]

    @property
    def short(self) -> int:
        """How many replicas are missing in all."""
        return sum(max(0, self.replicas - len(block.places)) for block in self.blocks)


def hosts(master: str | None, owner: str | None = None) -> list[Host]:
    """The active slaves, from the master; an operator may name the `owner` whose sets are meant. Raises `OfferdError`."""
    with offerd.OperatorClient(master) as client:
        return sorted(
            (
                Host(slave.info.slave_id, slave.info.hostname, slave.files, owner)
                for slave in client.slaves()
                if slave.state == "active" and slave.files.address
            ),
            key=lambda host: host.hostname,
        )


def put(
    name: str,
    paths: Iterable[str],
    on: Sequence[Host],
    *,
    replicas: int,
    block_bytes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataSet:
    """Store the files as blocks on the slaves `on`, evenly, each block on `replicas` of them, and then the manifest.

    Raises `BadInput`, and `OfferdError` if a slave refuses; then nothing of the set is left.
    """
    check_name(name)
    if not on:
        raise OfferdError("there is no slave to store data on; start one")
    if not 1 <= replicas <= len(on):
        raise BadInput(f"{replicas} replicas on {len(on)} slaves are not possible; give 1 to {len(on)}")
    if find(name, on) is not None:
        raise BadInput(f"there is a set {name} already; remove it with `offerd data rm {name}`")
    files = input_files(paths)
    splits = split_files(files, block_bytes)
    for split in splits:
        (file, *_), *_ = split.pieces
        if split.length > MAX_BLOCK_BYTES and is_compressed(file):
            raise BadInput(
                f"{file} is compressed and cannot be cut, and a block has at most {MAX_BLOCK_BYTES >> 30} GiB; make several "
                "files of it, or give it as --input"
            )
    if len(splits) > MAX_BLOCKS:
        raise BadInput(
            f"{len(splits)} blocks are too many: at most {MAX_BLOCKS} are possible; use a larger --block-size"
        )
    total = sum(split.length for split in splits)
    found = DataSet(name, total, replicas, time.time(), [])
    done = 0
    try:
        with offerd.Workers(UPLOADS, "uploads") as pool:
            uploads = [
                pool.submit(
                    _put_block, name, index, split, [on[(index + n) % len(on)] for n in range(replicas)]
                )
                for index, split in enumerate(splits)
            ]
            try:
                for upload in uploads:
                    block = upload.result()
                    found.blocks.append(block)
                    done += block.length
                    progress(done, total)
            finally:
                pool.shutdown(cancel_futures=True)  # after an interrupt, no more uploads
        manifest = _manifest(found)
        holders = {host.slave_id: host for block in found.blocks for host in block.places}
        for host in holders.values() or on[:1]:
            with Server(host.files) as server:
                server.put(host.path(name, MANIFEST), manifest)
    except BaseException as error:
        remove(name, on)
        if isinstance(error, TransferError | OSError):
            raise OfferdError(f"the set {name} was not stored: {error}") from None
        raise
    return found


def _put_block(name: str, index: int, split: Split, places: list[Host]) -> Block:
    content = b"".join(_read(piece) for piece in split.pieces)
    offset, pieces = 0, []
    for piece in split.pieces:
        pieces.append(piece._replace(offset=offset))
        offset += piece.length
    block = Block(f"block-{index:05d}", len(content), digests.of_bytes(content), pieces, places)
    for host in places:
        with Server(host.files) as server:
            server.put(host.path(name, block.name), content)
    return block


def _read(piece: Piece) -> bytes:
    with open(piece.name, "rb") as file:
        file.seek(piece.offset)
        return file.read(piece.length)


def _manifest(data_set: DataSet) -> bytes:
    document = {
        "set": data_set.name,
        "bytes": data_set.length,
        "replicas": data_set.replicas,
        "created_s": data_set.created_s,
        "blocks": [
            {
                "name": block.name,
                "bytes": block.length,
                "sha256": block.sha256,
                "pieces": [(_text(piece.name), *piece[1:]) for piece in block.pieces],
                "slaves": [host.hostname for host in block.places],
            }
            for block in data_set.blocks
        ],
    }
    return json.dumps(document, indent=1).encode()


def find(name: str, on: Sequence[Host]) -> DataSet | None:
    """The set of that name, with the slaves that really hold its blocks now.

    Raises `OfferdError` if a slave does not list everything that it holds (blocks would seem lost), or if slaves do not agree
    on the contents of the set: digests would be useless if a single slave could change them.
    """
    found, _ = _look(name, on)
    return found


def _look(name: str, on: Sequence[Host]) -> tuple[DataSet | None, bytes]:
    """Like `find`, and also the manifest's bytes."""
    held: dict[str, list[Host]] = {}
    said: dict[bytes, str] = {}
    for host in on:
        with _answering(host) as server:
            names = set(server.listing(host.path(name)))
            for block in names - {MANIFEST}:
                held.setdefault(block, []).append(host)
            if MANIFEST in names:
                said.setdefault(server.read(host.path(name, MANIFEST)), host.hostname)
    if not said:
        return None, b""
    if len(said) > 1:
        raise OfferdError(
            f"{' and '.join([*said.values()][:2])} do not agree on what is in the set {name}: one of them was changed; "
            f"remove it (offerd data rm {name}) and put it again"
        )
    content = next(iter(said))
    manifest = _read_manifest(name, content)
    blocks = [
        Block(
            block.name,
            block.bytes,
            block.sha256,
            [Piece(*piece) for piece in block.pieces],
            held.get(block.name, []),
        )
        for block in manifest.blocks
    ]
    return DataSet(name, manifest.bytes, manifest.replicas, manifest.created_s, blocks), content


def _read_manifest(name: str, content: bytes) -> _Manifest:
    try:
        manifest = msgspec.json.decode(content, type=_Manifest)
        for block in manifest.blocks:
            block.pieces = [(_name(piece[0]), *piece[1:]) for piece in block.pieces]
        return manifest
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise OfferdError(
            f"the manifest of the set {name} cannot be read (an earlier release wrote it, or it was changed); remove the set "
            f"(offerd data rm {name}) and put it again"
        ) from None


def _text(name: str) -> str:
    """A file's name for a manifest. A name that is not UTF-8 cannot be text in JSON: it is written as Latin-1, after a NUL."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "\0" + os.fsencode(name).decode("latin-1")
    return name


def _name(text: str) -> str:
    """The opposite of `_text`. Raises `ValueError`."""
    return os.fsdecode(text[1:].encode("latin-1")) if text.startswith("\0") else text


@contextmanager
def _answering(host: Host) -> Iterator[Server]:
    """A slave's file server; the block ends at once if the server does not answer."""
    try:
        with Server(host.files) as server:
            yield server
    except Incomplete as error:
        raise OfferdError(str(error)) from None
    except TransferError:
        pass


def repair(
    name: str,
    on: Sequence[Host],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[DataSet, int]:
    """Copy blocks that have lost replicas to slaves without them, first to those that hold least of the set.

    Returns the set as it is then, and the number of replicas made. Blocks that no slave has stay missing, and so do replicas if
    there are not enough slaves. Raises `BadInput` if there is no such set, `OfferdError` if a block cannot be copied.
    """
    check_name(name)
    found, manifest = _look(name, on)
    if found is None:
        raise BadInput(f"there is no set {name}; see `offerd data ls`")
    holds = {host.slave_id: 0 for host in on}
    for block in found.blocks:
        for host in block.places:
            holds[host.slave_id] += block.length
    todo = [block for block in found.blocks if block.places and len(block.places) < found.replicas]
    total = sum(block.length for block in todo)
    done = made = 0
    for block in todo:
        without = [host for host in on if host not in block.places]
        targets = sorted(without, key=lambda host: holds[host.slave_id])[: found.replicas - len(block.places)]
        if targets:
            content = _read_replica(name, block)
            for host in targets:
                try:
                    with Server(host.files) as server:
                        server.put(host.path(name, block.name), content)
                        server.put(host.path(name, MANIFEST), manifest)
                except (TransferError, OSError) as error:
                    raise OfferdError(f"{block.name} of {name} was not copied: {error}") from None
                holds[host.slave_id] += block.length
                block.places.append(host)
                made += 1
        done += block.length
        progress(done, total)
    return found, made


def _read_replica(name: str, block: Block) -> bytes:
    """The block from the first slave that has it undamaged. Raises `OfferdError`."""
    why = ""
    for host in block.places:
        try:
            with Server(host.files) as server:
                content = server.read(host.path(name, block.name), 0, block.length)
        except (TransferError, OSError) as error:
            why = str(error)
            continue
        if digests.of_bytes(content) == block.sha256:
            return content
        why = f"on {host.hostname} it is damaged (its SHA-256 differs)"
    raise OfferdError(f"{block.name} of {name} was not copied: {why}")


def names(on: Sequence[Host]) -> list[str]:
    """All sets, complete or not. Raises `OfferdError` if a slave does not list all that it has."""
    found: set[str] = set()
    for host in on:
        with _answering(host) as server:
            found.update(filter(is_name, server.listing(host.path())))
    return sorted(found)


def remove(name: str, on: Sequence[Host]) -> int:
    """Remove a set from these slaves; returns how many had a part of it. A slave that does not answer keeps its part."""
    had = 0
    for host in on:
        with _answering(host) as server:
            had += server.delete(host.path(name))
    return had


def is_name(name: str) -> bool:
    """Whether a set may have this name."""
    letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@=+-")
    return 0 < len(name) <= 128 and set(name) <= letters and (name[0].isalnum() or name[0] == "_")


def check_name(name: str) -> None:
    """Raise `BadInput` for a name that no set may have."""
    if not is_name(name):
        raise BadInput(f"{name!r} cannot name a set; use letters, digits, `-`, `_` and dots")


def splits_of(name: str, on: Sequence[Host]) -> list[Split]:
    """One map input for each block. Raises `BadInput` if there is no such set, `OfferdError` if a block is lost."""
    found = find(name, on)
    if found is None:
        raise BadInput(f"there is no set {name}; see `offerd data ls`")
    if found.missing:
        raise OfferdError(
            f"{len(found.missing)} of {len(found.blocks)} blocks of {name} are on no slave that answers; "
            "bring their slaves back, or put the set again"
        )
    return [
        Split(
            tuple(block.pieces),
            f"{name}/{block.name}",
            tuple(Place(host.slave_id, host.files.address) for host in block.places),
            block.sha256,
        )
        for block in found.blocks
    ]
