package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clientPatience bounds the life of a client's connection.
const clientPatience = time.Minute

// wrk runs wrk(1) for a while, in whole seconds: how many requests were answered in a second,
// and how many in all. Errors of its connections are an error.
func (p *peer) wrk(ctx context.Context, port, connections int, d time.Duration, header ...string) (rate, total float64, err error) {
	args := []string{"timeout", "60", "wrk", "-t2", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", max(1, int(d.Seconds())))}
	for _, h := range header {
		args = append(args, "-H", h)
	}
	out, err := p.machine.Root().Run(ctx, p.command(append(args, "http://"+p.addr(port)+"/")...)...)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, out.Stdout)
	}
	return parseWrk(out.Stdout)
}

func parseWrk(text string) (rate, total float64, err error) {
	if bad := regexp.MustCompile(`(?m)^ +(Socket errors|Non-2xx).*`).FindString(text); bad != "" {
		return 0, 0, errors.New("wrk:" + bad)
	}
	for re, value := range map[string]*float64{
		`(?m)^Requests/sec: +([0-9.]+)`: &rate, `(?m)^ +([0-9]+) requests in`: &total,
	} {
		m := regexp.MustCompile(re).FindStringSubmatch(text)
		if m == nil {
			return 0, 0, fmt.Errorf("wrk said: %s", text)
		}
		if *value, err = strconv.ParseFloat(m[1], 64); err != nil {
			return 0, 0, err
		}
	}
	return rate, total, nil
}

// request asks once on a kept connection and returns how long the answer took.
func request(c io.ReadWriter) (time.Duration, error) {
	start := time.Now()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return 0, err
	}
	var b [1024]byte
	for have := 0; ; {
		n, err := c.Read(b[have:])
		if err != nil {
			return 0, err
		}
		have += n
		if bytes.HasSuffix(b[:have], []byte("asked.\n")) {
			return time.Since(start), nil
		}
	}
}

// bulk moves bytes on n connections for a while and returns bytes and time.
func (p *peer) bulk(n, port int, d time.Duration) (total int64, took time.Duration, err error) {
	cs, err := p.dial(n, port)
	if err != nil {
		return 0, 0, err
	}
	defer cs.close()
	move := download
	if port == sinkPort {
		move = upload
	}
	start := time.Now()
	moved, errs := make([]int64, n), make([]error, n)
	var all sync.WaitGroup
	for i, c := range cs {
		all.Go(func() {
			if errs[i] = c.SetDeadline(start.Add(d + clientPatience)); errs[i] == nil {
				moved[i], errs[i] = move(c, start.Add(d))
			}
		})
	}
	all.Wait()
	for _, m := range moved {
		total += m
	}
	return total, time.Since(start), errors.Join(errs...)
}

const bulkChunk = 256 << 10

func download(c io.ReadWriter, until time.Time) (total int64, err error) {
	b := make([]byte, bulkChunk)
	for time.Now().Before(until) && err == nil {
		var n int
		n, err = c.Read(b)
		total += int64(n)
	}
	return total, err
}

// upload counts what the app has got, not what was sent.
func upload(c io.ReadWriter, until time.Time) (int64, error) {
	b := make([]byte, bulkChunk)
	for time.Now().Before(until) {
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// datagrams asks by UDP for a while, each client when it has its last answer,
// and returns how many there were. A lost one is asked for again.
func (p *peer) datagrams(n int, d time.Duration) (answers int, took time.Duration, err error) {
	clients, err := p.dialUDP(n)
	defer closeAll(clients)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	counts := make([]int, n)
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			for time.Since(start) < d {
				if askUDP(c) {
					counts[i]++
				}
			}
		})
	}
	all.Wait()
	for _, c := range counts {
		answers += c
	}
	if answers == 0 {
		err = errors.New("no datagram was answered")
	}
	return answers, time.Since(start), err
}

// dialUDP makes n clients.
func (p *peer) dialUDP(n int) (clients []net.Conn, err error) {
	err = p.inNetwork(func() error {
		for range n {
			c, err := net.Dial("udp", p.addr(echoPort))
			if err != nil {
				return err
			}
			clients = append(clients, c)
		}
		return nil
	})
	return clients, err
}

func closeAll(clients []net.Conn) {
	for _, c := range clients {
		_ = c.Close()
	}
}

// askUDP asks once.
func askUDP(c net.Conn) bool {
	var b [100]byte
	_, err := c.Write(b[:])
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err = c.Read(b[:])
	}
	return err == nil
}

const (
	latencyRate        = 4000 // requests/s, of all connections
	latencyConnections = 32
)

// latency asks at a fixed rate. A request whose time has come while the one
// before it on the connection is still out counts from the time it was due.
func (p *peer) latency(d time.Duration) ([]time.Duration, error) {
	cs, err := p.open(latencyConnections)
	if err != nil {
		return nil, err
	}
	defer cs.close()
	const every = time.Second * latencyConnections / latencyRate
	start := time.Now()
	took, errs := make([][]time.Duration, len(cs)), make([]error, len(cs))
	var all sync.WaitGroup
	for i, c := range cs {
		all.Go(func() {
			due := start.Add(every * time.Duration(i) / latencyConnections)
			for ; due.Before(start.Add(d)) && errs[i] == nil; due = due.Add(every) {
				var late, t time.Duration
				if early := time.Until(due); early > 0 {
					time.Sleep(early) // that it oversleeps is the client's own affair
				} else {
					late = -early
				}
				t, errs[i] = request(c)
				took[i] = append(took[i], late+t)
			}
		})
	}
	all.Wait()
	flat := slices.Concat(took...)
	slices.Sort(flat)
	return flat, errors.Join(errs...)
}

// churn asks on all connections in turn until ctx ends, in a few goroutines.
func churn(ctx context.Context, cs conns) error {
	const askers = 4
	errs := make([]error, askers)
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() {
			for at := i; ctx.Err() == nil && errs[i] == nil; at = (at + askers) % (len(cs) / askers * askers) {
				_, errs[i] = request(cs[at])
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
