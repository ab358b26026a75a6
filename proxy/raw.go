package proxy

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the loops, on descriptors that never block. Told of a
// system call, Go's runtime gets ready for one that does: it wakes a thread
// that looks every 20 µs whether the processor is to be given to another
// goroutine (entersyscall and sysmon in runtime/proc.go).

func read(fd int, b []byte) (int, error) {
	return direct(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), 0)
}

func write(fd int, b []byte) (int, error) {
	return direct(unix.SYS_WRITE, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), 0)
}

// peek reads and leaves the bytes where they are.
func peek(fd int, b []byte) (int, error) {
	return direct(unix.SYS_RECVFROM, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b), unix.MSG_PEEK)
}

// epollNow returns the events that are there.
func epollNow(fd int, events []unix.EpollEvent) (int, error) {
	return direct(unix.SYS_EPOLL_PWAIT, fd, unsafe.Pointer(unsafe.SliceData(events)), len(events), 0)
}

func direct(call uintptr, fd int, p unsafe.Pointer, n, last int) (int, error) {
	r, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(p), uintptr(n), uintptr(last), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
