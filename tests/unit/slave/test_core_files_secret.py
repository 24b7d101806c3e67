"""The core and files: it sends the master the secret, and passes on which owners the master refuses."""

from __future__ import annotations

from helpers.slave_bench import Bench
from offerd import messages as m
from offerd.files_access import FilesSecret
from offerd.protocol.files_messages import FilesSecretChanged, RefuseOwners
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev


def test_the_files_secret_is_in_each_registration_and_sent_when_renewed() -> None:
    bench = Bench()
    secret, later = FilesSecret(b"s" * 32, 1, "ab"), FilesSecret(b"t" * 32, 2, "ab")
    bench.event(ev.FilesSecretRenewed(secret))
    assert not any(isinstance(message, FilesSecretChanged) for message in bench.sent)
    bench.from_master(m.NotRegistered())
    assert [message.files for message in bench.sent if isinstance(message, m.RegisterSlave)][-1] == secret
    bench.register()
    bench.clear()
    bench.event(ev.FilesSecretRenewed(later))
    assert bench.sent == [FilesSecretChanged(later)]


def test_owners_refused_by_the_master_are_passed_to_the_file_server() -> None:
    bench = Bench()
    bench.register()
    bench.from_master(RefuseOwners({"alice": 7}))
    assert bench.asked_for(act.RefuseOwners) == [act.RefuseOwners({"alice": 7})]
