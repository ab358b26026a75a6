package lab

import (
	"testing"
	"time"
)

// Managers of each suite answer who waits for a state, without systemctl.
func TestAsk(t *testing.T) {
	m := New(t, Options{})
	for _, s := range m.Sessions() {
		// The user's bus starts with the first who comes, and the manager comes to it after that.
		s.WaitFor(t, time.Minute, "the manager is on its bus", func() (bool, error) {
			_, known := s.ask(t.Context(), "dbus.service", "ActiveState")
			return known, nil
		})
		for _, property := range []string{"ActiveState", "SubState", "InvocationID"} {
			if value, known := s.ask(t.Context(), "dbus.service", property); !known || value == "" {
				t.Errorf("%s: %s is %q, %v", s.Name, property, value, known)
			}
		}
	}
}
