package quadlet

import (
	"strconv"
	"strings"
)

// IsTemplate reports whether the file is a template (systemd.unit(5)), of which no
// service runs but that of an instance.
func (f *File) IsTemplate() bool { return strings.HasSuffix(stem(f.Name()), "@") }

// Template is the name of the template of a file that is one or an instance of one,
// "" if it is neither: "site@.container" for "site@82.container".
func (f *File) Template() string {
	base, _, ok := strings.Cut(stem(f.Name()), "@")
	if !ok {
		return ""
	}
	return base + "@" + strings.TrimPrefix(f.Name(), stem(f.Name()))
}

// DefaultInstance is the instance that [Install] of a template is about, "" if there is
// none (enableServiceFile in Podman's cmd/quadlet/main.go).
func (f *File) DefaultInstance() string {
	e, _ := f.Last("Install", "DefaultInstance")
	if !f.IsTemplate() || strings.Contains(e.Value, "/") {
		return ""
	}
	return e.Value
}

// Specifier is what one stands for that tells of nothing but the name of the file's
// service (systemd.unit(5), "Specifiers").
func (f *File) Specifier(letter byte) (string, bool) {
	unit := f.Unit()
	prefix, instance, _ := strings.Cut(unit, "@")
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	text, ok := map[byte]string{
		'i': instance, 'I': unescape(instance), 'p': prefix, 'P': unescape(prefix), 'j': last, 'J': unescape(last),
		'n': unit + ".service", 'N': unit,
	}[letter]
	return text, ok
}

// ExpandInstance replaces the specifiers that tell of an instance, as systemd does in
// its service. What is replaced is no specifier itself. The offset of a byte of the text
// in the value is at. Where there is no instance, the value stays as it is.
func (f *File) ExpandInstance(value string) (text string, at func(offset int) int) {
	_, instance, _ := strings.Cut(f.Unit(), "@")
	if instance == "" || !strings.Contains(value, "%") {
		return value, func(offset int) int { return offset }
	}
	var b strings.Builder
	var origins []int // of each byte
	for i := 0; i < len(value); {
		word := value[i : i+1]
		if value[i] == '%' && i+1 < len(value) {
			word = value[i : i+2]
		}
		length := len(word)
		if length == 2 && strings.Contains("iIpPjJ", word[1:]) {
			word, _ = f.Specifier(word[1])
			word = strings.ReplaceAll(word, "%", "%%")
		}
		b.WriteString(word)
		for range len(word) {
			origins = append(origins, i)
		}
		i += length
	}
	return b.String(), func(offset int) int {
		if offset < len(origins) {
			return origins[offset]
		}
		return len(value)
	}
}

// unescape is unit_name_unescape() in systemd's src/basic/unit-name.c: a "-" was a
// "/", and "\x2d" any byte. What is no such escape stays as it is.
func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '-' {
			b.WriteByte('/')
			continue
		}
		if strings.HasPrefix(name[i:], `\x`) && i+4 <= len(name) {
			if code, err := strconv.ParseUint(name[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
