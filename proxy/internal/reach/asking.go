package reach

import (
	"errors"
	"sync"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Entry is what root's proxy asks about its container where it may not look itself.
// It is nil for a user's proxy, which may.
type Entry struct {
	ask   func(func(*helper) error) error
	rest  func(bool)
	Close func()
}

// NewEntry is that by which the source goes inside, or one that stays outside.
func NewEntry(cfg wire.Config, source Source) *Entry {
	inside, ok := source.(containerNamespace)
	switch {
	case cfg.Entry != "" && ok:
		return &Entry{ask: inside.ask, rest: inside.rest, Close: func() {}} // the source closes it
	case cfg.EntryOutside != "":
		o := &outside{entry: entry{path: cfg.EntryOutside}}
		return &Entry{ask: o.ask, rest: o.rest, Close: o.entry.close}
	}
	return nil
}

func (e *Entry) payload(i int) (p *Payload, err error) {
	err = e.ask(func(h *helper) error {
		p, err = h.payload(i)
		return err
	})
	return p, err
}

// outside is an entry by which nobody goes inside.
type outside struct {
	mu    sync.Mutex
	entry entry
}

func (o *outside) ask(f func(*helper) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.entry.connect(); err != nil {
		return err
	}
	err := f(newHelper(o.entry.conn))
	if errors.Is(err, errHelper) {
		o.entry.close() // the next one is another's
	}
	return err
}

// rest leaves an entry that is gone to who needs the next one.
func (o *outside) rest(rests bool) {
	o.mu.Lock()
	there := o.entry.conn != nil
	o.mu.Unlock()
	if there {
		_ = o.ask(func(h *helper) error { return h.rest(rests) })
	}
}
