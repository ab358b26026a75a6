package generator

import (
	"strings"
	"unicode"
)

// literal makes a value that systemd takes as it stands: "%" begins a
// specifier in most settings and "%%" is the percent sign
// (systemd.unit(5), "Specifiers").
func literal(value string) string {
	return strings.ReplaceAll(oneLine(value), "%", "%%")
}

// word makes one word of a command line (systemd.service(5), "Command lines"),
// which is also unescaped like one where it is not quoted: a unit's name may
// have a backslash. Our ExecStart= lines begin with ":", so "$" needs no escape.
// The text has its "%" doubled, but for a specifier that is meant.
func word(value string) string {
	value = oneLine(value)
	if value != "" && !strings.ContainsAny(value, " \t\"'\\;") {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// oneLine keeps a value on its line: no control character gets into a unit,
// nor a backslash at the end, which would continue the line.
func oneLine(value string) string {
	value = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, value)
	if strings.HasSuffix(value, `\`) {
		value += " "
	}
	return value
}

// literals is literal for each.
func literals(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, literal(v))
	}
	return all
}
