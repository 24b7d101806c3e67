"""How large what a message holds may be: the types of its fields.

What is beyond is refused when a message is decoded, before any code of ours sees it. So that what follows needs no doubt:
amounts add without overflow, times fit into what the kernel takes, and no text or list outgrows what it is passed on in.
Not-a-number and infinity are no numbers here.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

MAX_COUNT = 1 << 53
"""The largest whole number that every language's floating-point numbers hold exactly."""
MAX_AMOUNT = 1 << 60
"""Of one resource: an exbibyte, or as many thousandths. Sums that are told stop here, too (`offerd.resources`), so that there
are none that cannot be told: a million slaves may have the most of it each, and still be summed and listed.
"""
MAX_SECONDS = 1e9
"""Longest time, 31 years: also in milliseconds and nanoseconds it fits into what clocks and polls take."""
MAX_ID = 256
"""Characters. Ids have at most 128 (`offerd.ids`); a little more is refused with a reason, much more is no message."""
MAX_NAMES = 64
"""Scalars in one amount of resources."""
MAX_LISTS = 16
"""Resources in it that are ranges, and as many that are sets."""
MAX_PIECES = 4096
"""Separate ranges of one resource: about 80 KB."""
MAX_WORDS = 1024
"""Words of one set."""

# -- Numbers ------------------------------------------------------------------------------------------------------------

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Protocol = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
Epoch = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
ExitStatus = Annotated[int, Meta(ge=-(1 << 31), le=(1 << 32) - 1)]
Permissions = Annotated[int, Meta(ge=0, le=0o777)]
PageSize = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]
WishedSeconds = Annotated[float, Meta(ge=-MAX_SECONDS, le=MAX_SECONDS)]
"""Of somebody's choice, who is to hear the reason if it cannot be: below zero is for its reader to refuse."""
WishedFraction = Annotated[float, Meta(ge=-1000, le=1000)]
Interval = Annotated[float, Meta(ge=0.001, le=MAX_SECONDS)]
WallClock = Annotated[float, Meta(ge=-1e12, le=1e12)]
Quotient = Annotated[float, Meta(ge=0, le=1e300)]

# -- Texts --------------------------------------------------------------------------------------------------------------

Id = Annotated[str, Meta(max_length=MAX_ID)]
ResourceName = Annotated[str, Meta(max_length=64)]
Word = Annotated[str, Meta(max_length=64)]
Name = Annotated[str, Meta(max_length=1024)]
"""Of people's choice (frameworks, tasks, labels, roles, users, hosts), addresses, paths, tokens, reasons."""
Argument = Annotated[str, Meta(max_length=128 << 10)]
"""The kernel takes no longer one for a program (`MAX_ARG_STRLEN`)."""
Text = Annotated[str, Meta(max_length=128 << 10)]
"""For people: what went wrong."""
Data = Annotated[bytes, Meta(max_length=1 << 20)]
"""Of the executor's own; the frame's size bounds it further."""

# -- Lists and tables ---------------------------------------------------------------------------------------------------

Arguments = Annotated[list[Argument], Meta(max_length=1 << 16)]
ArgumentLists = Annotated[list[Arguments], Meta(max_length=1 << 16)]
Environment = Annotated[dict[Argument, Argument], Meta(max_length=1 << 14)]
Labels = Annotated[dict[Name, Text], Meta(max_length=1024)]
Tallies = Annotated[dict[Name, Count], Meta(max_length=1024)]
Quantities = Annotated[dict[ResourceName, Amount], Meta(max_length=MAX_NAMES + 2 * MAX_LISTS)]
ResourceSeconds = Annotated[dict[ResourceName, Quotient], Meta(max_length=MAX_NAMES + 2 * MAX_LISTS)]

FEW = Meta(max_length=256)
"""Of what somebody writes down by hand."""
MANY = Meta(max_length=1 << 14)
"""Of what programs make: ids, tasks, offers."""
A_QUESTION = Meta(max_length=1 << 12)
"""Of what is answered one by one, at more length than it is asked."""
A_PAGE = Meta(max_length=1000)
"""Entries of a listing."""
