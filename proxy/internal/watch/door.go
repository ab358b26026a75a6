package watch

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// door is a listening TCP socket that the container accepts from. Everybody
// who has the socket, systemd, the container and zerolet-proxy, has the same
// one, so what is set on it by one holds for all.
//
// Shut, it wants every segment signed with a key that nobody has (RFC 2385,
// TCP_MD5SIG in tcp(7)). The kernel drops what is not without a word: what
// would begin a connection or end its handshake. The client's kernel sends it
// again a second later, and the client sees nothing but the wait. Connections
// that there are do not notice. The key stays when the process ends, until
// somebody opens the door. Setting it takes no privilege, which a BPF filter
// on a TCP socket does since 2026 (SO_ATTACH_FILTER, sk_setsockopt() in
// net/core/sock.c).
type door struct {
	fd   int
	addr netip.AddrPort
	v6   bool
}

// newDoors takes the passed sockets.
func newDoors(files []*os.File) (ds []door, err error) {
	defer func() {
		if err != nil {
			closeDoors(ds)
		}
	}()
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no socket was passed; start the socket unit instead", wire.ErrConfig)
	}
	for _, file := range files {
		d, err := newDoor(file)
		if err != nil {
			return ds, fmt.Errorf("%w: passed socket %s: %w", wire.ErrConfig, file.Name(), err)
		}
		ds = append(ds, d)
	}
	return ds, nil
}

// newDoor works on a duplicate, which is not in Go's poller. [os.File.Fd] would
// make the socket a blocking one.
func newDoor(file *os.File) (door, error) {
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return door{}, err
	}
	fd := -1
	if e := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return door{}, e
	}
	if err != nil {
		return door{}, os.NewSyscallError("fcntl", err)
	}
	addr, err := sock.ListeningAddress(fd)
	if err == nil && addr.Network != wire.TCP {
		err = fmt.Errorf("%s is no socket of TCP", addr)
	}
	if err != nil {
		unix.Close(fd)
		return door{}, err
	}
	return door{fd: fd, addr: addr.IP, v6: sock.IsIPv6(fd)}, nil
}

func closeDoors(ds []door) {
	for _, d := range ds {
		unix.Close(d.fd)
	}
}

// everybody are the addresses that need a key while the door is shut. A socket
// of IPv6 has those of IPv4 apart.
func (d door) everybody() []netip.Prefix {
	four := netip.MustParsePrefix("0.0.0.0/0")
	if d.v6 {
		return []netip.Prefix{netip.MustParsePrefix("::/0"), four}
	}
	return []netip.Prefix{four}
}

// nonblockingNote is nobody's address (RFC 5737). With a key for it the door
// remembers that the app wants the socket not to block, see [door.open].
func nonblockingNote() netip.Prefix { return netip.MustParsePrefix("192.0.2.1/32") }

// shut begins to keep newcomers out.
func (d door) shut() error {
	nonblocking, err := d.isNonblocking()
	if err != nil {
		return err
	}
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails (package crypto/rand)
	if nonblocking {
		err = d.sign(nonblockingNote(), key)
	}
	for _, from := range d.everybody() {
		err = errors.Join(err, d.sign(from, key))
	}
	return err
}

// open lets newcomers in again, if they were kept out. It also gives back the
// mode of the socket: systemd makes it a blocking one whenever it passes it to
// a process (flags_fds() in src/core/exec-invoke.c), and that holds for all
// who have it, an app with an event loop too, which would hang in accept(2).
func (d door) open() error {
	var errs []error
	noted, err := d.unsign(nonblockingNote())
	if noted {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(d.fd, true))
	}
	for _, from := range d.everybody() {
		errs = append(errs, err)
		_, err = d.unsign(from)
	}
	return errors.Join(append(errs, err)...)
}

// try fails if the kernel cannot shut the door: built without CONFIG_TCP_MD5SIG it
// knows no such option (ENOPROTOOPT), and where MD5 is forbidden it takes no key
// (tcp_md5_alloc_sigpool() in net/ipv4/tcp.c). What is set on the door remains.
func (d door) try() error {
	nobody := netip.MustParsePrefix("192.0.2.2/32") // as nonblockingNote
	err := d.sign(nobody, make([]byte, 16))
	if err == nil {
		_, err = d.unsign(nobody)
	}
	return err
}

// refuse resets the clients of doors that cannot be shut, and says why nothing is
// started for them: the container could never be stopped without harm.
func refuse(doors []door) error {
	for _, d := range doors {
		err := d.try()
		if err == nil {
			continue
		}
		for _, d := range doors {
			err = errors.Join(err, d.resetWaiting(1<<16)) // no backlog is longer (net.core.somaxconn)
		}
		return fmt.Errorf("%w: Mode=native cannot be had here, leave it out: this kernel takes no key for %s (TCP_MD5SIG in tcp(7)): %w",
			wire.ErrConfig, d.addr, err)
	}
	return nil
}

// unsign takes back what sign did, and reports whether there was anything.
func (d door) unsign(from netip.Prefix) (bool, error) {
	err := d.sign(from, nil)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	return err == nil, err
}

// sign has the kernel want segments from the prefix to be signed.
func (d door) sign(from netip.Prefix, key []byte) error {
	s := unix.TCPMD5Sig{Flags: unix.TCP_MD5SIG_FLAG_PREFIX, Prefixlen: uint8(from.Bits()), Keylen: uint16(len(key))}
	copy(s.Key[:], key)
	if d.v6 {
		s.Addr.Family = unix.AF_INET6
		ip := from.Addr().As16()
		copy(s.Addr.Data[6:], ip[:]) // of struct sockaddr_in6, behind port and flow
	} else {
		s.Addr.Family = unix.AF_INET
		copy(s.Addr.Data[2:], from.Addr().AsSlice()) // of struct sockaddr_in, behind the port
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptTCPMD5Sig(d.fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG_EXT, &s))
}

func (d door) isNonblocking() (bool, error) {
	flags, err := unix.FcntlInt(uintptr(d.fd), unix.F_GETFL, 0)
	return flags&unix.O_NONBLOCK != 0, os.NewSyscallError("fcntl", err)
}

// ring has the kernel send SIGIO to this process for each client, or not.
func (d door) ring(on bool) error {
	const asynchronous = 0x5452 // FIOASYNC: touches no other flag, unlike F_SETFL
	yes := 0
	if on {
		yes = 1
		if _, err := unix.FcntlInt(uintptr(d.fd), unix.F_SETOWN, os.Getpid()); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return os.NewSyscallError("ioctl", unix.IoctlSetPointerInt(d.fd, asynchronous, yes))
}

// resetWaiting resets up to n clients that the app has not accepted.
func (d door) resetWaiting(n int) error {
	nonblocking, err := d.isNonblocking()
	if err == nil && !nonblocking {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(d.fd, true))
		defer func() { _ = unix.SetNonblock(d.fd, false) }() // worked the other way round
	}
	for ; n > 0 && err == nil; n-- {
		var fd int
		fd, _, err = unix.Accept4(d.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			sock.New(fd).Reset()
		case unix.EAGAIN:
			return nil
		}
	}
	return err
}

// segmentTime is how long a segment that has passed the door may take to
// become a connection, where the kernel does not say.
const segmentTime = 50 * time.Millisecond

// awaitSegments returns when every segment that has passed the doors before
// they were shut is a connection, or half of one, that the kernel tells of.
// The kernel handles a segment in one RCU read-side section (tcp_v4_rcv() in
// net/ipv4/tcp_ipv4.c); this membarrier(2) waits for all that have begun. Those
// that need it have no half a connection that could be told of: the end of a handshake
// with a SYN cookie (tcp_syncookies in ip-sysctl), and TCP Fast Open.
func awaitSegments() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(segmentTime) // a kernel with nohz_full= has none
	}
}

// Open opens the doors that the proxy of a container with its own sockets has
// left shut, once the container is gone. It closes the files.
func Open(files []*os.File) error {
	doors, err := newDoors(files)
	if err != nil {
		return err
	}
	defer closeDoors(doors)
	var errs []error
	for _, d := range doors {
		errs = append(errs, d.open())
	}
	return errors.Join(errs...)
}
