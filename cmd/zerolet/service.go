package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

func (c *call) systemd() systemd.Manager {
	return systemd.Manager{User: c.manager.String() == "user", UID: c.uid}
}

func (c *call) host() service.Host {
	return service.Host{Manager: c.systemd(), Proxy: c.layout().Proxy}
}

// look sees all services.
func (c *call) look(ctx context.Context, depth service.Depth) (*service.All, error) {
	all, err := c.host().Look(ctx, depth)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return all, nil
}

// services are the scaled containers of a manager in the order of their names:
// all of them, or the named ones.
func (c *call) services(ctx context.Context, depth service.Depth) ([]*service.Service, error) {
	if len(c.names) > 0 { // that of a file, too
		depth = max(depth, service.Sourced)
	}
	all, err := c.look(ctx, depth)
	if err != nil {
		return nil, err
	}
	return c.named(all)
}

// named are those of the command line.
func (c *call) named(all *service.All) ([]*service.Service, error) {
	if len(c.names) == 0 {
		return all.Services, nil
	}
	var named []*service.Service
	for _, name := range c.names {
		i := slices.IndexFunc(all.Services, func(s *service.Service) bool { return s.Called(name) })
		if i < 0 {
			return nil, c.unknown(name)
		}
		if !slices.Contains(named, all.Services[i]) {
			named = append(named, all.Services[i])
		}
	}
	return named, nil
}

func (c *call) unknown(name string) error {
	return failure{
		exitError, fmt.Sprintf("no scaled container %q is known to systemd", name),
		fmt.Sprintf("zerolet check --%s says what is wrong with a file, zerolet apply --%[1]s makes a new one known", c.manager),
	}
}

// troubles are why services are failing or do not listen, "" for the others.
func (c *call) troubles(ctx context.Context, all ...*service.Service) (map[*service.Service]string, error) {
	why := make(map[*service.Service]string)
	var units []string
	for _, s := range all {
		if s.Refused() {
			why[s] = c.refusal(ctx, s)
			continue
		}
		units = append(units, s.Trouble().Units...)
	}
	words, err := c.host().Words(ctx, units, time.Time{})
	for _, s := range all {
		why[s] = cmp.Or(why[s], c.trouble(s, words))
	}
	return why, err
}

// trouble is what hinders one of them.
func (c *call) trouble(s *service.Service, words map[string]string) string {
	trouble := s.Trouble()
	for _, unit := range trouble.Units {
		switch text := words[unit]; {
		case text == "":
		case slices.Contains(s.Units(), unit):
			return text
		case s.HasMember(unit):
			return fmt.Sprintf("%s failed: %s", unit, text)
		default:
			return fmt.Sprintf("%s, which it needs, failed: %s", unit, text)
		}
	}
	switch {
	case trouble.Text != "":
		return trouble.Text
	case s.Absent():
		flag := map[bool]string{true: " --user"}[c.systemd().User]
		return fmt.Sprintf("its stand-in on %s does not run: journalctl%s -u %s", ranges(s.Networks()), flag, wire.StandIn.Of(s.Name))
	case len(s.NotListening) > 0 && s.Socket.Found() && !s.Refused():
		return fmt.Sprintf("nothing listens on %s: zerolet apply --%s", ranges(s.NotListening), c.manager)
	case s.Orphan():
		return fmt.Sprintf("its file is gone: zerolet apply --%s", c.manager)
	}
	return ""
}

// refusal is the first error of the file.
func (c *call) refusal(ctx context.Context, s *service.Service) string {
	plan := c.planOf(ctx)
	for _, e := range plan.Endpoints {
		if e.Spec.File.Path != s.Source() {
			continue
		}
		for _, d := range e.Diagnostics {
			if d.Severity.String() == "error" {
				return strings.ReplaceAll(d.String(), "\n", "; ")
			}
		}
	}
	return fmt.Sprintf("its file had an error at the last reload: zerolet apply --%s", c.manager)
}

// unreachable says what to do when there is no manager to ask.
func (c *call) unreachable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	hint := "is systemd running?"
	if c.systemd().User {
		hint = fmt.Sprintf("log in as the user, or: export XDG_RUNTIME_DIR=/run/user/%d; as root, loginctl enable-linger USER starts their manager", c.uid)
	}
	return failure{exitFailure, err.Error(), hint}
}
