package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// option is one option of the command line, and a field of a configuration.
type option struct {
	name   string
	flag   bool // takes no value
	set    func(string) error
	values func() []string // as set takes them; none if the field is zero
}

// options are all of them in the order in which they are written.
func (c *Config) options() []option {
	return []option{
		toggle("open", &c.Open),
		toggle("enter", &c.Enter),
		toggle("thaw", &c.Thaw),
		text("container", &c.Container),
		several("member", &c.Members, parseService),
		text("client", &c.Client),
		one("entry", &c.Entry, parsePath),
		one("entry-outside", &c.EntryOutside, parsePath),
		one("pidfile", &c.PIDFile, parsePath),
		toggle("conmon", &c.Conmon),
		toggle("infra", &c.Infra),
		one("stand-in", &c.StandIn, parsePath),
		toggle("host-network", &c.HostNetwork),
		toggle("native", &c.Native),
		span("idle-timeout", &c.IdleTimeout),
		several("freeze", &c.Freeze, parseService),
		span("stop-after", &c.StopAfter),
		toggle("reclaim", &c.Reclaim),
		toggle("give-way", &c.GivesWay),
		one("busy-cpu", &c.BusyCPU, parseNumber),
		span("stay-awake", &c.StayAwake),
		one("calendar", &c.Calendar, parsePath),
		span("start-timeout", &c.StartTimeout),
		span("drain-timeout", &c.DrainTimeout),
		several("allow-from", &c.AllowFrom, netip.ParsePrefix),
		text("start", &c.Start),
		toggle("waker", &c.Waker),
		toggle("by-data", &c.ByData),
		several("probe", &c.Probes, parseGlob),
		several("ignore-agent", &c.IgnoreAgents, parseGlob),
		toggle("waiting-page", &c.WaitingPage),
		one("waiting-page-file", &c.WaitingPageFile, parsePath),
		one("wake-times", &c.WakeTimes, parsePath),
		one("wake-result", &c.WakeResult, parsePath),
		readyCheck("ready-check", &c.ReadyCheck),
		several("started", &c.Started, func(s string) (string, error) { return s, nil }),
		choice("proxy-protocol", &c.ProxyProtocol, "v1", 1, "v2", 2),
		choice("client-address", &c.HideClient, "client", false, "proxy", true),
		one("max-connections", &c.MaxConnections, parseNumber),
		several("volume", &c.Volumes, parsePath),
		span("connection-idle-timeout", &c.ConnectionIdleTimeout),
		several("forward", &c.Forwards, ParseForward),
	}
}

func toggle(name string, field *bool) option {
	o := one(name, field, strconv.ParseBool)
	o.flag = true
	return o
}

func text(name string, field *string) option {
	return one(name, field, func(s string) (string, error) { return s, nil })
}

// one is an option whose field prints as it is written.
func one[T comparable](name string, field *T, parse func(string) (T, error)) option {
	return option{
		name: name,
		set: func(s string) (err error) {
			*field, err = parse(s)
			return err
		},
		values: func() []string {
			var zero T
			if *field == zero {
				return nil
			}
			return []string{fmt.Sprint(*field)}
		},
	}
}

// several is an option that may be repeated.
func several[T any](name string, field *[]T, parse func(string) (T, error)) option {
	return option{
		name: name,
		set: func(s string) error {
			v, err := parse(s)
			if err == nil {
				*field = append(*field, v)
			}
			return err
		},
		values: func() []string {
			var values []string
			for _, v := range *field {
				values = append(values, fmt.Sprint(v))
			}
			return values
		},
	}
}

// choice is an option that is one of two words, which mean something else.
func choice[T comparable](name string, field *T, word string, value T, other string, otherValue T) option {
	o := one(name, field, func(s string) (T, error) {
		switch s {
		case word:
			return value, nil
		case other:
			return otherValue, nil
		}
		var zero T
		return zero, fmt.Errorf("want %s or %s", word, other)
	})
	plain := o.values
	o.values = func() []string {
		switch values := plain(); {
		case values == nil:
			return nil
		case *field == value:
			return []string{word}
		default:
			return []string{other}
		}
	}
	return o
}

func span(name string, field *time.Duration) option {
	o := one(name, field, parseSpan)
	plain := o.values
	o.values = func() []string {
		if *field == Infinity {
			return []string{"infinity"}
		}
		return plain()
	}
	return o
}

// readyCheck is none or http:/PATH, of which the field is the path.
func readyCheck(name string, field *string) option {
	o := one(name, field, parseReadyCheck)
	plain := o.values
	o.values = func() []string {
		if strings.HasPrefix(*field, "/") {
			return []string{"http:" + *field}
		}
		return plain()
	}
	return o
}

func parseReadyCheck(s string) (string, error) {
	path, http := strings.CutPrefix(s, "http:")
	foreign := func(r rune) bool { return r <= ' ' || r > '~' }
	if s != NoCheck && (!http || !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, foreign)) {
		return "", errors.New("want none or http:/PATH")
	}
	return path, nil
}

func parseSpan(s string) (time.Duration, error) {
	if s == "infinity" {
		return Infinity, nil
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, errors.New("want a time such as 1m30s, or infinity")
	case d <= 0:
		return 0, errors.New("want more than zero")
	}
	return d, nil
}

func parsePath(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", errors.New("not an absolute path")
	}
	return filepath.Clean(s), nil
}

func parseGlob(s string) (string, error) {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return "", errors.New("not a glob")
	}
	return s, nil
}

func parseService(s string) (string, error) {
	if !strings.HasSuffix(s, ".service") || strings.Contains(s, "/") {
		return "", errors.New("not the name of a service unit")
	}
	return s, nil
}

func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return 0, errors.New("want a number")
	}
	return n, nil
}
