package main

import (
	"bytes"
	"testing"

	"github.com/zerolet/zerolet/cmd/internal/release"
)

func TestVersion(t *testing.T) {
	var out, errs bytes.Buffer
	if status := run([]string{"--version"}, &out, &errs); status != 0 ||
		out.String() != "zerolet-proxy "+release.Version()+"\n" || errs.Len() > 0 {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}
