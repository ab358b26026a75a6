package reach

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Who is in a container by podman-exec(1) is not its client. The processes are in the
// container's cgroup as the app's are; their parent is a conmon(8) that is not in the
// unit's, but where podman was called (tried on Podman 5.4, root and user). A
// health check is a session, too, and no use: Podman has its timer run it in a unit
// that has the container's ID for a name (createTimer() in
// libpod/healthcheck_linux.go).

// Session reports whether there is a session of podman-exec(1) in one of the units'
// containers. What cannot be seen in /proc is none.
func (u *Cgroup) Session() bool {
	dirs, err := u.own()
	if err != nil {
		return false // it is gone
	}
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			id, ok := strings.CutPrefix(e.Name(), payloadPrefix)
			if ok && hasSession(dir, filepath.Join(dir, e.Name()), id) {
				return true
			}
		}
	}
	return false
}

// hasSession reports whether a process in a payload has its parent outside of the
// unit, a conmon that is not there for a health check.
func hasSession(unit, payload, id string) bool {
	inUnit := make(map[int]bool)
	for _, pid := range processes(unit) {
		inUnit[pid] = true
	}
	for _, pid := range processes(payload) {
		parent, err := parentOf(pid)
		if err != nil || inUnit[parent] {
			continue
		}
		inUnit[parent] = true // is looked at once
		if isConmon(parent) && !checksHealth(parent, id) {
			return true
		}
	}
	return false
}

// processes are those in a cgroup, and below it.
func processes(dir string) (pids []int) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil //nolint:nilerr // what cannot be read is gone
		}
		procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs")) // none in one that is threaded
		for word := range strings.FieldsSeq(string(procs)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// parentOf reads proc_pid_stat(5): "PID (NAME) STATE PPID ...", in which the name may
// have any character.
func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	return strconv.Atoi(fields[1])
}

func isConmon(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && string(name) == "conmon\n"
}

// checksHealth reports whether a conmon is in the unit of a container's health check.
func checksHealth(conmon int, id string) bool {
	path, err := cgroupPath(procCgroup(conmon))
	return err != nil || strings.HasPrefix(filepath.Base(path), id)
}

// Session asks the entry.
func (e *Entry) Session() (there bool, err error) {
	err = e.ask(func(h *helper) error {
		answer := make([]byte, 1)
		_, _, _, err := h.exchange([]byte{askSession}, answer, nil)
		there = answer[0] == 1
		return err
	})
	if errors.Is(err, ErrNoContainer) {
		return false, nil
	}
	return there, err
}

// session is the entry's answer.
func (i *inside) session() error {
	answer := []byte{0}
	if i.units.Session() {
		answer[0] = 1
	}
	return reply(nil, answer, nil)
}
