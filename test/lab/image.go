package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed image.sh
var imageScript string

// Import makes an image of a tar archive without any registry. Each change is an instruction of a
// Containerfile, such as `ENTRYPOINT ["/app"]`.
func (s *Session) Import(ctx context.Context, name string, archive io.Reader, changes ...string) error {
	args := []string{"podman", "import", "--quiet"}
	for _, change := range changes {
		args = append(args, "--change", change)
	}
	cmd := s.Command(ctx, append(args, "-", name)...)
	cmd.Stdin = archive
	if out, err := runQuiet(cmd); err != nil {
		return fmt.Errorf("lab: %s: image %s: %w: %s", s.Name, name, err, out)
	}
	return nil
}

// hasImage reports whether an image has been made. A machine begins without any, and to make one costs as much as ten
// questions.
func (s *Session) hasImage(ctx context.Context, name string) bool {
	_, err := s.Run(ctx, "podman", "image", "exists", name)
	return err == nil
}

// AppImage makes the image localhost/app of test/app, the tests' own server. It returns the image's name.
func (s *Session) AppImage(ctx context.Context) (string, error) { return s.ProgramImage(ctx, "app") }

// ProgramImage makes an image of a Go program in a directory of this module: a static program and nothing else,
// named after the directory and the entry point. It returns the image's name.
func (s *Session) ProgramImage(ctx context.Context, dir string) (string, error) {
	base := path.Base(dir)
	name := "localhost/" + base
	if s.hasImage(ctx, name) {
		return name, nil
	}
	program, err := program(dir)
	if err != nil {
		return "", fmt.Errorf("lab: image %s: %w", name, err)
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	err = files.WriteHeader(&tar.Header{Name: base, Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = files.Write(program)
	}
	if err := errors.Join(err, files.Close()); err != nil {
		return "", fmt.Errorf("lab: image %s: %w", name, err)
	}
	return name, s.Import(ctx, name, &archive, `ENTRYPOINT ["/`+base+`"]`)
}

// programs are the programs that this process has built, each by a function of its own.
var programs sync.Map

// program builds a program of this module, once for each process.
func program(dir string) ([]byte, error) {
	build, _ := programs.LoadOrStore(dir, sync.OnceValues(func() ([]byte, error) { return buildProgram(dir) }))
	return build.(func() ([]byte, error))()
}

func buildProgram(dir string) ([]byte, error) {
	scratch, err := os.MkdirTemp("", "zerolet-lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	file := filepath.Join(scratch, path.Base(dir))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "github.com/zerolet/zerolet/test/"+dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := runQuiet(cmd); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	return os.ReadFile(file)
}

// NginxImage makes the image localhost/nginx of Debian's nginx: it serves its welcome page on port 80, IPv4
// and IPv6. It returns the image's name.
func (s *Session) NginxImage(ctx context.Context) (string, error) {
	const name = "localhost/nginx"
	return name, s.DebianImage(ctx, name, []string{"nginx"}, `CMD ["/usr/sbin/nginx", "-g", "daemon off;"]`, `EXPOSE 80`)
}

// DebianImage makes an image of Debian packages of the machine's suite: their files, the libraries of their
// programs, and /etc/passwd; no shell unless a package brings one. The archive is cached beside the tree.
func (s *Session) DebianImage(ctx context.Context, name string, packages []string, changes ...string) error {
	if s.hasImage(ctx, name) {
		return nil
	}
	archive, err := s.machine.tree.packageArchive(ctx, packages)
	if err != nil {
		return fmt.Errorf("lab: image %s: %w", name, err)
	}
	defer archive.Close()
	return s.Import(ctx, name, archive, changes...)
}

func (t *tree) packageArchive(ctx context.Context, packages []string) (*os.File, error) {
	recipe := sha256.Sum256([]byte(strings.Join(packages, " ") + "\n" + imageScript))
	path := filepath.Join(t.dir, fmt.Sprintf("image-%s-%x.tar", packages[0], recipe[:6]))
	lock, err := cached(path, func(tmp string) error {
		scratch := path + ".scratch"
		if err := errors.Join(os.RemoveAll(scratch), os.Mkdir(scratch, 0o755)); err != nil {
			return err
		}
		script := []string{"sh", "-c", imageScript, "sh", t.root, scratch, tmp}
		err := isolated(ctx, append(script, packages...)...)
		if err != nil {
			err = fmt.Errorf("image.sh: %w", err)
		}
		return errors.Join(err, os.RemoveAll(scratch))
	})
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return os.Open(path)
}
