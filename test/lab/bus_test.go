package lab

import "testing"

// Managers of each suite answer who waits for a state, without systemctl.
func TestAsk(t *testing.T) {
	m := New(t, Options{})
	for _, s := range m.Sessions() {
		for _, property := range []string{"ActiveState", "SubState", "InvocationID"} {
			if value, known := s.ask(t.Context(), "dbus.service", property); !known || value == "" {
				t.Errorf("%s: %s is %q, %v", s.Name, property, value, known)
			}
		}
	}
}
