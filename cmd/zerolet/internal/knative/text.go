package knative

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// text is the value of a single-valued key as Quadlet reads it: without double
// quotes around it (Lookup in Podman's pkg/systemd/parser/unitfile.go).
func text(e quadlet.Entry) string {
	v := e.Value
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

// value is a single-valued key as podman gets it.
func (x *exporter) value(e quadlet.Entry) string { return x.argument(e, text(e)) }

// arguments are the words of a command line as podman gets them.
func (x *exporter) arguments(e quadlet.Entry) []string {
	words := e.Arguments()
	if len(words) == 0 {
		x.lost(e, `write \\ for a backslash`, "%s= cannot be split into words, and Quadlet leaves it out", e.Key)
	}
	for i, word := range words {
		words[i] = x.argument(e, word)
	}
	return words
}

// argument expands what systemd expands in ExecStart=, into which Quadlet
// copies values: specifiers and variables. What stands for something of this
// machine stays as it is, and is told.
func (x *exporter) argument(e quadlet.Entry, word string) string {
	word = regexp.MustCompile(`%.`).ReplaceAllStringFunc(word, func(specifier string) string {
		if text, ok := x.specifier(specifier[1]); ok {
			return text
		}
		x.lost(e, "write in the output what it stands for", "%s stands for something that only this machine knows", specifier)
		return specifier
	})
	return regexp.MustCompile(`\$\$|\$\{[^}]*\}|^\$[A-Za-z_][A-Za-z0-9_]*$`).ReplaceAllStringFunc(word, func(variable string) string {
		if variable == "$$" {
			return "$"
		}
		x.lost(e, "write in the output what it stands for", "%s is a variable of the unit, systemd puts in its value", variable)
		return variable
	})
}

// specifier is what a specifier stands for that does not depend on the machine.
func (x *exporter) specifier(letter byte) (string, bool) {
	if letter == '%' {
		return "%", true
	}
	return x.spec.File.Specifier(letter)
}

// literal is text where Kubernetes expands $(NAME), as it is meant:
// k8s.io/api/core/v1, Container.Args.
func literal(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteByte(text[i])
		if text[i] == '$' && i+1 < len(text) && (text[i+1] == '$' || text[i+1] == '(') {
			b.WriteByte('$')
		}
	}
	return b.String()
}

func literals(words []string) []string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = literal(word)
	}
	return out
}

// list reads a JSON array of strings, as podman does for --entrypoint and
// --health-cmd.
func list(text string) ([]string, bool) {
	var words []string
	err := json.Unmarshal([]byte(text), &words)
	return words, err == nil && words != nil
}
