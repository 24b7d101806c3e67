"""A virtual machine for tests that need cgroup v2 on a host without it: QEMU with Debian's kernel.

The guest sees this host's files (through 9p, read-only; what it writes stays in its memory) at their places, so the
checkout and its virtual environment are just there. Pid 1 is `guest_init.sh`, or systemd where that is wanted. It runs one
command; what the command writes to `$OFFERD_GUEST_PORT` arrives here line by line. Without KVM the guest is emulated: some
ten times slower than the host, and its clock is the host's, so only ratios within it mean anything.

    python tests/helpers/guest.py [--systemd] [COMMAND...]     a shell, or one command, in a guest
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
INIT = Path(__file__).with_name("guest_init.sh")
QEMU = "qemu-system-x86_64"
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay", "ext4")
PROGRAMS = {QEMU: "qemu-system-x86", "busybox": "busybox-static", "modprobe": "kmod", "mke2fs": "e2fsprogs"}
"""Programs, and the Debian packages that have them."""
SYSTEMD_FILES = {
    "/lib/systemd/systemd": "systemd",
    "/usr/lib/systemd/user/dbus.socket": "dbus-user-session",
    "/lib/systemd/system/dbus.socket": "dbus",
}
"""Programs that a guest with systemd as pid 1 also needs."""
CONTROLLERS = {"cpu", "memory", "pids"}
DISK_BYTES = 2 << 30
"""Size of the scratch disk, a sparse file."""
BOOT_LIMIT_S = 240.0
"""Some 10 s on an idle machine of two cores, without KVM."""
LONGEST_S = 86400.0
LOCKUP_WORDS = "watchdog_thresh=30 softlockup_panic=1 softlockup_all_cpu_backtrace=1"
"""A kernel that has not switched tasks for 60 s panics, with the stacks of its processors on the console."""
CONSOLE_LINES = 120
"""Lines of the console that are shown when a guest dies."""


class GuestFailed(Exception):
    """It did not boot, hung or broke down; the text ends with the last lines of its console."""

    @property
    def locked_up(self) -> bool:
        """Whether its processors spun in the kernel until the watchdog ended it; QEMU's emulation does that at times."""
        return "soft lockup" in str(self)


def host_has_v2() -> bool:
    """Whether this host has a v2 hierarchy with controllers that the tests may use."""
    try:
        controllers = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    except OSError:
        return False
    return os.geteuid() == 0 and set(controllers) >= CONTROLLERS


def missing(*, systemd: bool = False) -> str:
    """Empty if a guest can be booted; otherwise what is missing and what to do."""
    packages = [package for program, package in PROGRAMS.items() if _find(program) is None]
    if systemd:
        packages += [package for path, package in SYSTEMD_FILES.items() if not Path(path).exists()]
    if _kernel() is None:
        packages.append("linux-image-amd64")
    return (
        f"a guest with cgroup v2 needs Debian packages: apt-get install {' '.join(packages)}"
        if packages
        else ""
    )


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _kernel() -> Path | None:
    """The newest installed kernel with 9p, which Debian's cloud kernels lack; `OFFERD_GUEST_KERNEL` names another."""
    if named := os.environ.get("OFFERD_GUEST_KERNEL"):
        return Path(named)
    images = [
        image
        for image in Path("/boot").glob("vmlinuz-*")
        if Path("/lib/modules", _version(image), "kernel/fs/9p").is_dir()
    ]
    return max(images, key=lambda image: [int(n) for n in re.findall(r"\d+", _version(image))], default=None)


def _has_kvm() -> bool:
    """Whether this host virtualizes: /dev/kvm is also there on some hosts, themselves virtual, whose cpu does not."""
    has_flag = re.search(r"^flags.* (vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return has_flag is not None and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _version(kernel: Path) -> str:
    return kernel.name.removeprefix("vmlinuz-")


class Guest:
    """A guest that runs one command. `read` gives what it says; leaving the context ends it."""

    def __init__(
        self,
        command: list[str],
        *,
        cpus: int = 2,
        mem: str = "2G",
        interactive: bool = False,
        systemd: bool = False,
    ) -> None:
        """Starts to boot. `interactive`: its serial line is our terminal. `systemd`: that is pid 1, the command a service.

        Raises `GuestFailed` if it cannot.
        """
        if reason := missing(systemd=systemd):
            raise GuestFailed(reason)
        kernel = _kernel()
        assert kernel is not None
        self._folder = tempfile.TemporaryDirectory(prefix="offerd-guest-")
        folder = Path(self._folder.name)
        self._console = folder / "console"
        self._console.touch()
        _write_initramfs(folder / "initramfs", _version(kernel))
        _make_disk(folder / "disk")
        (folder / "command").write_text(f"{_opened()}cd {ROOT}\n{shlex.join(command)}\n")
        words = _qemu_words(kernel, folder, cpus, mem, interactive, "offerd.systemd" if systemd else "")
        for name in ("port.in", "port.out"):
            os.mkfifo(folder / name)
        # Opened for reading and writing, so that neither end waits for the other.
        self._port = os.open(folder / "port.out", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer = b""
        with open(folder / "qemu.err", "wb") as errors:
            self._qemu = subprocess.Popen(
                words, stdin=None if interactive else subprocess.DEVNULL, stderr=errors
            )
        self._pidfd = os.pidfd_open(self._qemu.pid)

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, limit_s: float) -> str | None:
        """The next line that the guest's command wrote; None when the guest has ended.

        Raises `GuestFailed` if nothing comes within `limit_s`, or the guest breaks down.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select(
                [self._port, self._pidfd], [], [], max(0.0, deadline - time.monotonic())
            )
            if self._port in ready:
                self._buffer += os.read(self._port, 1 << 16)
            elif self._pidfd in ready:
                return None
            else:
                raise GuestFailed(f"the guest said nothing for {limit_s:.0f} s\n{self.console()}")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def wait_booted(self) -> None:
        """Until its command is about to run. Raises `GuestFailed`."""
        if (line := self.read(BOOT_LIMIT_S)) != "booted":
            raise GuestFailed(f"the guest did not boot ({line})\n{self.console()}")

    def console(self, lines: int = CONSOLE_LINES) -> str:
        """The last lines of its console, and what QEMU complained about."""
        errors = Path(self._folder.name, "qemu.err").read_text(errors="replace")
        text = self._console.read_text(errors="replace").replace("\r", "")
        return "\n".join(["the guest's console ends:", *text.splitlines()[-lines:], errors]).rstrip()

    def wait(self) -> int:
        """Until it has ended: the exit status of its command. Raises `GuestFailed` if it broke down."""
        status = None
        while (line := self.read(LONGEST_S)) is not None:
            word, _, number = line.partition(" ")
            status = int(number) if word == "exit" else status
        if status is None:
            raise GuestFailed(f"the guest broke down\n{self.console()}")
        return status

    def close(self) -> None:
        """End it, now."""
        self._qemu.kill()
        self._qemu.wait()
        os.close(self._pidfd)
        os.close(self._port)
        self._folder.cleanup()


def _qemu_words(kernel: Path, folder: Path, cpus: int, mem: str, interactive: bool, more: str) -> list[str]:
    kernel_words = (
        f"console=ttyS0 loglevel={4 if interactive else 5} panic=-1 mitigations=off nokaslr "
        f"{LOCKUP_WORDS} offerd.command={folder / 'command'} {more}"
    )
    accelerator = ["kvm", "-cpu", "host"] if _has_kvm() else ["tcg,thread=multi", "-cpu", "max"]
    terminal = ["-chardev", "stdio,id=terminal,signal=off"] if interactive else []
    return [
        "setpriv", "--pdeathsig", "KILL", _find(QEMU) or QEMU, "-nodefaults", "-display", "none", "-no-reboot",
        "-accel", *accelerator, "-machine", "q35,sata=off,smbus=off,i8042=off", "-smp", str(cpus), "-m", mem,
        "-kernel", str(kernel), "-initrd", str(folder / "initramfs"), "-append", kernel_words,
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-drive", f"if=none,id=disk,file={folder / 'disk'},format=raw,cache=unsafe",
        "-device", "virtio-blk-pci,drive=disk",
        "-chardev", f"pipe,id=port,path={folder / 'port'}", "-device", "virtio-serial-pci",
        "-device", "virtserialport,chardev=port,name=port",
        *terminal, "-serial", "chardev:terminal" if interactive else f"file:{folder / 'console'}",
    ]  # fmt: skip


def _opened() -> str:
    """Commands that let other users of the guest read this Python and this checkout, which may be in a closed home."""
    places = (Path(sys.base_prefix).resolve(), ROOT)
    return (
        shlex.join(["chmod", "a+x", *sorted({str(parent) for place in places for parent in place.parents})])
        + "\n"
    )


def _make_disk(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([_find("mke2fs") or "mke2fs", "-q", "-F", "-t", "ext4", str(path)], check=True)


def _write_initramfs(path: Path, version: str) -> None:
    """What the kernel unpacks into its first root: a busybox, modules in the order of loading, and `init`."""
    words = [_find("modprobe") or "modprobe", "-S", version, "--show-depends", "-a", *MODULES]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    modules = list(dict.fromkeys(line.split()[1] for line in found.splitlines() if line.startswith("insmod")))
    entries: list[tuple[str, int, bytes]] = [
        (name, 0o040755, b"") for name in ("bin", "modules", "dev", "proc", "sys")
    ]
    entries.append(("bin/busybox", 0o100755, Path(_find("busybox") or "").read_bytes()))
    for number, module in enumerate(modules):
        if module.endswith(".ko"):
            data = Path(module).read_bytes()
        else:  # .ko.xz, .ko.zst
            program = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[Path(module).suffix]
            data = subprocess.run([program, "-dc", module], capture_output=True, check=True).stdout
        entries.append((f"modules/{number:02}-{Path(module).name.partition('.')[0]}.ko", 0o100644, data))
    entries.append(("init", 0o100755, INIT.read_bytes()))
    with open(path, "wb") as file:
        for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")]):
            encoded = name.encode() + b"\0"
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
            file.write(_padded(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded))
            file.write(_padded(data))


def _padded(data: bytes) -> bytes:
    """To a multiple of four bytes, as cpio's newc format wants it."""
    return data + b"\0" * (-len(data) % 4)


def main() -> int:
    """One command in a guest, or a shell on this terminal."""
    systemd = sys.argv[1:2] == ["--systemd"]
    words = sys.argv[2:] if systemd else sys.argv[1:]
    command = words or ["setsid", "-c", "bash", "-l"]
    try:
        with Guest(command, interactive=True, systemd=systemd) as guest:
            return guest.wait()
    except GuestFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
