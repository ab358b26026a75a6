package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// finding is something that is not well, and what mends it.
type finding struct {
	what string
	mend string

	command []string    // the mend, where it is a command that can be run as it is
	pos     quadlet.Pos // in a file, if the finding is an error of that
}

// byHand is a finding that somebody has to mend who knows more.
func byHand(what, mend string) finding { return finding{what: what, mend: mend} }

// byCommand is a finding that a command mends.
func byCommand(what string, command ...string) finding {
	return finding{what: what, mend: strings.Join(command, " "), command: command}
}

// doctorReport is what doctor --json prints; docs/json.md describes it.
type doctorReport struct {
	Version  int             `json:"version"`
	Findings []findingReport `json:"findings"`
}

type findingReport struct {
	Message string   `json:"message"`
	Mend    string   `json:"mend"`
	Command []string `json:"command,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`
}

// doctor looks for what keeps services from waking.
func (c *call) doctor(ctx context.Context) (int, error) {
	var found []finding
	for _, check := range []func(context.Context) []finding{c.doctorManager, c.doctorPodman, c.doctorGenerator, c.doctorLinger} {
		found = append(found, check(ctx)...)
	}
	services, err := c.doctorServices(ctx)
	found = append(found, services...)
	status := exitOK
	if len(found) > 0 {
		status = exitError
	}
	if err := errors.Join(err, c.printFindings(found, err == nil)); err != nil {
		return exitFailure, err
	}
	return status, nil
}

// printFindings tells what was found. If not all could be looked at, nobody says
// that all is well.
func (c *call) printFindings(found []finding, complete bool) error {
	if c.json {
		report := doctorReport{Version: 1, Findings: []findingReport{}}
		for _, f := range found {
			report.Findings = append(report.Findings, findingReport{f.what, f.mend, f.command, f.pos.File, f.pos.Line, f.pos.Col})
		}
		return c.printJSON(report)
	}
	for _, f := range found {
		if err := c.printf("%s\n    mend: %s\n", quadlet.Printable(f.what), quadlet.Printable(f.mend)); err != nil {
			return err
		}
	}
	if len(found) == 0 && complete {
		return c.printf("all is well\n")
	}
	return nil
}

func (c *call) doctorManager(ctx context.Context) []finding {
	const oldest = 249 // Upholds= (systemd.unit(5))
	version, err := c.systemd().Version(ctx)
	if err == nil && version < oldest {
		return []finding{byHand(fmt.Sprintf("systemd %d is too old: zerolet needs %d", version, oldest), "install a newer release of the distribution")}
	}
	return nil
}

func (c *call) doctorPodman(ctx context.Context) []finding {
	const hint = "apt install podman, or dnf install podman"
	out, err := exec.CommandContext(ctx, "podman", "--version").Output()
	if err != nil {
		return []finding{byHand(fmt.Sprintf("podman does not run: %v", err), hint)}
	}
	major, minor, ok := podmanVersion(string(out))
	switch {
	case !ok:
		return []finding{byHand(fmt.Sprintf("podman tells no version: %q", strings.TrimSpace(string(out))), hint)}
	case major < 4 || major == 4 && minor < 3:
		return []finding{byHand(fmt.Sprintf("podman %d.%d is too old: zerolet needs 4.3", major, minor), "install a newer release of the distribution")}
	case c.quadlet == "" && (major > 4 || minor >= 4):
		return []finding{byHand(
			"podman's Quadlet is missing: the one that is built into zerolet converts the files, and those that are not scaled get no unit",
			"apt install --reinstall podman, or dnf reinstall podman",
		)}
	}
	if _, err := exec.LookPath("nsenter"); err != nil && c.manager == quadlet.User {
		return []finding{byHand("nsenter is missing: rootless containers cannot be reached", "apt install util-linux, or dnf install util-linux-core")}
	}
	return nil
}

func podmanVersion(text string) (major, minor int, ok bool) {
	match := regexp.MustCompile(`version (\d+)\.(\d+)`).FindStringSubmatch(text)
	if match == nil {
		return 0, 0, false
	}
	major, _ = strconv.Atoi(match[1])
	minor, _ = strconv.Atoi(match[2])
	return major, minor, true
}

// doctorGenerator finds the generator where systemd looks for it
// (systemd.generator(7)), and runs it as systemd does.
func (c *call) doctorGenerator(ctx context.Context) []finding {
	kind := c.manager.String()
	name := "zerolet-" + kind + "-generator"
	for _, dir := range []string{"/run/systemd", "/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"} {
		path := filepath.Join(dir, kind+"-generators", name)
		if _, err := os.Lstat(path); err == nil {
			return c.tryGenerator(ctx, path)
		}
	}
	return []finding{byHand("the generator is not installed: systemd makes no units of the files", fmt.Sprintf("ln -s %s /usr/lib/systemd/%s-generators/%s",
		filepath.Join(c.prefix, "libexec/zerolet/zerolet-generator"), kind, name))}
}

func (c *call) tryGenerator(ctx context.Context, path string) []finding {
	if target, err := filepath.EvalSymlinks(path); err == nil && target == os.DevNull {
		return []finding{byHand("the generator is masked", "rm "+path)}
	}
	tmp, err := os.MkdirTemp("", "zerolet-doctor-")
	if err != nil {
		return []finding{byHand(err.Error(), "make room in "+os.TempDir())}
	}
	defer os.RemoveAll(tmp)
	args := []string{filepath.Join(tmp, "normal"), filepath.Join(tmp, "early"), filepath.Join(tmp, "late")}
	for _, dir := range args {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return []finding{byHand(err.Error(), "make room in "+os.TempDir())}
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	err = cmd.Run()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() == 1 { // 1: a file has an error, which is told by itself
		return nil
	}
	return []finding{byHand(fmt.Sprintf("the generator %s does not run: %v", path, err), "install zerolet again")}
}

// doctorLinger: a user's manager ends with the last session, and the sockets
// with it.
func (c *call) doctorLinger(context.Context) []finding {
	u, err := user.LookupId(strconv.Itoa(c.uid))
	if c.manager != quadlet.User || err != nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username)); err == nil {
		return nil
	}
	return []finding{byCommand("nobody listens after you have logged out: your user does not linger", "loginctl", "enable-linger", u.Username)}
}

// doctorServices looks at every file and every service.
func (c *call) doctorServices(ctx context.Context) ([]finding, error) {
	var found []finding
	plan := c.planOf(ctx)
	units := plan.Units(c.layout())
	for _, d := range plan.All() {
		if d.Severity == quadlet.Error {
			found = append(found, finding{what: fmt.Sprintf("%s: %s", d.Pos, d.Message), mend: "edit the file: " + d.Hint, pos: d.Pos})
		}
	}
	found = append(found, doctorKernel(plan)...)
	all, err := c.look(ctx, service.Closely)
	if err != nil {
		return found, err
	}
	found = append(found, c.doctorKept(ctx, plan, all)...)
	images := make(map[string]bool)
	optional := make(map[string]bool) // sockets that nobody asks to be there always
	for _, e := range plan.Endpoints {
		if !e.Refused() {
			optional[e.Spec.Unit] = !e.Spec.AutoStart || len(e.PartOf) > 0
			s := all.Named(e.Spec.Unit)
			switch {
			case s == nil || s.Dependency() != e.Spec.Dependency() || len(s.Changed(units)) > 0:
				found = append(found, byCommand(e.Spec.Unit+": systemd does not know the file as it is now", c.mend()...))
			case e.Spec.Dependency() && len(e.NeededBy()) == 0 && len(s.Others()) == 0:
				found = append(found, byHand(e.Spec.Unit+": it has no port, and nothing needs it: it never runs", needHint(s)))
			}
			found = append(found, c.doctorImage(ctx, e, images)...)
		}
	}
	troubles, err := c.troubles(ctx, all.Services...)
	if err != nil {
		return found, err
	}
	for _, s := range all.Services {
		if optional[s.Name] && s.State() == service.NotListening && s.Socket.Is("inactive") && s.Socket["LoadState"] == "loaded" {
			continue
		}
		found = append(found, c.doctorService(s, troubles[s])...)
	}
	return found, nil
}

// doctorKernel: zerolet-proxy asks the kernel whose a socket is, or who is
// connected, and lets nobody through where that is not told.
func doctorKernel(plan *generator.Plan) []finding {
	i := slices.IndexFunc(plan.Endpoints, func(e *generator.Endpoint) bool {
		return !e.Refused() && !e.Spec.Dependency() && (e.Spec.Native || e.Spec.Network == scale.Host)
	})
	if i < 0 {
		return nil
	}
	err := cmp.Or(service.InetDiag(unix.IPPROTO_TCP), service.InetDiag(unix.IPPROTO_UDP))
	if err == nil {
		return nil
	}
	return []finding{byHand(
		fmt.Sprintf("the kernel does not tell whose a socket is: nobody is let through to %s, nor to any with Mode=native or Network=host: %v",
			plan.Endpoints[i].Spec.Unit, err),
		"modprobe -a tcp_diag udp_diag, or a kernel with CONFIG_INET_DIAG and CONFIG_INET_UDP_DIAG",
	)}
}

// mend is the command that brings what runs in line with the files.
func (c *call) mend() []string { return []string{"zerolet", "apply", "--" + c.manager.String()} }

// mendUnit is a command of systemctl for the manager.
func (c *call) mendUnit(verb, unit string) []string {
	line := []string{"systemctl"}
	if c.manager == quadlet.User {
		line = append(line, "--user")
	}
	return typed(unit, append(line, verb)...)
}

// doctorImage: Podman prunes the image of a container that sleeps. Of each image
// it is asked once.
func (c *call) doctorImage(ctx context.Context, e *generator.Endpoint, missing map[string]bool) []finding {
	var found []finding
	for _, f := range e.Files() {
		found = append(found, doctorImageOf(ctx, e, f, missing)...)
	}
	return found
}

func doctorImageOf(ctx context.Context, e *generator.Endpoint, f *quadlet.File, missing map[string]bool) []finding {
	image, ok := f.Last("Container", "Image")
	if !ok || strings.HasSuffix(image.Value, ".image") || strings.HasSuffix(image.Value, ".build") || strings.ContainsAny(image.Value, "%$") {
		return nil
	}
	if _, known := missing[image.Value]; !known {
		err := exec.CommandContext(ctx, "podman", "image", "exists", image.Value).Run()
		var exit *exec.ExitError
		missing[image.Value] = errors.As(err, &exit) && exit.ExitCode() == 1 // podman-image-exists(1)
	}
	if !missing[image.Value] {
		return nil
	}
	what := fmt.Sprintf("%s: the image %s is not there: the next wake has to pull it", e.Spec.Unit, image.Value)
	if strings.HasPrefix(image.Value, "-") { // an option, as a command
		return []finding{byHand(what, "mend Image=")}
	}
	return []finding{byCommand(what, "podman", "pull", image.Value)}
}

func (c *call) doctorService(s *service.Service, trouble string) []finding {
	if s.Refused() {
		return nil // told with its file
	}
	apply := strings.Join(c.mend(), " ")
	socket := wire.Socket.Of(s.Name)
	switch {
	case s.Orphan(), len(s.NotListening) > 0 && s.Socket.Is("active"):
		return []finding{byCommand(s.Name+": "+trouble, c.mend()...)}
	case strings.Contains(trouble, "Address already in use"):
		return []finding{byHand(fmt.Sprintf("%s: somebody else has the port: %s", s.Name, trouble), "ss -ltnup shows who; then "+apply)}
	case c.manager == quadlet.User && s.Socket.Is("failed") && strings.Contains(trouble, "Permission denied"):
		return []finding{byHand(fmt.Sprintf("%s: its socket is dead: %s", s.Name, trouble), scale.PrivilegedPortHint+"; then "+apply)}
	case s.Shut():
		return []finding{byCommand(fmt.Sprintf("%s: its sockets were left shut: %s", s.Name, trouble), c.mendUnit("restart", wire.Open.Of(s.Name))...)}
	case s.Socket["LoadState"] == "masked":
		return []finding{byCommand(s.Name+": its socket is masked", c.mendUnit("unmask", socket)...)}
	case s.Socket.Is("failed"):
		return []finding{byCommand(fmt.Sprintf("%s: its socket is dead: %s", s.Name, trouble), c.mend()...)}
	case !s.Socket.Is("active") && !s.Dependency():
		return []finding{byCommand(s.Name+": its socket does not listen", c.mendUnit("start", socket)...)}
	case s.Timer["SubState"] == "elapsed":
		return []finding{byHand(s.Name+": its calendar has no time that is still to come", strings.Join(c.mendUnit("restart", wire.Timer.Of(s.Name)), " ")+", or mend WakeOn=")}
	case s.Timer.Found() && !s.Timer.Is("active"):
		return []finding{byCommand(s.Name+": its calendar does not run", c.mendUnit("start", wire.Timer.Of(s.Name))...)}
	case s.State() == service.Failing, s.State() == service.Awake && trouble != "":
		what := map[bool]string{true: "could not be woken: "}[s.State() == service.Failing]
		scope := map[bool]string{true: "--user "}[c.manager == quadlet.User]
		return []finding{byHand(fmt.Sprintf("%s: %s%s", s.Name, what, trouble), fmt.Sprintf("journalctl %s-u %s.service tells more", scope, s.Name))}
	}
	return nil
}
