package main

import (
	"bytes"
	"os"
	"testing"
)

// The demo is a test of the story it tells.
func TestDemo(t *testing.T) {
	if os.Getuid() != 0 || testing.Short() {
		t.Skip("it boots a machine, as root")
	}
	var out bytes.Buffer
	if err := run(t.Context(), "../..", &out, os.Stderr); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
}
