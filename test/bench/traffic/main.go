// Command traffic measures what stands between a client and a container's app,
// and what a sleeping service costs: zerolet beside the port that Podman
// publishes and the forwarders that one would put in front of it, in one lab,
// in turns. It prints tables, and with -out writes them into a document.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

type options struct {
	repository string
	out        string
	rounds     int
	point      time.Duration
	only       string
	peers      string
	load       bool
	memory     bool
	cold       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.repository, "repository", "..", "where the Makefile is")
	flag.StringVar(&o.out, "out", "", "write the tables into this `document`, and charts beside it")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each peer is measured")
	flag.DurationVar(&o.point, "point", 700*time.Millisecond, "how long each load lasts")
	flag.StringVar(&o.only, "only", "", "`manager` to measure: user or root; both if empty")
	flag.StringVar(&o.peers, "peers", "", "`names` of the peers to measure, separated by commas; all if empty")
	flag.BoolVar(&o.load, "load", true, "measure traffic")
	flag.BoolVar(&o.memory, "memory", true, "measure memory")
	flag.BoolVar(&o.cold, "cold", true, "measure starts from nothing")
	flag.Parse()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "traffic: error: %v\n", err)
		os.Exit(1)
	}
}

// results are all samples, by manager, row and peer.
type results map[string]map[row]map[string][]float64

func (r results) add(manager, peer string, s sample) {
	if r[manager] == nil {
		r[manager] = make(map[row]map[string][]float64)
	}
	for row, value := range s {
		if r[manager][row] == nil {
			r[manager][row] = make(map[string][]float64)
		}
		r[manager][row][peer] = append(r[manager][row][peer], value)
	}
}

// run measures and reports. What a peer fails at is told and left out; the
// others go on.
func run(ctx context.Context, o options, out, log io.Writer) (err error) {
	began := time.Now()
	m, err := machine(ctx, o.repository, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	b := &bench{options: o, machine: m, log: log, found: make(results)}
	for _, s := range m.Sessions() {
		if o.only != "" && o.only != s.Name {
			continue
		}
		if err := b.prepare(ctx, s); err != nil {
			return err
		}
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	facts, err := b.facts(ctx, time.Since(began))
	if err != nil {
		return err
	}
	for _, part := range []struct {
		wanted bool
		write  func(facts string, out io.Writer) error
	}{{o.load, b.writeTraffic}, {o.cold, b.writeCold}} {
		if part.wanted {
			if err := part.write(facts, out); err != nil {
				return err
			}
		}
	}
	return nil
}

type bench struct {
	options
	machine  *lab.Machine
	log      io.Writer
	sessions []*lab.Session
	peers    [][]*peer // of each session
	found    results
	failed   []string
}

func (b *bench) prepare(ctx context.Context, s *lab.Session) error {
	if err := declare(ctx, s); err != nil {
		return err
	}
	all, err := peers(ctx, b.machine, s)
	if err != nil {
		return err
	}
	if b.options.peers != "" {
		wanted := strings.Split(b.options.peers, ",")
		all = slices.DeleteFunc(all, func(p *peer) bool { return !slices.Contains(wanted, p.name) })
	}
	b.sessions, b.peers = append(b.sessions, s), append(b.peers, all)
	return nil
}

func (b *bench) measure(ctx context.Context) error {
	if b.memory {
		b.turn(0, func(p *peer) (sample, error) { return memories(ctx, p) })
	}
	for round := range b.rounds {
		fmt.Fprintf(b.log, "traffic: round %d of %d\n", round+1, b.rounds)
		for _, measure := range measures() {
			if !b.load {
				break
			}
			b.turn(round, func(p *peer) (sample, error) { return measure(ctx, p, b.point) })
		}
		for _, s := range b.sessions {
			if !b.cold {
				continue
			}
			found, err := cold(ctx, b.machine, s)
			b.keep(s.Name, zero, found, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// turn asks all peers, each time beginning with another one.
func (b *bench) turn(round int, ask func(*peer) (sample, error)) {
	for _, all := range b.peers {
		for i := range all {
			p := all[(i+round)%len(all)]
			found, err := ask(p)
			b.keep(p.session.Name, p.name, found, err)
		}
	}
}

func (b *bench) keep(manager, peer string, s sample, err error) {
	if err != nil {
		message := fmt.Sprintf("%s: %s: %v", manager, peer, err)
		fmt.Fprintln(b.log, "traffic:", message)
		b.failed = append(b.failed, message)
		return
	}
	b.found.add(manager, peer, s)
}
