package proxy

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Passed are the files that systemd has passed, by the names that it gives them,
// each once: what the process starts takes none of them for its own
// (sd_listen_fds(3)).
func Passed() []*os.File {
	const first = 3 // SD_LISTEN_FDS_START
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // fails for no such name
	}
	if pid != os.Getpid() {
		return nil
	}
	var files []*os.File
	for i := range count {
		name := strconv.Itoa(first + i)
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		unix.CloseOnExec(first + i)
		files = append(files, os.NewFile(uintptr(first+i), name))
	}
	return files
}
