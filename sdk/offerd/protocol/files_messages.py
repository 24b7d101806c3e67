"""The part of the protocol about the slaves' files: see `offerd.files_access`. The rules are those of `offerd.messages`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from offerd.files_access import FilesAccess, FilesSecret, Generation, Text
from offerd.ids import SlaveID
from offerd.messages import Message

MAX_RENEWED = 1_000
"""Most slaves in one message."""

# -- Slave -> master ------------------------------------------------------------------------------------------------


class FilesSecretChanged(Message, frozen=True):
    """The slave has a new secret for tokens. Tokens of the generation before it stay good for a while."""

    files: FilesSecret
    """The new generation."""


# -- Master -> scheduler ----------------------------------------------------------------------------------------------


class FilesRenewed(Message, frozen=True):
    """New access to the files of slaves on which the framework has executors. The access of an offer ends after some hours."""

    files: Annotated[dict[SlaveID, FilesAccess], Meta(max_length=MAX_RENEWED)]
    """The access, by slave."""


# -- Master -> slave ------------------------------------------------------------------------------------------------


class RefuseOwners(Message, frozen=True):
    """Accept no files token any more that these owners and operators could make until now."""

    numbers: Annotated[dict[Text, Generation], Meta(max_length=10_000)]
    """By identity (`owner:NAME`, `operator:NAME`), the number of the revocation. Numbers rise, so that a slave knows those
    that it has obeyed.
    """
