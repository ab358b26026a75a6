package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// packages are the peers, and the client for small requests.
func packages() []string { return []string{"wrk", "haproxy", "nginx-light", "libnginx-mod-stream"} }

// The ports of the app inside its container.
const (
	webPort    = 80 // nginx
	sourcePort = 81 // sends without end
	sinkPort   = 82 // takes everything
	goPort     = 83 // Go's HTTP server
	echoPort   = 83 // UDP, sends back
)

func appPorts() []int { return []int{webPort, sourcePort, sinkPort, goPort} }

//go:embed nginx.conf
var appConfig string

// machine boots a lab with the peers, zerolet and the app in it.
func machine(ctx context.Context, repository string, log io.Writer) (*lab.Machine, error) {
	dir, err := os.MkdirTemp("", "zerolet-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if text, err := exec.CommandContext(ctx, "make", "-C", repository, "install", "DESTDIR="+dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make install: %w\n%s", err, text)
	}
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(repository, "test"), "-trimpath",
		"-o", filepath.Join(dir, "opt/bench/app"), "./bench/traffic/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, text)
	}
	if err := os.WriteFile(filepath.Join(dir, "opt/bench/nginx.conf"), []byte(appConfig), 0o644); err != nil {
		return nil, err
	}
	m, err := lab.Start(ctx, lab.Options{Packages: packages(), Log: log})
	if err != nil {
		return nil, err
	}
	err = m.Install(ctx, dir)
	if err == nil {
		// Debian starts them, with configurations of its own.
		_, err = m.Root().Systemctl(ctx, "stop", "haproxy", "nginx")
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// base is the first port of a manager's peers: both are in one network.
func base(s *lab.Session) int {
	if s.UserManager {
		return 21000
	}
	return 22000
}

// The peers' ports are those of the app and these, from the base.
const (
	plainPorts  = 100
	proxydPorts = 200
	haproxyPort = 300
	streamPorts = 400
	zeroPorts   = 500
	coldPort    = 600
	nativePorts = 700
	heardPorts  = 800
)

// container is a .container file with the app in it.
func container(s *lab.Session, ports int, publish []int, lines ...string) string {
	text := "[Container]\nImage=localhost/nginx\nExec=/opt/bench/app\nVolume=/opt/bench:/opt/bench:ro\n"
	for _, port := range publish {
		text += fmt.Sprintf("PublishPort=127.0.0.1:%d:%d\n", base(s)+ports+port, port)
	}
	return text + strings.Join(lines, "\n") + "\n"
}

// datagrams publishes the UDP port.
func datagrams(s *lab.Session, ports int) string {
	return fmt.Sprintf("PublishPort=127.0.0.1:%d:%d/udp", base(s)+ports+echoPort, echoPort)
}

// imageScript makes the app's image of the machine's own nginx and the
// libraries that it loads.
const imageScript = `set -eu
cd ~
mkdir -p image/var/log/nginx image/var/lib/nginx image/run image/tmp
tar -C image -cf image.tar var run tmp
ldd /usr/sbin/nginx | sed -n 's/^[^/]*\/\([^ ]*\) (0x.*/\1/p' |
	tar -C / -rhf image.tar usr/sbin/nginx etc/passwd etc/group --files-from=-
podman import --quiet image.tar localhost/nginx
`

// declare writes the units of all peers of a session and starts them.
func declare(ctx context.Context, s *lab.Session) error {
	if _, err := s.Run(ctx, "sh", "-c", imageScript); err != nil {
		return err
	}
	unit := func(name string) string { return s.UnitDir + "/" + name }
	files := map[string]string{
		"plain.container": container(s, plainPorts, appPorts(), datagrams(s, plainPorts)),
		"zero.container":  container(s, zeroPorts, appPorts(), "[ScaleToZero]", "IdleTimeout=infinity"),
		"heard.container": container(s, heardPorts, appPorts(), "[ScaleToZero]", "IdleTimeout=infinity",
			"WakeBy=data", "Probe=/healthz", "IgnoreAgent=*robot*", "WaitingPage=yes"),
		// By itself: of its proxy's descriptors, 8,192 are kept for sessions.
		"zero-udp.container": container(s, zeroPorts, nil, datagrams(s, zeroPorts), "[ScaleToZero]", "IdleTimeout=infinity"),
		"native.container": container(s, nativePorts, appPorts(), "Label=zerolet.native=yes", "Network=none",
			"[ScaleToZero]", "IdleTimeout=infinity", "Mode=native"),
		"cold.container": container(s, coldPort, []int{webPort}, "[ScaleToZero]", "IdleTimeout=infinity"),
		"warm.container": container(s, coldPort+1, []int{webPort}),

		unit("bench-haproxy.service"): service("/usr/sbin/haproxy -db -f " + s.UnitDir + "/haproxy.cfg"),
		unit("haproxy.cfg"):           haproxyConfig(s),
		unit("bench-stream.service"):  service("/usr/sbin/nginx -c " + s.UnitDir + "/stream.conf"),
		unit("stream.conf"):           streamConfig(s),
	}
	maps.Copy(files, bridgeFiles(s))
	start := []string{"direct.service", "visitor.service", "named-standin.service", "named-proxy.service", "plain.service", "zero-udp-proxy.service", "bench-haproxy.service", "bench-stream.service"}
	for _, port := range appPorts() {
		name := fmt.Sprintf("bench-proxyd-%d", port)
		files[unit(name+".socket")] = fmt.Sprintf("[Socket]\nListenStream=127.0.0.1:%d\n", base(s)+proxydPorts+port)
		files[unit(name+".service")] = service(fmt.Sprintf(
			"/usr/lib/systemd/systemd-socket-proxyd --connections-max=20000 127.0.0.1:%d", base(s)+plainPorts+port))
		start = append(start, name+".socket", name+".service")
	}
	for name, text := range files {
		if err := s.Put(ctx, name, text); err != nil {
			return err
		}
	}
	if _, err := s.Systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	_, err := s.Systemctl(ctx, append([]string{"start"}, start...)...)
	return err
}

func service(command string) string {
	return "[Service]\nLimitNOFILE=infinity\nExecStart=" + command + "\n"
}

func haproxyConfig(s *lab.Session) string {
	text := "global\n maxconn 9900\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
	for _, port := range appPorts() {
		text += fmt.Sprintf("listen p%d\n bind 127.0.0.1:%d\n server app 127.0.0.1:%d\n",
			port, base(s)+haproxyPort+port, base(s)+plainPorts+port)
	}
	return text
}

func streamConfig(s *lab.Session) string {
	text := "load_module modules/ngx_stream_module.so;\ndaemon off;\nworker_processes auto;\nworker_rlimit_nofile 65536;\n" +
		"pid " + s.RuntimeDir + "/bench-stream.pid;\nerror_log stderr;\n" +
		"events { worker_connections 40000; }\nstream {\n proxy_timeout 1h;\n"
	for _, port := range appPorts() {
		text += fmt.Sprintf(" server { listen 127.0.0.1:%d; proxy_pass 127.0.0.1:%d; }\n",
			base(s)+streamPorts+port, base(s)+plainPorts+port)
	}
	return text + fmt.Sprintf(" server { listen 127.0.0.1:%d udp; proxy_pass 127.0.0.1:%d; }\n}\n",
		base(s)+streamPorts+echoPort, base(s)+plainPorts+echoPort)
}

// until asks for a condition until it holds, for 20 s at most.
func until(ctx context.Context, what string, pause time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		case <-time.After(pause):
		}
	}
	return nil
}
