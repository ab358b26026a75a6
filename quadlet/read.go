package quadlet

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

const (
	// maxFile bounds what a file can cost at daemon-reload. systemd takes
	// lines of at most 1 MiB (LONG_LINE_MAX), so no file that works is near.
	maxFile = 4 << 20
	// maxProblems bounds the diagnostics of one file that is not a Quadlet
	// file at all.
	maxProblems = 100
	// devNull is the device number of /dev/null, major 1 and minor 3 on
	// every Linux (Documentation/admin-guide/devices.txt).
	devNull = 1<<8 | 3
)

// ReadFile reads and parses one file. The File is never nil; it is empty when
// the file cannot be read. Only regular files are read, so that a FIFO cannot
// hang the reader, and /dev/null, which is how an administrator masks a
// drop-in: it is an empty file.
func ReadFile(path string) (*File, Diagnostics) { return readFile(readerOf(filepath.Dir(path)), path) }

func readFile(uid int, path string) (*File, Diagnostics) {
	var ds Diagnostics
	data, err := ReadAs(uid, path)
	if err != nil {
		ds.Errorf(Pos{File: path}, hintOf(uid), "cannot read: %v", reason(err))
		return &File{Path: path}, ds
	}
	return Parse(path, data)
}

func errTooLarge() error { return fmt.Errorf("it is larger than %d MiB", maxFile>>20) }

// readRegular is the content of a file of at most maxFile bytes.
func readRegular(path string) ([]byte, error) {
	// System calls as they are: package os would offer each file to epoll, which
	// takes longer than to read it. O_NONBLOCK: opening a FIFO does not wait for
	// a writer (fifo(7)).
	fd, err := ignoringEINTR(func() (int, error) {
		return syscall.Open(path, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd) //nolint:errcheck // it was only read
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&syscall.S_IFMT == syscall.S_IFREG:
	case isDevNull(st):
		return nil, nil
	case st.Mode&syscall.S_IFMT == syscall.S_IFDIR:
		return nil, errors.New("it is a directory")
	default:
		return nil, errors.New("it is not a regular file")
	}
	if st.Size > maxFile {
		return nil, errTooLarge()
	}
	data := make([]byte, 0, st.Size+1) // the spare byte finds the end without growing
	for {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return nil, err
		}
		data = data[:len(data)+n]
		switch {
		case len(data) > maxFile: // it grew meanwhile
			return nil, errTooLarge()
		case n == 0:
			return data, nil
		case len(data) == cap(data):
			data = append(data, 0)[:len(data)]
		}
	}
}

// WriteFile is os.WriteFile without what that one does to wait for a file: a
// generator writes thousands of small ones.
func WriteFile(path string, data []byte, mode uint32) error {
	fd, err := ignoringEINTR(func() (int, error) {
		return syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, mode)
	})
	for err == nil && len(data) > 0 {
		var n int
		n, err = ignoringEINTR(func() (int, error) { return syscall.Write(fd, data) })
		data = data[max(n, 0):]
	}
	if fd >= 0 {
		err = errors.Join(err, syscall.Close(fd))
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

// ignoringEINTR goes on after a signal, which the runtime of Go sends to itself.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}

func isDevNull(st syscall.Stat_t) bool {
	return st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == devNull
}

// Regular reports whether Quadlet can read a file: a FIFO would hang it.
func Regular(path string) bool {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return err == nil && (st.Mode&syscall.S_IFMT == syscall.S_IFREG || isDevNull(st))
}

// reason is an error without the operation and path that os puts before it.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Parse reads the text of one file. It goes on after a bad line, so that all
// problems are told at once; the File is never nil and holds what could be
// read. A value never contains a newline, a carriage return or a NUL and never
// ends in a backslash.
//
// Which lines belong together is decided as by Podman 6.0.0
// (pkg/systemd/parser/unitfile.go, the same since 5.0), for it makes the
// container; how they are joined depends on who reads the value, see joint.
func Parse(path string, data []byte) (*File, Diagnostics) {
	p := lexer{file: &File{Path: path}}
	if len(data) > maxFile {
		p.ds.Errorf(Pos{File: path}, "", "cannot read: %v", errTooLarge())
		return p.file, p.ds
	}
	p.lines(string(data))
	return p.file, p.ds
}

// lexer reads one file line by line. Several physical lines that end in a
// backslash make one logical line.
type lexer struct {
	file    *File
	ds      Diagnostics
	section string
	inside  bool // a section is open
	outside bool // an assignment before the first section was told

	pieces []piece // of the logical line that is being continued
	text   []byte  // its text, when it has more than one piece
	valued bool    // its value has begun
	bad    bool    // it has a byte that no unit file may have

	one [1]piece // a logical line of one piece, without an allocation
}

// piece is where a part of a logical line stands in the file.
type piece struct {
	off       int // in the logical line
	line, col int
}

// lines splits the text into physical lines. Podman and systemd both end a
// line at '\n'; systemd also at a lone '\r' and at NUL (read_line in
// src/basic/fileio.c), which is why these are refused in the middle of one.
func (p *lexer) lines(text string) {
	const bom = "\ufeff"
	col := 1
	if strings.HasPrefix(text, bom) {
		// systemd skips it, Podman takes it for a part of the first line.
		p.errorf(1, 1, "save the file as UTF-8 without a byte order mark",
			"file starts with a byte order mark, which Quadlet does not read")
		text, col = text[len(bom):], 1+len(bom)
	}
	for n := 1; text != ""; n++ {
		line, rest, _ := strings.Cut(text, "\n")
		p.physical(line, n, col, rest == "")
		text, col = rest, 1
	}
	if len(p.pieces) > 0 {
		p.unfinished()
	}
}

// physical takes one line as it stands in the file.
func (p *lexer) physical(line string, n, col int, last bool) {
	// As Podman does: all Unicode space goes at both ends, and with it the
	// '\r' of "\r\n" and what follows a backslash. systemd 252 does not
	// continue a line with space after the backslash.
	trimmed := strings.TrimLeftFunc(line, unicode.IsSpace)
	col += len(line) - len(trimmed)
	trimmed = strings.TrimRightFunc(trimmed, unicode.IsSpace)

	// Comments and empty lines do not end a continuation. In systemd 252 an
	// empty line does; Podman 4.9.5 hangs on it.
	if trimmed == "" || trimmed[0] == '#' || trimmed[0] == ';' {
		return
	}
	p.check(trimmed, n, col)
	if len(p.pieces) > 0 {
		p.warnSwallowed(trimmed, n, col)
	}
	body, more := strings.CutSuffix(trimmed, `\`)
	switch {
	case more && !last:
		p.add(body, n, col)
	case len(p.pieces) > 0:
		p.add(body, n, col)
		p.finish()
	case body != "":
		// At the end of the file there is nothing to continue with. Podman
		// and systemd drop the backslash and take the line.
		p.one[0] = piece{0, n, col}
		p.logical(body, p.one[:])
		p.bad = false
	}
}

// add appends a piece to the logical line. An empty first piece (a lone
// backslash) starts nothing, as in Podman.
func (p *lexer) add(body string, n, col int) {
	if len(p.pieces) == 0 && body == "" {
		return
	}
	if p.valued {
		p.text = append(p.text, joint(p.section)...)
	}
	p.pieces = append(p.pieces, piece{len(p.text), n, col})
	p.text = append(p.text, body...)
	p.valued = p.valued || p.text[0] != '[' && strings.IndexByte(body, '=') >= 0
}

// finish parses the logical line that was gathered.
func (p *lexer) finish() {
	p.logical(string(p.text), p.pieces)
	// The entry keeps the pieces.
	p.pieces, p.text, p.valued, p.bad = nil, p.text[:0], false, false
}

// unfinished parses a logical line whose last line ends in a backslash and
// has only empty lines and comments after it. systemd takes the assignment;
// Podman 6.0.0 loses it without a word, and 4.9.5 hangs.
func (p *lexer) unfinished() {
	last := p.pieces[len(p.pieces)-1]
	p.warnf(last.line, last.col, `remove the \ at the end of the line`,
		"file ends inside this continued line, Quadlet ignores the assignment")
	p.finish()
}

// joint is what stands in a value in the place of a backslash and its newline;
// in a key or a section header there is nothing. Quadlet removes them from the
// values that it reads. The other sections it copies into the unit, in Podman
// 4 as they are, and systemd puts a space there (systemd.syntax(7)). Podman 5
// and 6 remove them there too.
func joint(section string) string {
	switch section {
	case "Container", "Quadlet", "ScaleToZero", "X-ScaleToZero",
		"Volume", "Network", "Pod", "Kube", "Image", "Build", "Artifact":
		return ""
	}
	return " "
}

// check tells bytes that a unit file cannot have. It looks at every line but
// comments.
func (p *lexer) check(line string, n, col int) {
	if i := strings.IndexByte(line, 0); i >= 0 {
		p.bad = true
		p.errorf(n, col+i, "save the file as plain text", "NUL byte")
	}
	if i := strings.IndexByte(line, '\r'); i >= 0 {
		// Podman copies it into the unit, where systemd ends the line: the
		// rest would be an assignment of its own.
		p.bad = true
		p.errorf(n, col+i, `end lines with \n or \r\n`, "carriage return inside a line")
	}
	if !utf8.ValidString(line) {
		p.warnf(n, col+invalidUTF8(line), "save the file as UTF-8",
			"not valid UTF-8, systemd ignores such a line")
	}
}

// invalidUTF8 is the offset of the first byte that is not UTF-8.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r != utf8.RuneError {
			continue
		}
		if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
			return i
		}
	}
	return len(s)
}

// warnSwallowed tells of a section header that has become a part of a value.
func (p *lexer) warnSwallowed(line string, n, col int) {
	if _, ok := header(line); ok {
		p.warnf(n, col, `remove the \ at the end of that line`,
			"section header is taken as a part of line %d, which is continued", p.pieces[0].line)
	}
}

// logical parses a section header or an assignment.
func (p *lexer) logical(text string, pieces []piece) {
	if p.bad {
		return
	}
	if name, ok := header(text); ok {
		p.open(name, pieces[0])
		return
	}
	at := pieces[0]
	if text[0] == '[' {
		p.badHeader(text, at)
		return
	}
	eq := strings.IndexByte(text, '=')
	switch {
	case eq < 0:
		p.errorf(at.line, at.col, "a comment starts with #",
			"expected KEY=VALUE, [SECTION] or a comment")
	case eq == 0:
		p.errorf(at.line, at.col, "write KEY=VALUE", "missing key before =")
	case !p.inside:
		if !p.outside {
			p.errorf(at.line, at.col, "open a section first, such as [Container]",
				"assignment before the first section")
		}
		p.outside = true
	default:
		p.assign(text, eq, pieces)
	}
}

// badHeader tells of a line that begins like a section header. Podman would
// read "[a=b" as an assignment; systemd refuses the file. The section is
// opened if its name can be told, so that what follows is not taken for a
// part of the section before.
func (p *lexer) badHeader(text string, at piece) {
	name, _, closed := strings.Cut(text[1:], "]")
	hint := "write [" + name + "]"
	if closed {
		hint = "a comment needs a line of its own"
	}
	p.errorf(at.line, at.col, hint, "invalid section header")
	if name = strings.TrimSpace(name); validName(name) {
		p.enter(name, at)
	}
}

// header is the name in a section header. Space after the bracket is allowed,
// space inside belongs to the name.
func header(line string) (name string, ok bool) {
	if line[0] != '[' {
		return "", false
	}
	name, after, ok := strings.Cut(line[1:], "]")
	return name, ok && strings.Trim(after, " \t") == ""
}

// open starts a section.
func (p *lexer) open(name string, at piece) {
	switch {
	case name == "":
		p.errorf(at.line, at.col, "write [Container], [ScaleToZero] or the like", "section without a name")
	case !validName(name):
		p.errorf(at.line, at.col, "write [Container], [ScaleToZero] or the like", "invalid section name %q", name)
	default:
		p.enter(name, at)
	}
}

func validName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == '[' || unicode.IsControl(r) })
}

func (p *lexer) enter(name string, at piece) {
	p.section, p.inside = name, true
	p.file.Sections = append(p.file.Sections, Section{name, p.pos(at, 0)})
}

// assign adds an entry. The text is never empty before eq.
func (p *lexer) assign(text string, eq int, pieces []piece) {
	value := strings.TrimLeftFunc(text[eq+1:], unicode.IsSpace)
	start := len(text) - len(value)
	value = strings.TrimRightFunc(value, unicode.IsSpace)
	e := Entry{
		Section:  p.section,
		Key:      strings.TrimRightFunc(text[:eq], unicode.IsSpace),
		Pos:      p.pos(pieces[0], 0),
		ValuePos: p.place(pieces, start),
	}
	if strings.HasSuffix(value, `\`) {
		// Only at the end of the file. In a unit it would continue into
		// whatever the next line is.
		p.errorf(e.Pos.Line, e.Pos.Col, `remove the \`, "value of %s= ends in a backslash", e.Key)
		value = strings.TrimRightFunc(value, func(r rune) bool { return r == '\\' || unicode.IsSpace(r) })
	}
	e.Value = value
	if len(pieces) > 1 {
		e.lines = &lineMap{start, pieces}
	}
	p.file.Entries = append(p.file.Entries, e)
}

func (p *lexer) pos(at piece, off int) Pos {
	return Pos{p.file.Path, at.line, at.col + off - at.off}
}

// place is where a byte of the logical line stands. A joint belongs to the
// piece before it.
func (p *lexer) place(pieces []piece, off int) Pos {
	return p.pos(find(pieces, off), off)
}

func find(pieces []piece, off int) piece {
	after := sort.Search(len(pieces), func(i int) bool { return pieces[i].off > off })
	return pieces[after-1]
}

// lineMap tells where the bytes of a continued value stand.
type lineMap struct {
	start  int // of the value in the logical line
	pieces []piece
}

// At is the place of a byte of the value, also when the value goes over
// several lines.
func (e Entry) At(offset int) Pos {
	pos := e.ValuePos
	if e.lines == nil {
		pos.Col += offset
		return pos
	}
	off := e.lines.start + offset
	at := find(e.lines.pieces, off)
	pos.Line, pos.Col = at.line, at.col+off-at.off
	return pos
}

func (p *lexer) errorf(line, col int, hint, format string, args ...any) {
	if p.room(line) {
		p.ds.Errorf(Pos{p.file.Path, line, col}, hint, format, args...)
	}
}

func (p *lexer) warnf(line, col int, hint, format string, args ...any) {
	if p.room(line) {
		p.ds.Warnf(Pos{p.file.Path, line, col}, hint, format, args...)
	}
}

// room reports whether one more problem may be told. The last one says that
// there are more, and is an error whatever they are.
func (p *lexer) room(line int) bool {
	if len(p.ds) == maxProblems {
		p.ds.Errorf(Pos{File: p.file.Path, Line: line}, "repair these first", "too many problems in this file")
	}
	return len(p.ds) < maxProblems
}

// Text is the file in canonical form: every section once, in the order in
// which they are first opened, every assignment on one line, no comments. It
// holds nothing that Podman 4.9.5's parser stumbles over: that one hangs on a
// continued line that is indented, on space after the backslash and on an
// empty line after it, and does not know ";" comments.
func (f *File) Text() []byte {
	var order []string
	bySection := make(map[string][]int)
	see := func(name string) {
		if _, ok := bySection[name]; !ok {
			bySection[name] = nil
			order = append(order, name)
		}
	}
	for _, s := range f.Sections {
		see(s.Name)
	}
	size := 0
	for i, e := range f.Entries {
		see(e.Section)
		bySection[e.Section] = append(bySection[e.Section], i)
		size += len(e.Key) + len(e.Value) + len("=\n")
	}
	text := make([]byte, 0, size)
	for _, name := range order {
		text = append(text, "["+name+"]\n"...)
		for _, i := range bySection[name] {
			e := f.Entries[i]
			text = append(text, e.Key...)
			text = append(text, '=')
			text = append(text, e.Value...)
			text = append(text, '\n')
		}
	}
	return text
}
