# shellcheck shell=sh
# What gerbil does in its container: makes wg0 as /etc/wireguard says, and stays. Where the kernel has no WireGuard it
# is a wireguard-go, whose socket is in the container.
set -e
ip link add wg0 type wireguard 2>/dev/null || wireguard-go wg0
until wg setconf wg0 /etc/wireguard/wg0.conf 2>/dev/null; do sleep 0.02; done
while read -r address; do ip address add "$address" dev wg0; done </etc/wireguard/addresses
ip link set wg0 mtu "$1" multicast off txqueuelen 20000 up
ip route replace "$2" dev wg0
trap 'exit 0' TERM
sleep infinity &
wait
