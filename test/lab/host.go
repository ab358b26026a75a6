package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// ErrNotRoot says why no machine can start.
var ErrNotRoot = errors.New("lab: needs root: it boots machines with systemd-nspawn")

// prepareHost checks that machines can be built and booted here and installs what is missing on a host
// that has apt-get.
func prepareHost(ctx context.Context, log io.Writer) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	var missing []string
	for _, need := range [][2]string{{"debootstrap", "debootstrap"}, {"systemd-nspawn", "systemd-container"}} {
		if _, err := exec.LookPath(need[0]); err != nil {
			missing = append(missing, need[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("lab: install %s (as Debian names the packages of debootstrap and systemd-nspawn)",
			strings.Join(missing, " and "))
	}
	// Ubuntu has Debian's keys in a package of their own.
	missing = append(missing, "debian-archive-keyring")
	fmt.Fprintln(log, "lab: apt-get install", strings.Join(missing, " "))
	if err := apt(ctx, append([]string{"install"}, missing...)...); err == nil {
		return nil
	}
	if err := apt(ctx, "update"); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := apt(ctx, append([]string{"install"}, missing...)...); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// hostMirror is the Debian archive that apt on this host installs from, "" if there is none: debootstrap
// then knows a default. apt itself knows which of its sources are Debian's, once it has their indexes.
func hostMirror(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", nil
	}
	targets := func() (string, error) {
		out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)",
			"Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main").Output()
		first, _, _ := strings.Cut(string(out), "\n")
		return first, err
	}
	uri, err := targets()
	if err == nil && uri == "" {
		if err = apt(ctx, "update"); err == nil {
			uri, err = targets()
		}
	}
	if err != nil {
		return "", err
	}
	return resolveMirror(uri)
}

// resolveMirror takes the first line of a mirror list (apt-transport-mirror(1)), which debootstrap does not
// know. Debian's cloud images have such a list.
func resolveMirror(uri string) (string, error) {
	list, ok := strings.CutPrefix(uri, "mirror+file:")
	if !ok {
		return uri, nil
	}
	data, err := os.ReadFile("/" + strings.Trim(list, "/"))
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	first, _, _ = strings.Cut(first, "\t") // options follow
	return first, nil
}

// apt changes the host's packages, undisturbed by the end of ctx: half an installation is worse than a late
// one.
func apt(ctx context.Context, args ...string) error {
	options := []string{"-qy", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends"}
	err := logged(exec.CommandContext(context.WithoutCancel(ctx), "apt-get", append(options, args...)...))
	if err != nil {
		return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// isolated runs a command in mount and process namespaces of its own: whatever it mounts or leaves running
// is gone when it ends, when ctx ends, or when this process does.
func isolated(ctx context.Context, args ...string) error {
	unshare := []string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	cmd := exec.CommandContext(ctx, "unshare", append(unshare, args...)...)
	// The signal comes with the end of the thread, not of the process (PR_SET_PDEATHSIG(2const)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return logged(cmd)
}

// logged runs a command without a terminal. The end of what it printed is part of the error.
func logged(cmd *exec.Cmd) error {
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "DPKG_FORCE=unsafe-io")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(output.String(), 30))
	}
	return nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
