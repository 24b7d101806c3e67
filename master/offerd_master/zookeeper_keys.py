"""Enrolled keys and tokens in ZooKeeper, for all masters of a cluster: the leader writes, those that stand by watch.

Below the masters' path, `keys/NAME` and `tokens/ID` hold one table each. The data of `keys` itself are a number that rises with
every change, a digest of all tables, and a MAC over both with the masters' secret key. So a reader knows that it has one whole
state, written by a master, whoever else may write in ZooKeeper or impersonate it. Anything else is not taken, and what was
known before still counts. A change is one transaction, which fails if the writer has been deposed: it requires the writer's
epoch.

A thread of our own does this. The daemon's loop is woken when there is `news`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import zmq.utils.z85

from offerd.masters.leader import EPOCH_NODE, ZooKeeperAddress
from offerd.masters.zookeeper_access import Access, new_client
from offerd.masters.zookeeper_thread import ZooKeeperThread
from offerd_master.core.events import ChangeKept, EnrolmentRead
from offerd_master.core.registry import Change, Contents
from offerd_master.key_records import Records

if TYPE_CHECKING:
    from kazoo.client import KazooClient

log = logging.getLogger("offerd.master")

TRY_AGAIN_S = 0.5
ANSWER_S = 10.0
TRIES = 5
KEYS, TOKENS = "keys", "tokens"
NO_LONGER_LEADS = "this master no longer leads"

Tables = dict[str, bytes]
"""`keys/NAME` or `tokens/ID` -> its table as JSON."""


class ZooKeeperKeys:
    """A `KeyStore` in ZooKeeper. Nothing is known (`is_read`) before ZooKeeper has answered."""

    def __init__(
        self,
        address: ZooKeeperAddress,
        secret: str,
        access: Access,
        session_timeout_s: float,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called, in a thread of ours, when there is news."""
        self.contents = Contents()
        self.complaints: list[str] = []
        self.is_read = False
        self._path = address.path
        self._mac_key = hmac.digest(zmq.utils.z85.decode(secret), b"offerd: enrolled keys", "sha256")
        self._records = Records(time.monotonic, time.time)
        self._wake = wake
        self._tables: Tables = {}
        self._number = 0
        self._version = -1
        self._orders: deque[tuple[Change, int]] = deque()
        self._news: deque[ChangeKept | EnrolmentRead] = deque()
        self._is_old = True
        self._sync_wanted = self._is_synced = False
        self._last_complaint = ""
        self._client: KazooClient = new_client(address, session_timeout_s, access)
        self._thread = ZooKeeperThread(self._client, "enrolled-keys", self._turn, TRY_AGAIN_S)
        self._client.add_listener(self._poke)
        self._thread.start()

    # -- The daemon's loop ----------------------------------------------------------------------------------------------

    def read_before_leading(self) -> bool:
        """A watch may come late. So the first call makes a server catch up with ZooKeeper's leader, and reads again."""
        if not self._sync_wanted:
            self._sync_wanted = True
            self._thread.poke()
        return self._is_synced

    def keep(self, change: Change, epoch: int) -> None:
        self._orders.append((change, epoch))
        self._thread.poke()

    def news(self) -> Iterator[ChangeKept | EnrolmentRead]:
        while self._news:
            yield self._news.popleft()

    def close(self) -> None:
        self._thread.close()

    # -- kazoo's threads ------------------------------------------------------------------------------------------------

    def _poke(self, _event: Any) -> None:
        """The connection's state, or a node that we watch, has changed."""
        self._is_old = True
        self._thread.poke()

    # -- Our thread -----------------------------------------------------------------------------------------------------

    def _turn(self) -> float | None:
        """Returns how many seconds to wait if nothing happens."""
        if not self._client.connected:
            return TRY_AGAIN_S
        is_last_read = self._sync_wanted and not self._is_synced
        if is_last_read:
            self._client.sync(self._path)
        if self._is_old or is_last_read:
            self._is_old = False
            try:
                is_taken = self._read()
            except BaseException:
                self._is_old = True
                raise
            if not is_taken:
                self._is_old = True
                return TRY_AGAIN_S
            if is_last_read:
                self._is_synced = True
                self._wake()
        while self._orders:
            fault = self._write(*self._orders[0])
            self._orders.popleft()
            self._news.append(ChangeKept(fault))
            self._wake()
        return None

    # -- Reading --------------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Read the present state and watch it. False if it is not one that a master wrote."""
        for _ in range(TRIES):
            head = self._head()
            if head is None:
                self._take({}, 0, -1)
                return True
            data, version = head
            tables = self._fetch()
            number = self._number_of(data, tables)
            # Not a fault if a master writes meanwhile: then the number has changed already.
            if number is not None and number >= self._number:
                self._take(tables, number, version)
                return True
        self._complain(
            f"the contents of {self._path}/{KEYS} in ZooKeeper were not written by a master of this cluster: "
            "the keys known before still count"
        )
        return False

    def _head(self) -> tuple[bytes, int] | None:
        from kazoo.exceptions import NoNodeError

        path = f"{self._path}/{KEYS}"
        try:
            data, stat = self._client.get(path, watch=self._poke)
        except NoNodeError:
            if self._client.exists(path, watch=self._poke) is None:
                return None
            return b"", -1
        return data, stat.version

    def _fetch(self) -> Tables:
        from kazoo.exceptions import NoNodeError

        asked = []
        for kind in (KEYS, TOKENS):
            try:
                names = self._client.get_children(f"{self._path}/{kind}")
            except NoNodeError:
                continue
            asked += [
                (f"{kind}/{name}", self._client.get_async(f"{self._path}/{kind}/{name}")) for name in names
            ]
        found: Tables = {}
        for name, answer in asked:
            try:
                found[name] = answer.get(timeout=ANSWER_S)[0]
            except NoNodeError:
                continue  # removed meanwhile: the digest will show it
        return found

    def _take(self, tables: Tables, number: int, version: int) -> None:
        self._tables, self._number, self._version = tables, number, version
        of_kind: dict[str, dict[str, Any]] = {KEYS: {}, TOKENS: {}}
        for name, table in tables.items():
            kind, _, own = name.partition("/")
            of_kind[kind][own] = _loaded(table)
        contents, complaints = self._records.contents(of_kind[KEYS], of_kind[TOKENS])
        for complaint in complaints:
            self._complain(complaint)
        self.is_read = True
        self._news.append(EnrolmentRead(contents))
        self._wake()

    def _complain(self, text: str) -> None:
        if text != self._last_complaint:
            self._last_complaint = text
            log.error("%s", text)

    # -- One whole state ------------------------------------------------------------------------------------------------

    def _signed(self, number: int, tables: Mapping[str, bytes]) -> bytes:
        digest = hashlib.sha256()
        for name in sorted(tables):
            digest.update(b"%d %s %d " % (len(name), name.encode(), len(tables[name])))
            digest.update(tables[name])
        text = f"{number} {digest.hexdigest()}"
        return f"{text} {hmac.digest(self._mac_key, text.encode(), 'sha256').hex()}".encode()

    def _number_of(self, data: bytes, tables: Tables) -> int | None:
        """The number of this state, if a master wrote these data for these tables."""
        text = data.partition(b" ")[0]
        if not text.isdigit() or len(text) > 18:
            return None
        number = int(text)
        return number if hmac.compare_digest(data, self._signed(number, tables)) else None

    # -- Writing --------------------------------------------------------------------------------------------------------

    def _write(self, change: Change, epoch: int) -> str:
        """Make the change, and take it over. Returns why that cannot be, or an empty text."""
        from kazoo.exceptions import KazooException

        wanted = self._after(change)
        fault, is_first = "", True
        give_up_at = time.monotonic() + ANSWER_S
        while is_first or (time.monotonic() < give_up_at and not self._thread.is_closing):
            try:
                if not is_first:
                    # Another writer was faster; or the answer was lost, and the change has been made.
                    self._client.sync(self._path)
                    if not self._read():
                        return self._last_complaint
                    if all(self._tables.get(name) == table for name, table in wanted.items()):
                        return ""
                is_first = False
                fault = self._transact(wanted, epoch)
                if not fault or fault == NO_LONGER_LEADS:
                    return fault
            except (KazooException, TimeoutError) as error:
                fault = f"ZooKeeper does not answer ({type(error).__name__})"
                time.sleep(TRY_AGAIN_S)  # this thread has no other work; kazoo connects again meanwhile
        return fault

    def _after(self, change: Change) -> dict[str, bytes | None]:
        records = self._records
        wanted: dict[str, bytes | None] = {}
        for name, enrolled in change.keys.items():
            wanted[f"{KEYS}/{name}"] = None if enrolled is None else _dumped(records.of_key(enrolled))
        for token_id, token in change.tokens.items():
            wanted[f"{TOKENS}/{token_id}"] = None if token is None else _dumped(records.of_token(token))
        return wanted

    def _transact(self, wanted: Mapping[str, bytes | None], epoch: int) -> str:
        if self._version < 0:
            self._begin()
        data, stat = self._client.get(f"{self._path}/{EPOCH_NODE}")
        if data != b"%d" % epoch:
            return NO_LONGER_LEADS
        kept = {name: table for name, table in self._tables.items() if name not in wanted}
        tables = kept | {name: table for name, table in wanted.items() if table is not None}
        request = self._client.transaction()
        request.check(f"{self._path}/{EPOCH_NODE}", stat.version)
        request.set_data(f"{self._path}/{KEYS}", self._signed(self._number + 1, tables), self._version)
        for name, table in wanted.items():
            path = f"{self._path}/{name}"
            if table is None:
                if name in self._tables:
                    request.delete(path)
            elif name in self._tables:
                request.set_data(path, table)
            else:
                request.create(path, table)
        answers = request.commit()
        if fault := next((answer for answer in answers if isinstance(answer, Exception)), None):
            return f"ZooKeeper has refused the write ({type(fault).__name__})"
        self._tables, self._number, self._version = tables, self._number + 1, answers[1].version
        return ""

    def _begin(self) -> None:
        """Make the parent nodes. They and everything in them are made for masters alone (`new_client`)."""
        from kazoo.exceptions import NodeExistsError

        for kind, data in ((TOKENS, b""), (KEYS, self._signed(0, {}))):
            try:
                self._client.create(f"{self._path}/{kind}", data)
            except NodeExistsError:
                continue
        if not self._read():
            raise TimeoutError(self._last_complaint)


def _dumped(table: Mapping[str, Any]) -> bytes:
    return json.dumps(table, sort_keys=True).encode()


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
