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
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const usage = "usage: zerolet-standin PATH DEVICE:PORT..."

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, usage)
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

// serve waits for clients, and for the proxy that serves them.
func serve(path string, addresses []string) error {
	var listening []int
	for _, address := range addresses {
		fd, err := listen(address)
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		listening = append(listening, fd)
	}
	for {
		if err := await(listening); err != nil {
			return err
		}
		began := time.Now()
		if err := handOver(path, listening); err != nil {
			fmt.Fprintln(os.Stderr, "zerolet-standin:", err)
		}
		if time.Since(began) < pause { // the client is still there, and nobody takes it
			time.Sleep(pause)
		}
	}
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
		return -1, errors.New(usage)
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

// await returns when a client waits to be accepted.
func await(listening []int) error {
	var all []unix.PollFd
	for _, fd := range listening {
		all = append(all, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(all, -1); err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}

// handOver passes the sockets to the proxy, which systemd starts for it, and
// returns when that has let go of them: then clients wait here again.
func handOver(path string, listening []int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(listening...), nil, unix.MSG_NOSIGNAL); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	for {
		n, err := unix.Read(fd, make([]byte, 1))
		if n <= 0 && err != unix.EINTR { // its end, or a reset: it has gone
			return nil
		}
	}
}
