package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// metrics prints the services in OpenMetrics text
// (https://prometheus.io/docs/specs/om/open_metrics_spec/), which the text
// file collector of Prometheus' node exporter reads, too.
func (c *call) metrics(ctx context.Context) (int, error) {
	services, err := c.services(ctx, service.Standing)
	if err != nil {
		return exitFailure, err
	}
	all, err := c.host().Pasts(ctx, services, time.Time{}, c.clock())
	if err != nil {
		return exitFailure, err
	}
	labels := labelsOf(c.manager.String(), services)
	var b bytes.Buffer
	family := func(name, kind, help string, samples func(i int, labels string)) {
		fmt.Fprintf(&b, "# HELP zerolet_%s %s\n# TYPE zerolet_%[1]s %[3]s\n", name, help, kind)
		if strings.HasSuffix(name, "_seconds") {
			fmt.Fprintf(&b, "# UNIT zerolet_%s seconds\n", name)
		}
		for i := range services {
			samples(i, labels[i])
		}
	}
	gauge := func(name, help string, value func(s *service.Service) (int, bool)) {
		family(name, "gauge", help, func(i int, labels string) {
			if v, ok := value(services[i]); ok {
				fmt.Fprintf(&b, "zerolet_%s{%s} %d\n", name, labels, v)
			}
		})
	}
	counter := func(name, help string, value func(p *service.Past) float64) {
		family(name, "counter", help, func(i int, labels string) {
			fmt.Fprintf(&b, "zerolet_%s_total{%s} %g\n", name, labels, value(all[i]))
		})
	}
	gauge("listening", "Whether every socket listens.", ofSockets(func(s *service.Service) int { return number(s.Socket.Is("active") && len(s.NotListening) == 0) }))
	gauge("awake", "Whether the container runs.", func(s *service.Service) (int, bool) { return number(s.Container.Is("active")), true })
	gauge("frozen", "Whether the container is frozen.", func(s *service.Service) (int, bool) { return number(s.State() == service.Frozen), true })
	memory := func(name, help string, value func(before, after int64) int64) {
		gauge(name, help, func(s *service.Service) (int, bool) {
			v := value(s.Memory())
			return int(v), v > 0
		})
	}
	memory("frozen_memory_bytes", "Memory of the frozen container when it was frozen.", func(before, _ int64) int64 { return before })
	memory("frozen_memory_left_bytes", "What was left of it when memory had been reclaimed.", func(_, after int64) int64 { return after })
	gauge("failing", "Whether the last attempt to wake it failed.", func(s *service.Service) (int, bool) { return number(s.State() == service.Failing), true })
	gauge("connections", "Connections that are open.", ofSockets((*service.Service).Connections))
	family("next_wake_timestamp_seconds", "gauge", "When the calendar wakes it next.", func(i int, labels string) {
		if at := services[i].WakesAt(); !at.IsZero() {
			fmt.Fprintf(&b, "zerolet_next_wake_timestamp_seconds{%s} %d\n", labels, at.Unix())
		}
	})
	counter("awake_seconds", "Time in which the container ran, as far as the journal goes back.", func(p *service.Past) float64 { return p.Ran().Seconds() })
	counter("frozen_seconds", "Time of that in which it was frozen.", func(p *service.Past) float64 { return p.WasFrozen().Seconds() })
	counter("turned_away", "Records of clients that got no answer.", func(p *service.Past) float64 { return float64(p.Failures) })
	summary := func(name, help string, frozen bool) {
		family(name, "summary", help, func(i int, labels string) {
			took, sum := all[i].Took(frozen), 0.0
			for _, seconds := range took {
				sum += seconds
			}
			for _, q := range []float64{0.5, 0.99} {
				fmt.Fprintf(&b, "zerolet_%s{%s,quantile=\"%g\"} %g\n", name, labels, q, service.Quantile(took, q))
			}
			fmt.Fprintf(&b, "zerolet_%s_sum{%s} %g\nzerolet_%[1]s_count{%[2]s} %[4]d\n", name, labels, sum, len(took))
		})
	}
	summary("cold_start_seconds", "How long the clients that woke it have waited.", false)
	summary("thaw_seconds", "How long those have waited that woke it from being frozen.", true)
	b.WriteString("# EOF\n")
	return exitOK, c.printf("%s", b.Bytes())
}

// labelsOf are those of each service.
func labelsOf(manager string, services []*service.Service) (labels []string) {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, s := range services {
		labels = append(labels, fmt.Sprintf(`manager="%s",name="%s"`, manager, escape.Replace(s.Name)))
	}
	return labels
}

// ofSockets is a value that a container without a port does not have.
func ofSockets(value func(*service.Service) int) func(*service.Service) (int, bool) {
	return func(s *service.Service) (int, bool) { return value(s), !s.Dependency() }
}

func number(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
