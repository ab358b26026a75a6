package suggest

import (
	"bytes"
	"path/filepath"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// told are the texts from which a container knows of others: the values of its
// variables, also of those in files, and its arguments. What cannot be read here,
// since it is another machine's or a secret, tells nothing.
func (s *search) told(f *quadlet.File) (texts []string) {
	for _, key := range []string{"Environment", "Exec", "Entrypoint", "PodmanArgs"} {
		for _, entry := range f.All("Container", key) {
			for _, argument := range entry.Arguments() {
				if key == "Environment" {
					_, argument, _ = strings.Cut(argument, "=")
				}
				texts = append(texts, argument)
			}
		}
	}
	for _, entry := range f.All("Container", "EnvironmentFile") {
		for _, line := range s.lines(f, entry.Value) {
			_, value, _ := strings.Cut(line, "=")
			texts = append(texts, value)
		}
	}
	for _, entry := range f.All("Kube", "Yaml") {
		for _, line := range s.lines(f, entry.Value) {
			key, value, isMap := strings.Cut(strings.TrimPrefix(line, "- "), ": ")
			switch { // the rest are names of its own
			case !isMap && line[0] == '-':
				texts = append(texts, line) // an argument
			case key == "value":
				texts = append(texts, value)
			}
		}
	}
	return texts
}

// configured are the lines of the files that a container has from the machine one by
// one, such as a Caddyfile.
func (s *search) configured(f *quadlet.File) (lines []string) {
	for _, entry := range f.All("Container", "Volume") {
		source, _, mounted := strings.Cut(entry.Value, ":")
		if mounted && strings.ContainsAny(source, "/.") {
			lines = append(lines, s.lines(f, source)...)
		}
	}
	return lines
}

// maxTold bounds what is read of a file: what people write is smaller, a database is
// not.
const maxTold = 256 << 10

// lines are those of a file that a Quadlet file names, without comments; none if it
// is no text.
func (s *search) lines(f *quadlet.File, path string) []string {
	path = s.Search.Expand(path)
	if !filepath.IsAbs(path) { // podman-systemd.unit(5): "relative to the unit file"
		path = filepath.Join(filepath.Dir(f.Path), path)
	}
	if lines, known := s.read[path]; known {
		return lines
	}
	var lines []string
	data, err := quadlet.ReadNamed(f.Path, path)
	if err == nil && len(data) <= maxTold && bytes.IndexByte(data, 0) < 0 {
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				lines = append(lines, line)
			}
		}
	}
	s.read[path] = lines
	return lines
}
