// Command app is what the containers of the benchmark run: nginx, which answers small requests on port 80, and
// beside it a server that sends without end on port 81, one that takes everything on port 82, one of Go's that
// answers requests with its client's address on port 83, and one that sends datagrams back there.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// chunk is big enough for the system calls not to matter.
const chunk = 256 << 10

func main() {
	log.SetFlags(0)
	nginx := exec.Command("/usr/sbin/nginx", "-c", "/opt/bench/nginx.conf")
	if os.Getenv("LISTEN_FDS") == "4" {
		takeSocket(nginx)
	}
	nginx.Stdout, nginx.Stderr = os.Stdout, os.Stderr
	if err := nginx.Start(); err != nil {
		log.Fatal(err)
	}
	go serve(1, source)
	go serve(2, sink)
	go web(3)
	go echo(":83")
	// Process 1 of a pid namespace has no default action for it (pid_namespaces(7)).
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		_ = nginx.Process.Signal(syscall.SIGTERM)
	}()
	_ = nginx.Wait() // however it ended, there is nothing more to do
}

// echo sends each datagram back.
func echo(address string) {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	for b := make([]byte, 1<<16); ; {
		n, from, err := c.(*net.UDPConn).ReadFromUDPAddrPort(b)
		if err != nil {
			log.Fatal(err)
		}
		_, _ = c.(*net.UDPConn).WriteToUDPAddrPort(b[:n], from)
	}
}

const firstSocket = 3 // sd_listen_fds(3)

// takeSocket has nginx listen on the first socket. It takes one that has the
// address of a listen line, and whose number its own variable names.
func takeSocket(nginx *exec.Cmd) {
	const config = "/tmp/nginx.conf"
	file := os.NewFile(firstSocket, "systemd")
	l, err := net.FileListener(file)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(nginx.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	listen := strings.NewReplacer("listen 80 ", "listen "+l.Addr().String()+" ")
	if err := os.WriteFile(config, []byte(listen.Replace(string(text))), 0o600); err != nil {
		log.Fatal(err)
	}
	nginx.Args[2] = config
	nginx.Env = append(os.Environ(), fmt.Sprintf("NGINX=%d;", firstSocket))
	nginx.ExtraFiles = []*os.File{file}
}

// listen is on port 80 and up, or on the socket of that number.
func listen(n int) (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") == "4" {
		return net.FileListener(os.NewFile(uintptr(firstSocket+n), "systemd"))
	}
	return net.Listen("tcp", fmt.Sprintf(":%d", 80+n))
}

func serve(n int, handle func(net.Conn)) {
	l, err := listen(n)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			handle(c)
			_ = c.Close()
		}()
	}
}

// web tells each client who it is.
func web(n int) {
	l, err := listen(n)
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.RemoteAddr)
	})}
	log.Fatal(server.Serve(l))
}

// source sends until the client goes away.
func source(c net.Conn) {
	b := make([]byte, chunk)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// sink answers the number of bytes that came, once a chunk ends with a 1. A
// FIN would do for zerolet, but not every forwarder keeps a half-closed
// connection open.
func sink(c net.Conn) {
	b := make([]byte, chunk)
	var total int64
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		total += int64(n)
		if b[n-1] == 1 {
			fmt.Fprintln(c, total)
		}
	}
}
