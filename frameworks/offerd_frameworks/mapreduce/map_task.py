"""A map task: the mapper over each piece of a split, its output sorted by key, combined, and indexed for the reducers."""

from __future__ import annotations

import os
import threading
from typing import Any

from offerd_frameworks.mapreduce import ranges
from offerd_frameworks.mapreduce.streaming import (
    Reporter,
    Stage,
    count_lines,
    feed,
    job_environment,
    sort_environment,
    sort_words,
)
from offerd_frameworks.mapreduce.task_input import Source, open_source

OUTPUT = "output"
INDEX = "index"
SAMPLES = 100


def run(task: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Do it in the current directory; what the framework wants to know of it."""
    source = open_source(task)
    with open(OUTPUT, "wb") as output:
        if task["reduces"]:
            _map_and_sort(task, reporter, source, output.fileno())
        else:
            for piece in task["pieces"]:
                _run_mapper(task, reporter, source, piece, output.fileno())
    size = os.stat(OUTPUT).st_size
    report: dict[str, Any] = {
        "output_bytes": size,
        "output_records": count_lines(OUTPUT),
        "input_bytes": sum(length for _, _, length, _ in task["pieces"]),
        "input_records": sum(
            count_lines(source.path_of(piece), piece[3], piece[2]) for piece in task["pieces"]
        ),
        "read": source.how,
    }
    source.close()
    if task["reduces"]:
        report["samples"] = _index(size)
    return report


def _map_and_sort(task: dict[str, Any], reporter: Reporter, source: Source, output: int) -> None:
    """`mapper | sort | combiner | sort`: a combiner is to keep keys and their order, but nobody has to trust it."""
    plain = sort_environment()
    stages: list[Stage] = []
    into_sort, mapped = os.pipe()
    if task["combiner"]:
        into_combiner, sorted_once = os.pipe()
        into_last, combined = os.pipe()
        stages.append(Stage("sort", sort_words(task["sort_bytes"]), plain, reporter, into_sort, sorted_once))
        environment = job_environment(task["job"], task["environment"])
        stages.append(Stage("combiner", task["combiner"], environment, reporter, into_combiner, combined))
        stages.append(Stage("sort", sort_words(task["sort_bytes"] // 2), plain, reporter, into_last, output))
        for fd in (into_sort, sorted_once, into_combiner, combined, into_last):
            os.close(fd)
    else:
        stages.append(Stage("sort", sort_words(task["sort_bytes"]), plain, reporter, into_sort, output))
        os.close(into_sort)
    try:
        for piece in task["pieces"]:
            _run_mapper(task, reporter, source, piece, mapped)
    finally:
        os.close(mapped)
    for stage in reversed(stages):
        stage.wait(may_be_cut_off=stage is not stages[-1])


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
    with open(source.path_of(piece), "rb") as file:
        if offset + length == os.fstat(file.fileno()).st_size:
            os.lseek(file.fileno(), offset, os.SEEK_SET)  # to the end of the file: the mapper reads it itself
            Stage("mapper", task["mapper"], environment, reporter, file.fileno(), output).wait()
            return
        reading, writing = os.pipe()
        mapper = Stage("mapper", task["mapper"], environment, reporter, reading, output)
        os.close(reading)
        feeder = threading.Thread(target=feed, args=(file.fileno(), writing, offset, length))
        feeder.start()
        try:
            mapper.wait()
        finally:
            feeder.join()


def _index(size: int) -> list[list[Any]]:
    """Write the index beside the output; its samples, as JSON has them (keys as Latin-1)."""
    with open(OUTPUT, "rb") as output:
        index = ranges.make_index(output)
    with open(INDEX, "wb") as file:
        file.write(ranges.pack(index))
    return [[key.decode("latin-1"), weight] for key, weight in ranges.samples(index, size, SAMPLES)]
