package sock

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A dump of sockets that the kernel cannot tell of ends at once with an error
// (netlink_dump_done() in net/netlink/af_netlink.c). It is not "none".
func TestDumpFails(t *testing.T) {
	done := func(errno unix.Errno) []byte {
		b := make([]byte, unix.SizeofNlMsghdr+4)
		binary.NativeEndian.PutUint32(b, uint32(len(b)))
		binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_DONE)
		binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr:], uint32(-int32(errno)))
		return b
	}
	if end, err := parseDiag(done(0), nil); !end || err != nil {
		t.Errorf("an empty dump: %v, %v", end, err)
	}
	if end, err := parseDiag(done(unix.ENOENT), nil); !end || !errors.Is(err, unix.ENOENT) {
		t.Errorf("a dump that failed: %v, %v", end, err)
	}
}
