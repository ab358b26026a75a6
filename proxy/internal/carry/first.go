package carry

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// newcomer is a socket on which nothing has come yet. A loop that has it can carry it
// from there on without another system call.
type newcomer struct {
	*sock.Socket
	come func()
	late *time.Timer
}

// AwaitFirst calls come in the loop's goroutine once something has come on a socket,
// its end too, or when d is over, or all is cut. The loop has the socket until a pair
// of it begins, or until Remove.
func (l *Loop) AwaitFirst(s *sock.Socket, d time.Duration, come func()) error {
	n := &newcomer{Socket: s, come: come}
	s.Interest = unix.EPOLLIN // as a pair's that begins
	n.late = time.AfterFunc(d, func() { l.Post(func() { l.meet(n) }) })
	err := l.Add(n, s)
	if err != nil {
		s.Interest = 0
		n.late.Stop()
	}
	return err
}

// meet is for the loop to call.
func (l *Loop) meet(n *newcomer) {
	l.mu.Lock()
	there := l.carried[int32(n.FD)] == carrier(n)
	l.mu.Unlock()
	if there {
		n.Cut()
	}
}

// Ready is of carrier.
func (n *newcomer) Ready(*Loop, int, uint32) { n.Cut() }

// Cut is of carrier.
func (n *newcomer) Cut() {
	n.late.Stop()
	n.come()
}
