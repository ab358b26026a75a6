package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

// The MESSAGE_ID of what systemd itself tells of a unit (sd-messages.h).
const (
	Starting = "7d4958e842da4a758f6c1cdc7b36dcc5"
	Started  = "39f53479d3a045ac8e11786248231fbf"
	Stopped  = "9d1aaa27d60140bd96365438aad20286"
	Failed   = "d9b373ed55a64feb8242e02dbe79a49c" // with which result
	NoStart  = "be02cf6855d2428ba40df7e9d022f03d" // the job failed
)

// Entry is an entry of the journal: fields by their names.
type Entry map[string]any

// Text is a field, "" if it is not there or not text.
func (e Entry) Text(field string) string {
	s, _ := e[field].(string)
	return s
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

// Query says which entries of the journal are wanted.
type Query struct {
	Since time.Time // zero: all
	Last  int       // so many of the newest; 0: all
	// Match are alternatives of FIELD=VALUE terms, as journalctl(1) has them:
	// terms of one field are alternatives, too, of different ones they go
	// together.
	Match [][]string
}

// Journal are the entries in the order of time.
func (m Manager) Journal(ctx context.Context, q Query) ([]Entry, error) {
	args := []string{"journalctl", "--quiet", "--no-pager", "--output=json"}
	if !q.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d", q.Since.Unix()))
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
	out, err := list(ctx, args...)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	decoder := json.NewDecoder(bytes.NewReader([]byte(out)))
	for {
		var e Entry
		if err := decoder.Decode(&e); err == io.EOF {
			return entries, nil
		} else if err != nil {
			return nil, fmt.Errorf("journalctl: %w", err)
		}
		entries = append(entries, e)
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
