// Package head reads the head of an HTTP request: as much as it takes to tell
// whether the proxy may answer it in the app's place. It takes what is beyond
// doubt, and knows nothing else: whatever two readers could understand in two ways
// is for the app to read (docs/internals/security.md).
package head

import (
	"bufio"
	"bytes"
	"errors"
	"net/textproto"
	"path"
	"strings"
)

// Max is how long a head may be. More than the kernel takes for who reads nothing
// would never come (tcp(7), tcp_rmem).
const Max = 32 << 10

var (
	// ErrIncomplete says that the end of the head has not come yet.
	ErrIncomplete = errors.New("incomplete")
	// ErrOther says that these bytes are not a request that could be answered
	// here, whatever follows.
	ErrOther = errors.New("for the app")
)

// Polling is the field with which the page that a browser is shown asks whether the
// app is there. It does so by OPTIONS, so that the app does nothing if it is the one to
// be asked.
const Polling = "Zerolet-Waiting"

// Request is one without a body: a GET or a HEAD that asks for nothing but an
// answer, or the page's question.
type Request struct {
	Method    string
	Target    string // as it was sent
	Path      string // of it, without the query
	Agent     string // the User-Agent, "" without one
	Length    int    // of the head, with the empty line at its end
	Last      bool   // no other one follows on the connection
	Navigates bool   // a browser is to show the answer as a page
	Polls     bool   // it is the page that asks
}

// Bare is what it takes to answer the request: an answer may take its time, and the
// head is long.
func (r Request) Bare() Request {
	return Request{Method: strings.Clone(r.Method), Length: r.Length, Last: r.Last, Polls: r.Polls}
}

// Read finds a request at the beginning of the bytes.
func Read(b []byte) (Request, error) {
	if !mayBegin(b) {
		return Request{}, ErrOther
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 && len(b) < Max && isPlain(b) {
		return Request{}, ErrIncomplete
	}
	if end < 0 || end+4 > Max || !isPlain(b[:end+4]) {
		return Request{}, ErrOther
	}
	r := Request{Length: end + len("\r\n\r\n")}
	line, fields, _ := bytes.Cut(b[:r.Length], []byte("\r\n"))
	minor, ok := r.readLine(string(line))
	if !ok {
		return Request{}, ErrOther
	}
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(fields))).ReadMIMEHeader()
	if err != nil || !r.readFields(header, minor) {
		return Request{}, ErrOther
	}
	return r, nil
}

// mayBegin reports whether the bytes may be the beginning of such a request.
func mayBegin(b []byte) bool {
	for _, begin := range []string{"GET /", "HEAD /", "OPTIONS /"} {
		if n := min(len(b), len(begin)); string(b[:n]) == begin[:n] {
			return true
		}
	}
	return false
}

// isPlain reports whether lines end with CR LF alone, none goes on in the next one
// (RFC 9112, 5.2), and no byte is one that readers drop or change.
func isPlain(b []byte) bool {
	for i, c := range b {
		after := func(want byte) bool { return i > 0 && b[i-1] == want }
		switch {
		case c == '\n' && !after('\r'), c != '\n' && after('\r'):
			return false
		case (c == ' ' || c == '\t') && after('\n'):
			return false
		case c < ' ' && c != '\r' && c != '\n' && c != '\t', c == 0x7f:
			return false
		}
	}
	return true
}

// readLine reads the request line (RFC 9112, 3) and returns the minor version.
func (r *Request) readLine(line string) (minor byte, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || strings.ContainsFunc(parts[1], func(c rune) bool { return c <= ' ' || c > '~' || c == '#' }) {
		return 0, false
	}
	r.Method, r.Target = parts[0], parts[1]
	r.Path, _, _ = strings.Cut(r.Target, "?")
	version, ok := strings.CutPrefix(parts[2], "HTTP/1.")
	if !ok || version != "0" && version != "1" {
		return 0, false
	}
	return version[0], true
}

// forApp are the fields with which a request is more than a question: it has a
// body, or wants another protocol.
var forApp = []string{"Content-Length", "Transfer-Encoding", "Trailer", "Upgrade", "Http2-Settings", "Expect"}

func (r *Request) readFields(h textproto.MIMEHeader, minor byte) bool {
	for name := range h { // textproto keeps those that are none
		if strings.ContainsFunc(name, isNoToken) {
			return false
		}
	}
	for _, name := range forApp {
		if len(h[name]) > 0 && !isZero(name, h[name]) {
			return false
		}
	}
	if minor == '1' && len(h["Host"]) != 1 || len(h["User-Agent"]) > 1 {
		return false
	}
	r.Agent = h.Get("User-Agent")
	r.Last = minor == '0'
	for _, value := range h["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.TrimSpace(option)) {
			case "upgrade":
				return false
			case "close":
				r.Last = true
			}
		}
	}
	r.Navigates = r.Method == "GET" && accepts(h["Accept"]) && isNavigation(h)
	r.Polls = r.Method == "OPTIONS" && h.Get(Polling) != ""
	return r.Polls || r.Method != "OPTIONS"
}

// isNoToken reports whether a name has no such character in it (RFC 9110, 5.6.2).
func isNoToken(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// isZero reports whether a field says that there is no body.
func isZero(name string, values []string) bool {
	return name == "Content-Length" && len(values) == 1 && values[0] == "0"
}

// accepts reports whether a page is wanted by name: who takes anything, such as
// curl, is not one that shows it.
func accepts(values []string) bool {
	for _, value := range values {
		for media := range strings.SplitSeq(value, ",") {
			kind, _, _ := strings.Cut(media, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/html") {
				return true
			}
		}
	}
	return false
}

// isNavigation takes a browser's word (Fetch Metadata, W3C), where it gives one. One
// that fetches ahead shows nothing yet.
func isNavigation(h textproto.MIMEHeader) bool {
	mode := h.Get("Sec-Fetch-Mode")
	return (mode == "" || mode == "navigate") && h.Get("Sec-Purpose") == "" && h.Get("X-Requested-With") == ""
}

// MatchPath reports whether one of the globs is that of the path. As in a shell, a
// star stands for no slash.
func MatchPath(globs []string, p string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(glob, p); ok && err == nil {
			return true
		}
	}
	return false
}

// MatchAgent reports whether one of the globs is that of the agent, in any case. A
// star stands for a slash, too: it is no path.
func MatchAgent(globs []string, agent string) bool {
	for _, glob := range globs {
		if ok, err := path.Match(flat(glob), flat(agent)); ok && err == nil && agent != "" {
			return true
		}
	}
	return false
}

// flat has no slash, and no byte that could be one instead: a head has none below
// a space.
func flat(s string) string { return strings.ToLower(strings.ReplaceAll(s, "/", "\x01")) }

// CheckGlob is the error of a glob that matches nothing for what it is.
func CheckGlob(glob string) error {
	_, err := path.Match(glob, "")
	return err
}
