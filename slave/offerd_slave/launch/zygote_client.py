"""The slave's side of the zygote: has it launch executors. Nothing here blocks or forks the slave itself."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
from collections import deque

import msgspec

from offerd.ids import ContainerID
from offerd.wire.descriptors import restore_limit
from offerd.wire.posix_text import packed
from offerd_isolation.marks import CONTAINER_MARK
from offerd_linux.exits import exit_words
from offerd_linux.start_area import StartArea
from offerd_slave.launch.messages import (
    MAX_PACKET_BYTES,
    Answers,
    EnterContainer,
    LaunchRequest,
    ShimEnded,
    ShimStarted,
    ZygoteReady,
)
from offerd_slave.launch.spec import Launched, LaunchSpec, NotLaunched

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", CONTAINER_MARK)
"""Variables that the zygote inherits from the slave; executors only get what their launch request says. The mark is kept, as
a slave may itself be a task of another slave."""
ZYGOTE = (sys.executable, "-I", "-c", "from offerd_slave.launch.zygote import main; main()")
"""-I: ignore PYTHON* variables, a user's packages and the current directory. Anything may lie there, and frameworks name the
modules of their executors.
"""
ENTERING_MODULES = ("offerd_executors.command",)
"""Executors that enter a container with everything they need in memory. Other modules are run by the image's own Python."""
IMAGE_PYTHON = "import sys; from {0} import main; sys.exit(main())"
TITLE_ROOM = " " * 128
"""Room for the title `offerd-shim CONTAINER_ID` in the zygote's forks."""
CLOSE_TIMEOUT_S = 2.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answers).decode


class _Launch:
    """A launch without an answer yet."""

    def __init__(self, container_id: ContainerID, packet: bytes) -> None:
        self.container_id = container_id
        self.packet = packet
        self.sent = 0  # how often


class ZygoteClient:
    """Sends launch requests to a zygote and returns one answer for each; replaces a zygote that has died.

    A launch that was under way when the zygote died is sent to the next one, once. That cannot start two executors:
    the second shim finds the first one's `shim` file in the container's directory.
    """

    def __init__(self, log: logging.Logger, *, are_images_run: bool = False) -> None:
        """`are_images_run`: the zygote imports what executors need that enter a container, so that they start sooner. Without
        images it does not, as each shim would need more memory.
        """
        self._log = log
        self._preloaded = ENTERING_MODULES if are_images_run else ()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._launches: dict[str, _Launch] = {}  # in the order of the requests
        self._unsent: deque[_Launch] = deque()
        self._failed: list[NotLaunched] = []
        self.starts = 0
        """Zygotes that were started so far."""

    def start(self) -> None:
        """Start the zygote. Returns at once; launches wait for it (it needs about 0.1 s)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment.setdefault("LANG", "C.UTF-8")
        name, padding = StartArea.PADDING
        environment[name] = padding
        with theirs:
            self._zygote = subprocess.Popen(
                [*ZYGOTE, str(theirs.fileno()), *self._preloaded, TITLE_ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C at the slave's terminal is for the slave alone
            )
        self.starts += 1
        restore_limit(self._zygote.pid)
        ours.setblocking(False)
        self._socket = ours
        self._is_ready = False
        self._epoll.register(ours, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when `replies` has something. The number stays the same for a new zygote."""
        return self._epoll.fileno()

    @property
    def is_ready(self) -> bool:
        """Whether the zygote has reported that it is ready."""
        return self._is_ready

    @property
    def under_way(self) -> int:
        """How many launches have no answer yet."""
        return len(self._launches)

    @property
    def pid(self) -> int | None:
        """The zygote's pid, for people and tests."""
        return self._zygote.pid if self._zygote is not None else None

    def launch(self, spec: LaunchSpec) -> None:
        """Request an executor. `replies` will have one `Launched` or `NotLaunched` for it."""
        if not spec.module and not spec.argv:
            self._fail(spec.container_id, "the executor has neither a module nor a command; give it one")
            return
        module, argv = spec.module, spec.argv
        if spec.enter is not None and module and module not in ENTERING_MODULES:
            module, argv = "", ["python3", "-c", IMAGE_PYTHON.format(module), *argv]
        request = LaunchRequest(
            container_id=spec.container_id,
            container_dir=packed(str(spec.container_dir)),
            sandbox=packed(str(spec.sandbox)),
            module=module,
            argv=argv,
            environment=spec.environment,
            credentials=spec.credentials,
            cgroup=str(spec.cgroup) if spec.cgroup is not None else "",
            log_bytes=spec.log_bytes,
            enter=_enter(spec),
        )
        packet = _encode(request)
        if len(packet) > MAX_PACKET_BYTES:
            self._fail(
                spec.container_id,
                f"the executor's arguments and environment are {len(packet)} bytes; "
                f"{MAX_PACKET_BYTES} are possible: put the rest into a file",
            )
            return
        if spec.container_id in self._launches:
            raise ValueError(f"container {spec.container_id} is being launched already")
        launch = self._launches[spec.container_id] = _Launch(spec.container_id, packet)
        self._unsent.append(launch)
        if self._socket is None:
            self.start()
        self._send()

    def replies(self) -> list[Launched | NotLaunched]:
        """The answers since the last call. Never waits."""
        found: list[Launched | NotLaunched] = []
        with contextlib.suppress(BlockingIOError):  # no launch has failed in this process
            os.eventfd_read(self._wake)
        if self._socket is not None:
            alive = self._receive(found)
            if alive:
                self._send()
            else:
                self._zygote_died()
        found.extend(self._failed)
        self._failed.clear()
        return found

    def close(self) -> None:
        """End the zygote. Shims and executors go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._reap()
        self._epoll.close()
        os.close(self._wake)

    # -- the socket -------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send as many requests as the socket takes. The others are sent after the next answers, which make room."""
        assert self._socket is not None
        while self._unsent:
            launch = self._unsent[0]
            try:
                self._socket.send(launch.packet)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                return  # the zygote is dead: the next `replies` notices, and starts another
            launch.sent += 1
            self._unsent.popleft()

    def _receive(self, found: list[Launched | NotLaunched]) -> bool:
        """Read all answers. False if the zygote is gone."""
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                packet = b""
            if not packet:
                return False
            answer = _decode(packet)
            if isinstance(answer, ZygoteReady):
                self._is_ready = True
                continue
            launch = self._launches.pop(answer.container_id, None)
            if launch is None:
                continue  # the end of a shim whose launch was answered long ago
            if isinstance(answer, ShimStarted):
                found.append(Launched(launch.container_id, answer.shim))
            else:
                if isinstance(answer, ShimEnded):
                    self._log.warning("container %s: %s", answer.container_id, answer.message)
                found.append(NotLaunched(launch.container_id, answer.message))

    def _zygote_died(self) -> None:
        """Start another zygote and repeat launches that were under way. If a zygote dies before it is ready and nothing has to
        be launched, it is not replaced, so that there is no loop."""
        assert self._socket is not None
        self._epoll.unregister(self._socket)
        self._socket.close()
        self._socket = None
        how = self._reap()
        self._log.warning("the zygote %s; starting another", how)
        self._unsent.clear()
        for launch in list(self._launches.values()):
            if launch.sent < 2:
                self._unsent.append(launch)
            else:
                del self._launches[launch.container_id]
                self._fail(launch.container_id, f"the zygote died twice during the launch: it {how}")
        if self._unsent or self._is_ready:
            self.start()
            self._send()

    def _reap(self) -> str:
        """Reap a zygote whose socket is closed, and return how it ended, in words. If it does not end by itself, it is
        killed."""
        if self._zygote is None:
            return "never ran"
        try:
            status = self._zygote.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            status = self._zygote.wait()
        self._zygote = None
        return exit_words(status)

    def _fail(self, container_id: ContainerID, message: str) -> None:
        self._failed.append(NotLaunched(container_id, message))
        os.eventfd_write(self._wake, 1)


def _enter(spec: LaunchSpec) -> EnterContainer | None:
    if spec.enter is None:
        return None
    process = spec.enter.process
    return EnterContainer(process.pid, process.start_ticks, list(spec.enter.cgroups))
