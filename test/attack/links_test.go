package attack

import (
	"path"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Root looks at a user's files, or is asked to. A link among them to what the
// user cannot read tells root's terminal, or who gets the export, none of it, and
// nothing blocks. What the user can read, links included, is read.
func TestLinksOfAUser(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		const secret = "root:hunter2:[x\nTOKEN=hunter2\n[hunter2\n"
		root, user := h.M.Root(), h.M.User()
		put := func(s interface {
			Must(testing.TB, ...string) string
		}, text, file string,
		) {
			s.Must(t, "sh", "-ec", `mkdir -p "${1%/*}"; printf %s "$0" >"$1"`, text, file)
		}
		root.Must(t, "mkdir", "--mode=0700", "--parents", "/root/private.d")
		for _, file := range []string{"/etc/secret", "/root/secret", "/root/private.d/x.conf", "/root/private.d/web.container", "/root/private.d/any.network"} {
			put(root, secret, file)
		}
		root.Must(t, "chmod", "0700", "/root")
		root.Must(t, "chmod", "0600", "/etc/secret") // that in /root is for everybody who could come there

		const container = "[Container]\nImage=localhost/app\nPublishPort=18080:80\n"
		quadlets := path.Join(user.Home, "quadlets-"+h.Name)
		victim := func(name string, prepare ...string) {
			dir := path.Join(quadlets, name)
			put(user, container+"[ScaleToZero]\n", dir+"/web.container")
			user.Must(t, append([]string{"sh", "-ec", `cd "$0"; mkdir -p web.container.d; ` + prepare[0], dir}, prepare[1:]...)...)
			for _, args := range [][]string{{"check"}, {"check", "--json"}, {"render"}, {"explain"}, {"export", "knative"}} {
				args = append(append([]string{"timeout", "60", "zerolet"}, args...), dir+"/web.container")
				out, _ := h.Session.Run(t.Context(), args...) // finds fault
				if said := out.Stdout + out.Stderr; strings.Contains(said, "hunter2") || out.ExitCode == 124 {
					t.Errorf("%s: %s, exit status %d:\n%s", name, strings.Join(args[2:], " "), out.ExitCode, said)
				}
			}
		}
		for _, target := range []string{"/etc/secret", "/root/secret"} {
			base := path.Base(path.Dir(target))
			victim("dropin-"+base, `ln -s "$1" web.container.d/x.conf`, target)
			victim("file-"+base, `ln -sf "$1" web.container`, target)
			victim("network-"+base, `ln -s "$1" any.network`, target)
			victim("environment-"+base, `printf '[Container]\nEnvironmentFile=%s\n' "$1" >web.container.d/x.conf`, target)
			victim("link-"+base, `ln -s "$1" env; printf '[Container]\nEnvironmentFile=env\n' >web.container.d/x.conf`, target)
		}
		victim("dropins", `rmdir web.container.d; ln -s /root/private.d web.container.d`)
		victim("directory", `cd ..; rm -r directory; ln -s /root/private.d directory`)
		victim("fifo", `mkfifo web.container.d/x.conf env; printf '[Container]\nEnvironmentFile=env\n' >web.container.d/y.conf`)
		victim("self", `ln -s /proc/self/environ web.container.d/x.conf; printf '[Container]\nEnvironmentFile=/proc/self/environ\n' >web.container.d/y.conf`)

		dir := path.Join(quadlets, "own")
		put(user, "[Container]\nEnvironment=MINE=yes\n", path.Join(user.Home, "elsewhere/x.conf"))
		put(user, "THEIRS=yes\n", path.Join(user.Home, "elsewhere/env"))
		put(user, container+"EnvironmentFile="+path.Join(user.Home, "elsewhere/env")+"\n[ScaleToZero]\n", dir+"/web.container")
		user.Must(t, "chmod", "0600", path.Join(user.Home, "elsewhere/env"))
		user.Must(t, "sh", "-ec", `mkdir -p "$0/web.container.d"; ln -sf ~/elsewhere/x.conf "$0/web.container.d/x.conf"`, dir)
		if text := h.Must(t, "zerolet", "render", dir+"/web.container"); !strings.Contains(text, "MINE=yes") {
			t.Errorf("the user's own link is not followed:\n%s", text)
		}
		if text := h.Must(t, "zerolet", "export", "knative", dir+"/web.container"); !strings.Contains(text, "THEIRS: ") {
			t.Errorf("the user's own file is not exported:\n%s", text)
		}
		out, err := root.Run(t.Context(), "zerolet", "check", path.Join(quadlets, "dropin-etc/web.container"))
		if want := "/x.conf: error: cannot read: permission denied\nhint: root reads what uid 1000 has made with the rights of that user only\n"; err == nil || !strings.Contains(out.Stderr, want) {
			t.Errorf("%v: want %q in\n%s", err, want, out.Stderr)
		}
	})
}
