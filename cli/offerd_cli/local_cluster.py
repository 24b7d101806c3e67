"""A whole cluster on this host, as real processes: for `offerd local`, the demo, tests and measurements.

    with LocalCluster(slaves=3) as cluster:
        executor = offerd.ClusterExecutor(cluster.address)

One temporary directory holds everything: keys, addresses, work directories, the daemons' logs. The keys are valid for this
cluster only. The account's store of credentials names it while it runs, so commands of this account find it without any
setting, and nobody else is admitted. Nothing is left behind when the cluster stops, nor when its owner is killed (see
`offerd_cli.janitor`). Start it from a thread that lives as long as the cluster: the kernel takes the end of the *thread* that
started a daemon for the death of its parent.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil
from msgspec.structs import replace

from offerd.addresses import parse
from offerd.credentials.keys import KEY_VARIABLE, MASTER_KEY_VARIABLE
from offerd.errors import BadInput, OfferdError
from offerd.masters.clusters import (
    MASTER_VARIABLE,
    Cluster,
    Connection,
    Store,
    is_found_unasked,
    own_store,
    resolve,
)
from offerd.masters.detector import find_leader
from offerd.masters.leader import master_address, parse_zookeeper
from offerd.operator import OperatorClient
from offerd.resources import Resources
from offerd_cli import zookeeper
from offerd_cli.local_keys import LocalKeys
from offerd_cli.sweep import MARK, sweep
from offerd_cli.units import parse_amount
from offerd_linux.exits import exit_words
from offerd_slave.removal import try_to_remove
from offerd_web.services.web_tokens import WebTokens

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
_TURN_S = 0.005
OFFERD = (sys.executable, "-P", "-m", "offerd_cli.main")
"""Our command. -P: import nothing from the current directory, where others may have put modules."""
_OF_OTHERS = {MASTER_VARIABLE, KEY_VARIABLE, MASTER_KEY_VARIABLE}
"""Variables that an account may have set for another cluster, and that our daemons must not see."""
WEB, WEB_ADDRESS = "web", "web.address"
FIRST_PORT, LAST_PORT = 31000, 31999
"""Ports for tasks. All slaves are on one host, so each gets its own part."""


class Daemon:
    """One daemon of the cluster: how to start it, and its process while it runs. Its stderr goes to the file `log`.

    `words` are the arguments of `program`, by default our own command.
    """

    def __init__(
        self,
        name: str,
        words: list[str],
        log: Path,
        work_dir: Path | None,
        environment: Mapping[str, str],
        program: Sequence[str] = OFFERD,
    ) -> None:
        self.name = name
        self.program = program
        self.log = log
        self.work_dir = work_dir
        self.words = words
        self.is_wanted = False
        """It was started, and not ended on purpose since: if it ends, the cluster has failed."""
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the latest process. Raises `OfferdError` before the first start."""
        if self._process is None:
            raise OfferdError(f"{self.name} was not started")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        self.is_wanted = True
        with open(
            os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab"
        ) as log:
            self._process = subprocess.Popen(
                [*self.program, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C in the terminal is for the owner, which ends the daemons in order.
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal; does nothing if the process has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for the process to end; False if it did not end in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        """In words: `exited with status 2: LAST LINE OF THE LOG`."""
        status = self.exit_status
        if status is None:
            return "runs"
        how = exit_words(status)
        last = self.last_line()
        return f"{how}: {last}" if last else how

    def last_line(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""


class LocalCluster:
    """A master and `slaves` slaves. `cpus` and `mem` are for each slave ("" = a fair part of this host, but at least two cpus);
    `port` 0 takes a free one. `master_options` and `slave_options` are more words for the daemons' command lines.

    With `zk` the `masters` stand for election: "auto" starts a ZooKeeper, otherwise it is a running one (`HOST:PORT,.../path`).

    With `web_port` a gateway serves the cluster over HTTP (0 takes a free port); `web_address` is what to open.

    It makes its own keys, unless `master_options` has others (`--key`; then `slave_options` must, too). With `insecure` it has
    none, and every account of this host can command it.
    """

    def __init__(
        self,
        slaves: int = 1,
        *,
        cpus: str = "",
        mem: str = "",
        isolation: str = "",
        port: int = 0,
        short_limit: str = "",
        long_fraction: float | None = None,
        master_options: tuple[str, ...] = (),
        slave_options: tuple[str, ...] = (),
        masters: int = 1,
        zk: str = "",
        insecure: bool = False,
        web_port: int | None = None,
    ) -> None:
        if slaves < 0:
            raise BadInput(f"--slaves {slaves}: give 0 or more")
        if masters < 1 or (masters > 1 and not zk):
            raise BadInput(
                f"--masters {masters}: more than one master needs a ZooKeeper to elect the leader; add --zk auto"
            )
        if zk == "auto":
            zookeeper.check_installed()
        elif zk:
            zk = str(parse_zookeeper(zk))
        self._masters_wanted = masters
        self._zk = zk
        self._number = slaves
        self._port = port
        self.slave_resources = _resources(cpus or str(_fair_cpus(slaves)), mem or _fair_mem(slaves))
        self._slave_words = ["--http-port", "0", "--ephemeral", "--die-with-parent", *slave_options]
        said = {"--isolation": isolation, "--short-limit": short_limit, "--long-fraction": long_fraction}
        for option, value in said.items():
            self._slave_words += [option, str(value)] if value not in ("", None) else []
        self._master_words = ["--die-with-parent", *master_options]
        self._has_foreign_keys = "--key" in master_options
        self._is_insecure = insecure
        if insecure:
            self._master_words.append("--insecure")
            self._slave_words.append("--insecure")
        self._keys: LocalKeys | None = None
        self._store: Store | None = None
        self.name = ""
        """Its name in the account's store of credentials."""
        self.base = Path()
        self.address = ""
        self.masters: list[Daemon] = []
        self.zookeeper: Daemon | None = None
        self.slaves: list[Daemon] = []
        self.web: Daemon | None = None
        self.web_address = ""
        """The address of the page, with a token that lets this account in. Empty without a gateway."""
        self._web_port = web_port
        self.isolation = ""
        """The isolation module of the slaves, once they have registered."""
        self._janitor: subprocess.Popen[bytes] | None = None

    # -- Starting ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; returns when all slaves have registered.

        Raises `OfferdError` (`BadInput` for a port in use and the like) with the message of the daemon that failed; then
        nothing is left behind.
        """
        if not self._has_foreign_keys:
            self._store = own_store()
        self.base = Path(tempfile.mkdtemp(prefix="offerd-"))
        try:
            # Tasks may run as other users. They must reach their sandboxes, but not list those of others.
            self.base.chmod(0o711)
            self._start_janitor()
            self._make_keys()
            if self._zk == "auto":
                self._zk = self._start_zookeeper()
            self._start_masters()
            self._register()
            if self._web_port is not None:
                self.web = self._start_web(self._web_port)
            for number in range(1, self._number + 1):
                daemon = self._slave(number)
                daemon.start()
                self.slaves.append(daemon)
            self.wait_for_slaves(self._number)
            if self.web is not None:
                self._wait(lambda: _is_written(self.base / WEB_ADDRESS), "the gateway to listen")
                self.web_address = self._address_with_token()
        except BaseException:
            self.stop()
            raise

    def _make_keys(self) -> None:
        if self._has_foreign_keys or self._is_insecure:
            return
        self._keys = LocalKeys(self.base, self._number)
        self._master_words += self._keys.master_words()

    def _register(self) -> None:
        """Enter the cluster in this account's store."""
        if self._store is None:
            return
        cluster = Cluster("local", self.address, base=str(self.base))
        if self._keys is not None:
            cluster = replace(cluster, master_key=self._keys.master_key, key=str(self._keys.key_file))
        self.name = self._store.add_local(cluster)

    def _start_janitor(self) -> None:
        store = [] if self._store is None else [self._store.directory]
        self._janitor = subprocess.Popen(
            [sys.executable, "-P", "-m", "offerd_cli.janitor", str(self.base), *store],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _start_zookeeper(self) -> str:
        """Start a ZooKeeper and wait until it serves; returns the address and path for our masters."""
        ports = zookeeper.free_ports(1)
        program = zookeeper.prepare_server(self.base / "zookeeper", 0, ports)
        self.zookeeper = Daemon(
            "zookeeper", [], self.base / "zookeeper.log", None, self._environment(), program
        )
        self.zookeeper.start()
        self._wait(lambda: zookeeper.mode(ports[0].client) != "", "ZooKeeper to serve")
        return str(parse_zookeeper(f"{zookeeper.hosts(ports)}/offerd"))

    def _start_masters(self) -> None:
        """Start the masters. The first gets the requested port, the others get free ones."""
        files = []
        for number in range(1, self._masters_wanted + 1):
            name = "master" if self._masters_wanted == 1 else f"master-{number}"
            file = self.base / f"{name}.address"
            port = self._port if number == 1 else 0
            words = ["master", "--port", str(port), "--address-file", str(file), *self._master_words]
            if self._zk:
                words += ["--zk", self._zk]
            daemon = Daemon(name, words, self.base / f"{name}.log", None, self._environment())
            daemon.start()
            self.masters.append(daemon)
            files.append(file)
        for daemon, file in zip(self.masters, files, strict=True):
            self._wait(lambda: all(map(_is_written, files)), "the masters to listen")
            # A restarted master must have the same address, since the slaves look for it there.
            daemon.words[2] = str(parse(file.read_text().strip()).port)
        self.address = self._zk or files[0].read_text().strip()

    def _start_web(self, port: int) -> Daemon:
        """Start the gateway, which takes a second to come up; the slaves start meanwhile."""
        words = ["web", "--master", self.address, *self.key_words(), "--port", str(port), "--die-with-parent"]
        words += ["--state-dir", str(self.base / WEB), "--address-file", str(self.base / WEB_ADDRESS)]
        daemon = Daemon(WEB, words, self.base / f"{WEB}.log", None, self._environment())
        daemon.start()
        return daemon

    def _address_with_token(self) -> str:
        owner = "" if self._keys is None else self._keys.account
        token = WebTokens(self.base / WEB).make(owner, time.time(), None)
        return f"http://{(self.base / WEB_ADDRESS).read_text().strip()}/?token={token}"

    def _slave(self, number: int) -> Daemon:
        name = f"slave-{number}"
        work_dir = self.base / name
        words = ["slave", "--master", self.address, "--work-dir", str(work_dir), "--hostname", name]
        words += ["--resources", f"{self.slave_resources},{self._ports(number)}", *self._slave_words]
        if self._keys is not None:
            words += self._keys.slave_words(number)
        return Daemon(name, words, self.base / f"{name}.log", work_dir, self._environment())

    def _ports(self, number: int) -> str:
        each = (LAST_PORT - FIRST_PORT + 1) // max(self._number, 1)
        first = FIRST_PORT + (number - 1) * each
        return f"ports=[{first}-{first + max(each, 1) - 1}]"

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in _OF_OTHERS} | {
            MARK: str(self.base)
        }

    # -- Looking ----------------------------------------------------------------------------------------------------

    @property
    def master(self) -> Daemon:
        """The first master, and usually the only one."""
        return self.masters[0]

    def leader(self) -> Daemon:
        """The master that leads. Raises `OfferdError` if none does yet."""
        if not self._zk:
            return self.master
        address = find_leader(parse_zookeeper(self._zk), START_TIMEOUT_S)
        for daemon in self.masters:
            if address and daemon.words[2] == str(parse(address).port):
                return daemon
        raise OfferdError(f"no master of this cluster leads{f', but {address} does' if address else ''}")

    def daemons(self) -> list[Daemon]:
        zookeepers = [] if self.zookeeper is None else [self.zookeeper]
        return [*zookeepers, *self.masters, *self.slaves, *([] if self.web is None else [self.web])]

    def connection(self) -> Connection:
        """For clients of this cluster, whatever the environment says."""
        if self._has_foreign_keys:
            return resolve(self.address)
        keys = None if self._keys is None else self._keys.keys
        return Connection(master_address(self.address), keys, self.name)

    def key_words(self) -> list[str]:
        """Command-line options for a client that uses an address unknown to the store: one of several masters, or a proxy."""
        if self._keys is None:
            return []
        return ["--key", str(self._keys.key_file), "--master-key", self._keys.master_key]

    def is_found_unasked(self) -> bool:
        """Whether a command of this account without options finds this cluster, if the environment does not name another."""
        return self._store is not None and is_found_unasked(self._store, self.name)

    def ask(self) -> OperatorClient:
        """A client for questions to this cluster's master; close it (it is a context manager)."""
        return OperatorClient(self.connection())

    def wait_for_slaves(self, number: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the master counts that many active slaves. Raises `OfferdError` if that takes too long, or if a daemon
        ends unexpectedly.
        """
        with self.ask() as client:
            self._wait(
                lambda: sum(slave.state == "active" for slave in client.slaves()) >= number,
                f"{number} slaves to register",
                timeout_s,
            )
            infos = [slave.info for slave in client.slaves()]
        ports = {info.hostname: str(parse(info.files_address).port) for info in infos if info.files_address}
        self.isolation = ", ".join(sorted({info.isolation for info in infos}))
        # A restarted slave must serve its files at the same address, since its tasks' frameworks look for them there.
        for daemon in self.slaves:
            daemon.words[daemon.words.index("--http-port") + 1] = ports.get(daemon.name, "0")

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
        give_up_at = time.monotonic() + timeout_s
        while not condition():
            for daemon in self.daemons():
                if daemon.is_wanted and daemon.exit_status is not None:
                    error = BadInput if daemon.exit_status == 2 else OfferdError
                    raise error(
                        _without_name(daemon.last_line()) or f"the {daemon.name} {daemon.how_it_ended()}"
                    )
            if time.monotonic() > give_up_at:
                raise OfferdError(
                    f"waited {timeout_s:g} s for {what} without success; see the logs in {self.base}"
                )
            time.sleep(_TURN_S)

    # -- Disturbing -------------------------------------------------------------------------------------------------

    def kill_slave(self, number: int, with_signal: int = signal.SIGKILL) -> None:
        """End slave `number` (from 0) by a signal, and wait for its end. After SIGKILL its tasks go on."""
        self._end(self.slaves[number], with_signal)

    def restart_slave(self, number: int) -> None:
        """Start slave `number` again on the same work directory."""
        self._end(self.slaves[number], signal.SIGKILL)
        self.slaves[number].start()

    def kill_leader(self) -> Daemon:
        """`kill -9` the master that leads; returns it."""
        leader = self.leader()
        self._end(leader, signal.SIGKILL)
        return leader

    def kill_master(self, with_signal: int = signal.SIGKILL) -> None:
        self._end(self.master, with_signal)

    def restart_master(self) -> None:
        """Start the master again, on the same port."""
        self._end(self.master, signal.SIGKILL)
        self.master.start()

    def _end(self, daemon: Daemon, with_signal: int) -> None:
        daemon.is_wanted = False
        daemon.signal(with_signal)
        if not daemon.wait(STOP_TIMEOUT_S):
            raise OfferdError(
                f"{daemon.name} is still running {STOP_TIMEOUT_S:g} s after {signal.Signals(with_signal).name}"
            )

    def wait_for_an_end(self, wake_fd: int) -> Daemon | None:
        """Sleep until a daemon has ended, which is returned, or until `wake_fd` is readable (None)."""
        pidfds = {os.pidfd_open(daemon.pid): daemon for daemon in self.daemons() if daemon.running}
        try:
            ready, _, _ = select.select([wake_fd, *pidfds], [], [])
        finally:
            for pidfd in pidfds:
                os.close(pidfd)
        return None if wake_fd in ready else pidfds[ready[0]]

    def record(self) -> None:
        """Have all masters and slaves write their recordings."""
        for daemon in (*self.masters, *self.slaves):
            daemon.signal(signal.SIGUSR2)

    # -- Stopping ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End all tasks and daemons and remove all files. It may be called again, and after a failed start."""
        give_up_at = time.monotonic() + STOP_TIMEOUT_S
        # Slaves first: they end their tasks and report that to the master. Killed slaves leave executors behind for the sweep.
        others = [daemon for daemon in (self.web, self.zookeeper) if daemon is not None]
        for group in (self.slaves, self.masters, others):
            for daemon in group:
                daemon.signal(signal.SIGTERM)
            for daemon in group:
                if not daemon.wait(max(give_up_at - time.monotonic(), 0)):
                    daemon.signal(signal.SIGKILL)
                    daemon.wait(None)
        if self._janitor is None:
            return
        swept = sweep(self.base)
        left = try_to_remove(self.base)
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        self._janitor.wait()
        self._janitor = None
        if self._store is not None:
            self._store.forget_local(str(self.base))
        if not swept:
            raise OfferdError(f"some processes of the cluster in {self.base} cannot be killed; see ps -e")
        if left:
            raise OfferdError(f"{self.base} cannot be removed: {left}")

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _without_name(line: str) -> str:
    """A daemon's message without the command's name in front, since we print ours."""
    return line.removeprefix("offerd: ")


def _is_written(file: Path) -> bool:
    return file.exists() and file.read_text().strip() != ""


def _resources(cpus: str, mem: str) -> Resources:
    """What each slave offers. Raises `BadInput`."""
    amounts = {"cpus": parse_amount("cpus", cpus, "--cpus"), "mem": parse_amount("mem", mem, "--mem")}
    return Resources({name: amount for name, amount in amounts.items() if amount})


def _fair_cpus(slaves: int) -> int:
    """Each slave's part of this host, but at least two: a task of one cpu without a time limit needs them (long-task cap)."""
    return max(2, len(os.sched_getaffinity(0)) // max(slaves, 1))


def _fair_mem(slaves: int) -> str:
    """Each slave's part of this host's memory; an eighth is left to other processes."""
    mebibytes = psutil.virtual_memory().total * 7 // 8 // max(slaves, 1) >> 20
    return f"{max(mebibytes, 64)}M"
