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
    # Nothing changes below while we look: cached for good.
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
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=${TERM:-linux}
    mount -t tmpfs run /run
    mkdir -p /dev/pts /dev/shm /run/tmp /run/disk
    chmod 1777 /run/tmp
    mount -t devpts devpts /dev/pts
    mount -t tmpfs shm /dev/shm
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
    mount -t ext4 /dev/vda /run/disk
    chmod 1777 /run/disk
    for number in 0 1 2; do
        ln -s "/proc/self/fd/$number" "/dev/$(set -- stdin stdout stderr; shift $number; echo "$1")"
    done
    ln -s /proc/self/fd /dev/fd
    OFFERD_GUEST_PORT=$(echo /dev/vport*)
    export TMPDIR=/run/tmp OFFERD_GUEST_DISK=/run/disk OFFERD_GUEST_PORT PYTHONDONTWRITEBYTECODE=1
    echo booted >"$OFFERD_GUEST_PORT"
    command=$(sed 's/.*offerd.command=\([^ ]*\).*/\1/' /proc/cmdline)
    sh "$command"
    echo "exit $?" >"$OFFERD_GUEST_PORT"
    # With -no-reboot a reboot is the end, and the quickest.
    echo b >/proc/sysrq-trigger
    while :; do sleep 1; done
}

# The kernel gives its first program words of its own.
if [ "$1" = second_part ]; then second_part; else first_part; fi
