package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A test with a machine of its own waits most of the time, and stands in nobody's way: it is parallel.
func TestMachinesSideBySide(t *testing.T) {
	alone := map[string]string{"TestPodColdStart": "measures, with -soak alone"}
	files, err := filepath.Glob("../*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	boots := 0
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(f.Name.Name, "Test") || f.Recv != nil {
				continue
			}
			calls := calls(f.Body)
			if !slices.Contains(calls, "harness.Boot") && !slices.Contains(calls, "harness.Packages") {
				continue
			}
			boots++
			if !slices.Contains(calls, "t.Parallel") && alone[f.Name.Name] == "" {
				t.Errorf("%s: %s boots a machine and does not call t.Parallel", path, f.Name)
			}
		}
	}
	if boots < 50 {
		t.Errorf("only %d tests boot a machine", boots)
	}
}

// calls are the functions of packages, and the methods of variables, that are called.
func calls(body ast.Node) (names []string) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok {
				names = append(names, x.Name+"."+selector.Sel.Name)
			}
		}
		return true
	})
	return names
}
