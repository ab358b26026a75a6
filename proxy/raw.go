package proxy

import (
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
