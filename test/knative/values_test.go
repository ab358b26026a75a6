package knative

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

func container(s *servingv1.Service) corev1.Container { return s.Spec.Template.Spec.Containers[0] }

// expand is what the kubelet does to commands, arguments and variables
// (third_party/forked/golang/expansion in k8s.io/kubernetes): "$$" is "$", and
// $(NAME) is another variable's value. Here none may be left.
func expand(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '$' && i+1 < len(text) {
			switch text[i+1] {
			case '$':
				i++
			case '(':
				t.Errorf("%q: the kubelet would expand it", text)
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// Text arrives as it was meant, whatever YAML, the kubelet and systemd would
// make of it.
func TestText(t *testing.T) {
	texts := []string{
		"yes", "no", "on", "y", "null", "~", "0755", "0o17", "1e3", ".5", "12:30:45", "0x1f", "", "- a", "# no comment", "a # b", "a: b", "{a}", "[a]", "*a", "&a", "!a", "@a", "`a`", "|", ">",
		"'", `"`, `\`, `\n`, "a\nb", "tab\there", "é ✓", " around ", "$", "$$", "$(A)", "$$(A)", "$$$(A)", "$HOME:x", "a$", "%", "%%", "100%", "2026-11-24", "=", "a=b", "---", "<<", "!!binary x", "\u0085", "\ufeffx",
	}
	// As systemd and Quadlet unescape it: "%%" and "$$" are one.
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "%", "%%", "$", "$$")
	for i, text := range texts {
		s, _ := one(t, web+"[Container]\nEnvironment=\"A="+escape.Replace(text)+"\"\nExec=serve \""+escape.Replace("x"+text)+"\"\n")
		c := container(s)
		if got := expand(t, c.Env[0].Value); got != text {
			t.Errorf("%d: the variable %q is %q", i, text, got)
		}
		if got := expand(t, c.Args[1]); got != "x"+text {
			t.Errorf("%d: the argument %q is %q", i, text, got)
		}
	}
}

// What is said of the process is exported as podman would run it.
func TestProcess(t *testing.T) {
	const sh = "/bin/sh -c "
	for _, test := range []struct {
		lines string
		got   func(corev1.Container) string
		want  string
	}{
		{"Exec=a 'b c' \"d\"", args, "||a|b c|d"},
		{"Entrypoint=top -b", args, "top -b"},
		{`Entrypoint=["top", "-b"]` + "\nExec=x", args, "top|-b||x"},
		{"Entrypoint=\nExec=a b", args, "a|b"},
		{"Exec=first\nExec=last", args, "||last"},
		{"Exec=%N %n %%", args, "||web|web.service|%"},
		{"Environment=A=1 B=2\nEnvironment=A=3", environment, "A=3 B=2"},
		{"Environment=A=1\nEnvironment=\nEnvironment=B=2", environment, "B=2"},
		{"Environment=PORT=80 A=1", environment, "A=1"},
		{"HealthCmd=true", readiness, sh + "true"},
		{"HealthCmd=curl -f http://localhost/ || exit 1", readiness, sh + "curl -f http://localhost/ || exit 1"},
		{`HealthCmd=["CMD", "a", "b c"]`, readiness, "a b c"},
		{`HealthCmd=["a", "b"]`, readiness, "a b"},
		{`HealthCmd=["a b"]`, readiness, sh + "a b"},
		{"HealthCmd=CMD-SHELL a && b", readiness, sh + "a && b"},
		{"HealthCmd=CMD a b", readiness, "a b"},
		{`HealthCmd="hello world"`, readiness, sh + "hello world"},
		{"HealthCmd=none", readiness, ""},
		{"HealthCmd=true\nHealthInterval=disable", readiness, ""},
		{"User=7", ids, "7"},
		{"User=7:8", ids, "7:8"},
		{"User=7\nGroup=8", ids, "7:8"},
		{"User=app", ids, ""},
		{"User=app:8", ids, ""},
		{"User=4294967295", ids, ""},
		{"Memory=20g", limits, "memory=20Gi"},
		{"Memory=1.5G", limits, "memory=1536Mi"},
		{"Memory=100000", limits, "memory=100k"},
		{"Memory=512MiB", limits, "memory=512Mi"},
		{"Memory=much", limits, ""},
		{"PodmanArgs=--memory=64m --cpus 1.5", limits, "cpu=1500m memory=64Mi"},
		{"PodmanArgs=-m 64m --cpus=-1", limits, "memory=64Mi"},
		{"PodmanArgs=--cpus=0.5 --label=a=b", limits, "cpu=500m"},
		{"DropCapability=all", capabilities, "-ALL"},
		{"DropCapability=CAP_CHOWN net_raw", capabilities, "-CHOWN -NET_RAW -AUDIT_WRITE -MKNOD"},
		{"AddCapability=NET_RAW", capabilities, "+NET_RAW -AUDIT_WRITE -MKNOD"},
		{"", capabilities, "-AUDIT_WRITE -MKNOD -NET_RAW"},
		{"NoNewPrivileges=no", security, "RuntimeDefault"},
		{"NoNewPrivileges=yes\nReadOnly=1\nReadOnlyTmpfs=no", security, "RuntimeDefault read-only no-new-privileges"},
		{"SeccompProfile=unconfined", security, "Unconfined"},
		{"SeccompProfile=/etc/x.json", security, "RuntimeDefault"},
		{"Pull=never", func(c corev1.Container) string { return string(c.ImagePullPolicy) }, "Never"},
		{"WorkingDir=\"/a b\"", func(c corev1.Container) string { return c.WorkingDir }, "/a b"},
		{"Image=docker://quay.io/a/b", func(c corev1.Container) string { return c.Image }, "quay.io/a/b"},
	} {
		s, e := one(t, web+"[Container]\n"+test.lines+"\n")
		if got := test.got(container(s)); got != test.want {
			t.Errorf("%s: %q, not %q\n%s", test.lines, got, test.want, e.stderr)
		}
	}
}

func args(c corev1.Container) string {
	return strings.TrimSuffix(strings.Join(c.Command, "|")+"||"+strings.Join(c.Args, "|"), "||")
}

func environment(c corev1.Container) string {
	var out []string
	for _, v := range c.Env {
		out = append(out, v.Name+"="+v.Value)
	}
	return strings.Join(out, " ")
}

func readiness(c corev1.Container) string {
	if c.ReadinessProbe == nil || c.ReadinessProbe.Exec == nil {
		return ""
	}
	return strings.Join(c.ReadinessProbe.Exec.Command, " ")
}

func ids(c corev1.Container) string {
	out := ""
	if id := c.SecurityContext.RunAsUser; id != nil {
		out = strconv.FormatInt(*id, 10)
	}
	if id := c.SecurityContext.RunAsGroup; id != nil {
		out += ":" + strconv.FormatInt(*id, 10)
	}
	return out
}

func limits(c corev1.Container) string {
	var out []string
	for name, q := range c.Resources.Limits {
		out = append(out, string(name)+"="+q.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func capabilities(c corev1.Container) string {
	var out []string
	for _, name := range c.SecurityContext.Capabilities.Add {
		out = append(out, "+"+string(name))
	}
	for _, name := range c.SecurityContext.Capabilities.Drop {
		out = append(out, "-"+string(name))
	}
	return strings.Join(out, " ")
}

func security(c corev1.Container) string {
	out := string(c.SecurityContext.SeccompProfile.Type)
	if ro := c.SecurityContext.ReadOnlyRootFilesystem; ro != nil && *ro {
		out += " read-only"
	}
	if p := c.SecurityContext.AllowPrivilegeEscalation; p != nil && !*p {
		out += " no-new-privileges"
	}
	return out
}

// Probes have podman's times, not Kubernetes'.
func TestProbes(t *testing.T) {
	s, _ := one(t, web+"[Container]\nHealthCmd=check\nHealthInterval=7s\nHealthTimeout=1500ms\nHealthRetries=9\nHealthStartPeriod=20s\nHealthOnFailure=restart\n"+
		"HealthStartupCmd=started\nHealthStartupInterval=2s\n[ScaleToZero]\nStartTimeout=1min\n")
	c := container(s)
	for name, p := range map[string]*corev1.Probe{"readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if p == nil || p.Exec.Command[2] != "check" || p.PeriodSeconds != 7 || p.TimeoutSeconds != 2 || p.FailureThreshold != 9 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if c.ReadinessProbe.InitialDelaySeconds != 0 || c.LivenessProbe.InitialDelaySeconds != 20 {
		t.Errorf("delays %d and %d", c.ReadinessProbe.InitialDelaySeconds, c.LivenessProbe.InitialDelaySeconds)
	}
	if p := c.StartupProbe; p.Exec.Command[2] != "started" || p.PeriodSeconds != 2 || p.FailureThreshold != 30 {
		t.Errorf("startup: %+v", p)
	}
	s, _ = one(t, web+"[Container]\nHealthCmd=check\n")
	if p := container(s).ReadinessProbe; p.PeriodSeconds != 30 || p.TimeoutSeconds != 30 || p.FailureThreshold != 3 || container(s).LivenessProbe != nil {
		t.Errorf("defaults: %+v", p)
	}
}

// What is said of scaling is within the limits of Knative, and told where it
// was not.
func TestScale(t *testing.T) {
	for _, test := range []struct {
		lines                      string
		minimum, retention, start  string
		timeout, concurrency, told int64
	}{
		{"", "0", "2m0s", "5m0s", 300, 0, 0},
		{"IdleTimeout=30s", "0", "30s", "5m0s", 300, 0, 0},
		{"IdleTimeout=1h", "0", "1h0m0s", "5m0s", 300, 0, 0},
		{"IdleTimeout=2h", "0", "1h0m0s", "5m0s", 300, 0, 1},
		{"IdleTimeout=infinity", "1", "", "5m0s", 300, 0, 0},
		{"StartTimeout=8min", "0", "2m0s", "8m0s", 480, 0, 0},
		{"StartTimeout=10500ms", "0", "2m0s", "11s", 300, 0, 0},
		{"StartTimeout=1h", "0", "2m0s", "1h0m0s", 600, 0, 1},
		{"StartTimeout=infinity", "0", "2m0s", "", 600, 0, 1},
		{"StartTimeout=1min\n[Service]\nTimeoutStartSec=20min", "0", "2m0s", "20m0s", 300, 0, 0},
		{"StartTimeout=1min\n[Service]\nTimeoutStartSec=0", "0", "2m0s", "", 300, 0, 0},
	} {
		s, e := one(t, web+test.lines+"\n")
		spec, meta := s.Spec.Template.Spec, s.Spec.Template.Annotations
		if meta[autoscaling.MinScaleAnnotationKey] != test.minimum || meta[autoscaling.ScaleToZeroPodRetentionPeriodKey] != test.retention ||
			meta[serving.ProgressDeadlineAnnotationKey] != test.start || *spec.TimeoutSeconds != test.timeout ||
			*spec.ContainerConcurrency != test.concurrency || int64(e.told("warning")) != test.told {
			t.Errorf("%s: %v, timeout %d, concurrency %d\n%s", test.lines, meta, *spec.TimeoutSeconds, *spec.ContainerConcurrency, e.stderr)
		}
	}
}

// A service that only this machine reached is reached only in the cluster.
func TestVisibility(t *testing.T) {
	for ports, want := range map[string]string{
		"127.0.0.1:8081:81": "cluster-local",
		"[::1]:8081:81":     "cluster-local",
		"8081:81":           "",
		"0.0.0.0:8081:81":   "",
		"127.0.0.1:8081:81\nListen=[::1]:8081:81":   "cluster-local",
		"127.0.0.1:8081:81\nListen=192.0.2.1:82:81": "",
	} {
		s, _ := one(t, web+"Listen="+ports+"\n")
		if got := s.Labels["networking.knative.dev/visibility"]; got != want {
			t.Errorf("%s: visibility %q, not %q", ports, got, want)
		}
	}
}

// An image is told where the cluster would pull another one than Podman, or
// none.
func TestImages(t *testing.T) {
	for image, want := range map[string]string{
		"localhost/app":               "is on this machine only",
		"nginx":                       "has no registry",
		"library/nginx:1":             "has no registry",
		"quay.io/app/app:1":           "",
		"registry.example:5000/app":   "",
		"docker://ghcr.io/app/app":    "",
		"docker.io/library/nginx:1.2": "",
		"quay.io/a/b@sha256:" + strings.Repeat("0a", 32): "",
	} {
		_, e := one(t, web+"[Container]\nImage="+image+"\n")
		if e.told("warning") > 0 != (want != "") || !strings.Contains(e.stderr, want) {
			t.Errorf("%s: want %q: %s", image, want, e.stderr)
		}
	}
}

// What Knative could not serve, or a cluster not run, is refused with a reason.
func TestRefused(t *testing.T) {
	for lines, want := range map[string]string{
		"[ScaleToZero]\nListen=8081:9090":                              "one of those that Knative keeps for itself",
		"[Container]\nImage=docker-archive:/x.tar":                     "not an image that a cluster can pull",
		"[Container]\nImage=x.image":                                   "there is no x.image",
		"[Container]\nImage=\nRootfs=/x":                               "Rootfs= has no equivalent",
		"[Container]\nImage=":                                          "no image",
		"[Container]\nGroup=5":                                         "Group= without User=",
		"[Container]\nServiceName=123":                                 "gives no name",
		"[ScaleToZero]\nListen=8080:80\nIdelTimeout=3s":                "unknown key",
		"[Container]\nImage=docker.io/a/b:" + strings.Repeat("x", 200): "not an image",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "web.container"), web+lines+"\n")
		if e := run(t, dir); e.status != 1 || len(e.stdout) > 0 || !strings.Contains(e.stderr, want) {
			t.Errorf("%s: status %d, want %q: %s", lines, e.status, want, e.stderr)
		}
	}
}

// Environment files and secrets become what the Service names.
func TestEnvironmentFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.env"), "# comment\n\n  A=1\nB= two words \nC='quoted'\nPORT=80\nHOST\nBAD-é=1\n")
	write(t, filepath.Join(dir, "b.env"), "A=2\n")
	write(t, filepath.Join(dir, "web.container"), web+"[Container]\nEnvironmentFile=a.env ./b.env\nEnvironmentFile=%h/c.env\nSecret=token,type=env,target=TOKEN\nSecret=cert,target=/etc/tls.pem,mode=0400\n")
	s, e := applied(t, dir, "web")
	c := container(s.services[0])
	var from []string
	for _, f := range c.EnvFrom {
		from = append(from, f.ConfigMapRef.Name)
	}
	if got := strings.Join(from, " "); got != "web-env web-env-2 web-env-3" {
		t.Errorf("from %s", got)
	}
	if data := s.configMaps["web-env"].Data; len(data) != 3 || data["A"] != "1" || data["B"] != " two words " || data["C"] != "'quoted'" {
		t.Errorf("a.env: %q", data)
	}
	if data := s.configMaps["web-env-2"].Data; len(data) != 1 || data["A"] != "2" {
		t.Errorf("b.env: %q", data)
	}
	for _, want := range []string{"HOST of ", "BAD-é", "the ConfigMap web-env-3 is missing"} {
		if !strings.Contains(e.stderr, want) {
			t.Errorf("not told: %s\n%s", want, e.stderr)
		}
	}
	if ref := c.Env[0].ValueFrom.SecretKeyRef; c.Env[0].Name != "TOKEN" || ref.Name != "token" || ref.Key != "token" {
		t.Errorf("TOKEN: %+v", c.Env[0])
	}
	if m := c.VolumeMounts[0]; m.MountPath != "/etc/tls.pem" || m.SubPath != "cert" || *s.services[0].Spec.Template.Spec.Volumes[0].Secret.DefaultMode != 0o400 {
		t.Errorf("cert: %+v", m)
	}
}

// Several files are one stream, in which a volume that they share is claimed
// once, and two Services have two names.
func TestStream(t *testing.T) {
	dir := t.TempDir()
	const volume = "[Container]\nVolume=data.volume:/data\n"
	write(t, filepath.Join(dir, "a.container"), strings.Replace(web, "8080:", "8081:", 1)+volume)
	write(t, filepath.Join(dir, "b_c.container"), strings.Replace(web, "8080:", "8082:", 1)+volume+"Volume=/scratch\nVolume=other:/other:ro\nShmSize=64m\nReadOnly=yes\nTmpfs=/tmp:size=1m\n")
	write(t, filepath.Join(dir, "b-c.container"), strings.Replace(web, "8080:", "8083:", 1))
	write(t, filepath.Join(dir, "d.container"), strings.Replace(web, "8080:", "8084:", 1)+volume)
	s, e := applied(t, dir)
	if len(s.services) != 3 || e.status != 1 || !strings.Contains(e.stderr, "the Service b-c is already that of") {
		t.Errorf("%d services, status %d: %s", len(s.services), e.status, e.stderr)
	}
	if n := strings.Count(string(e.stdout), "kind: PersistentVolumeClaim"); n != 1 {
		t.Errorf("%d claims in\n%s", n, e.stdout)
	}
	s, e = applied(t, dir, "b_c")
	if e.status != 0 {
		t.Fatal(e.stderr)
	}
	volumes := make(map[string]corev1.VolumeSource)
	for _, v := range s.services[0].Spec.Template.Spec.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	var mounts []string
	for _, m := range container(s.services[0]).VolumeMounts {
		mount := m.MountPath + "="
		if dir := volumes[m.Name].EmptyDir; dir != nil {
			mount += string(dir.Medium)
			if dir.SizeLimit != nil {
				mount += dir.SizeLimit.String()
			}
		} else {
			mount += volumes[m.Name].PersistentVolumeClaim.ClaimName
		}
		if m.ReadOnly {
			mount += ":ro"
		}
		mounts = append(mounts, mount)
	}
	want := "/data=data /dev/shm=Memory64Mi /other=other:ro /run=Memory /scratch= /tmp=Memory1Mi /var/tmp=Memory"
	if got := strings.Join(mounts, " "); got != want {
		t.Errorf("mounts %s, not %s", got, want)
	}
}
