package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
)

// docs/status.md names every field.
func TestStatusDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	namesFields(t, string(doc), statusReport{}, serviceReport{}, service.Wake{}, memoryReport{})
}

func namesFields(t *testing.T, doc string, shapes ...any) {
	t.Helper()
	for _, name := range fieldsOf(shapes...) {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("the document does not describe %s", name)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Second: "1min", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}

// Text of others does not reach the terminal as it is.
func TestTableIsPrintable(t *testing.T) {
	s := service.Service{Name: "web", Socket: systemd.Unit{"ActiveState": "failed", "LoadState": "loaded"}}
	var b strings.Builder
	c := call{machine: machine{clock: time.Now}}
	if err := c.table(&b, []serviceReport{newServiceReport(&s, "a\x1b[2Jb")}); err != nil || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%v: %q", err, b.String())
	}
}
