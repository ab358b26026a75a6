package reach

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// An app with a full backlog answers no SYN; that is known before the kernel's own
// second is over, and who is in a hurry does not wait for it.
func TestDialFullBacklog(t *testing.T) {
	l, _ := proxytest.FullBacklog(t)
	if _, err := DialOne(ownNamespace{}, proxytest.AddrOf(l), netip.AddrPort{}); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Fatalf("a full backlog gives %v", err)
	}
	proxytest.Eventually(t, "who is in a hurry does not wait", func() bool { // a busy machine may stop this test meanwhile
		began := time.Now()
		if _, err := DialOne(Prompt(ownNamespace{}), proxytest.AddrOf(l), netip.AddrPort{}); !errors.Is(err, errSlow) {
			t.Fatalf("a full backlog in a hurry gives %v", err)
		}
		return time.Since(began) < dialAttempt
	})
}
