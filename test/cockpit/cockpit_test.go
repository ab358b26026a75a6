// Package cockpit tests the page in Cockpit: Debian's cockpit-ws serves it, and a
// browser shows it.
package cockpit

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/browser"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Flags of go test.
var (
	pictures = flag.Bool("pictures", false, "draw the pictures of docs/cockpit.md anew")
	soak     = flag.Bool("soak", false, "also with 300 services")
)

func TestMain(m *testing.M) { harness.Main(m) }

// page is what of Cockpit's shell the page is in.
const page = `document.querySelector("iframe[name='cockpit1:localhost/zerolet']").contentDocument`

// boot is a machine with Cockpit and the page, whose user may become root.
func boot(t *testing.T) *lab.Machine {
	t.Helper()
	m := harness.Boot(t, lab.Options{Packages: browser.Packages()})
	dir := t.TempDir()
	if out, err := exec.Command("flock", "../../Makefile", "make", "-C", "../..", "install-cockpit", "DESTDIR="+dir).CombinedOutput(); err != nil {
		t.Fatalf("make install-cockpit: %v\n%s", err, out)
	}
	if err := m.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	m.Root().Must(t, "sh", "-c", "usermod --append --groups sudo user && echo user:foobar | chpasswd && systemctl start cockpit.socket")
	return m
}

// cockpit is a person at the page.
type cockpit struct {
	*browser.Tab
}

// login comes to Cockpit, with administrative access or without.
func login(t *testing.T, tab *browser.Tab, admin bool) *cockpit {
	t.Helper()
	tab.Reach("http://127.0.0.1:9090/") // which cuts off its answers while it ends a session
	tab.Wait(`document.getElementById("login-user-input")?.offsetParent`)
	access := map[bool]string{true: "any", false: "none"}[admin]
	tab.Do(fmt.Sprintf(`
		localStorage.setItem("superuser:user", %q);
		document.getElementById("login-user-input").value = "user";
		document.getElementById("login-password-input").value = "foobar";
		document.getElementById("login-button").click();`, access))
	tab.Wait(`document.querySelector("#topnav, #shell nav, .area-ct-subnav, #host-apps")`)
	return &cockpit{tab}
}

// show goes to the page of a manager.
func (c *cockpit) show(h *harness.Host) {
	c.Helper()
	c.Go("http://127.0.0.1:9090/zerolet#/" + manager(h))
	c.Wait(page + `.getElementById("page").getAttribute("aria-busy") === "false"`)
}

func manager(h *harness.Host) string {
	return map[bool]string{false: "system", true: "user"}[h.UserManager]
}

// row is the row of a service.
func row(name string) string {
	return fmt.Sprintf(`[...%s.querySelectorAll("#services > .service")].find(r => r.querySelector(".more").textContent === %q)`, page, name)
}

// reads waits until a part of a service's row has a text like that.
func (c *cockpit) reads(name, part, pattern string) {
	c.Helper()
	c.Wait(fmt.Sprintf(`/%s/.test(%s.querySelector(%q).textContent)`, pattern, row(name), part))
}

// press presses a button of a service.
func (c *cockpit) press(name, button string) {
	c.Helper()
	b := fmt.Sprintf(`%s.querySelector("button[aria-label='%s %s']")`, row(name), button, name)
	c.Wait(b + ".offsetParent && !" + b + ".disabled")
	c.Do(b + ".click()")
}

// told waits until the log says something.
func (c *cockpit) told(pattern string) {
	c.Helper()
	c.Wait(fmt.Sprintf(`/%s/.test(%s.getElementById("told").textContent)`, pattern, page))
}

// The cells of the table.
const (
	state  = "td:nth-child(2)"
	listen = "td:nth-child(3)"
	open   = "td:nth-child(4)"
	wake   = "td:nth-child(5)"
	sleeps = "td:nth-child(6)"
	day    = "td:nth-child(7)"
)

// A person logs in, sees the services of both managers, wakes one, puts it to
// sleep, reads why one fails, and has mended what the doctor has found.
func TestCockpit(t *testing.T) {
	t.Parallel()
	m := boot(t)
	harness.Each(t, m, declare)
	c := login(t, browser.Open(t, m, m.User()), true)
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		(&cockpit{c.For(t)}).use(h)
	})
	// Neither the page's own reload nor a session that is not over yet comes between here and the next login.
	c.Do(page + `.defaultView.cockpit.logout(false)`)
	m.Root().WaitFor(t, harness.Patience, "the session is over", func() (bool, error) {
		out, _ := m.Root().Run(t.Context(), "pgrep", "--full", "cockpit-bridge")
		return out.ExitCode == 1, nil
	})
	c = login(t, c.Tab, false)
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		(&cockpit{c.For(t)}).useLimited(h)
	})
}

// declare puts files in place, one of them with an error.
func declare(t *testing.T, h *harness.Host) {
	h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=30min")
	h.App("broken", "-no-such-flag", fmt.Sprintf("PublishPort=%d:80", h.Port+10), "[ScaleToZero]")
	h.App("cold", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+30), "[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze")
	h.PutFile("shop.pod", fmt.Sprintf("[Pod]\nPublishPort=%d:80\n[ScaleToZero]\n", h.Port+40))
	for name, exec := range map[string]string{"shop-web": "-http :80", "shop-db": "-http :5432"} {
		h.PutFile(name+".container", "[Container]\nImage=localhost/app\nExec="+exec+"\nPod=shop.pod\n")
	}
	h.PutFile("wrong.container", "[Container]\nImage=none\n"+fmt.Sprintf("PublishPort=%d:80", h.Port+20)+"\n[ScaleToZero]\nIdelTimeout=<img src=x>\n")
	h.Reload()
}

func (c *cockpit) use(h *harness.Host) {
	c.show(h)
	c.reads("app", state, "^asleep for ")
	c.reads("app", listen, fmt.Sprintf(`^\[::\]:%d$`, h.Port))
	c.reads("app", wake, "^never$")

	c.press("app", "Wake")
	c.told(`app: awake after \d+\.\d\ds`)
	c.reads("app", state, "^awake for ")
	h.Expect("app.service", "active")
	c.reads("app", wake, `^\d+(s|min) ago by ::1 in \d+\.\d\ds$`)
	c.reads("app", sleeps, `^\d+min$`)
	c.Wait(row("app") + `.querySelector("svg .awake")`)
	c.still("app")
	c.details()

	// Nobody is cut off unasked.
	conn := h.Connect()
	c.reads("app", open, "^1$")
	c.press("app", "Sleep")
	c.Wait(page + `.getElementById("dialog").open`)
	c.Do(page + `.querySelector("#dialog button[value='']").click()`)
	h.Expect("app.service", "active")
	_ = conn.Close()
	c.reads("app", open, "^0$")
	c.press("app", "Sleep")
	c.told("app: asleep")
	h.Expect("app.service", "inactive")
	c.reads("app", state, "^asleep for ")

	c.freezes(h)
	c.pod(h)

	c.press("broken", "Wake")
	c.told("broken: broken cannot be woken: ")
	c.reads("broken", state, "^failing")
	c.Wait(row("broken") + `.nextElementSibling.matches(".reason:not([hidden])")`)
	c.problems(h)
	c.content()
	// Root's bridge comes and goes with each try, and a user's pasta fails that copies a route which is gone by then.
	h.Must(h.T, "zerolet", "sleep", "--force", "broken")
}

// freezes wakes a service that is frozen when it sleeps, has it thaw and puts it to
// sleep for good.
func (c *cockpit) freezes(h *harness.Host) {
	c.press("cold", "Wake")
	c.told(`cold: awake after \d+\.\d\ds`)
	c.reads("cold", state, "^frozen for ")
	c.reads("cold", wake, `ago by ::1 in \d+\.\d\ds$`)
	h.Frozen("cold")
	c.press("cold", "Wake")
	c.reads("cold", wake, `ago by ::1 in \d+\.\dms, frozen$`)
	c.Wait(row("cold") + `.querySelector("svg .frozen")`)
	c.reads("cold", state, "^frozen for ")
	c.Do(row("cold") + `.querySelector(".more").click()`)
	c.Wait(fmt.Sprintf(`/2 wakes, .*, 1 from frozen, frozen \d/.test(%s.querySelector("#more-cold").textContent)`, page))
	c.Do(row("cold") + `.querySelector(".more").click()`)
	c.press("cold", "Sleep")
	c.told("cold: asleep")
	c.reads("cold", state, "^asleep for ")
	h.Expect("cold.service", "inactive")
}

// pod wakes one, and puts it to sleep with all of its containers.
func (c *cockpit) pod(h *harness.Host) {
	c.reads("shop-pod", state, "^asleep for ")
	c.reads("shop-pod", listen, fmt.Sprintf(`:%d$`, h.Port+40))
	c.press("shop-pod", "Wake")
	c.told(`shop-pod: awake after \d+\.\d\ds`)
	c.reads("shop-pod", state, "^awake for ")
	c.Do(row("shop-pod") + `.querySelector(".more").click()`)
	c.Wait(fmt.Sprintf(`/Containersshop-(db|web)\S*, shop-(db|web)/.test(%s.querySelector("#more-shop-pod").textContent)`, page))
	c.Do(row("shop-pod") + `.querySelector(".more").click()`)
	for _, member := range []string{"shop-web.service", "shop-db.service"} {
		h.WaitState(member, "active") // the pod is awake when one of them answers
	}
	c.press("shop-pod", "Sleep")
	c.told("shop-pod: asleep")
	c.reads("shop-pod", state, "^asleep for ")
	for _, member := range []string{"shop-web.service", "shop-db.service", "shop-pod.service"} {
		h.Expect(member, "inactive")
	}
}

// still waits for an answer that changes a row, and sees that it moves none.
func (c *cockpit) still(name string) {
	c.Do(`window.moved = 0;
		new MutationObserver(all => { window.moved += all.length; }).observe(` + page + `.getElementById("services"), { childList: true })`)
	since := row(name) + fmt.Sprintf(".querySelector(%q).textContent", state)
	before := c.Text(since)
	c.Wait(fmt.Sprintf("%s !== %q", since, before))
	if moved := c.Text("window.moved"); moved != "0" {
		c.Errorf("an answer has moved rows %s times", moved)
	}
}

// content fails if the browser was not content with the page. What it has to say of
// Cockpit's own is not ours: its script may send once more when the page is left.
func (c *cockpit) content() {
	for _, complaint := range c.Complaints() {
		isCockpits := strings.HasPrefix(complaint, "network: ") && !strings.Contains(complaint, "/zerolet/") ||
			strings.HasSuffix(complaint, "/base1/cockpit.js")
		if !isCockpits {
			c.Errorf("the browser complains: %s", complaint)
		}
	}
}

// useLimited is a person without administrative access: the system's services are
// there to look at, and the user's own are theirs.
func (c *cockpit) useLimited(h *harness.Host) {
	c.show(h)
	c.reads("app", state, "^asleep for ")
	limited := page + `.getElementById("limited").offsetParent`
	if h.UserManager {
		c.Wait("!" + limited)
		c.press("app", "Wake")
		c.told(`app: awake after`)
		c.press("app", "Sleep")
		c.told("app: asleep")
	} else {
		c.Wait(limited)
		c.Wait(row("app") + `.querySelector("button[aria-label='Wake app']").disabled`)
	}
	c.content()
}

// details opens a service's by the keyboard.
func (c *cockpit) details() {
	c.Do(page + `.getElementById("filter").focus()`)
	c.Type("app awake")
	c.Wait(page + `.querySelectorAll("#services > .service:not([hidden])").length === 1`)
	c.Type("\t\r")
	details := page + `.querySelector("#services > .details:not([hidden])")`
	c.Wait(details)
	c.Wait(details + `.querySelector("svg .wake")`)
	c.Wait(fmt.Sprintf(`/app\.container/.test(%s.textContent) && /cold start p50/.test(%[1]s.textContent)`, details))
	c.Do(row("app") + `.querySelector(".more").click()`)
	c.filter("")
}

// filter writes into the box.
func (c *cockpit) filter(text string) {
	c.Do(fmt.Sprintf(`const box = %s.getElementById("filter"); box.value = %q; box.dispatchEvent(new Event("input"))`, page, text))
}

// problems reads what is wrong, and has mended what a command mends.
func (c *cockpit) problems(h *harness.Host) {
	list := func(id, pattern string) string {
		return fmt.Sprintf(`[...%s.querySelectorAll("#%s > li")].find(l => /%s/s.test(l.textContent))`, page, id, pattern)
	}
	c.Wait(list("diagnostics", `error.*wrong\.container:5:1.*unknown key IdelTimeout=.*did you mean IdleTimeout=`))
	c.Wait(list("diagnostics", `wrong\.container`) + `.querySelector("pre").textContent === "IdelTimeout=<img src=x>\n^"`)
	if found := c.Text(page + `.querySelectorAll("img").length`); found != "0" {
		c.Error("what a file says is markup")
	}
	c.reads("wrong", state, "^failing")
	c.Wait(list("findings", "broken: could not be woken.*journalctl"))

	h.PutFile("app.container.d/idle.conf", "[ScaleToZero]\nIdleTimeout=7s\n")
	c.Do(page + `.getElementById("look").click()`)
	finding := list("findings", "app: systemd does not know the file as it is now.*mend: zerolet apply --"+manager(h))
	c.Wait(finding)
	c.Do(finding + `.querySelector("button").click()`)
	c.Wait(page + `.getElementById("dialog-command").textContent === "zerolet apply --` + manager(h) + `"`)
	// The file with an error was there before: it keeps nobody from it.
	c.Do(page + `.getElementById("dialog-do").click()`)
	c.told("zerolet apply --" + manager(h) + ": ")
	c.Wait("!" + finding)
}

// With many services the page is as quick to use, and asks as seldom: one process
// for each answer, and none while nobody looks.
func TestMany(t *testing.T) {
	if !*soak {
		t.Skip("only with -soak")
	}
	const many = 300
	m := boot(t)
	h := &harness.Host{T: t, Session: m.Root(), M: m, Port: 8080}
	if _, err := h.AppImage(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "sh", "-c", fmt.Sprintf(`for i in $(seq 1 %d); do
		printf '[Container]\nImage=localhost/app\nExec=-http :80\nPublishPort=%%d:80\n[ScaleToZero]\n' $((20000 + i)) >%s/s$i.container
	done`, many, h.QuadletDir))
	// Whoever calls it is seen.
	h.PutFile("/usr/local/bin/zerolet", "#!/bin/sh\necho $1 >>/srv/asked\nexec /usr/bin/zerolet \"$@\"\n")
	h.Must(t, "sh", "-c", "chmod 755 /usr/local/bin/zerolet && touch /srv/asked && chmod 666 /srv/asked")
	h.Reload()
	h.WaitState("s300-proxy.socket", "active")
	c := login(t, browser.Open(t, m, m.User()), true)
	c.show(h)
	c.Wait(fmt.Sprintf(`%s.getElementById("count").textContent === "%d services: %[2]d asleep"`, page, many))
	c.filter("s299")
	c.Wait(page + `.querySelectorAll("#services > .service:not([hidden])").length === 1`)
	c.press("s299", "Wake")
	c.told("s299: awake after")
	c.filter("")
	c.reads("s299", state, "^awake")
	c.still("s299")

	// Another page is looked at: when the last answer has come, there is no question any more.
	asked := func() string { return h.Must(t, "sh", "-c", "wc -l </srv/asked") }
	c.Do(`document.querySelector("a[href$='/system/services']").click()`)
	c.Wait(page + `.defaultView.cockpit.hidden`)
	h.Wait("all questions are answered", func() bool {
		_, err := h.Session.Run(t.Context(), "pgrep", "--exact", "zerolet")
		return err != nil
	})
	before := asked()
	h.Must(t, "sleep", "10") // three questions, if it asked
	if after := asked(); after != before {
		t.Errorf("while nobody looks it has asked: %s calls were %s", after, before)
	}
	c.Do(`document.querySelector("a[href$='/zerolet']").click()`)
	h.Wait("it asks again", func() bool { return asked() != before })
	c.content()
}

// TestPictures draws the pictures of docs/cockpit.md.
func TestPictures(t *testing.T) {
	if !*pictures {
		t.Skip("only with -pictures")
	}
	m := boot(t)
	h := &harness.Host{T: t, Session: m.User(), M: m, Port: 8080}
	for i, name := range []string{"photos", "wiki", "git", "music"} {
		h.App(name, "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+i), "[ScaleToZero]", "IdleTimeout=2min")
	}
	h.App("paste", "-http :80", "PublishPort=8090:80", "Volume=/srv/none:/data", "[ScaleToZero]")
	h.PutFile("blog.container", "[Container]\nImage=localhost/blog\nPublishPort=8091:80\n\n[ScaleToZero]\nIdelTimeout=5min\n")
	h.Reload()
	c := login(t, browser.Open(t, m, m.User()), true)
	c.show(h)
	for _, name := range []string{"git", "wiki", "photos", "wiki"} {
		c.press(name, "Wake")
		c.told(name + ": awake after")
		c.press(name, "Sleep")
		c.told(name + ": asleep")
	}
	held := h.ConnectTo(h.Port)
	defer func() { _ = held.Close() }()
	c.reads("photos", open, "^1$")
	c.press("music", "Wake")
	c.told("music: awake after")
	c.reads("music", open, "^0$")
	c.press("paste", "Wake")
	c.told("paste: ")
	c.Do(page + `.querySelectorAll(".close").forEach(b => b.click())`)
	c.Do(row("wiki") + `.querySelector(".more").click()`)
	c.Wait(page + `.getElementById("health").textContent === "1 error, 1 finding"`)
	c.Wait(row("paste") + `.querySelector("svg .awake")`) // the past is of now
	c.Resize(1280, 1150)
	for _, scheme := range []string{"light", "dark"} {
		c.Wish(scheme)
		c.Wait(fmt.Sprintf(`%s.documentElement.classList.contains("pf-v6-theme-dark") === %v`, page, scheme == "dark"))
		save(t, "../../docs/cockpit-"+scheme+".png", c.Picture())
	}
}

// save writes a picture as small as that goes without a loss.
func save(t *testing.T, path string, picture []byte) {
	t.Helper()
	shown, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, shown); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, small.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
