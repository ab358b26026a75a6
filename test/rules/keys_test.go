package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet/scale"
)

// A key is named in its row, and in no list that a new key would have to be
// added to: what is to be said of keys is a column of the table.
func TestKeysAreNamedOnce(t *testing.T) {
	for _, dir := range []string{"quadlet", "generator", "proxy", "cmd"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				err = named(t, strings.TrimPrefix(path, "../../"), path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func named(t *testing.T, name, path string) error {
	if name == "quadlet/scale/keys.go" {
		return nil
	}
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, _ := strconv.Unquote(literal.Value)
		if k, ok := scale.FindKey(strings.TrimSuffix(text, "=")); ok && !mayName(filepath.Dir(name), k) {
			t.Errorf("%s:%d: %s= is named beside its row", name, files.Position(n.Pos()).Line, k.Name)
		}
		return true
	})
	return nil
}

// mayName are those who do something of their own with one key.
func mayName(dir string, k scale.Key) bool {
	switch dir {
	case "cmd/zerolet/internal/knative": // writes its equivalent
		return k.Export.As != nil
	case "cmd/zerolet/internal/service", "cmd/zerolet/internal/systemd": // ask for a socket's property, which is called the same
		return k.Name == "Listen"
	case "generator/suggest": // writes lines for what is behind a reverse proxy
		return k.Name == "Listen" || k.Name == "StandIn"
	case "generator": // names settings of systemd.socket(5), which are called the same
		return !k.In(scale.OnPorts)
	}
	return false
}
