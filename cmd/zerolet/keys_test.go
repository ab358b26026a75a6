package main

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet/scale"
)

// docs/keys.md is the key table of package quadlet.
func TestKeyTable(t *testing.T) {
	const path, start, end = "../../docs/keys.md", "<!-- keys: go test ./cmd/zerolet -update -->\n", "<!-- end -->"
	before, after := around(t, path, start, end)
	var b strings.Builder
	for _, k := range scale.Keys() {
		doc := capital(k.Doc) + "." + meaning(k)
		fmt.Fprintf(&b, "\n## `%s=`\n\n%s\n\nValue: %s. Default: %s.\n", k.Name, fold(doc, 120, ""), k.Type, cmp.Or(k.Default, "none"))
	}
	golden(t, path, before+start+b.String()+"\n"+end+after)
}

// meaning tells in which sections a key means something out of the ordinary.
func meaning(k scale.Key) (said string) {
	if k.In(scale.WithoutPorts) {
		said += " It means something in a section without a port, too."
	}
	if !k.In(scale.WithNative) {
		said += " It is refused with Mode=native."
	}
	switch pod, kube := k.In(scale.InPod), k.In(scale.InKube); {
	case !pod:
		said += " It is refused in .pod and .kube files."
	case !kube:
		said += " It is refused in .kube files."
	}
	if !k.In(scale.OnPorts) {
		said += " It has no effect where clients connect to no unix socket."
	}
	return said
}

// zerolet.container(5) has the same keys.
func TestManualKeys(t *testing.T) {
	const path, start, end = "zerolet.container.5.md", "<!-- keys: go test ./cmd/zerolet -update -->\n", "<!-- end -->"
	before, after := around(t, path, start, end)
	var b strings.Builder
	for _, k := range scale.Keys() {
		text := fmt.Sprintf("%s, default %s: %s", k.Type, cmp.Or(k.Default, "none"), k.Doc)
		fmt.Fprintf(&b, "\n**%s=**\n:   %s\n", k.Name, fold(text, 80, "    "))
	}
	golden(t, path, before+start+b.String()+"\n"+end+after)
}

// around is a page before and after its generated part.
func around(t *testing.T, path, start, end string) (before, after string) {
	t.Helper()
	before, rest, ok := strings.Cut(read(t, path), start)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the keys", path)
	}
	return before, after
}

// fold breaks text into lines of a width, all but the first one indented.
func fold(text string, width int, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// capital is text that begins a sentence.
func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
