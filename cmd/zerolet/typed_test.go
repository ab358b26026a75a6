package main

import (
	"slices"
	"strings"
	"testing"
)

// What a person is told to say is understood, whatever the service is called.
func TestTyped(t *testing.T) {
	for _, name := range []string{"web", "-web", "--force"} {
		line := (&call{}).typed(name, "sleep", "--force")
		c := new(call)
		if _, err := c.parse(strings.Fields(line)[1:]); err != nil || !slices.Equal(c.names, []string{name}) || !c.force {
			t.Errorf("%s: names %q, --force %t, %v", line, c.names, c.force, err)
		}
	}
}
