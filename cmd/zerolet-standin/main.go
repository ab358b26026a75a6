// Zerolet-standin has a sleeping container's names on a network: it is the only
// program of a container there that Podman runs from its directory. It listens,
// and has nothing to do with those who connect: at the first knock it passes its
// listening sockets to zerolet-proxy and waits until that has ended.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const usage = "zerolet-standin PATH DEVICE:PORT..."

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage:", usage)
		os.Exit(64) // EX_USAGE in sysexits.h
	}
	// Whoever is the first process of a container is not ended by a signal that
	// it does not handle (pid_namespaces(7)).
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	if err := serve(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "zerolet-standin:", err)
		os.Exit(1)
	}
}

// standIn has a listening socket for each address.
type standIn struct {
	path      string // where the proxy is found
	addresses []string
	listening []int
	links     int   // tells of changes of the interfaces (rtnetlink(7))
	indices   []int // of the interfaces, when the sockets were made
}

// serve waits for clients, and for the proxy that serves them.
func serve(path string, addresses []string) error {
	links, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err == nil {
		err = unix.Bind(links, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	}
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	s := &standIn{path: path, addresses: addresses, links: links}
	if err := s.listen(); err != nil {
		return err
	}
	if err := ready(os.Getenv("NOTIFY_SOCKET")); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	for {
		knocks, err := await(slices.Concat(s.listening, []int{s.links})...)
		if err != nil {
			return err
		}
		if !knocks[len(s.listening)] {
			began := time.Now()
			if err := s.handOver(); err != nil {
				if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
					return err // systemd has closed that socket, and opens it no more for this stand-in
				}
				fmt.Fprintln(os.Stderr, "zerolet-standin:", err)
			}
			if time.Since(began) < pause { // the client is still there, and nobody takes it
				time.Sleep(pause)
			}
		}
		if err := s.follow(); err != nil {
			return err
		}
	}
}

// listen makes the sockets.
func (s *standIn) listen() error {
	s.indices = s.interfaces()
	for _, address := range s.addresses {
		fd, err := listen(address)
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		s.listening = append(s.listening, fd)
	}
	return nil
}

// ready says that clients are queued from now on (sd_notify(3)). Podman would say so
// before this program runs (podman-run(1), --sdnotify=conmon).
func ready(socket string) error {
	if socket == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("sendto", unix.Sendto(fd, []byte("READY=1"), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket}))
}

// follow makes the sockets anew where the interfaces are: podman network reload(1)
// makes those anew, with the same names, and a socket is bound to a number.
func (s *standIn) follow() error {
	buf := make([]byte, 4096)
	for { // what has changed is looked at, not what is told of it
		if _, _, err := unix.Recvfrom(s.links, buf, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			break
		}
	}
	if now := s.interfaces(); slices.Equal(now, s.indices) || slices.Contains(now, 0) {
		return nil // or not yet
	}
	for _, fd := range s.listening {
		unix.Close(fd)
	}
	s.listening = nil
	return s.listen()
}

// interfaces are the numbers of the interfaces, 0 for one that is not there.
func (s *standIn) interfaces() []int {
	var indices []int
	for _, address := range s.addresses {
		device, _, _ := strings.Cut(address, ":")
		index := 0
		if request, err := unix.NewIfreq(device); err == nil && unix.IoctlIfreq(s.links, unix.SIOCGIFINDEX, request) == nil {
			index = int(request.Uint32())
		}
		indices = append(indices, index)
	}
	return indices
}

// pause is how long to leave systemd alone after nothing came of it.
const pause = 20 * time.Millisecond

// backlog is as systemd's for the other sockets: the kernel takes less, where
// net.core.somaxconn is.
const backlog = 65535

// listen takes a port on one interface, with IPv4 and, where that is, IPv6. The
// one alone: that takes no capability where the socket has none yet
// (sock_bindtoindex_locked() in net/core/sock.c, since Linux 5.7).
func listen(address string) (int, error) {
	device, text, _ := strings.Cut(address, ":")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || device == "" {
		return -1, fmt.Errorf("%q is not DEVICE:PORT", address)
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	var local unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	fd, err := unix.Socket(unix.AF_INET6, kind, 0)
	if err != nil { // no IPv6 in this kernel
		local = &unix.SockaddrInet4{Port: int(port)}
		fd, err = unix.Socket(unix.AF_INET, kind, 0)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	for _, step := range []func() error{
		func() error { return unix.BindToDevice(fd, device) },
		func() error { return unix.Bind(fd, local) },
		func() error { return unix.Listen(fd, backlog) },
	} {
		if err == nil {
			err = step()
		}
	}
	return fd, err
}

// await returns which of the descriptors have something to tell, once one has.
func await(fds ...int) ([]bool, error) {
	all := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		all[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for {
		_, err := unix.Poll(all, -1)
		if err == unix.EINTR {
			continue
		}
		ready := make([]bool, len(all))
		for i, p := range all {
			ready[i] = p.Revents != 0
		}
		return ready, os.NewSyscallError("poll", err)
	}
}

// handOver passes the sockets to the proxy, which systemd starts for it, and
// returns when that has let go of them: then clients wait here again. A change of
// the interfaces ends it, too.
func (s *standIn) handOver() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(s.listening...), nil, unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	_, err = await(fd, s.links) // the proxy says nothing before its end
	return err
}
