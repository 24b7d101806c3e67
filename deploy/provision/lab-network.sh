#!/bin/sh
# For Vagrant's QEMU provider, which does not support private networks. Gives the network card with the hardware address MAC the
# address ADDRESS/PREFIX, now and at each boot. Does nothing if there is no such card.
set -eu
[ $# -eq 2 ] || { echo "usage: lab-network.sh MAC ADDRESS/PREFIX" >&2; exit 2; }

card=''
for path in /sys/class/net/*; do
    [ "$(cat "$path/address")" != "$1" ] || card=${path##*/}
done
[ -n "$card" ] || exit 0

mkdir -p /etc/systemd/network
printf '[Match]\nMACAddress=%s\n\n[Network]\nAddress=%s\n' "$1" "$2" >/etc/systemd/network/60-offerd-lab.network
systemctl enable --quiet systemd-networkd
systemctl restart systemd-networkd
ip link set "$card" up
ip address replace "$2" dev "$card"
