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
	gauge("failing", "Whether the last attempt to wake it failed.", func(s *service.Service) (int, bool) { return number(s.State() == service.Failing), true })
	gauge("connections", "Connections that are open.", ofSockets((*service.Service).Connections))
	family("next_wake_timestamp_seconds", "gauge", "When the calendar wakes it next.", func(i int, labels string) {
		if at := services[i].WakesAt(); !at.IsZero() {
			fmt.Fprintf(&b, "zerolet_next_wake_timestamp_seconds{%s} %d\n", labels, at.Unix())
		}
	})
	counter("awake_seconds", "Time in which the container ran, as far as the journal goes back.", func(p *service.Past) float64 { return p.Ran().Seconds() })
	counter("turned_away", "Records of clients that got no answer.", func(p *service.Past) float64 { return float64(p.Failures) })
	family("cold_start_seconds", "summary", "How long the clients that woke it have waited.", func(i int, labels string) {
		sum := 0.0
		for _, w := range all[i].Wakes {
			sum += w.Seconds
		}
		for _, q := range []float64{0.5, 0.99} {
			fmt.Fprintf(&b, "zerolet_cold_start_seconds{%s,quantile=\"%g\"} %g\n", labels, q, all[i].Quantile(q))
		}
		fmt.Fprintf(&b, "zerolet_cold_start_seconds_sum{%s} %g\nzerolet_cold_start_seconds_count{%[1]s} %[3]d\n", labels, sum, len(all[i].Wakes))
	})
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
