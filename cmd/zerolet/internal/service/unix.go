package service

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What is asked of sock_diag(7) about unix sockets, and answered
// (linux/unix_diag.h).
const (
	unixDiagReq = 24 // sizeof(struct unix_diag_req)
	unixDiagMsg = 16 // sizeof(struct unix_diag_msg)

	showName, showVFS, showUID = 0x01, 0x02, 0x40
	attrName, attrVFS, attrUID = 0, 1, 7

	stateClose  = 7 // a datagram socket without a peer (net/tcp_states.h)
	stateListen = 10
)

// unixSocket is a listening socket with a path, and the inode of the file that
// it was bound to, 0 if that is not told.
type unixSocket struct {
	Listener
	file  uint32
	owner int64 // -1: not told (before Linux 5.3)
}

// unixSockets are those of the machine. A kernel without CONFIG_UNIX_DIAG does
// not tell to which file they were bound.
func unixSockets() ([]unixSocket, error) {
	if all, err := diagnosedSockets(); err == nil {
		return all, nil
	}
	return listedSockets()
}

func listedSockets() (all []unixSocket, err error) {
	err = eachLine("/proc/net/unix", func(fields []string) {
		// Num RefCount Protocol Flags Type St Inode Path
		if len(fields) != 8 {
			return
		}
		kind := map[string]string{"0001": "Stream", "0002": "Datagram", "0005": "SequentialPacket"}[fields[4]]
		if kind == "Datagram" || kind != "" && fields[3] == "00010000" { // __SO_ACCEPTCON
			all = append(all, unixSocket{Listener: Listener{fields[7], kind}, owner: -1})
		}
	})
	return all, err
}

func diagnosedSockets() (all []unixSocket, err error) {
	body := make([]byte, unixDiagReq)
	body[0] = unix.AF_UNIX
	order := binary.NativeEndian
	order.PutUint32(body[4:], 1<<stateListen|1<<stateClose)
	order.PutUint32(body[12:], showName|showVFS|showUID)
	err = sockDiag(body, func(message []byte) error {
		if len(message) < unixDiagMsg {
			return fmt.Errorf("a message of %d bytes", len(message))
		}
		if s := parseUnixSocket(message); s.Kind != "" && strings.HasPrefix(s.Address, "/") {
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// InetDiag fails if the kernel does not tell of the sockets of a protocol:
// CONFIG_INET_DIAG or CONFIG_INET_UDP_DIAG is missing.
func InetDiag(protocol byte) error {
	const inetDiagReqV2 = 56 // sizeof(struct inet_diag_req_v2), linux/inet_diag.h
	body := make([]byte, inetDiagReqV2)
	body[0], body[1] = unix.AF_INET, protocol // in no state: an empty answer will do
	return sockDiag(body, func([]byte) error { return nil })
}

// sockDiag asks sock_diag(7) for sockets. It gives up at an error of each.
func sockDiag(body []byte, each func(message []byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	order := binary.NativeEndian
	request := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	order.PutUint32(request, uint32(unix.SizeofNlMsghdr+len(body)))
	order.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for buf := make([]byte, 64<<10); ; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("sock_diag: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR: // both begin with an errno, or 0 (netlink(7))
				if len(m.Data) < 4 || order.Uint32(m.Data) == 0 {
					return nil
				}
				return os.NewSyscallError("sock_diag", unix.Errno(-int32(order.Uint32(m.Data)))) // ENOENT: not CONFIG_UNIX_DIAG or the like
			}
			if err := each(m.Data); err != nil {
				return fmt.Errorf("sock_diag: %w", err)
			}
		}
	}
}

// parseUnixSocket reads a struct unix_diag_msg and its attributes.
func parseUnixSocket(message []byte) unixSocket {
	order := binary.NativeEndian
	kinds := map[byte]string{unix.SOCK_STREAM: "Stream", unix.SOCK_DGRAM: "Datagram", unix.SOCK_SEQPACKET: "SequentialPacket"}
	s := unixSocket{Listener: Listener{Kind: kinds[message[1]]}, owner: -1}
	for attrs := message[unixDiagMsg:]; len(attrs) >= unix.SizeofNlAttr; {
		size := int(order.Uint16(attrs))
		if size < unix.SizeofNlAttr || size > len(attrs) {
			break
		}
		value := attrs[unix.SizeofNlAttr:size]
		switch kind := order.Uint16(attrs[2:]); {
		case kind == attrName:
			s.Address = strings.TrimRight(string(value), "\x00")
		case kind == attrVFS && len(value) >= 4:
			s.file = order.Uint32(value)
		case kind == attrUID && len(value) == 4:
			s.owner = int64(order.Uint32(value))
		}
		attrs = attrs[min(len(attrs), (size+3)&^3):]
	}
	return s
}

// isThere reports whether the socket's file is still what leads to it. systemd
// does not see that it has been removed, or put out of the way for another.
func (s unixSocket) isThere() bool {
	var file unix.Stat_t
	err := unix.Stat(s.Address, &file)
	return err == nil && file.Mode&unix.S_IFMT == unix.S_IFSOCK && (s.file == 0 || s.file == uint32(file.Ino))
}
