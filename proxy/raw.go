package proxy

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the loops, on descriptors that never block. Told of a
// system call, Go's runtime gets ready for one that does: it wakes a thread
// that looks every 20 µs whether the processor is to be given to another
// goroutine (entersyscall and sysmon in runtime/proc.go).

func read(fd int, b []byte) (int, error) { return direct(unix.SYS_READ, fd, b, 0) }

func write(fd int, b []byte) (int, error) { return direct(unix.SYS_WRITE, fd, b, 0) }

// peek reads and leaves the bytes where they are.
func peek(fd int, b []byte) (int, error) { return direct(unix.SYS_RECVFROM, fd, b, unix.MSG_PEEK) }

// send sends a datagram on a connected socket.
func send(fd int, b []byte) (int, error) { return direct(unix.SYS_SENDTO, fd, b, 0) }

// sockopt is an option of the level SOL_SOCKET.
func sockopt(fd, option int) (value int32, err error) {
	size := uint32(unsafe.Sizeof(value))
	_, err = result(unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)) //nolint:gosec // see direct
	return value, err
}

// sockaddr is an address of IPv4 or IPv6 as the kernel writes it (ip(7), ipv6(7)).
type sockaddr [unix.SizeofSockaddrInet6]byte

func (sa *sockaddr) parse() (addr netip.AddrPort, scope uint32) {
	ip := netip.AddrFrom4([4]byte(sa[4:]))
	if binary.NativeEndian.Uint16(sa[:]) == unix.AF_INET6 {
		ip = netip.AddrFrom16([16]byte(sa[8:])).Unmap()
		scope = binary.NativeEndian.Uint32(sa[24:])
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(sa[2:])), scope
}

// localAddress is a socket's own address. getsockname(2) as x/sys/unix has it
// asks for the protocol, too.
func localAddress(fd int) (netip.Addr, error) {
	var sa sockaddr
	size := uint32(len(sa))
	_, err := result(unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))) //nolint:gosec // see direct
	addr, _ := sa.parse()
	return addr.Addr(), os.NewSyscallError("getsockname", err)
}

// message is a datagram with the address of the other end and the control
// messages. What they are received into must be on the heap, or it is moved
// there each time.
type message struct{ name, data, control []byte }

// receive cuts data and control to what has come.
func (m *message) receive(fd, flags int) error {
	var part unix.Iovec
	h := m.header(&part)
	n, err := result(unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), uintptr(flags))) //nolint:gosec // see direct
	if err != nil {
		return err
	}
	m.data, m.control = m.data[:n], m.control[:h.Controllen]
	return nil
}

func (m *message) send(fd int) error {
	var part unix.Iovec
	h := m.header(&part)
	_, err := result(unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), 0)) //nolint:gosec // see direct
	return err
}

func (m *message) header(part *unix.Iovec) unix.Msghdr {
	*part = unix.Iovec{Base: unsafe.SliceData(m.data)} //nolint:gosec // see direct
	part.SetLen(len(m.data))
	h := unix.Msghdr{Name: unsafe.SliceData(m.name), Namelen: uint32(len(m.name)), Iov: part, Control: unsafe.SliceData(m.control)} //nolint:gosec // see direct
	h.SetIovlen(1)
	h.SetControllen(len(m.control))
	return h
}

// epollNow returns the events that are there.
func epollNow(fd int, events []unix.EpollEvent) (int, error) {
	return direct(unix.SYS_EPOLL_PWAIT, fd, events, 0)
}

// splice moves bytes into a pipe, or out of it.
func splice(from, to, n int) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK))
}

// direct makes a call whose arguments are a descriptor, an array with its
// length, flags or a time, and zeros.
func direct[T any](call uintptr, fd int, array []T, last int) (int, error) {
	p := unsafe.Pointer(unsafe.SliceData(array)) //nolint:gosec // the kernel takes an address
	return result(unix.RawSyscall6(call, uintptr(fd), uintptr(p), uintptr(len(array)), uintptr(last), 0, 0))
}

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
