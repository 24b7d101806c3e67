#!/bin/busybox sh
# Pid 1 of a guest (see guest.py). First part: in the initramfs, by busybox. Second part: in the host's files, by their sh.

first_part() {
    export PATH=/bin
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    for module in /modules/*.ko; do
        insmod "$module"
    done
    mkdir /lower /rw /newroot
    # The files do not change, so they can be cached for good.
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /lower
    mount -t tmpfs rw /rw
    mkdir /rw/upper /rw/work
    mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /newroot
    ip link set lo up
    hostname guest
    for mounted in proc sys dev; do
        mount --move /$mounted /newroot/$mounted
    done
    cp /init /newroot/init-of-guest
    exec switch_root /newroot /bin/sh /init-of-guest second_part
}

second_part() {
    mount -t tmpfs run /run
    mkdir -p /run/tmp /run/disk
    chmod 1777 /run/tmp
    mount -t ext4 /dev/vda /run/disk
    chmod 1777 /run/disk
    # The host's Docker engine has a key there that is root's, and QEMU need not be root; one of the guest's makes its own.
    if [ -d /etc/docker ]; then mount -t tmpfs docker /etc/docker; fi
    for number in 0 1 2; do
        ln -s "/proc/self/fd/$number" "/dev/$(set -- stdin stdout stderr; shift $number; echo "$1")"
    done
    ln -s /proc/self/fd /dev/fd
    if grep -q offerd.systemd /proc/cmdline; then become_systemd; fi
    mkdir -p /dev/pts /dev/shm
    mount -t devpts devpts /dev/pts
    mount -t tmpfs shm /dev/shm
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    run_command
}

# systemd is pid 1 and runs the command as a service of its own, after as little else as possible: of the host's services none
# is enabled, of the system's own those that something asks for.
become_systemd() {
    # Even if this host is a container, the guest is not.
    rm -f /.dockerenv
    for unwanted in system-generators system/sysinit.target.wants system/multi-user.target.wants system/timers.target.wants; do
        mount -t tmpfs none "/lib/systemd/$unwanted"
    done
    mount -t tmpfs none /etc/systemd/system
    mkdir -p /run/systemd/system/multi-user.target.wants
    cat >/run/systemd/system/offerd-guest.service <<END
[Unit]
Description=command of the guest
[Service]
Type=exec
ExecStart=/bin/sh /init-of-guest run_command
StandardInput=tty-force
StandardOutput=inherit
StandardError=inherit
END
    ln -s ../offerd-guest.service /run/systemd/system/multi-user.target.wants/
    exec /lib/systemd/systemd --unit=multi-user.target --show-status=no
}

run_command() {
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=${TERM:-linux}
    OFFERD_GUEST_PORT=$(echo /dev/vport*)
    export TMPDIR=/run/tmp OFFERD_GUEST_DISK=/run/disk OFFERD_GUEST_PORT PYTHONDONTWRITEBYTECODE=1
    echo booted >"$OFFERD_GUEST_PORT"
    command=$(sed 's/.*offerd.command=\([^ ]*\).*/\1/' /proc/cmdline)
    sh "$command"
    echo "exit $?" >"$OFFERD_GUEST_PORT"
    # With -no-reboot a reboot ends QEMU, and is the quickest way.
    echo b >/proc/sysrq-trigger
    while :; do sleep 1; done
}

# The kernel gives its first program words of its own.
case $1 in second_part | run_command) "$1" ;; *) first_part ;; esac
