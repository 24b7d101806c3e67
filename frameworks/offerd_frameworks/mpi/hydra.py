"""`mpiexec.hydra` as a child process: it prints what to run on each host, waits for these proxies, and passes on the ranks'
output.

With the launcher `manual` it starts nothing itself. Each rank's program is run by a small shell, which reports on both streams
how it ended: hydra itself names no rank, and sometimes waits for the peers of one that has exited. When both reports have come,
all that the rank wrote has come.

Hydra authenticates nobody: the first to connect as a proxy is believed, and is sent the job's program, arguments and
environment. And it listens on all addresses, whatever its options. So it gets only the part of our environment that it needs,
and while it is stopped, its listening socket is bound again, to the job's own address.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

import offerd
from offerd_frameworks.mpi.output import End, Lines, Piece, Splitter, pattern

PROGRAM = "mpiexec.hydra"
MEND = "apt-get install mpich"
READ_BYTES = 256 << 10
WORDS_KEPT = 12
WORDS = ("utf-8", "surrogateescape")
"""How arguments, file names and variables are decoded (PEP 383), whatever our locale is."""

_LAUNCH, _LAUNCH_END = "HYDRA_LAUNCH:", "HYDRA_LAUNCH_END"
_PROXY_ID = re.compile(r"--proxy-id (\d+)")
_CONTROL_PORT = re.compile(r"--control-port \S+:(\d+)")
_SYS_PIDFD_GETFD = 438  # the same on all architectures
# A framework uses only the public SDK, so this cannot use `offerd_linux`.
_libc = ctypes.CDLL(None, use_errno=True)
_MAY_NOT_LOOK = (errno.EPERM, errno.EACCES, errno.ENOSYS)
"""An older kernel, a sandbox, or a rule against access to other processes."""
_KEEP_IDLE_S, _KEEP_EVERY_S, _KEEP_PROBES = 10, 5, 4
_BACKLOG = 4096

ADDRESS_VARIABLE = "OFFERD_MPI_ADDRESS"
"""For each proxy: the address of its slave, which its ranks may use, too."""
_PASSED_ON = re.compile(
    r"PATH|LANG|LANGUAGE|LC_\w+|TZ|TERM|LD_LIBRARY_PATH|PYTHON\w+|(OMP|UCX|FI|MPI4PY|MPICH|MPIR|MPIEXEC|HYDRA)_\w+"
)
"""Variables passed on from our own environment: those that programs need to be found and to run, and those that tune MPI. The
job has to name all others.
"""
_PORT_RANGE = re.compile(r"\w+_PORT_?RANGE")
PORT_RANGE = "MPIEXEC_PORT_RANGE"

# $1 is the random word of our marks; the program and its arguments follow. The proxy does not learn that a program has
# failed: hydra might then drop output that it has not passed on yet. We end the job, by SIGTERM, when we have read all of it.
# The proxy waits for every process that holds the rank's pipes. So what the program has left behind in this shell's own process
# group is ended, and then every other process that can still write to these pipes: by SIGTERM, and after a second by SIGKILL.
# (The proxy lets us inherit the pipes under other numbers, too; $own is the subshell that looks.) What the shell says about its
# children's ends ("Killed") is not output of the rank: descriptor 3 is the rank's stderr.
# Ranks listen on every interface by default. We restrict that unless there is InfiniBand, whose devices have other names.
_RANK = r"""word=$1; shift
holders() {
    read -r own _ < /proc/self/stat
    set --
    for fd in 1 3; do
        end=$(readlink /proc/$$/fd/$fd); end=${end#pipe:?}
        set -- "$@" -o -lname "pipe:?${end%?}?"
    done
    for path in $(exec find /proc/[0-9]*/fd -false "$@"); do
        pid=${path#/proc/}; pid=${pid%%/*}
        if [ $pid != $$ ] && [ $pid != $own ] && grep -q '^flags:.*[12]$' /proc/$pid/fdinfo/${path##*/}; then echo $pid; fi
    done
}
ended=
trap 'ended=-' TERM
if [ -z "${UCX_NET_DEVICES+set}" ] && [ ! -d /sys/class/infiniband ]; then
    case $OFFERD_MPI_ADDRESS in
    127.* | ::1) device=lo ;;
    *) device=$(ip -o addr show to "$OFFERD_MPI_ADDRESS" 2>/dev/null | { read -r _ name _; echo "${name%@*}"; }) ;;
    esac
    [ -z "$device" ] || export UCX_NET_DEVICES="$device" FI_TCP_IFACE="${FI_TCP_IFACE:-$device}"
fi
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-); status=$?
trap '' TERM; kill -TERM 0; kill -CONT 0; trap 'ended=-' TERM
tries=0
while left=$(exec 3>&-; holders); [ -n "$left" ] && [ $tries -lt 40 ]; do
    if [ $tries = 0 ]; then kill -TERM $left; elif [ $tries -ge 10 ]; then kill -KILL $left; fi
    sleep 0.1; tries=$((tries + 1))
done
printf '\001%s!%s\002\n' "$word" $ended$status
printf '\001%s!%s\002\n' "$word" $ended$status >&3
waited_s=0
[ $status = 0 ] || while [ -z "$ended" ] && [ $waited_s -lt 600 ]; do sleep 1; waited_s=$((waited_s + 1)); done
exit $status"""


def find_hydra() -> str:
    """The path of MPICH's process manager, by its own name: `mpiexec` may be Open MPI's. Raises `OfferdError`."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise offerd.OfferdError(f"{PROGRAM} is not installed here; MPI jobs need MPICH: {MEND}")
    return found


def own_address(hosts: Sequence[str]) -> str:
    """Our IPv4 address on the way to the first of these hosts that is not this one. Hydra takes no IPv6 address. If all are
    this host, its address may be one that only this host knows. Raises `OfferdError`.
    """
    address = "127.0.0.1"
    for host in hosts:
        if ":" in host:
            if _towards(host) != host:
                raise offerd.OfferdError(
                    f"{PROGRAM} cannot use IPv6, and a slave of this job can only be reached at {host}; MPI jobs on several "
                    "hosts need slaves that are started with --ip and an IPv4 address"
                )
        elif address.startswith("127."):
            address = _towards(host) or address
    return address


def _towards(host: str) -> str:
    """Our address on the way to this host; empty if there is no route. Sends nothing: the kernel picks the route."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of this environment that a job gets by default."""
    return {name: value for name, value in environment.items() if _PASSED_ON.fullmatch(name)}


def _start(
    words: Sequence[str], directory: str, environment: Mapping[str, str], stdin: int | None
) -> subprocess.Popen[bytes]:
    """Start it. Raises `OfferdError` if the program or the directory does not exist."""
    try:
        return subprocess.Popen(
            [word.encode(*WORDS) for word in words],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory.encode(*WORDS) or None,
            env={name.encode(*WORDS): value.encode(*WORDS) for name, value in environment.items()},
            bufsize=0,
            start_new_session=True,  # we handle Ctrl-C
        )
    except OSError as error:
        name = os.fsdecode(error.filename or PROGRAM)
        raise offerd.OfferdError(f"cannot start {name}: {error.strerror}") from None


class Hydra:
    """One process manager, for one attempt at a job. Not for several threads at once.

    When `is_ready`, `commands` are the proxies' command lines, one for each host, in order.
    """

    def __init__(
        self,
        argv: Sequence[str],
        hosts: Sequence[tuple[str, int]],
        address: str,
        *,
        directory: str,
        environment: Mapping[str, str],
        stdin: int | None,
    ) -> None:
        """Start it. `hosts` are names and numbers of ranks, `address` is where the proxies connect, `environment` the ranks'.

        Raises `OfferdError` if MPICH or the directory does not exist.
        """
        # With MPICH's variable for a port range it would bind its socket for good, so we choose a port from the range instead.
        ranges = {name: value for name, value in environment.items() if _PORT_RANGE.fullmatch(name)}
        self._address = address
        self._ports = _ports(ranges.get(PORT_RANGE, ""))
        word = secrets.token_hex(6)
        names = _distinct([name for name, _ in hosts])
        words = [
            *("setpriv", "--pdeathsig", "KILL", find_hydra(), "-launcher", "manual", "-rmk", "user"),
            *("-localhost", address, "-prepend-pattern", pattern(word)),
            *("-hosts", ",".join(f"{name}:{n}" for name, (_, n) in zip(names, hosts, strict=True))),
            *(word for name, value in ranges.items() for word in ("-genv", name, value)),
            *("-n", str(sum(n for _, n in hosts)), "/bin/sh", "-c", _RANK, "sh", word, *argv),
        ]
        own = {name: value for name, value in environment.items() if name not in ranges}
        self._process = _start(words, directory, own, stdin)
        self.pidfd = os.pidfd_open(self._process.pid)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout, self.stderr = self._process.stdout, self._process.stderr
        self.commands: list[list[str]] = []
        self.is_ready = False
        self.is_bound = False
        """It listens on its own address only."""
        self._launch = b""
        self._port = 0
        self._splitters = {False: Splitter(word), True: Splitter(word)}
        self._lines = {False: Lines(word), True: Lines(word)}
        self._ranks = sum(n for _, n in hosts)
        self._own: list[str] = []
        self.has_output = False
        """Ranks have written something, or ended."""
        self._ends: dict[int, int] = {}  # rank -> on how many streams its end has come
        self.deaths: list[End] = []
        """Ranks whose programs failed, in the order in which we learnt it."""
        self.silent: list[int] = []
        """Ranks that have ended and all of whose output has been read."""

    # -- output -----------------------------------------------------------------------------------------------------

    def read(self, *, is_stderr: bool) -> Iterator[Piece] | None:
        """The ranks' whole lines that have come, to be read before the next call; None at the end of the stream. Hydra's own
        output is kept for `words`. Raises `OfferdError`, and so does the returned iterator.
        """
        data = (self.stderr if is_stderr else self.stdout).read(READ_BYTES)
        if not data:
            return None
        if not is_stderr and not self.is_ready:
            data = self._read_launch(data)
        lines = self._lines[is_stderr]
        return self._of_ranks(
            lines,
            (line for rank, text in self._splitters[is_stderr].feed(data) for line in lines.add(rank, text)),
        )

    def rest(self, *, is_stderr: bool) -> Iterator[Piece]:
        """Lines without an end, when everything has been read."""
        lines = self._lines[is_stderr]
        return self._of_ranks(lines, lines.rest())

    @property
    def unheard(self) -> tuple[int, ...]:
        """Ranks whose output has not been read to its end."""
        silent = set(self.silent)
        return tuple(rank for rank in range(self._ranks) if rank not in silent)

    @property
    def words(self) -> str:
        """A useful line of hydra's own output: how the first process ended, or its last line."""
        text = "\n".join(self._own)
        place = re.search(r"PID \d+ RUNNING AT (\S+)", text)
        how = re.search(r"EXIT STRING: (.*)", text)
        if place:
            return f"a process on {place[1]} ended: {how[1] if how else 'see above'}"
        return self._own[-1] if self._own else ""

    def _read_launch(self, data: bytes) -> bytes:
        """Handle the lines up to the end of the launch; returns what follows, which is output."""
        *whole, rest = (self._launch + data).split(b"\n")
        for number, line in enumerate(whole):
            text = line.decode(errors="replace")
            if text.startswith(_LAUNCH_END):
                self.is_bound = self._bind()
                self.is_ready, self._launch = True, b""
                return b"\n".join([*whole[number + 1 :], rest])
            if text.startswith(_LAUNCH):
                self._take_command(text.removeprefix(_LAUNCH))
            else:
                self._note(text)
        self._launch = rest
        return b""

    def _take_command(self, text: str) -> None:
        proxy, port = _PROXY_ID.search(text), _CONTROL_PORT.search(text)
        if proxy is None or port is None or int(proxy[1]) != len(self.commands):
            raise offerd.OfferdError(f"this {PROGRAM} does not behave like MPICH 4's: {text.strip()}")
        self._port = int(port[1])
        self.commands.append(shlex.split(text))

    def _of_ranks(self, lines: Lines, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The ranks' pieces, without hydra's own output and the ends."""
        for piece in pieces:
            if piece.rank is not None:
                self.has_output = True
                yield piece
                continue
            for line in piece.data.decode(errors="replace").splitlines():
                self._note(line)
        for end in lines.take_ends():
            self.has_output = True
            streams = self._ends[end.rank] = self._ends.get(end.rank, 0) + 1
            if end.exit_status and streams == 1:
                self.deaths.append(end)
            if streams == len(self._lines):
                self.silent.append(end.rank)

    def _note(self, line: str) -> None:
        if line.strip():
            self._own.append(line.strip())
            del self._own[:-WORDS_KEPT]

    # -- where it listens -------------------------------------------------------------------------------------------

    def _bind(self) -> bool:
        """Make it listen on the job's address only. False if the kernel does not let us; raises `OfferdError` if somebody has
        connected already.

        Shutting a listening socket down unbinds it. Hydra is stopped meanwhile, as it would consider the socket broken.
        """
        self._signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            links = self._open_sockets()
            if links is None:
                return False
            try:
                if any(_is_link(link, self._port) for link in links):
                    raise offerd.OfferdError(
                        f"somebody else has connected to {PROGRAM} at its port {self._port}"
                    )
                for link in links:
                    if _is_listener(link, self._port):
                        self._bind_anew(link)
            finally:
                for link in links:
                    link.close()
        finally:
            self._signal(signal.SIGCONT)
        return True

    def _bind_anew(self, listener: socket.socket) -> None:
        listener.shutdown(socket.SHUT_RDWR)
        for port in self._ports or (self._port,):
            try:
                listener.bind((self._address, port))
            except OSError as error:
                why = error
                continue
            listener.listen(_BACKLOG)
            for command in self.commands:
                at = command.index("--control-port") + 1
                command[at] = f"{self._address}:{port}"
            self._port = port
            return
        raise offerd.OfferdError(f"{PROGRAM} cannot listen on {self._address}: {why.strerror}")

    def _open_sockets(self) -> list[socket.socket] | None:
        """Copies of its sockets; None if the kernel does not let us have them."""
        found: list[socket.socket] = []
        try:
            names = self._sockets()
        except PermissionError:  # also raised for a process that has just ended, if we are not root
            return None
        for name in names:
            fd = _libc.syscall(_SYS_PIDFD_GETFD, self.pidfd, name, 0)
            if fd >= 0:
                found.append(socket.socket(fileno=fd))
            elif ctypes.get_errno() in _MAY_NOT_LOOK:
                for link in found:
                    link.close()
                return None
        return found  # a missing one was closed meanwhile, so nobody is connected to it

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    # -- the process ------------------------------------------------------------------------------------------------

    def arrived(self) -> int | None:
        """How many proxies are connected. From now on the kernel watches these connections: a dead one ends in an error within
        half a minute, whereas hydra would wait for ever. None if the kernel does not let us read its sockets.
        """
        links = self._open_sockets()
        if links is None:
            return None
        number = 0
        for link in links:
            with link:
                if _is_link(link, self._port):
                    number += 1
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE_S)
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_EVERY_S)
                    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_PROBES)
        return number

    def _sockets(self) -> list[int]:
        """The numbers of its descriptors that are sockets."""
        found = []
        for entry in os.scandir(f"/proc/{self._process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(entry.path).startswith("socket:"):
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """Send SIGKILL: while it waits for a proxy it ignores everything else."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status, when `pidfd` is readable; for a signal, as a shell reports it."""
        status = self._process.wait()
        os.close(self.pidfd)
        self.stdout.close()
        self.stderr.close()
        for lines in self._lines.values():
            lines.close()
        return 128 - status if status < 0 else status


def _is_listener(link: socket.socket, port: int) -> bool:
    """Whether this is the socket to which proxies connect."""
    if link.family != socket.AF_INET or link.type != socket.SOCK_STREAM:
        return False
    is_listening = link.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(is_listening and link.getsockname()[1] == port)


def _ports(text: str) -> range:
    """The ports of `FIRST:LAST`, MPICH's form of a range; empty if the text is invalid."""
    found = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", text)
    return range(int(found[1]), min(int(found[2]), 65535) + 1) if found else range(0)


def _is_link(link: socket.socket, port: int) -> bool:
    """Whether this is a proxy's connection to the control port."""
    if link.family != socket.AF_INET or link.type != socket.SOCK_STREAM:
        return False
    try:
        link.getpeername()
    except OSError:
        return False
    return bool(link.getsockname()[1] == port)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that are all different: hydra takes hosts of the same name for one host."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return distinct
