package main

import (
	"bytes"
	"testing"
)

// A terminal gets what the command means it to obey, and of a text nothing else.
func TestTerminal(t *testing.T) {
	var b bytes.Buffer
	p := printer{terminal{&b}, true}
	p.failure(failure{message: "a\x1b]0;b\ac\u009bd\u202ee\xfff\r", hint: "g\x1b[2Jh\ti"})
	const want = "zerolet: \x1b[1;31merror\x1b[0m: a\ufffd]0;b\ufffdc\ufffdd\ufffde\ufffdf\ufffd\n\x1b[36mhint\x1b[0m: g\ufffd[2Jh\ti\n"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", &b, want)
	}
	b.Reset()
	c := call{stdout: terminal{&b}}
	c.draw("a\x1b[2J\nb\n")
	if want := "\x1b[Ha\ufffd[2J\x1b[K\nb\x1b[K\n\x1b[J"; b.String() != want {
		t.Errorf("got  %q\nwant %q", &b, want)
	}
}
