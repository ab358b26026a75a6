package page

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// remembered is how many wakes are.
const remembered = 16

// Past is how long the last wakes took, in a file. The journal has it, too, but it is
// not for whoever serves clients to read.
type Past struct {
	path string
	mu   sync.Mutex
	took []time.Duration // the oldest first
}

// ReadPast reads the file, if there is one.
func ReadPast(path string) (*Past, error) {
	p := &Past{path: path}
	text, err := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if d, err := time.ParseDuration(strings.TrimSpace(line)); err == nil && d > 0 {
			p.took = append(p.took, d)
		}
	}
	p.took = p.took[max(0, len(p.took)-remembered):]
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return p, err
}

// Add remembers one more wake.
func (p *Past) Add(took time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, took.Round(time.Millisecond))
	p.took = p.took[max(0, len(p.took)-remembered):]
	var text strings.Builder
	for _, d := range p.took {
		text.WriteString(d.String() + "\n")
	}
	file, err := os.CreateTemp(filepath.Dir(p.path), "new-")
	if err != nil {
		return err
	}
	_, err = file.WriteString(text.String())
	if err = cmp.Or(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), p.path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// Usual is the median, 0 if nothing is remembered.
func (p *Past) Usual() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.took) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(p.took))[len(p.took)/2]
}
