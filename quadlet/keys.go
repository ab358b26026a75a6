package quadlet

import (
	"fmt"
	"strconv"
	"strings"
)

// Key describes one key of the [ScaleToZero] section. The parser, the hints
// and the manual are made from this table.
type Key struct {
	Name    string
	Type    string // what the value is, in words
	Default string // an assignment of this value changes nothing
	Doc     string // one sentence
	// Dependency tells that it has a meaning in a section without ports, too.
	Dependency bool

	set func(*Spec, string) error // an empty value has been replaced by Default
}

// Keys are the keys of [ScaleToZero] in the order of the manual.
func Keys() []Key {
	return []Key{
		{
			Name: "IdleTimeout", Type: "time span", Default: "2min",
			Doc: "how long after the last connection, or the last datagram, the container stops; infinity never stops it",
			set: func(s *Spec, v string) (err error) { s.IdleTimeout, err = ParseSpan(v); return err },
		},
		{
			Name: "StartTimeout", Type: "time span", Default: "5min", Dependency: true,
			Doc: "how long a client is held while the container starts; also TimeoutStartSec= of the container unless the file sets one",
			set: func(s *Spec, v string) (err error) { s.StartTimeout, err = ParseSpan(v); return err },
		},
		{
			Name: "Listen", Type: "PublishPort= syntax, repeatable", Default: "",
			Doc: "what to listen on and which container port it leads to; without it every PublishPort= of the file",
			set: (*Spec).listen,
		},
		{
			Name: "SocketMode", Type: "octal mode", Default: "0666",
			Doc: "who may connect to the unix sockets that Listen= makes, as in systemd.socket(5)",
			set: func(s *Spec, v string) (err error) { s.Socket.Mode, err = parseMode(v); return err },
		},
		{
			Name: "SocketUser", Type: "user", Default: "",
			Doc: "owner of these sockets; of the system's only",
			set: func(s *Spec, v string) (err error) { s.Socket.User, err = parseName(v); return err },
		},
		{
			Name: "SocketGroup", Type: "group", Default: "",
			Doc: "group of these sockets",
			set: func(s *Spec, v string) (err error) { s.Socket.Group, err = parseName(v); return err },
		},
		{
			Name: "DirectoryMode", Type: "octal mode", Default: "0755",
			Doc: "mode of the directories that have to be made for these sockets",
			set: func(s *Spec, v string) (err error) { s.Socket.DirectoryMode, err = parseMode(v); return err },
		},
		{
			Name: "AutoStart", Type: "boolean", Default: "yes",
			Doc: "whether daemon-reload and boot bring the socket up; with no it is left to [Install]",
			set: func(s *Spec, v string) (err error) { s.AutoStart, err = parseBool(v); return err },
		},
	}
}

// scaleSection tells whether a section is ours. [X-ScaleToZero] keeps systemd
// from warning where stock Quadlet copies the section into its unit
// (systemd.unit(5): sections that begin with "X-" are ignored).
func scaleSection(name string) bool { return name == "ScaleToZero" || name == "X-ScaleToZero" }

// parseBool takes what systemd takes (systemd.syntax(7)).
func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, &ValueError{Message: fmt.Sprintf("%q is neither yes nor no", v), Hint: "write yes or no"}
}

// parseMode takes what systemd takes (parse_mode in src/basic/parse-util.c).
func parseMode(v string) (uint32, error) {
	mode, err := strconv.ParseUint(v, 8, 32)
	if err != nil || mode > 0o7777 {
		return 0, &ValueError{Message: fmt.Sprintf("%q is not a mode", v), Hint: "write it in octal, such as 0660"}
	}
	return uint32(mode), nil
}

// parseName takes the name or number of a user or group, as systemd does but
// without specifiers (systemd.syntax(7), "User/Group Name Syntax").
func parseName(v string) (string, error) {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	number := strings.Trim(v, "0123456789") == ""
	if !number && (!strings.Contains(first, v[:1]) || strings.Trim(v, first+"0123456789.-") != "") || len(v) > 31 {
		return "", &ValueError{Message: fmt.Sprintf("%q is not the name of a user or group", v), Hint: "write a name or a number"}
	}
	return v, nil
}

// nearest is the key a mistyped name may have meant, or "".
func nearest(name string, keys []Key) string {
	best, at := "", 3
	for _, k := range keys {
		if d := distance(strings.ToLower(name), strings.ToLower(k.Name)); d < at {
			best, at = k.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
