"""How large the contents of a message may be: the types of its fields.

Anything beyond is refused when a message is decoded, before other code sees it. So other code need not worry: amounts add
without overflow, times fit into what the kernel takes, and each text or list still fits when it is passed on. Not-a-number and
infinity are refused.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_COUNT = 1 << 53
"""The largest whole number up to which every language's floating-point numbers are exact."""
MAX_AMOUNT = 1 << 60
"""Most of one resource: an exbibyte, or as many thousandths. Sums stop here, too (`offerd.resources`), so that every sum can be
sent: a million slaves may have this much each and still be added up and listed.
"""
MAX_SECONDS = 1e9
"""Longest time, 31 years: also in milliseconds and nanoseconds, clocks and polls can take it."""
MAX_ID = 256
"""Most characters of an id. Valid ids have at most 128 (`offerd.ids`); one up to this size is refused with a reason, a longer
one with the whole message.
"""
MAX_NAMES = 64
"""Most scalars in one amount of resources."""
MAX_LISTS = 16
"""Most ranges, and most sets, in one amount of resources."""
MAX_PIECES = 4096
"""Most separate ranges of one resource: about 80 KB."""
MAX_WORDS = 1024
"""Most words in one set."""

MAX_STATUS_BYTES = 512 << 10
"""Most bytes of a status' `data` and `message` together, a letter counted as four, or of a message between executor and
scheduler: executor, slave and master add fields, and it must still fit into a frame.
"""

# -- Numbers ------------------------------------------------------------------------------------------------------------

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
"""A number of things or bytes."""
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
"""Of a resource: bytes, or thousandths."""
Protocol = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
"""A version of the protocol."""
Epoch = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""A number that rises with each election of a leader."""
ExitStatus = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 32) - 1)]
"""An exit code, or a signal's number as a negative one."""
Permissions = Annotated[int, Meta(ge=0, le=0o777)]
"""Permission bits of a file."""
PageSize = Annotated[int, Meta(ge=0, le=1_000_000)]
"""Entries that a listing may have; an answer has 1,000 at most."""
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
"""A time span."""
WishedSeconds = Annotated[float, Meta(ge=-MAX_SECONDS, le=MAX_SECONDS)]
"""A time span of somebody's choice. One below 0 is refused by its reader, with a reason."""
WishedFraction = Annotated[float, Meta(ge=-1000, le=1000)]
"""A fraction of somebody's choice. One outside of 0 to 1 is refused by its reader, with a reason."""
Interval = Annotated[float, Meta(ge=0.001, le=MAX_SECONDS)]
"""Seconds between two repetitions."""
WallClock = Annotated[float, Meta(ge=-1e12, le=1e12)]
"""Seconds of the Unix clock."""
Quotient = Annotated[float, Meta(ge=0, le=1e300)]
"""A ratio, or an amount times a time span."""

# -- Texts --------------------------------------------------------------------------------------------------------------

Id = Annotated[str, Meta(max_length=MAX_ID)]
"""An id of a framework, slave, offer, task, executor or container."""
ResourceName = Annotated[str, Meta(max_length=64)]
"""The name of a resource, as `cpus`."""
Word = Annotated[str, Meta(max_length=64)]
"""A member of a resource that is a set."""
Name = Annotated[str, Meta(max_length=1024)]
"""A name that people choose (of a framework, task, label, role, user, host), an address, path, token or reason."""
Argument = Annotated[str, Meta(max_length=128 << 10)]
"""An argument or variable of a program. The kernel takes no longer one (`MAX_ARG_STRLEN`)."""
Text = Annotated[str, Meta(max_length=128 << 10)]
"""A text for people."""
Data = Annotated[bytes, Meta(max_length=1 << 20)]
"""Bytes that only scheduler and executor read. The frame's size bounds them further."""

# -- Lists and tables ---------------------------------------------------------------------------------------------------

Arguments = Annotated[list[Argument], Meta(max_length=1 << 16)]
"""A program and its arguments."""
ArgumentLists = Annotated[list[Arguments], Meta(max_length=1 << 16)]
"""Several programs with their arguments."""
Environment = Annotated[dict[Argument, Argument], Meta(max_length=1 << 14)]
"""A program's variables."""
Labels = Annotated[dict[Name, Text], Meta(max_length=1024)]
"""Texts by name."""
Tallies = Annotated[dict[Name, Count], Meta(max_length=1024)]
"""Numbers by name."""
Quantities = Annotated[dict[ResourceName, Amount], Meta(max_length=MAX_NAMES + 2 * MAX_LISTS)]
"""Amounts by resource; of ranges and sets the number of their members."""
ResourceSeconds = Annotated[dict[ResourceName, Quotient], Meta(max_length=MAX_NAMES + 2 * MAX_LISTS)]
"""Amounts times seconds, by resource."""

FEW = Meta(max_length=256)
"""Of a list that somebody writes by hand."""
MANY = Meta(max_length=1 << 14)
"""Of a list that programs make: ids, tasks, offers."""
A_QUESTION = Meta(max_length=1 << 12)
"""Of a list that is answered entry by entry, at more length than it is asked."""
A_PAGE = Meta(max_length=1000)
"""Of one page of a listing."""
