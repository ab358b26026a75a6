package scale

import (
	"fmt"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// What is what the file is about, in words.
func (s *Spec) What() string {
	if where(s.File) == InContainer {
		return "container"
	}
	return "pod"
}

// when is a sentence, or none.
func when(told bool, format string, args ...any) string {
	if !told {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// onItsOwnLine is for what is told elsewhere, for each line of the file.
func onItsOwnLine(*Spec) string { return "" }

// Stops tells when the container stops, or freezes.
func (s *Spec) Stops() string {
	if s.IdleTimeout == Infinity {
		return "never stops"
	}
	if s.Freezes && s.StopAfter == Infinity {
		return fmt.Sprintf("freezes %s after the last connection", s.IdleTimeout)
	}
	if s.Freezes {
		return fmt.Sprintf("freezes %s after the last connection, stops when frozen for %s", s.IdleTimeout, s.StopAfter)
	}
	return fmt.Sprintf("stops %s after the last connection", s.IdleTimeout)
}

func (s *Spec) explainStart() string {
	if s.Dependency() {
		return fmt.Sprintf("a start of %s.service may take %s", s.Unit, s.StartTimeout)
	}
	return fmt.Sprintf("the first client starts %s.service; each is held until the app accepts, at most %s", s.Unit, s.StartTimeout)
}

func (s *Spec) explainReadyCheck() string {
	path, http := strings.CutPrefix(s.ReadyCheck, "http:")
	switch {
	case http:
		return fmt.Sprintf("no client is let through before the app answers a GET of %s with 2xx or 3xx", path)
	case s.ReadyCheck == "none":
		return "clients are let through once the app accepts, even if it resets them"
	}
	return ""
}

func (s *Spec) explainAllowed() string {
	var only strings.Builder
	for _, p := range s.AllowFrom {
		fmt.Fprintf(&only, " %s", p)
	}
	others := "not heard"
	if s.search.Manager == quadlet.User {
		others = "reset"
	}
	return when(len(s.AllowFrom) > 0, "only%s may connect; the others are %s, and wake nothing", &only, others)
}

func (s *Spec) explainProxyProtocol() string {
	switch {
	case s.ProxyProtocol == "no":
		return ""
	case s.Inside():
		return "the app sees the container's own address, and is told each client's by the PROXY protocol"
	}
	return "the app is told each client's address by the PROXY protocol"
}

func (s *Spec) explainClientAddress() string {
	switch {
	case !s.Inside(), s.ProxyProtocol != "no":
		return ""
	case s.ClientAddress == "proxy":
		return "the app sees the container's own address as that of each client"
	}
	return "the app sees each client's own address"
}
