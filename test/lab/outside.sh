# Joins the machine to a network of clients: a namespace that stands for everybody else. Nothing leads on from there.
# Its addresses are those for documentation (RFC 5737, RFC 3849), of no real host.
set -eu

ip netns add outside
ip link add uplink type veth peer name uplink netns outside
ip address add 192.0.2.1/24 dev uplink
ip address add 2001:db8::1/64 dev uplink nodad
ip link set uplink up

# Four neighbours, and four clients behind the router that 192.0.2.2 and 2001:db8::2 are for the machine.
ip -n outside link set lo up
ip -n outside address add 192.0.2.2/24 dev uplink
ip -n outside address add 2001:db8::2/64 dev uplink nodad
for n in 11 12 13 14; do
	ip -n outside address add "192.0.2.$n/24" dev uplink
	ip -n outside address add "198.51.100.$n/32" dev uplink
	ip -n outside address add "2001:db8::$n/64" dev uplink nodad
	ip -n outside address add "2001:db8:1::$n/128" dev uplink nodad
done
ip -n outside link set uplink up

# Rootless Podman gives containers the addresses of the interface with the default route (pasta(1)).
ip route add default via 192.0.2.2
ip route add default via 2001:db8::2
