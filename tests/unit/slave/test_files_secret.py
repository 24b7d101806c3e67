"""What a slave's core has to do with files: it tells its master the secret, and passes on whom the master has refused."""

from __future__ import annotations

from helpers.slave_bench import Bench
from offerd import messages as m
from offerd.files_access import FilesSecret
from offerd.wire.files_messages import FilesSecretChanged, RefuseOwners
from offerd_slave.core import actions as act
from offerd_slave.core import events as ev


def test_the_files_secret_goes_with_each_hello_and_at_once_when_it_is_renewed() -> None:
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


def test_owners_that_the_master_has_refused_are_for_the_file_server_to_refuse() -> None:
    bench = Bench()
    bench.register()
    bench.from_master(RefuseOwners({"alice": 7}))
    assert bench.asked_for(act.RefuseOwners) == [act.RefuseOwners({"alice": 7})]
