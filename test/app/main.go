// Command app is the program inside the containers of the system tests: one static binary, no files,
// every way of answering that a test wants to see. It prints one line on standard output when it listens.
//
// Each process has a start id, so a test that collects ids counts container starts.
package main

import (
	"bufio"
	"bytes"
	"context"
	crypto "crypto/rand"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// server is one way of answering on a listener. It returns only with an error.
type server func(net.Listener) error

type endpoint struct {
	address string
	serve   server
}

func main() {
	log.SetFlags(0)
	id := crypto.Text()

	var endpoints []endpoint
	endpointFlag := func(name, doc string, serve server) {
		flag.Func(name, doc+" on this `address` (host:port, unix:/path, or systemd:N for a socket that was passed); repeatable", func(address string) error {
			endpoints = append(endpoints, endpoint{address, serve})
			return nil
		})
	}
	ready := new(string)
	endpointFlag("http", "answer HTTP: / is the start id, /of?url=U&accept=A what another answers, /who the client's address, /lookup?name=N those of a name, /echo the body, /bytes?n=N N bytes, /need?n=N once it has had N bytes of memory, /sleep?for=1s late", httpServer(id, ready))
	endpointFlag("echo", "echo bytes as they come; end of input ends the output", each(echo))
	endpointFlag("sum", "count bytes and answer the count once the input has ended", each(sum))
	endpointFlag("greet", "speak first: send the start id, then echo", each(greet(id)))
	var lines tally
	endpointFlag("tick", "say something twice a second until a byte comes, and nothing afterwards", each(tick))
	endpointFlag("tally", "answer each line with the start id, its number since the start, the peer's address and port, and the line", each(lines.serve(id)))
	var datagrams []func() error
	flag.Func("udp", "answer each datagram as -tally does, on this `address`; repeatable", func(address string) error {
		datagrams = append(datagrams, func() error { return serveUDP(address, lines.answer(id)) })
		return nil
	})
	flag.Func("udp-echo", "send each datagram back, on this `address`; repeatable", func(address string) error {
		datagrams = append(datagrams, func() error { return serveUDP(address, func(d []byte, _ netip.AddrPort) []byte { return d }) })
		return nil
	})
	endpointFlag("peer", "answer each connection with its peer's address and port, or on a unix socket with the peer's uid, one line", each(peer))
	flag.Func("udp-peer", "answer each datagram with its sender's address and port, on this `address`; repeatable", func(address string) error {
		datagrams = append(datagrams, func() error {
			return serveUDP(address, func(_ []byte, from netip.AddrPort) []byte { return []byte(plain(from)) })
		})
		return nil
	})
	endpointFlag("escape", "take each connection's socket to port 9000 of the loopback of its network, and print what is said there", each(escape))
	endpointFlag("reset", "accept, then reset", each(reset))
	endpointFlag("cut", "send the start id, then reset once a byte comes", each(cut(id)))
	delay := flag.Duration("delay", 0, "wait this long before listening")
	burn := flag.Duration("burn", 0, "use a processor for this long before listening")
	exit := flag.Int("exit", 0, "exit with this status on SIGTERM")
	farewell := flag.Bool("farewell", false, "say farewell on SIGTERM")
	ignore := flag.Bool("ignore-term", false, "ignore SIGTERM")
	resets := flag.Int64("resets", 0, "reset the first N connections of all, as an app does that is not quite there")
	flag.StringVar(ready, "ready", "", "answer /ready with 503 until this `file` is there, and say so; say if anything else is asked before")
	exists := flag.String("exists", "", "do nothing else than tell by the exit status whether this `file` is there: a health check")
	fail := flag.String("fail", "", "do nothing else than say in red that this is `fatal`, and exit with 3")
	thrashes := flag.String("thrash", "", "do nothing else than read at random in this `file`: with less memory than that has, memory is short")
	flag.Parse()
	if *thrashes != "" {
		log.Fatal(thrash(*thrashes))
	}
	if *fail != "" {
		fmt.Fprintf(os.Stderr, "\x1b[1;31mFATAL:\x1b[0m %s\n", *fail)
		os.Exit(3)
	}
	if *exists != "" {
		if _, err := os.Stat(*exists); err != nil {
			os.Exit(1)
		}
		return
	}
	if len(endpoints)+len(datagrams) == 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}

	onTerm(*ignore, func() {
		lines.print()
		if *farewell {
			fmt.Println("farewell")
		}
		os.Exit(*exit)
	})
	time.Sleep(*delay)
	spend(*burn)
	failed := make(chan error)
	var left atomic.Int64
	left.Store(*resets)
	for _, e := range endpoints {
		l, err := listen(e.address)
		if err != nil {
			log.Fatal(err)
		}
		go func() { failed <- e.serve(&resetting{Listener: l, left: &left}) }()
	}
	for _, serve := range datagrams {
		go func() { failed <- serve() }()
	}
	fmt.Println("listening", id)
	log.Fatal(<-failed)
}

// thrash asks for pages that the kernel has just let go of: who waits for such a one
// waits for memory (Documentation/accounting/psi.rst). None of them is in memory at
// first, where somebody else would have paid for it.
func thrash(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for _, advice := range []int{unix.FADV_DONTNEED, unix.FADV_RANDOM} {
		if err := unix.Fadvise(int(file.Fd()), 0, 0, advice); err != nil {
			return err
		}
	}
	failed := make(chan error)
	for range 4 {
		go func() {
			page := make([]byte, os.Getpagesize())
			for {
				//nolint:gosec // any page
				if _, err := file.ReadAt(page, rand.Int64N(info.Size()/int64(len(page)))*int64(len(page))); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// spend uses so much of a processor, however long that takes.
func spend(cpu time.Duration) {
	var used syscall.Rusage
	for time.Duration(used.Utime.Nano()+used.Stime.Nano()) < cpu {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			log.Fatal(err)
		}
	}
}

// patient dials until somebody listens: a container that has started does not yet.
func patient(ctx context.Context, network, address string) (net.Conn, error) {
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// onTerm decides what SIGTERM does. Process 1 of a pid namespace has no default action (pid_namespaces(7)).
func onTerm(ignore bool, end func()) {
	if ignore {
		signal.Ignore(syscall.SIGTERM)
		return
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		end()
	}()
}

func listen(address string) (net.Listener, error) {
	if n, ok := strings.CutPrefix(address, "systemd:"); ok {
		return passed(n)
	}
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return net.Listen("tcp", address)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// passed is the Nth socket that systemd has passed, counted from 0 (sd_listen_fds(3)).
func passed(n string) (net.Listener, error) {
	const first = 3
	i, err := strconv.Atoi(n)
	if err != nil {
		return nil, err
	}
	if count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")); i >= count || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("no socket %d was passed: LISTEN_FDS=%s LISTEN_PID=%s", i, os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"))
	}
	file := os.NewFile(uintptr(first+i), "systemd:"+n)
	defer file.Close()
	return net.FileListener(file)
}

func httpServer(id string, ready *string) server {
	mux := http.NewServeMux()
	isReady := func() bool {
		_, err := os.Stat(*ready)
		return *ready == "" || err == nil
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if !isReady() {
			fmt.Println("too early")
		}
		fmt.Fprintln(w, id)
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if !isReady() {
			fmt.Println("not ready")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("/of", func(w http.ResponseWriter, r *http.Request) {
		ask, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.FormValue("url"), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if accept := r.FormValue("accept"); accept != "" {
			ask.Header.Set("Accept", accept)
		}
		ask.Close = true // a connection that is kept would keep the other awake
		client := http.DefaultClient
		if r.FormValue("patient") != "" {
			client = &http.Client{Transport: &http.Transport{DialContext: patient}}
		}
		other, err := client.Do(ask) //nolint:gosec // the test says which
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer other.Body.Close()
		_, _ = io.Copy(w, other.Body)
	})
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		other, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.FormValue("address"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer other.Close()
		_ = http.NewResponseController(w).Flush() // it is there
		<-r.Context().Done()
	})
	var works atomic.Bool
	mux.HandleFunc("/work", func(http.ResponseWriter, *http.Request) { // half of a processor, until /rest
		works.Store(true)
		go func() {
			for works.Load() {
				for began := time.Now(); time.Since(began) < 5*time.Millisecond; {
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	})
	mux.HandleFunc("/rest", func(http.ResponseWriter, *http.Request) { works.Store(false) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil {
			_, _ = fmt.Fprint(w, from.Addr().Unmap())
		}
	})
	mux.HandleFunc("/lookup", func(w http.ResponseWriter, r *http.Request) {
		addrs, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = fmt.Fprint(w, strings.Join(addrs, " "))
	})
	var used sync.Map
	mux.HandleFunc("/once", func(w http.ResponseWriter, r *http.Request) { // each address is good for one request
		if _, again := used.LoadOrStore(r.RequestURI, true); again {
			http.Error(w, "it has been used", http.StatusGone)
			return
		}
		fmt.Fprintln(w, id)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/need", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, bytes.Count(bytes.Repeat([]byte{1}, n), []byte{1}))
	})
	mux.HandleFunc("/sleep", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(d)
		fmt.Fprintln(w, id)
	})
	// Long enough for a client that a test keeps silent on purpose.
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Hour}
	return server.Serve
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// each serves every connection in a goroutine and closes it afterwards.
func each(serve func(net.Conn)) server {
	return func(l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				serve(c)
				_ = c.Close()
			}()
		}
	}
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
}

func sum(c net.Conn) {
	n, err := io.Copy(io.Discard, c)
	if err == nil {
		fmt.Fprintln(c, n)
	}
}

// tally counts lines. What a start has counted in all stands on standard output when it ends by SIGTERM:
// a test compares it with what clients were told.
type tally struct{ n atomic.Int64 }

func (l *tally) serve(id string) func(net.Conn) {
	return func(c net.Conn) {
		for r := bufio.NewScanner(c); r.Scan(); {
			fmt.Fprintln(c, id, l.n.Add(1), peerOf(c), r.Text())
		}
	}
}

func (l *tally) answer(id string) func([]byte, netip.AddrPort) []byte {
	return func(d []byte, from netip.AddrPort) []byte {
		return fmt.Appendf(nil, "%s %d %s %s", id, l.n.Add(1), plain(from), d)
	}
}

// serveUDP answers datagrams.
func serveUDP(address string, answer func(datagram []byte, from netip.AddrPort) []byte) error {
	l, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	c := l.(*net.UDPConn)
	for buf := make([]byte, 1<<16); ; {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		_, _ = c.WriteToUDPAddrPort(answer(buf[:n], from), from)
	}
}

// peer tells a client who it is for the app. What the client has said is read:
// to close a socket with something left to read is a reset (RFC 1122, 4.2.2.13).
func peer(c net.Conn) {
	fmt.Fprintln(c, peerOf(c))
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, c)
}

func peerOf(c net.Conn) string {
	switch c := c.(type) {
	case *net.TCPConn:
		return plain(c.RemoteAddr().(*net.TCPAddr).AddrPort())
	case *net.UnixConn:
		return uidOf(c)
	}
	return c.RemoteAddr().String()
}

// uidOf is who is at the other end of a unix socket, in the app's own user namespace (unix(7), SO_PEERCRED).
func uidOf(c *net.UnixConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	var who *syscall.Ucred
	if e := raw.Control(func(fd uintptr) { who, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) }); e != nil {
		return e.Error()
	}
	if err != nil {
		return err.Error()
	}
	return strconv.Itoa(int(who.Uid))
}

// plain shows an IPv4 address as one: a socket of both families has it as ::ffff:192.0.2.1 (ipv6(7)).
func plain(a netip.AddrPort) string { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String() }

func (l *tally) print() {
	if n := l.n.Load(); n > 0 {
		fmt.Println("tallied", n)
	}
}

// resetting resets the connections that are left to reset before it passes others on.
type resetting struct {
	net.Listener
	left *atomic.Int64
}

func (r *resetting) Accept() (net.Conn, error) {
	for {
		c, err := r.Listener.Accept()
		if err != nil || r.left.Add(-1) < 0 {
			return c, err
		}
		reset(c)
		_ = c.Close()
	}
}

func greet(id string) func(net.Conn) {
	return func(c net.Conn) {
		fmt.Fprintln(c, id)
		echo(c)
	}
}

func tick(c net.Conn) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		_, _ = io.ReadFull(c, make([]byte, 1))
	}()
	for again := time.Tick(500 * time.Millisecond); ; {
		if _, err := c.Write([]byte(".")); err != nil {
			return
		}
		select {
		case <-heard:
			_, _ = io.Copy(io.Discard, c)
			return
		case <-again:
		}
	}
}

func cut(id string) func(net.Conn) {
	return func(c net.Conn) {
		fmt.Fprintln(c, id)
		_, _ = io.ReadFull(c, make([]byte, 1))
		reset(c)
	}
}

// escape does what whoever has been passed a socket of another network can do: a socket that is disconnected can be
// connected again, from the network that it was made in (connect(2), AF_UNSPEC).
func escape(c net.Conn) {
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		fmt.Println("escape:", err)
		return
	}
	defer file.Close()
	fd := int(file.Fd())                                                                                            // makes it a blocking one
	var none [16]byte                                                                                               // a struct sockaddr of AF_UNSPEC, which is 0
	_, _, _ = syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), uintptr(len(none))) //nolint:gosec // the kernel takes an address
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: 3})
	if err := syscall.Connect(fd, loopbackOf(fd)); err != nil {
		fmt.Println("escape:", err)
		return
	}
	said := make([]byte, 100)
	n, _ := syscall.Read(fd, said)
	fmt.Printf("escaped: %s\n", said[:max(0, n)])
}

// loopbackOf is 127.0.0.1 as a socket of either family knows it.
func loopbackOf(fd int) syscall.Sockaddr {
	const port = 9000
	if domain, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_DOMAIN); domain == syscall.AF_INET6 {
		return &syscall.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	}
	return &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// reset closes with data unsent or unread discarded: the peer sees RST (socket(7), SO_LINGER).
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}
