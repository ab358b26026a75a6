package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/report"
)

// What the proxy asks who is inside the container's network namespace. The
// first byte of a request is one of these. An answer begins with an errno.
const (
	askAdmit  = iota // the app's UDP ports; the answer is an admission
	askSocket        // family, kind; the answer carries sockets
	askEnter         // nothing more, before all else; the answer carries a pidfd, or says why not
	askRoute         // the address of a client; also in askUnroute
	askUnroute
	askPayload // which of the entry's; the answer carries descriptors, and the directory of the cgroup
	askSession // the answer is whether there is one of podman-exec(1)
	askRest    // 1: of the entry, which nobody needs while the container is frozen; 0: somebody does again
)

// maxRequest is how long a request can be: half of all ports, no two of them in a
// row.
const maxRequest = 1 + 1<<15*4

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
	err := os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	if err == nil {
		err = new(inside).serve()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		return 1
	}
	return 0
}

// inside answers requests in the container's network namespace. It needs
// CAP_NET_ADMIN there for rules, and that or CAP_NET_RAW for sockets that may
// have any address.
type inside struct {
	// enter gets there, if that is left to be done.
	enter func() (pidfd int, err error)

	// units are the container's, or the pod's; nil if the proxy looks itself.
	units *Cgroup

	// frozen are the units whose containers the proxy freezes; nil if it does not.
	frozen *Cgroup

	watchdog *report.Watchdog // of an entry

	udp                []ports // of the app
	foreign4, foreign6 bool    // sockets with any address get answers
}

// serve returns nil when the proxy is gone.
func (i *inside) serve() error {
	request := make([]byte, maxRequest)
	for {
		n, err := unix.Read(helperConn, request)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil && n == 0:
			return nil
		case err == nil:
			err = i.answer(request[:n])
		}
		if err != nil {
			return err
		}
	}
}

// answer fails if the proxy cannot be told, or asks for what there is not.
func (i *inside) answer(request []byte) error {
	body := request[1:]
	client, isAddress := netip.AddrFromSlice(body)
	switch what := request[0]; {
	case what == askEnter && i.enter != nil:
		return i.goIn()
	case what == askPayload && i.frozen != nil && len(body) == 1:
		return i.payload(int(body[0]))
	case what == askSession && i.units != nil:
		return i.session()
	case what == askRest && len(body) == 1:
		i.watchdog.Rest(body[0] == 1)
		return reply(nil, nil, nil)
	case i.enter != nil:
		return errors.New("it is not inside yet")
	case what == askAdmit:
		i.udp = parsePorts(body)
		return reply(nil, i.admit(), nil)
	case what == askSocket && len(body) == 2:
		fds, err := i.sockets(int(body[0]), int(body[1]))
		defer closeFDs(fds)
		return reply(err, nil, fds)
	case what == askRoute && isAddress:
		return reply(i.route(client), nil, nil)
	case what == askUnroute && isAddress:
		return reply(unroute(client, clientTable(i.udp)), nil, nil)
	}
	return fmt.Errorf("the request %v is unknown", request)
}

// goIn enters, once.
func (i *inside) goIn() error {
	pidfd, err := i.enter()
	switch {
	case errors.Is(err, ErrNoContainer) || errors.Is(err, fs.ErrNotExist): // no pidfile yet
		return reply(unix.ESRCH, nil, nil)
	case err != nil:
		return reply(unix.EPERM, []byte(err.Error()), nil)
	}
	i.enter = nil
	defer unix.Close(pidfd)
	return reply(nil, nil, []int{pidfd})
}

// reply sends an answer.
func reply(err error, body []byte, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return os.NewSyscallError("sendmsg", unix.Sendmsg(helperConn, append(encodeErrno(err), body...), rights, nil, 0))
}

func encodeErrno(err error) []byte {
	var errno unix.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EPROTO
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(errno))
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// admit makes the rules that let a client keep its address. What was done once
// stays so: a namespace may be entered before it has a network, and whoever has
// made the rules may have given its capabilities up since.
func (i *inside) admit() []byte {
	err4, err6 := admit(unix.AF_INET, i.udp), admit(unix.AF_INET6, i.udp)
	i.foreign4, i.foreign6 = i.foreign4 || err4 == nil, i.foreign6 || err6 == nil
	if i.foreign4 {
		err4 = nil
	}
	if i.foreign6 {
		err6 = nil
	}
	body := append(encodeErrno(err4), encodeErrno(err6)...)
	for _, ip := range ownAddresses() {
		as16 := ip.As16()
		body = append(body, as16[:]...)
	}
	return body
}

// route has answers to a client of datagrams come back. That they do not would not
// show: so the rules are looked at for each.
func (i *inside) route(client netip.Addr) error {
	if err := admit(familyOf(client), i.udp); err != nil {
		return err
	}
	return route(client, clientTable(i.udp))
}

// ownAddresses are those on which an app may listen, but for loopback. Those of
// IPv6 that need a zone are left out.
func ownAddresses() (own []netip.Addr) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().IsGlobalUnicast() && len(own) < most {
			own = append(own, prefix.Addr())
		}
	}
	return own
}

// sockets makes a batch of sockets, or as many as can be had.
func (i *inside) sockets(family, kind int) (fds []int, err error) {
	for range batch {
		fd, err := i.socket(family, kind)
		if err != nil && len(fds) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func (i *inside) socket(family, kind int) (int, error) {
	fd, err := ownNamespace{}.Socket(family, kind)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET && i.foreign4 || family == unix.AF_INET6 && i.foreign6 {
		err = allowForeign(fd, family)
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return fd, nil
}

// allowForeign lets a socket have any address, and a port that others have
// there, too. It is here that a capability is asked for (do_ipv6_setsockopt() in
// net/ipv6/ipv6_sockglue.c), not when the address is bound.
func allowForeign(fd, family int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err != nil {
		return err
	}
	if family == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1)
}
