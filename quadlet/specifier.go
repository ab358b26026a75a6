package quadlet

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// Expand is a path with the specifiers for directories replaced and cleaned,
// so that two spellings of one file compare equal. It is for looking only: what
// it cannot know stays as it is, and units have the path as it was written.
func (s Search) Expand(path string) string {
	if path == "" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+1 < len(path) {
			b.WriteString(cmp.Or(s.directory(path[i+1]), path[i:i+2]))
			i++
			continue
		}
		b.WriteByte(path[i])
	}
	return filepath.Clean(b.String())
}

// directory is what a specifier stands for, "" if that is unknown or no
// directory (systemd.unit(5), "Specifiers"; file-hierarchy(7) for the user).
func (s Search) directory(specifier byte) string {
	if s.Manager == System {
		return map[byte]string{
			't': "/run", 'h': "/root", 'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc",
			'T': "/tmp", 'V': "/var/tmp", 'u': "root", 'g': "root", 'U': "0", 'G': "0", '%': "%",
		}[specifier]
	}
	home := s.Env("HOME")
	below := func(variable, dir string) string {
		if base := s.Env(variable); base != "" || home == "" {
			return base
		}
		return filepath.Join(home, dir)
	}
	switch specifier {
	case '%':
		return "%"
	case 't':
		return s.Env("XDG_RUNTIME_DIR")
	case 'h':
		return home
	case 'S':
		return below("XDG_STATE_HOME", ".local/state")
	case 'L':
		if state := s.directory('S'); state != "" {
			return filepath.Join(state, "log")
		}
	case 'C':
		return below("XDG_CACHE_HOME", ".cache")
	case 'E':
		return below("XDG_CONFIG_HOME", ".config")
	case 'T':
		return cmp.Or(s.Env("TMPDIR"), "/tmp")
	case 'V':
		return cmp.Or(s.Env("TMPDIR"), "/var/tmp")
	case 'U':
		return fmt.Sprint(s.UID)
	case 'u':
		return s.Env("USER")
	}
	return ""
}
