package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet/scale"
)

// docs/keys.md is the key table of package quadlet.
func TestKeyTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Keys of `[ScaleToZero]`\n\n" +
		"`[X-ScaleToZero]` means the same, and keeps systemd from warning about the unit that stock Quadlet makes. Every key can\n" +
		"stand in a drop-in, `NAME.container.d/*.conf`; an empty assignment restores the default.\n\n")
	for _, k := range scale.Keys() {
		b.WriteString(wrapped("- ", "  ", fmt.Sprintf("**`%s=`** (%s, default %s): %s.", k.Name, k.Type, cmp.Or(k.Default, "none"), k.Doc)))
	}
	b.WriteString("\nA time span is systemd's: `30s`, `2min 30s`, `infinity` (systemd.time(7)); without a unit it is seconds.\n" +
		"A range of ports listens on each of them. With `Listen=` only what it names is scaled: a `PublishPort=` for the same\n" +
		"container port is dropped, every other one stays published by Podman and does not count as use. The host's side of\n" +
		"those may be a variable; the container's may not, since nobody could tell whether it is dropped.\n\n" +
		wrapped("", "", "`53:53/udp` scales a UDP port, `53:53/tcp,udp` both protocols of it, with one container. UDP has no connections: "+
			"`IdleTimeout=` counts from the last datagram in either direction ([how it works](internals/how-it-works.md#datagrams)).") + "\n" +
		wrapped("", "", "A section without any port, neither `Listen=` nor `PublishPort=`, is for a container that others need, such as a "+
			"database: it runs while one of them does ([how it works](internals/how-it-works.md#what-a-container-needs)). "+
			"Of the keys only "+keysIn(scale.WithoutPorts, true)+" has a meaning there.") + "\n" +
		wrapped("", "", "`Mode=native` leaves the proxy out of the way, and what it does: "+keysIn(scale.WithNative, false)+" are refused there. "+
			"Where clients connect to no unix socket, "+keysIn(scale.OnPorts, false)+" have no effect."))
	golden(t, "../../docs/keys.md", b.String())
}

// wrapped is a paragraph in lines of at most 120 columns.
func wrapped(first, other, text string) string {
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+len(" ")+len(word) > 120 {
			b.WriteString(line + "\n")
			line = other + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// keysIn are the keys that have a meaning somewhere, or that have none.
func keysIn(where scale.Where, meaning bool) string {
	var names []string
	for _, k := range scale.Keys() {
		if k.In(where) == meaning {
			names = append(names, "`"+k.Name+"=`")
		}
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

// zerolet.container(5) has the same keys.
func TestManualKeys(t *testing.T) {
	const path, start, end = "zerolet.container.5.md", "<!-- keys: go test ./cmd/zerolet -update -->\n", "<!-- end -->"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), start)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("no place for the keys")
	}
	var b strings.Builder
	for _, k := range scale.Keys() {
		fmt.Fprintf(&b, "\n**%s=**\n:   %s, default %s: %s\n", k.Name, k.Type, cmp.Or(k.Default, "none"), k.Doc)
	}
	golden(t, path, before+start+b.String()+"\n"+end+after)
}
