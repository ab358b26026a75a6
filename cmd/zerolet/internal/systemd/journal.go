package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// The MESSAGE_ID of what systemd itself tells of a unit (sd-messages.h).
const (
	Starting = "7d4958e842da4a758f6c1cdc7b36dcc5"
	Started  = "39f53479d3a045ac8e11786248231fbf"
	Stopping = "de5b426a63be47a7b6ac3eaac82e2f6f"
	Stopped  = "9d1aaa27d60140bd96365438aad20286"
	Failed   = "d9b373ed55a64feb8242e02dbe79a49c" // with which result
	NoStart  = "be02cf6855d2428ba40df7e9d022f03d" // the job failed
	Skipped  = "0e4284a0caca4bfc81c0bb6786972673" // for its ExecCondition=
)

// Entry is an entry of the journal: fields by their names.
type Entry map[string]any

// Text is a field, "" if it is not there or has several values. What is not
// plain text, as with colours in it, journalctl gives as a list of bytes
// (journalctl(1), "json").
func (e Entry) Text(field string) string {
	switch v := e[field].(type) {
	case string:
		return v
	case []any:
		raw := make([]byte, 0, len(v))
		for _, element := range v {
			b, ok := element.(float64)
			if !ok {
				return ""
			}
			raw = append(raw, byte(b))
		}
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return ""
}

// Number is a field, 0 if it is not a number.
func (e Entry) Number(field string) int64 {
	n, err := strconv.ParseInt(e.Text(field), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Time is when the journal got it.
func (e Entry) Time() time.Time { return time.UnixMicro(e.Number("__REALTIME_TIMESTAMP")) }

// About is the unit that systemd's own message is about. Others may say so, too.
func (e Entry) About() string {
	if unit := e.Text("USER_UNIT"); unit != "" {
		return unit
	}
	return e.Text("UNIT")
}

// Query says which entries of the journal are wanted, and what of them.
type Query struct {
	Since  time.Time // zero: all
	Until  time.Time // to the microsecond: what comes while journalctl reads is left out; zero: all
	Newest bool      // first; else the oldest
	Last   int       // so many of the newest; 0: all
	Fields []string  // besides when it came, what it is and who has sent it
	// Match are alternatives of FIELD=VALUE terms, as journalctl(1) has them:
	// terms of one field are alternatives, too, of different ones they go
	// together.
	Match [][]string
}

func (q Query) arguments() []string {
	fields := append([]string{"MESSAGE_ID", "_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT"}, q.Fields...)
	// --all: long messages, too.
	args := []string{"--quiet", "--no-pager", "--all", "--output=json", "--output-fields=" + strings.Join(fields, ",")}
	if !q.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d", q.Since.Unix()))
	}
	if q.Newest {
		args = append(args, "--reverse")
	}
	if q.Last > 0 {
		args = append(args, fmt.Sprintf("--lines=%d", q.Last))
	}
	for i, terms := range q.Match {
		if i > 0 {
			args = append(args, "+")
		}
		args = append(args, terms...)
	}
	return args
}

// Journal gives the entries to use, one after the other, until that is false:
// then nobody reads the rest.
func (m Manager) Journal(ctx context.Context, q Query, use func(Entry) bool) error {
	enough, stop := context.WithCancel(ctx)
	defer stop()
	cmd := command(enough, append([]string{"journalctl"}, q.arguments()...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	done, err := decode(out, q.until(use))
	if done || err != nil {
		stop()
	}
	ended := cmd.Wait()
	switch text := strings.TrimSpace(stderr.String()); {
	case ctx.Err() != nil:
		return ctx.Err()
	case done || err != nil:
		return err
	case ended != nil && text != "": // it fails without a word where nothing matches
		return fmt.Errorf("journalctl: %s", text)
	}
	return nil
}

// until leaves out what is newer than is wanted.
func (q Query) until(use func(Entry) bool) func(Entry) bool {
	return func(e Entry) bool {
		return !q.Until.IsZero() && e.Time().After(q.Until) || use(e)
	}
}

// decode reports whether there was enough before the end.
func decode(out io.Reader, use func(Entry) bool) (enough bool, err error) {
	for decoder := json.NewDecoder(out); ; {
		var e Entry
		switch err := decoder.Decode(&e); {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, fmt.Errorf("journalctl: %w", err)
		case !use(e):
			return true, nil
		}
	}
}

// Told matches what the manager itself says about units. Fields that begin with
// "_" nobody can set (systemd.journal-fields(7)), and a container is not in the
// manager's own cgroup. What a process says that the manager has forked for a
// unit is among what comes From that unit.
func (m Manager) Told(units ...string) []string {
	field, terms := "UNIT=", []string{"_UID=0", "_SYSTEMD_UNIT=init.scope"}
	if m.User {
		field, terms = "USER_UNIT=", []string{"_UID=" + strconv.Itoa(m.UID), "_SYSTEMD_USER_UNIT=init.scope"}
	}
	for _, u := range units {
		terms = append(terms, field+u)
	}
	return terms
}

// FromManager reports whether the manager itself has written the entry, among
// those that were [Manager.Told] or came [Manager.From] other units.
func (m Manager) FromManager(e Entry) bool { return m.Sender(e) == "init.scope" }

// Sender is the unit of the process that has written the entry, init.scope if
// that is the manager.
func (m Manager) Sender(e Entry) string {
	if m.User {
		return e.Text("_SYSTEMD_USER_UNIT")
	}
	return e.Text("_SYSTEMD_UNIT")
}

// From matches what the processes of units say.
func (m Manager) From(units ...string) []string {
	field, terms := "_SYSTEMD_UNIT=", []string(nil)
	if m.User {
		field, terms = "_SYSTEMD_USER_UNIT=", []string{"_UID=" + strconv.Itoa(m.UID)}
	}
	for _, u := range units {
		terms = append(terms, field+u)
	}
	return terms
}

// FromNobody matches what the manager's user said in services of these names and had
// ended before journald looked for the unit (client_context_read_cgroup in
// journald-context.c). It has the stream's identifier then, which Quadlet makes the
// unit's name (SyslogIdentifier=%N). Nobody else can say so: _UID= is the kernel's word.
func (m Manager) FromNobody(units ...string) []string {
	terms := []string{"_UID=0", "_TRANSPORT=stdout"}
	if m.User {
		terms[0] = "_UID=" + strconv.Itoa(m.UID)
	}
	for _, u := range units {
		terms = append(terms, "SYSLOG_IDENTIFIER="+strings.TrimSuffix(u, ".service"))
	}
	return terms
}

// Nobodys is the service of an entry whose unit journald has not found, among those
// that came [Manager.FromNobody], or else empty.
func (m Manager) Nobodys(e Entry) string {
	if name := e.Text("SYSLOG_IDENTIFIER"); m.Sender(e) == "" && name != "" {
		return name + ".service"
	}
	return ""
}
