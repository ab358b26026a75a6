package scale

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// checkInstance refuses a template of which no instance is known, and templates of
// other kinds, where Quadlet appends to the instance: "shop@1-pod.service".
func (s *Spec) checkInstance(ds *quadlet.Diagnostics) {
	switch base, instance, ok := strings.Cut(s.Unit, "@"); {
	case !ok:
	case s.File.Kind() != "Container":
		ds.Errorf(s.File.UnitPos(), fmt.Sprintf("write a file for each instance, such as %s-%s%s, with a port of its own",
			base, cmp.Or(strings.TrimSuffix(instance, s.File.Suffix()), "1"), filepath.Ext(s.File.Path)),
			"a template or an instance of one cannot be scaled")
	case instance == "":
		ds.Errorf(s.File.UnitPos(), fmt.Sprintf("make a link to it for each, such as %s@1.container, or write DefaultInstance=1 in [Install]", base),
			"nobody knows an instance of this template")
	}
}

// checkKind refuses files that are not one long-running service.
func (s *Spec) checkKind(ds *quadlet.Diagnostics) {
	whole := s.File.UnitPos()
	if e, ok := s.File.Last("Service", "Type"); ok && e.Value == "oneshot" {
		ds.Errorf(e.Pos, "leave the [ScaleToZero] section out: a job runs when it is started, and uses nothing afterwards",
			"a service that ends by itself cannot be scaled")
	}
	s.checkAliases(ds)
	if !ValidUnit(s.Unit) {
		ds.Errorf(whole, fmt.Sprintf("use letters, digits and :-_. only, at most %d", longestUnit()), "%q is not the name of a systemd unit", s.Unit)
		s.Unit = ""
	}
}

// checkAliases tells of names that lead nowhere: stock Quadlet makes each a
// link to the service, whose type it must have.
func (s *Spec) checkAliases(ds *quadlet.Diagnostics) {
	for _, e := range s.File.All("Install", "Alias") {
		for _, alias := range e.Words() {
			if filepath.Ext(alias) != ".service" {
				ds.Warnf(e.Pos, "Alias= names the service: write "+strings.TrimSuffix(alias, filepath.Ext(alias))+".service, or leave it out",
					"alias %s is not used: it does not end in .service", alias)
			}
		}
	}
}

// ValidUnit follows systemd.unit(5): letters, digits, ":-_.\@" and, with what
// we make of it, at most 255 bytes, which is also the limit of a file's name.
func ValidUnit(name string) bool {
	if name == "" || len(name) > longestUnit() {
		return false
	}
	const valid = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\@`
	return !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(valid, r) })
}

// longestUnit is how long a name may be: what we make of it has at most 255 bytes.
func longestUnit() int {
	more := len("50-zerolet-.conf")
	for _, u := range wire.Units() {
		more = max(more, len(u))
	}
	return 255 - more
}
