package reliability

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// Three services of which one is awake at a time, and clients of all of them: each
// is answered, however late it speaks once it is connected, and two are never up at
// once. The app has a lock, so that a second one would fail to start.
func TestSwapsUnderLoad(t *testing.T) {
	swaps := 10
	if *soak {
		swaps = 200 // half of them as the user
	}
	bothManagers(t, swaps, func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		const services = 3
		app := installApp(h)
		hears := []string{"", "WakeBy=data", "Probe=/up"}
		rival := func(i int) string { return fmt.Sprintf("rival%d", i) }
		for i := range services {
			dropIn(h, rival(i)+".service", "[Service]", "Type=exec", "ExecStart=", "ExecStop=", "ExecStopPost=", "Delegate=no",
				"ExecStart=flock --nonblock --conflict-exit-code 99 --no-fork %t/gpu unshare --map-root-user --net sh -c 'ip link set lo up && echo $$$$ >%t/%N.pid && exec "+app+" -http :80'",
				"ExecStopPost=rm -f %t/%N.pid")
			h.Declare(rival(i), "Image=localhost/none", fmt.Sprintf("PublishPort=%d:80", port(h, i)), "[ScaleToZero]", "IdleTimeout=infinity", "Exclusive=gpu", hears[i])
		}
		ctx, cancel := context.WithTimeout(h.Context(), *limit)
		defer cancel()
		var mu sync.Mutex
		starts, asked, worst := make(map[string]bool), 0, time.Duration(0)
		var all sync.WaitGroup
		for i := range services * 2 {
			own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
			all.Go(func() {
				for left.Load() > 0 && ctx.Err() == nil {
					began := time.Now()
					id, err := askLate(h, port(h, i%services), time.Duration(own.Int64N(int64(200*time.Millisecond))))
					mu.Lock()
					if errors.Is(err, errLate) {
						h.Log(err)
					} else if err != nil {
						h.Errorf("a client of %s: %v", rival(i%services), err)
					} else if asked++; !starts[id] {
						starts[id] = true
						left.Add(-1)
					}
					worst = max(worst, time.Since(began))
					mu.Unlock()
					time.Sleep(time.Duration(own.Int64N(int64(100 * time.Millisecond))))
				}
			})
		}
		all.Wait()
		if left.Load() > 0 {
			h.Errorf("%d swaps are left\n%s", left.Load(), h.LastJournal())
		}
		for i := range services {
			if contains(h, rival(i)+".service", "status=99") {
				h.Errorf("%s was started beside another one", rival(i))
			}
			h.Must(h.T, "zerolet", "sleep", "--force", rival(i))
		}
		h.Logf("%d starts, %d requests, longest wait %s", len(starts), asked, worst.Round(time.Millisecond))
	})
}

// errLate is of who says nothing for so long that it may be closed, which the machine
// can do to any client.
var errLate = errors.New("spoke late")

// askLate is one request of a client who is connected for a while before it speaks.
func askLate(h *harness.Host, port int, silence time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), harness.Patience)
	defer cancel()
	began := time.Now() // whoever is stopped once it is connected speaks late, too
	c, err := h.M.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	time.Sleep(silence) // the load, not a wait
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
	if time.Since(began) > time.Second {
		return "", errLate
	}
	if err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	return startID(r)
}

// startID is what the app answers.
func startID(r *http.Response) (string, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// askOnce is one request of a client who stays for nothing else.
func askOnce(h *harness.Host, port int, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	r, err := h.M.HTTP().Do(req)
	if err != nil {
		return "", err
	}
	return startID(r)
}
