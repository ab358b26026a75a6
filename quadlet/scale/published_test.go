package scale

import (
	"slices"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// TestPublished: what Listen=3000:80 and 3001:81 leave to Podman.
func TestPublished(t *testing.T) {
	for _, tt := range []struct {
		value string
		kept  []string // nil: dropped
	}{
		{"8080:80", nil},
		{"8080-8082:80-82", []string{"8082:82/tcp"}},
		{"8080:80/udp", []string{"8080:80/udp"}},
		{"8080:80/tcp,udp", []string{"8080:80/udp"}},
		{"8080:80/sctp", []string{"8080:80/sctp"}},
		{"8080:80/tcp,sctp", []string{"8080:80/sctp"}},
		{"8080-8081:80-81/tcp,sctp", []string{"8080-8081:80-81/sctp"}},
		{"80", nil},
		{"80/udp", []string{"80/udp"}},
		{"127.0.0.1::80", nil},
		{"${PORT}:80", nil},
		{"${PORT}:80/tcp", nil},
		{"%i:80", nil},
		{"${ADDRESS}:8080:80", nil},
		{"[${ADDRESS}]:8080:80", nil},
		{"${FIRST}-${LAST}:80-81", nil},
		{"${PORT}:80/tcp,udp", []string{"${PORT}:80/udp"}},
		{"${PORT}:9090", []string{"${PORT}:9090"}},
		{"9090", []string{"9090"}},
		{"8080:80/dccp", []string{"8080:80/dccp"}},
		{"8080:${PORT}", []string{"error"}},
		{"8080:${PORT}/udp", []string{"error"}},
		{"${PORTS}", []string{"error"}},
		{"${FIRST}-${LAST}:81-82", []string{"error"}},
	} {
		f, ds := quadlet.Parse("/etc/containers/systemd/web.container",
			[]byte("[Container]\nImage=i\nPublishPort="+tt.value+"\n[ScaleToZero]\nListen=3000:80\nListen=3001:81\n"))
		s, more := Read(f, quadlet.Search{Manager: quadlet.User, Getenv: func(string) string { return "" }})
		var kept []string
		for _, p := range s.Published {
			kept = append(kept, p.Value)
		}
		if append(ds, more...).HasErrors() {
			kept = append(kept, "error")
		}
		if !slices.Equal(kept, tt.kept) {
			t.Errorf("PublishPort=%s: %q stays published, want %q", tt.value, kept, tt.kept)
		}
	}
}
