package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RunHelper is the helper process. It serves requests on descriptor 3 until
// the proxy is gone, and returns the exit status. Signals do not end it:
// systemd sends SIGTERM to all of a unit, and the proxy drains first.
func RunHelper() int {
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for fd := helperExe; fd <= helperUser; fd++ {
		unix.Close(fd)
	}
	// Nothing in the container may trace it, not even the user's own uid with
	// UserNS=keep-id, which has no fewer capabilities than the helper (ptrace(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "%s: prctl: %v\n", filepath.Base(os.Args[0]), err)
		return 1
	}
	var request [2]byte
	for {
		n, err := unix.Read(helperConn, request[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
			return 1
		case n == 0:
			return 0
		default:
			reply := answer
			if request[0] == askAddresses {
				reply = answerAddresses
			}
			if err := reply(int(request[0]), int(request[1])); err != nil {
				return 1
			}
		}
	}
}

// answer makes a batch of sockets, or as many as can be had, and passes them.
func answer(family, kind int) error {
	var fds []int
	var errno unix.Errno
	for range batch {
		fd, err := ownNamespace{}.socket(family, kind)
		if err != nil {
			errors.As(err, &errno)
			break
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	var rights []byte
	if len(fds) > 0 {
		errno, rights = 0, unix.UnixRights(fds...)
	}
	return unix.Sendmsg(helperConn, binary.NativeEndian.AppendUint32(nil, uint32(errno)), rights, nil, 0)
}

// answerAddresses passes the addresses on which an app may listen. Those of
// IPv6 that need a zone are left out.
func answerAddresses(int, int) error {
	addrs, err := net.InterfaceAddrs()
	var errno unix.Errno
	errors.As(err, &errno)
	reply := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	for _, a := range addrs[:min(len(addrs), most)] {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		ip := prefix.Addr().As16()
		reply = append(reply, ip[:]...)
	}
	return unix.Sendmsg(helperConn, reply, nil, nil, 0)
}
