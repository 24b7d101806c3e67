"""A map task: it runs the mapper over each piece of a split, and sorts, combines and indexes the output."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from functools import partial
from typing import Any

from offerd_frameworks.mapreduce import digests, keys, ranges
from offerd_frameworks.mapreduce.compressed import count_lines, open_plain
from offerd_frameworks.mapreduce.failures import CommandFailed
from offerd_frameworks.mapreduce.sorting import Sorting
from offerd_frameworks.mapreduce.streaming import (
    Pump,
    Reporter,
    Scan,
    Stage,
    end_last_line,
    feed,
    feed_lines,
    job_environment,
    leftovers,
    pipe,
    relay,
    scan,
    sort_environment,
    sort_words,
    through,
)
from offerd_frameworks.mapreduce.task_input import Source, open_source

OUTPUT = "output"
INDEX = "index"
PIECES = "OFFERD_MAPREDUCE_PIECES"
"""For a mapper that reads them itself: `[[path, name, start, length, offset], ...]` as JSON."""
UNSORTED = "unsorted"
SAMPLES = 100


def run(task: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Run the task in the current directory; returns its report."""
    source = open_source(task)
    _check_packed(task, source)
    if task["reduces"]:
        output = _map_and_sort(task, reporter, source)
    else:
        _map_alone(task, reporter, source)
        output = scan(OUTPUT)
    size = os.stat(OUTPUT).st_size
    report: dict[str, Any] = {
        "output_bytes": size,
        "output_records": output.lines,
        "input_bytes": sum(length for _, _, length, _ in task["pieces"]),
        "input_records": _count_input(task, source),
        "read": source.how,
        "tabs": output.has_tabs,
    }
    source.close()
    if task["reduces"]:
        report["samples"] = _index(size)
        report["index_sha256"] = digests.of_file(INDEX)
    else:
        report["output_sha256"] = digests.of_file(OUTPUT)
    return report


def _count_input(task: dict[str, Any], source: Source) -> int:
    """Count the input's lines. Raises `CommandFailed` if it is incomplete, or a block is not what was stored."""
    records = 0
    digest = hashlib.sha256() if task["block"] else None
    for piece in task["pieces"]:
        if source.is_compressed(piece):
            name, path = str(piece[0]), source.path_of(piece)
            records += source.lines[name] if name in source.lines else count_lines(path, leftovers, name)
            digest = None  # it was checked before
            continue
        records += scan(source.path_of(piece), piece[3], piece[2], digest).lines
    if digest is not None and digest.hexdigest() != task["sha256"]:
        raise _damaged(task, source)
    return records


def _damaged(task: dict[str, Any], source: Source) -> CommandFailed:
    return CommandFailed(
        f"{task['block']} ({source.how}) is damaged: its SHA-256 is not what it was when it was stored"
    )


def _check_packed(task: dict[str, Any], source: Source) -> None:
    """Check a compressed block before reading it, as errors from decompressing it would say less. Raises `CommandFailed`."""
    is_packed = bool(task["block"]) and any(map(source.is_compressed, task["pieces"]))
    if is_packed and digests.of_file(source.block) != task["sha256"]:
        raise _damaged(task, source)


def _map_alone(task: dict[str, Any], reporter: Reporter, source: Source) -> None:
    """Write the mapper's output to the job's output, with its keys as users see them."""
    job_keys = keys.read(task.get("keys", {}))
    with open(OUTPUT, "w+b") as file:
        if job_keys.separator == keys.TAB:
            _map(task, reporter, source, file.fileno())
            return
        from_mapper, mapped = pipe()
        pump = Pump(partial(through, job_keys.of_map, from_mapper, os.dup(file.fileno())))
        try:
            _map(task, reporter, source, mapped)
        finally:
            os.close(mapped)
            pump.join()  # raises what went wrong, which has also cut off the mapper


def _map_and_sort(task: dict[str, Any], reporter: Reporter, source: Source) -> Scan:
    """Run `mapper | sort`, or with a combiner `mapper | sort | combiner | sort`. Returns what the output holds."""
    from_mapper, mapped = pipe()
    job_keys = keys.read(task.get("keys", {}))
    keying: Pump | None = None
    if not job_keys.is_usual:
        undecorated, (from_mapper, decorated) = from_mapper, pipe()
        keying = Pump(partial(through, job_keys.forth(task["reduces"]), undecorated, decorated))
    sorting = Sorting(task, reporter, from_mapper, OUTPUT, job_keys)
    pump = Pump(sorting.run)
    failure: CommandFailed | None = None
    try:
        _map(task, reporter, source, mapped)
    except CommandFailed as error:
        failure = error
    finally:
        os.close(mapped)
        pump.wait()
        sorting.reap()
        if keying is not None:
            keying.join()
    if failure and sorting.has_read_all:
        raise failure
    pump.join()  # if the output was not read to its end, the reader's error is the cause, not the mapper's
    sorting.finish()
    if failure:
        raise failure
    found = scan(OUTPUT)
    if found.has_tabs and not sorting.by_key:
        # The beginning of the output did not have so few different lines.
        os.rename(OUTPUT, UNSORTED)
        with open(UNSORTED, "rb") as lines, open(OUTPUT, "wb") as output:
            words = sort_words(task["sort_bytes"], by_key=True)
            Stage("sort", words, sort_environment(), reporter, lines, output).wait()
        os.unlink(UNSORTED)
    return found


def _map(task: dict[str, Any], reporter: Reporter, source: Source, output: int) -> None:
    """Run the mapper over each piece, one process each; or once, if it reads all pieces itself."""
    if not task["reads_pieces"]:
        is_file = stat.S_ISREG(os.fstat(output).st_mode)
        for number, piece in enumerate(task["pieces"], 1):
            if is_file:
                _run_mapper(task, reporter, source, piece, output)
                end_last_line(output)
            elif number < len(task["pieces"]):
                _run_mapper_ended(task, reporter, source, piece, output)
            else:
                _run_mapper(task, reporter, source, piece, output)  # sort completes the last line by itself
        return
    pieces = [[source.path_of(piece), *piece] for piece in task["pieces"]]
    environment = job_environment(task["job"], {**task["environment"], PIECES: json.dumps(pieces)})
    with open(os.devnull, "rb") as nothing:
        _mapper(task, reporter, environment, nothing.fileno(), output).wait()


def _mapper(
    task: dict[str, Any], reporter: Reporter, environment: dict[str, str], stdin: int, output: int
) -> Stage:
    return Stage(
        "mapper", task["mapper"], environment, reporter, stdin, output,
        any_status=task.get("any_status", False), ended_by=task.get("ended_by", ""),
        umask=task.get("umask"),
    )  # fmt: skip


def _run_mapper_ended(
    task: dict[str, Any], reporter: Reporter, source: Source, piece: list[Any], output: int
) -> None:
    """Run a mapper whose last line must be completed, as the next mapper's output follows it."""
    reading, writing = pipe()
    pump = Pump(partial(relay, reading, output))
    try:
        _run_mapper(task, reporter, source, piece, writing)
    finally:
        os.close(writing)
        pump.join()


def _run_mapper(
    task: dict[str, Any], reporter: Reporter, source: Source, piece: list[Any], output: int
) -> None:
    name, start, length, offset = piece
    environment = job_environment(
        task["job"],
        {
            **task["environment"],
            "mapreduce_map_input_file": name,
            "mapreduce_map_input_start": str(start),
            "mapreduce_map_input_length": str(length),
        },
    )
    if source.is_compressed(piece):
        _run_mapper_plain(task, reporter, source, piece, environment, output)
        return
    with open(source.path_of(piece), "rb") as file:
        is_ended = os.pread(file.fileno(), 1, offset + length - 1) == b"\n"
        if is_ended and offset + length == os.fstat(file.fileno()).st_size:
            os.lseek(file.fileno(), offset, os.SEEK_SET)  # the mapper reads it itself, to the end of the file
            _mapper(task, reporter, environment, file.fileno(), output).wait()
            return
        reading, writing = pipe()
        mapper = _mapper(task, reporter, environment, reading, output)
        os.close(reading)
        ending = b"" if is_ended else b"\n"  # as in Hadoop, a mapper gets only complete lines
        feeder = Pump(partial(feed, file.fileno(), writing, offset, length, ending))
        try:
            mapper.wait()
        finally:
            feeder.join()  # raises if the input was short: then the mapper's own error does not matter


def _run_mapper_plain(
    task: dict[str, Any],
    reporter: Reporter,
    source: Source,
    piece: list[Any],
    environment: dict[str, str],
    output: int,
) -> None:
    """Run the mapper over a compressed file's contents, and read them to the end, even if the mapper stops reading earlier."""
    name, _, length, _ = piece
    path = source.path_of(piece)
    if os.stat(path).st_size != length:
        raise CommandFailed(f"{name} is not as long as it was when the job began")
    reading, writing = pipe()
    mapper = _mapper(task, reporter, environment, reading, output)
    os.close(reading)

    def feed_plain() -> None:
        try:
            source.lines[name] = feed_lines(open_plain(path, leftovers, name), writing)
        finally:
            os.close(writing)

    feeder = Pump(feed_plain)
    try:
        mapper.wait()
    finally:
        feeder.join()


def _index(size: int) -> list[list[Any]]:
    """Write the index beside the output; returns its samples for JSON (keys as Latin-1)."""
    with open(OUTPUT, "rb") as output:
        index = ranges.make_index(output)
    with open(INDEX, "wb") as file:
        file.write(ranges.pack(index))
    return [[key.decode("latin-1"), weight] for key, weight in ranges.samples(index, size, SAMPLES)]
