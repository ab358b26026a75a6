package watch

import (
	"os"
	"testing"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

func TestMain(m *testing.M) { os.Exit(proxytest.Main(m)) }
