package main

import (
	"strings"
)

// typed is a command line about one name, which is no option even if it begins with a
// dash.
func typed(name string, words ...string) []string {
	if strings.HasPrefix(name, "-") {
		words = append(words, "--")
	}
	return append(words, name)
}

// typed is what a person is told to say of a service.
func (c *call) typed(name, verb string, flags ...string) string {
	words := append([]string{"zerolet", verb, "--" + c.manager.String()}, flags...)
	return strings.Join(typed(name, words...), " ")
}

// systemctl is the same for what is systemd's.
func (c *call) systemctl(unit, verb string) string {
	return strings.Join(typed(unit, "systemctl", "--"+c.manager.String(), verb), " ")
}
