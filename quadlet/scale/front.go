package scale

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Front is whom the proxy tells from clients by what they say first.
type Front struct {
	ByData       bool     // a connection is none before its first byte
	Probes       []string // globs of paths
	IgnoreAgents []string // globs of agents
	Page         bool     // browsers see one while the container starts
	PageFile     string   // another one than zerolet's own
}

// Fronted reports whether the proxy looks at the first bytes of clients: then it
// starts before the container does.
func (s *Spec) Fronted() bool {
	return s.Front.ByData || len(s.Front.Probes) > 0 || len(s.Front.IgnoreAgents) > 0 || s.Front.Page
}

func (s *Spec) wakeBy(value string) error {
	value, err := oneOf(value, "connection", "data")
	s.Front.ByData = value == "data"
	return err
}

// probe adds the paths of one Probe= line; an empty one forgets those before it.
func (s *Spec) probe(value string) error {
	if value == "" {
		s.Front.Probes = nil
		return nil
	}
	for glob := range strings.FieldsSeq(value) {
		if !strings.HasPrefix(glob, "/") {
			return &quadlet.ValueError{Message: fmt.Sprintf("%q is not a path", glob), Hint: "write it as it is in a request, such as /healthz"}
		}
		if i := strings.IndexFunc(glob, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }); i >= 0 {
			return &quadlet.ValueError{Offset: i, Message: "unexpected character in the path", Hint: "write it as %20 and the like"}
		}
		if err := checkGlob(glob); err != nil {
			return err
		}
		s.Front.Probes = append(s.Front.Probes, glob)
	}
	return nil
}

// ignoreAgent adds the agent of one IgnoreAgent= line, which may have spaces; an
// empty one forgets those before it.
func (s *Spec) ignoreAgent(value string) error {
	if value == "" {
		s.Front.IgnoreAgents = nil
		return nil
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return &quadlet.ValueError{Message: "unexpected character in the agent", Hint: "write * for what is not of ASCII"}
	}
	if err := checkGlob(value); err != nil {
		return err
	}
	s.Front.IgnoreAgents = append(s.Front.IgnoreAgents, value)
	return nil
}

func (s *Spec) waitingPage(value string) (err error) {
	s.Front.Page, err = ParseBool(value)
	return err
}

func (s *Spec) waitingPageFile(value string) error {
	if value != "" && !filepath.IsAbs(s.search.Expand(value)) {
		return &quadlet.ValueError{Message: fmt.Sprintf("%q is not an absolute path", value), Hint: "write it from the root on, such as /etc/zerolet/waiting.html"}
	}
	if strings.ContainsAny(value, ":\"\\") { // of BindReadOnlyPaths= (systemd.exec(5))
		return &quadlet.ValueError{Message: "unexpected character in the path", Hint: "give the file a name without colons, quotes and backslashes"}
	}
	s.Front.PageFile = value
	return nil
}

// PageFile is the file as [quadlet.Search.Expand] has it.
func (s *Spec) PageFile() string { return s.search.Expand(s.Front.PageFile) }

// checkPageFile warns of a page that nobody sees.
func (s *Spec) checkPageFile(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if !s.Front.Page {
		ds.Warnf(e.Pos, "write WaitingPage=yes, too", "WaitingPageFile= has no effect without WaitingPage=yes")
	}
	if s.search.Manager == quadlet.System && strings.HasPrefix(s.PageFile(), "/root/") {
		ds.Errorf(e.Pos, "put it where everybody may read it, such as /etc/zerolet", "the proxy is nobody in particular, and sees no %s", s.PageFile())
	}
}

func (s *Spec) explainPage() string {
	what := "a page"
	if s.Front.PageFile != "" {
		what = "the page of " + s.Front.PageFile
	}
	return when(s.Front.Page, "while it starts, a browser sees %s, which comes again by itself", what)
}

func checkGlob(glob string) error {
	if _, err := path.Match(glob, ""); err != nil {
		return &quadlet.ValueError{Message: fmt.Sprintf("%q is not a glob", glob), Hint: `write \[ for a bracket: [a-z] is one of these characters, * any number of any, ? any one`}
	}
	return nil
}

// isStream reports whether clients have connections, with bytes in order.
func isStream(l Listener) bool { return l.Protocol != "udp" }

// checkFront is for all keys that are about connections.
func (s *Spec) checkFront(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if s.Fronted() && !slices.ContainsFunc(s.Listen, isStream) {
		ds.Errorf(e.Pos, "leave it out", "%s= is about connections, and there are only datagrams: each wakes the container", e.Key)
	}
}

// speaksFirst are ports on which a client waits for the server's first word: FTP,
// SSH, SMTP, POP3, IMAP, NNTP, MySQL, VNC, and their like.
var speaksFirst = map[uint16]string{
	21: "FTP", 22: "SSH", 25: "SMTP", 110: "POP3", 119: "NNTP", 143: "IMAP", 587: "SMTP", 2222: "SSH",
	3306: "MySQL", 4190: "ManageSieve", 5900: "VNC",
}

// checkHeads warns of ports on which nobody says a request that can be read.
func (s *Spec) checkHeads(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.checkFront(e, ds)
	for _, l := range s.Listen {
		switch what := speaksFirst[l.ContainerPort]; {
		case !s.Fronted() || !isStream(l):
		case what != "" && !s.Front.ByData:
			ds.Warnf(e.Pos, "leave it out if it does",
				"a server of %s (container port %d) speaks first: each of its clients waits for that for a second longer", what, l.ContainerPort)
		case l.ContainerPort == 443 || l.ContainerPort == 8443:
			ds.Warnf(e.Pos, "let a reverse proxy before it have the certificate",
				"clients of container port %d speak TLS, which hides what they ask for: %s= knows none of them", l.ContainerPort, e.Key)
		}
	}
}

// checkProbes warns of paths that people ask for, and of those that nobody does.
func (s *Spec) checkProbes(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.checkHeads(e, ds)
	for _, line := range s.settings(e.Key) {
		for glob := range strings.FieldsSeq(line.Value) {
			root, _ := path.Match(glob, "/")
			switch {
			case root:
				ds.Warnf(line.Pos, "name a path that only monitors ask for, such as /healthz, or the monitor with IgnoreAgent=",
					"Probe=%s is what browsers ask for, too: while the container sleeps, people see zerolet's answer, and wake nothing", glob)
			case strings.Contains(glob, ",/"):
				ds.Warnf(line.Pos, "write a space between two paths", "Probe=%s is one path, with a comma in it", glob)
			case query.MatchString(glob):
				ds.Warnf(line.Pos, "leave out what comes after the path", "Probe=%s matches no query: ? is any one character of a path", glob)
			case strings.Contains(glob, "**"):
				ds.Warnf(line.Pos, "write one glob for each depth, such as /*/up /*/*/up", "in Probe=%s a star is all but /, and two of them are no more", glob)
			}
		}
	}
}

// query is the end of a path with one, as somebody may write it.
var query = regexp.MustCompile(`\?[a-zA-Z_][^/]*$`)

// checkAgents warns of agents that people have, and of those that nobody has.
func (s *Spec) checkAgents(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.checkHeads(e, ds)
	for _, line := range s.settings(e.Key) {
		glob := line.Value
		switch {
		case isBrowser(glob):
			ds.Warnf(line.Pos, "name the monitor, such as *UptimeRobot*",
				"IgnoreAgent=%s is what browsers are called, too: while the container sleeps, people see zerolet's answer, and wake nothing", glob)
		case strings.HasPrefix(glob, `"`) && strings.HasSuffix(glob, `"`):
			ds.Warnf(line.Pos, "write it without them", "the quotes are a part of IgnoreAgent=%s", glob)
		case !strings.ContainsAny(glob, "*?[/"):
			ds.Warnf(line.Pos, "write IgnoreAgent=*"+glob+"*", "IgnoreAgent=%s is no agent with a version, such as %[1]s/1.2", glob)
		}
	}
}

// isBrowser reports whether a glob is that of one that people use.
func isBrowser(glob string) bool {
	flat := func(text string) string { return strings.ToLower(strings.ReplaceAll(text, "/", "")) }
	return slices.ContainsFunc([]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
	}, func(agent string) bool {
		is, _ := path.Match(flat(glob), flat(agent))
		return is
	})
}

// checkWakeBy warns of servers whose clients would never say anything.
func (s *Spec) checkWakeBy(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.checkFront(e, ds)
	if !s.Front.ByData {
		return
	}
	for _, l := range s.Listen {
		if what := speaksFirst[l.ContainerPort]; what != "" && isStream(l) {
			ds.Warnf(e.Pos, "leave WakeBy= out if it does",
				"a server of %s (container port %d) speaks first: its clients wait for that, say nothing, and are closed", what, l.ContainerPort)
		}
	}
}

func (s *Spec) explainWakeBy() string {
	return when(s.Front.ByData, "a connection wakes it, and counts, from its first byte on; one that says nothing is closed after a minute")
}

func (s *Spec) explainProbes() string {
	return when(len(s.Front.Probes) > 0, "a GET of %s is answered 200 while it sleeps, wakes nothing and is no use", strings.Join(s.Front.Probes, " "))
}

func (s *Spec) explainIgnoreAgents() string {
	return when(len(s.Front.IgnoreAgents) > 0, "so is one whose User-Agent is %s", strings.Join(s.Front.IgnoreAgents, ", or "))
}
