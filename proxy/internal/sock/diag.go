package sock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Diag asks the kernel about sockets of this network namespace
// (sock_diag(7)), whosever they are. It needs no privilege.
type Diag struct {
	mu     sync.Mutex
	fd     int
	answer []byte
}

// diagBuffer takes any one message of a dump, which is at most 32 kB
// (netlink_dump() in net/netlink/af_netlink.c).
const diagBuffer = 32 << 10

// NewDiag opens a socket to ask with.
func NewDiag() (*Diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &Diag{fd: fd, answer: make([]byte, diagBuffer)}, nil
}

// Close ends the asking.
func (d *Diag) Close() { unix.Close(d.fd) }

// Endpoints are those of the socket that is looked for.
type Endpoints struct {
	Network       wire.Network
	V6            bool
	Local, Remote netip.AddrPort
}

// InUse are the states of connections that may keep the container up. One that
// the app has closed does not, even if the kernel still delivers what it sent.
const InUse = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_SYN_RECV | 1<<unix.BPF_TCP_CLOSE_WAIT |
	1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_LAST_ACK | 1<<unix.BPF_TCP_CLOSING

// Info is what the kernel tells of a socket: struct inet_diag_msg.
type Info struct {
	State  uint8
	Remote netip.AddrPort
	inode  uint32
	Cookie uint64 // tells the socket from all others for as long as the machine runs
	Cgroup uint64 // of who made it; 0: not told
}

// Owned reports whether a process has the socket. None has one that waits to be
// accepted, or that was closed and still sends.
func (s Info) Owned() bool { return s.inode != 0 }

// Find looks up the socket with the local and remote address, or the one that
// takes what is sent to the local address (inet_diag_find_one_icsk() in
// net/ipv4/inet_diag.c, udp_dump_one() in net/ipv4/udp_diag.c).
func (d *Diag) Find(e Endpoints) (s Info, known bool, err error) {
	const allStates = 0xffffffff
	err = d.ask(e.request(unix.NLM_F_REQUEST, allStates, nil), func(one Info) { s, known = one, true })
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return s, known, err
}

// Each calls f for every socket of TCP that has the local address and is in
// one of the states, a set of bits. The kernel itself picks them.
func (d *Diag) Each(v6 bool, local netip.AddrPort, states uint32, f func(Info)) error {
	all := Endpoints{Network: wire.TCP, V6: v6}
	return d.ask(all.request(unix.NLM_F_REQUEST|unix.NLM_F_DUMP, states, localFilter(v6, local)), f)
}

// ask sends a request and has f look at each socket of the answer.
func (d *Diag) ask(request []byte, f func(Info)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unix.Sendto(d.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if done, err := parseDiag(d.answer[:n], f); done || err != nil {
			return err
		}
	}
}

// request is a struct nlmsghdr and a struct inet_diag_req_v2, and for a dump
// the attribute INET_DIAG_REQ_BYTECODE.
func (e Endpoints) request(flags uint16, states uint32, filter []byte) []byte {
	const noCookie, bytecode = 0xffffffff, 1 // INET_DIAG_NOCOOKIE, INET_DIAG_REQ_BYTECODE
	size := unix.SizeofNlMsghdr + 56
	if filter != nil {
		size += unix.SizeofNlAttr + len(filter)
	}
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...)
	protocol, source, destination := byte(unix.IPPROTO_TCP), e.Local, e.Remote
	if e.Network == wire.UDP { // "swapped for historical reasons", as udp_dump_one() says
		protocol, source, destination = unix.IPPROTO_UDP, e.Remote, e.Local
	}
	b = append(b, diagFamily(e.V6), protocol, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, states)
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, destination.Port())
	for _, a := range []netip.AddrPort{source, destination} {
		var ip [16]byte
		copy(ip[:], diagAddress(e.V6, a.Addr()))
		b = append(b, ip[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0) // any interface
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	if filter == nil {
		return b
	}
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(filter)))
	b = binary.NativeEndian.AppendUint16(b, bytecode)
	return append(b, filter...)
}

// localFilter is one instruction, a struct inet_diag_bc_op with a struct
// inet_diag_hostcond: the local port is this one, and the address, too, unless
// that is a wildcard (inet_diag_bc_run() in net/ipv4/inet_diag.c).
func localFilter(v6 bool, local netip.AddrPort) []byte {
	const isLocal, opSize = 7, 4 // INET_DIAG_BC_S_COND
	var ip []byte
	family := byte(unix.AF_UNSPEC)
	if !local.Addr().IsUnspecified() {
		ip = diagAddress(v6, local.Addr())
		family = diagFamily(v6)
	}
	size := opSize + 8 + len(ip)
	b := []byte{isLocal, byte(size)}                              // if so, go to the end: taken
	b = binary.NativeEndian.AppendUint16(b, uint16(size+opSize))  // else beyond it: not taken
	b = append(b, family, byte(8*len(ip)), 0, 0)                  // family, length of the prefix
	b = binary.NativeEndian.AppendUint32(b, uint32(local.Port())) // in the host's order
	return append(b, ip...)
}

func diagFamily(v6 bool) byte {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// diagAddress is an address as a socket of the family has it.
func diagAddress(v6 bool, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return nil
	case a.Is4() && !v6:
		return a.AsSlice()
	}
	ip := a.As16()
	return ip[:]
}

// parseDiag reads the messages of one answer. It is done after the last one of
// a dump, or after the only one of anything else.
func parseDiag(b []byte, f func(Info)) (done bool, err error) {
	const header = unix.SizeofNlMsghdr
	for len(b) > 0 {
		if len(b) < header+4 {
			return false, fmt.Errorf("sock_diag: %d bytes", len(b))
		}
		size := int(binary.NativeEndian.Uint32(b))
		if size < header+4 || size > len(b) {
			return false, fmt.Errorf("sock_diag: a message of %d bytes in %d", size, len(b))
		}
		body := b[header:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR: // both begin with an errno, or 0
			if binary.NativeEndian.Uint32(body) == 0 {
				return true, nil
			}
			return true, os.NewSyscallError("sock_diag", unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
		}
		s, err := parseSocket(body)
		if err != nil {
			return false, err
		}
		f(s)
		if binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_MULTI == 0 {
			return true, nil
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false, nil
}

// parseSocket reads a struct inet_diag_msg and the attributes that follow.
func parseSocket(b []byte) (Info, error) {
	const size, cookie, inode = 72, 44, 68
	if len(b) < size {
		return Info{}, fmt.Errorf("sock_diag: a socket of %d bytes", len(b))
	}
	ip, _ := netip.AddrFromSlice(b[24:28])
	if b[0] == unix.AF_INET6 {
		ip, _ = netip.AddrFromSlice(b[24:40])
	}
	return Info{
		State:  b[1],
		Remote: netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[6:])),
		inode:  binary.NativeEndian.Uint32(b[inode:]),
		Cookie: binary.NativeEndian.Uint64(b[cookie:]),
		Cgroup: parseCgroup(b[size:]),
	}, nil
}

// parseCgroup finds INET_DIAG_CGROUP_ID among attributes (struct rtattr).
func parseCgroup(b []byte) uint64 {
	const header, cgroupID = 4, 21
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint16(b))
		if size < header || size > len(b) {
			break
		}
		if binary.NativeEndian.Uint16(b[2:]) == cgroupID && size == header+8 {
			return binary.NativeEndian.Uint64(b[header:])
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return 0
}
