package suggest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Dropin is a drop-in that is not there yet.
type Dropin struct {
	File *quadlet.File // that it is for
	Text string
}

// Dir is the directory in which it belongs.
func (d Dropin) Dir() string { return d.File.Path + ".d" }

// Name is what the drop-in is called there, the first of the names that others
// have not taken. It comes after the usual ones, which begin with a number.
func (d Dropin) Name(taken func(path string) bool) string {
	name := "zerolet.conf"
	for i := 2; taken(filepath.Join(d.Dir(), name)); i++ {
		name = fmt.Sprintf("zerolet-%d.conf", i)
	}
	return name
}

// missing is what a file lacks.
type missing struct {
	file     *quadlet.File
	section  bool
	portless bool
	listen   []string // lines of the section
	requires []string
	after    []string
}

// need adds a container that the file's uses, and reports whether it was not known.
func (m *missing) need(used *quadlet.File) bool { return addTo(&m.requires, service(used)) }

// order has the file's container start after another one, likewise.
func (m *missing) order(used *quadlet.File) bool { return addTo(&m.after, service(used)) }

func addTo(list *[]string, name string) bool {
	if slices.Contains(*list, name) {
		return false
	}
	*list = append(*list, name)
	return true
}

// forget takes back that the file's container needs a service.
func (m *missing) forget(service string) {
	isIt := func(name string) bool { return name == service }
	m.requires, m.after = slices.DeleteFunc(m.requires, isIt), slices.DeleteFunc(m.after, isIt)
}

// mentions reports whether a setting of [Unit] names the service of another file.
func mentions(f *quadlet.File, key string, other *quadlet.File) bool {
	return slices.ContainsFunc(f.All("Unit", key), func(e quadlet.Entry) bool {
		words := e.Words()
		return slices.Contains(words, service(other)) || slices.Contains(words, other.Name())
	})
}

// text is the drop-in, "" if nothing is missing.
func (m *missing) text() string {
	var b strings.Builder
	section := func(name string, lines ...string) {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.WriteString("[" + name + "]\n")
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
	}
	if len(m.requires)+len(m.after) > 0 {
		var lines []string
		for _, name := range m.requires {
			lines = append(lines, "Requires="+name)
		}
		for _, name := range m.after {
			lines = append(lines, "After="+name)
		}
		section("Unit", lines...)
	}
	if lines := m.install(); len(lines) > 0 {
		section("Install", lines...)
	}
	if m.section {
		section("ScaleToZero", m.listen...)
	}
	return b.String()
}

// install takes the targets out of [Install] of a container that only others need:
// it would be up with them.
func (m *missing) install() (lines []string) {
	if !m.portless {
		return nil
	}
	for _, key := range []string{"WantedBy", "RequiredBy", "UpheldBy"} {
		var others []string
		targets := 0
		for _, entry := range m.file.All("Install", key) {
			for _, word := range entry.Words() {
				if filepath.Ext(word) == ".target" {
					targets++
				} else {
					others = append(others, word)
				}
			}
		}
		if targets == 0 {
			continue
		}
		lines = append(lines, key+"=")
		if len(others) > 0 {
			lines = append(lines, key+"="+strings.Join(others, " "))
		}
	}
	return lines
}

// parsed is the drop-in as a file that was read.
func (m *missing) parsed() *quadlet.File {
	f, _ := quadlet.Parse(filepath.Join(m.file.Path+".d", "zerolet.conf"), []byte(m.text()))
	return f
}

// Write makes the file, with its directory. It replaces nothing and follows no link
// at the end of the path. What is another user's, root leaves to that user: who owns
// a directory could have it lead anywhere.
func (d Dropin) Write(path string) error {
	if uid := quadlet.ReaderOf(path); uid != 0 {
		return fmt.Errorf("%s: uid %d decides where that is: run it as that user", path, uid)
	}
	if err := os.Mkdir(d.Dir(), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("# Written by zerolet suggest.\n\n" + d.Text)
	return errors.Join(err, f.Close())
}
