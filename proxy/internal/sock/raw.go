package sock

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

// Read and Write make one system call and do not wait.
func Read(fd int, b []byte) (int, error) { return onBytes(unix.SYS_READ, fd, b, 0) }

// Write is like Read.
func Write(fd int, b []byte) (int, error) { return onBytes(unix.SYS_WRITE, fd, b, 0) }

// Peek reads and leaves the bytes where they are.
func Peek(fd int, b []byte) (int, error) { return onBytes(unix.SYS_RECVFROM, fd, b, unix.MSG_PEEK) }

// send sends a datagram on a connected socket.
func send(fd int, b []byte) (int, error) { return onBytes(unix.SYS_SENDTO, fd, b, 0) }

// Option is an option of the level SOL_SOCKET.
func Option(fd, option int) (value int32, err error) {
	size := uint32(unsafe.Sizeof(value))
	_, err = result(unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)) //nolint:gosec // see onBytes
	return value, err
}

// Sockaddr is an address of IPv4 or IPv6 as the kernel writes it (ip(7), ipv6(7)).
type Sockaddr [unix.SizeofSockaddrInet6]byte

// Parse reads it, with the interface of a link-local address.
func (sa *Sockaddr) Parse() (addr netip.AddrPort, scope uint32) {
	ip := netip.AddrFrom4([4]byte(sa[4:]))
	if binary.NativeEndian.Uint16(sa[:]) == unix.AF_INET6 {
		ip = netip.AddrFrom16([16]byte(sa[8:])).Unmap()
		scope = binary.NativeEndian.Uint32(sa[24:])
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(sa[2:])), scope
}

// LocalAddress is a socket's own address. getsockname(2) as x/sys/unix has it
// asks for the protocol, too.
func LocalAddress(fd int) (netip.Addr, error) {
	var sa Sockaddr
	size := uint32(len(sa))
	_, err := result(unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))) //nolint:gosec // see onBytes
	addr, _ := sa.Parse()
	return addr.Addr(), os.NewSyscallError("getsockname", err)
}

// Message is a datagram with the address of the other end and the control
// messages. What they are received into must be on the heap, or it is moved
// there each time.
type Message struct{ Name, Data, Control []byte }

// Receive cuts data and control to what has come.
func (m *Message) Receive(fd, flags int) error {
	var part unix.Iovec
	h := m.header(&part)
	n, err := result(unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), uintptr(flags))) //nolint:gosec // see onBytes
	if err != nil {
		return err
	}
	m.Data, m.Control = m.Data[:n], m.Control[:h.Controllen]
	return nil
}

// Send sends it whole.
func (m *Message) Send(fd int) error {
	var part unix.Iovec
	h := m.header(&part)
	_, err := result(unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)), 0)) //nolint:gosec // see onBytes
	return err
}

func (m *Message) header(part *unix.Iovec) unix.Msghdr {
	*part = unix.Iovec{Base: unsafe.SliceData(m.Data)} //nolint:gosec // see onBytes
	part.SetLen(len(m.Data))
	h := unix.Msghdr{Name: unsafe.SliceData(m.Name), Namelen: uint32(len(m.Name)), Iov: part, Control: unsafe.SliceData(m.Control)} //nolint:gosec // see onBytes
	h.SetIovlen(1)
	h.SetControllen(len(m.Control))
	return h
}

// EpollNow returns the events that are there.
func EpollNow(fd int, events []unix.EpollEvent) (int, error) {
	return direct(unix.SYS_EPOLL_PWAIT, fd, unsafe.Pointer(unsafe.SliceData(events)), len(events), 0) //nolint:gosec // see onBytes
}

// Splice moves bytes into a pipe, or out of it.
func Splice(from, to, n int) (int, error) {
	return result(unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK))
}

// direct makes a call whose arguments are a descriptor, an array with its
// length, flags or a time, and zeros. It has no type parameter: inlined into
// another package such a call has the array on the heap (Go 1.26).
func direct(call uintptr, fd int, array unsafe.Pointer, n, last int) (int, error) {
	return result(unix.RawSyscall6(call, uintptr(fd), uintptr(array), uintptr(n), uintptr(last), 0, 0))
}

// onBytes is direct for bytes.
func onBytes(call uintptr, fd int, b []byte, flags int) (int, error) {
	return direct(call, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), flags) //nolint:gosec // the kernel takes an address
}

func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
