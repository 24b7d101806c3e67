"""The part of the protocol that is about the slaves' files: see `offerd.files_access`. Same rules as `offerd.messages`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offerd.files_access import FilesAccess, FilesSecret, Generation, Text
from offerd.ids import SlaveID
from offerd.messages import Message

MAX_RENEWED = 1_000
"""Slaves in one message."""

# -- Slave -> master ------------------------------------------------------------------------------------------------


class FilesSecretChanged(Message, frozen=True):
    """The slave makes and takes files tokens of another generation from now on; those of the last one are good for a while."""

    files: FilesSecret


# -- Master -> scheduler ----------------------------------------------------------------------------------------------


class FilesRenewed(Message, frozen=True):
    """Newer access to the files of slaves on which the framework has executors: what came with offers dies some hours later."""

    files: Annotated[dict[SlaveID, FilesAccess], Meta(max_length=MAX_RENEWED)]


# -- Master -> slave ------------------------------------------------------------------------------------------------


class RefuseOwners(Message, frozen=True):
    """Take no files token any more that was made with what these owners and operators have had until now. Numbers rise with
    each revocation: one that the slave has obeyed already is no news.
    """

    numbers: Annotated[dict[Text, Generation], Meta(max_length=10_000)]
