package scale

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// NativeLabel is the label by which a file says that its image takes its
// sockets from systemd.
const NativeLabel = "zerolet.native=yes"

// mode reads Mode=.
func (s *Spec) mode(value string) error {
	switch value {
	case "proxy", "native":
		s.Native = value == "native"
		return nil
	}
	return &quadlet.ValueError{Message: fmt.Sprintf("unknown mode %q", value), Hint: "write proxy or native"}
}

// checkNative refuses sockets that cannot be handed to a container without
// losing clients, and warns where nothing tells that the image takes any.
func (s *Spec) checkNative(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if !s.Native {
		return
	}
	const hint = "leave Mode= out: a container in Mode=proxy is reached through any socket"
	for _, l := range s.Listen {
		switch {
		case l.Unix():
			// Nothing holds back who connects to a unix socket while the
			// container that accepts from it goes down, nor does the kernel
			// tell of connections that come from another network namespace:
			// unix_stream_connect() in net/unix/af_unix.c makes them there.
			ds.Errorf(l.Pos, hint, "a unix socket cannot be handed over with Mode=native")
		case l.Protocol != "tcp":
			ds.Errorf(l.Pos, hint, "%s cannot be handed over with Mode=native", l.Protocol)
		}
	}
	if !s.takesSockets() {
		ds.Warnf(e.Pos, fmt.Sprintf("if it does (LISTEN_FDS, sd_listen_fds(3)) say so in [Container]: Label=%s; otherwise leave Mode= out", NativeLabel),
			"nothing says that the image takes its sockets from systemd")
	}
}

// takesSockets reports whether the container is known to take sockets: because
// the file says so, or because nginx is told by its own variable to do it.
func (s *Spec) takesSockets() bool {
	for _, e := range s.File.All("Container", "Label") {
		if slices.Contains(e.Arguments(), NativeLabel) {
			return true
		}
	}
	image, _ := s.File.Last("Container", "Image")
	name, _, _ := strings.Cut(path.Base(image.Value), ":")
	return name == "nginx" && slices.ContainsFunc(s.File.All("Container", "Environment"), func(e quadlet.Entry) bool {
		return slices.ContainsFunc(e.Arguments(), func(v string) bool { return strings.HasPrefix(v, "NGINX=") })
	})
}
