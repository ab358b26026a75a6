package main

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// deedsReport is what wake --json and sleep --json print; docs/json.md describes it.
type deedsReport struct {
	Version  int    `json:"version"`
	Services []deed `json:"services"`
}

// deed is what was done to one service. Nothing is begun after one has failed.
type deed struct {
	Name    string  `json:"name"`
	Result  string  `json:"result"`
	Message string  `json:"message"`
	Seconds float64 `json:"seconds,omitempty"`
	Hint    string  `json:"hint,omitempty"`
}

// The results of deeds.
const (
	nowAwake  = "awake"
	nowAsleep = "asleep"
	asBefore  = "unchanged"
	notDone   = "failed"
	isBusy    = "busy" // it is in use
)

// each does something to services, one after the other.
func (c *call) each(services []*service.Service, do func(*service.Service) error) (int, error) {
	status := exitOK
	for _, s := range services {
		err := do(s)
		if err == nil {
			continue
		}
		if !c.json {
			return exitError, err
		}
		status, c.deeds = exitError, append(c.deeds, undone(s.Name, err))
		break
	}
	if !c.json {
		return status, nil
	}
	return status, c.printJSON(deedsReport{1, append([]deed{}, c.deeds...)})
}

func undone(name string, err error) deed {
	d := deed{Name: name, Result: notDone, Message: err.Error()}
	var f failure
	if errors.As(err, &f) {
		d.Hint = f.hint
	}
	if errors.As(err, &inUse{}) {
		d.Result = isBusy
	}
	return d
}

// tell says what was done: at once, or with all the others as JSON.
func (c *call) tell(d deed) error {
	if c.json {
		c.deeds = append(c.deeds, d)
		return nil
	}
	return c.printf("%s: %s\n", d.Name, d.Message)
}

// printJSON prints one object, as every verb with --json does.
func (c *call) printJSON(object any) error { return writeJSON(c.stdout, object) }

func writeJSON(w io.Writer, object any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(object)
}
