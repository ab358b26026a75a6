package knative

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const web = `[Container]
Image=docker.io/library/nginx:1.29
PublishPort=8080:80

[ScaleToZero]
`

// samples are a line for each key of [Container], or several where one alone
// does nothing.
func samples() map[string]string {
	out := map[string]string{
		"AddCapability":        "CAP_NET_ADMIN",
		"AddDevice":            "/dev/fuse",
		"AddHost":              "db:10.0.0.1",
		"Annotation":           "example.com/a=b",
		"DropCapability":       "CAP_CHOWN",
		"Entrypoint":           "/bin/app",
		"Environment":          "A=b",
		"EnvironmentFile":      "/nowhere/web.env",
		"EnvironmentHost":      "yes",
		"Exec":                 "serve",
		"Group":                "5\nUser=5",
		"HealthCmd":            "true",
		"HealthOnFailure":      "kill\nHealthCmd=true",
		"HealthStartupCmd":     "true",
		"HttpProxy":            "true",
		"Image":                "docker.io/library/httpd:2",
		"Label":                "a=b",
		"Memory":               "20g",
		"Mount":                "type=tmpfs,dst=/cache",
		"Network":              "back.network",
		"NoNewPrivileges":      "yes",
		"Notify":               "yes",
		"PodmanArgs":           "--init",
		"PublishPort":          "9000:9000",
		"Pull":                 "always",
		"ReadOnly":             "yes",
		"ReadOnlyTmpfs":        "no\nReadOnly=yes",
		"RunInit":              "yes",
		"Secret":               "token",
		"SecurityLabelDisable": "yes",
		"SecurityLabelNested":  "yes",
		"ServiceName":          "site",
		"ShmSize":              "1g",
		"Tmpfs":                "/cache",
		"User":                 "5",
		"VolatileTmp":          "yes",
		"Volume":               "data:/data",
		"WorkingDir":           "/srv",
	}
	for _, key := range []string{"Interval", "Timeout", "Retries", "StartPeriod"} {
		out["Health"+key] = "5s\nHealthCmd=true\nHealthOnFailure=kill"
		out["HealthStartup"+key] = "5s\nHealthStartupCmd=true"
	}
	delete(out, "HealthStartupStartPeriod")
	out["HealthRetries"], out["HealthStartupRetries"] = strings.Replace(out["HealthRetries"], "5s", "5", 1), strings.Replace(out["HealthStartupRetries"], "5s", "5", 1)
	out["HealthStartupSuccess"] = "2\nHealthStartupCmd=true"
	return out
}

// Every key that Podman knows changes what is exported, or is told at its line:
// what a user wrote is not dropped without a word.
func TestEveryKey(t *testing.T) {
	keys := podmanKeys(t)
	if len(keys) < 90 {
		t.Fatalf("only %d keys in Podman's source", len(keys))
	}
	given := samples()
	for _, key := range keys {
		line, ok := given[key]
		if !ok {
			line = "value" // of a key that is told whatever its value is
		}
		// The others of the lines are there without the key, too.
		first, beside, _ := strings.Cut(line, "\n")
		beside = "[Container]\n" + beside + "\n"
		seen(t, key, beside, beside+key+"="+first+"\n")
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(keys, key) {
			t.Errorf("%s: Podman does not know this sample", key)
		}
	}
}

// Whatever stands after a key, the export is valid or refused with a reason.
func TestOddValues(t *testing.T) {
	values := []string{
		"x", "-1", "0", "99999999999", "%h", "%%", "$X", "${X}", "a b", "'", `"`, `\x`, "/", ":", "=", ",", "é", "a=", "=a", "a=b=c", "K_SERVICE=1", "/x:/y", "x:/y:ro,U", "/a:/b:/c",
		"type=", "type=volume,dst=/x", "type=env,source=a", "-", "[]", "null", `["a"]`, "CMD", "a,mode=9", "a,target=/", "80", "serving.knative.dev/x=y", strings.Repeat("a", 300), "A_B", "a.volume:/dev", "1e400",
	}
	keys := podmanKeys(t)
	for _, value := range values {
		dir := t.TempDir()
		for i, key := range keys {
			text := strings.Replace(web, "8080:", strconv.Itoa(10000+i)+":", 1) + "[Container]\n" + key + "=" + value + "\n"
			write(t, filepath.Join(dir, strings.ToLower(key)+".container"), text)
		}
		e := run(t, dir)
		s, err := newCluster(t, e.features()...).apply(e.stdout, e.stderr)
		if err != nil {
			t.Errorf("%q: not valid: %v", value, err)
		}
		if e.status != 0 && e.status != 1 || len(s.services) < len(keys)/2 || len(s.services)+e.told("error") < len(keys) {
			t.Errorf("%q: status %d, %d services of %d files: %s", value, e.status, len(s.services), len(keys), e.stderr)
		}
	}
}

// Every option of podman run in PodmanArgs= is exported or told.
func TestEveryOption(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(podmanDir(t), "cmd/podman/common/create.go"))
	if err != nil {
		t.Fatal(err)
	}
	var options []string
	for _, match := range regexp.MustCompile(`FlagName :?= "([a-z0-9-]+)"`).FindAllStringSubmatch(string(source), -1) {
		options = append(options, match[1])
	}
	if len(options) < 100 {
		t.Fatalf("only %d options in Podman's source", len(options))
	}
	for _, option := range options {
		for _, line := range []string{"--" + option + "=2", "--" + option + " 2", "--" + option} {
			seen(t, line, "", "[Container]\nPodmanArgs="+line+"\n")
		}
	}
}

// Every assignment of the other sections that says something of the app is
// told.
func TestOtherSections(t *testing.T) {
	for _, line := range []string{
		"[Service]\nExecStartPre=/bin/true", "[Service]\nMemoryMax=1G", "[Service]\nCPUQuota=50%", "[Service]\nTimeoutStopSec=5",
		"[Service]\nEnvironment=A=b", "[Service]\nTimeoutStartSec=1s", "[Unit]\nRequires=db.service", "[Unit]\nConditionPathExists=/x",
		"[Unit]\nDescription=x", "[Container]\nNewKey=1", "[Path]\nPathExists=/x",
		"[ScaleToZero]\nIdleTimeout=3s", "[ScaleToZero]\nStartTimeout=2h", "[ScaleToZero]\nAutoStart=no",
	} {
		seen(t, line, "", line+"\n")
	}
}

// seen exports a file with some lines and with more: these change the output,
// or the export tells of one of them.
func seen(t *testing.T, what, without, with string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.container")
	write(t, path, web+without)
	before := run(t, dir, path)
	write(t, path, web+with)
	after := run(t, dir, path)
	if before.status != 0 {
		t.Errorf("%s: without it: %s", what, before.stderr)
	}
	if after.status == 0 {
		if _, err := newCluster(t, after.features()...).apply(after.stdout, after.stderr); err != nil {
			t.Errorf("%s: not valid: %v\n%s", what, err, after.stdout)
		}
	}
	if string(before.stdout) != string(after.stdout) {
		return
	}
	for _, match := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(path)+`:(\d+):`).FindAllStringSubmatch(after.stderr, -1) {
		if line, _ := strconv.Atoi(match[1]); line > strings.Count(web+without, "\n") {
			return
		}
	}
	t.Errorf("%s is dropped without a word: %s%s", what, after.stderr, after.stdout)
}

// podmanDir is the source of the newest Podman, which the oracle builds, too.
func podmanDir(t *testing.T) string {
	t.Helper()
	dir, err := moduleDir("../oracle/podman-6.0.0", "go.podman.io/podman/v6")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// podmanKeys are the keys of [Container] in Podman's own table.
func podmanKeys(t *testing.T) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(podmanDir(t), "pkg/systemd/quadlet/quadlet.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string) // KeyImage: Image
	var keys []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) {
					if value, ok := n.Values[i].(*ast.BasicLit); ok && value.Kind == token.STRING {
						names[name.Name], _ = strconv.Unquote(value.Value)
					}
				}
			}
		case *ast.KeyValueExpr:
			if group, ok := n.Key.(*ast.Ident); !ok || group.Name != "ContainerGroup" {
				return true
			}
			ast.Inspect(n.Value, func(n ast.Node) bool {
				if kv, ok := n.(*ast.KeyValueExpr); ok {
					if key, ok := kv.Key.(*ast.Ident); ok && strings.HasPrefix(key.Name, "Key") {
						keys = append(keys, names[key.Name])
					}
				}
				return true
			})
		}
		return true
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}
