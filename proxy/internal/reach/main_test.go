package reach

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// The environment of a test binary that is started as something else.
const (
	envApp    = "ZEROLET_TEST_APP"    // be an app inside a namespace, listening here
	envListen = "ZEROLET_TEST_LISTEN" // have this descriptor listen, and exit
)

// TestMain builds the real program, and lets the test binary be the helper and
// the app inside a namespace.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == HelperArg {
		os.Exit(RunHelper())
	}
	if addr := os.Getenv(envApp); addr != "" {
		os.Exit(namespaceApp(addr))
	}
	if fd, err := strconv.Atoi(os.Getenv(envListen)); err == nil {
		if err := unix.Listen(fd, 1); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(proxytest.Main(m))
}
