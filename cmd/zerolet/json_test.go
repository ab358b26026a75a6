package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// docs/json.md describes each field of each object, none that is not there, and
// shows objects as they are.
func TestJSONDocument(t *testing.T) {
	doc := read(t, "../../docs/json.md")
	for heading, shapes := range map[string][]any{
		"history --json":               {historyReport{}, service.Past{}, service.Period{}, service.Freeze{}, service.Wake{}, service.Rollback{}},
		"doctor --json":                {doctorReport{}, findingReport{}},
		"wake --json and sleep --json": {deedsReport{}, deed{}},
		"update --json":                {updatesReport{}, updateReport{}},
	} {
		_, text, found := strings.Cut(doc, "\n## "+heading+"\n")
		if !found {
			t.Errorf("nothing about %s", heading)
			continue
		}
		text, _, _ = strings.Cut(text, "\n## ")
		fields := fieldsOf(shapes...)
		namesFields(t, text, shapes...)
		for _, row := range regexp.MustCompile("(?m)^[|] (`.*?`) [|]").FindAllStringSubmatch(text, -1) {
			for _, name := range strings.Split(row[1], ", ") {
				if !slices.Contains(fields, strings.Trim(name, "`")) {
					t.Errorf("%s: there is no field %s", heading, name)
				}
			}
		}
		for _, name := range regexp.MustCompile(`(?m)^\s*"(\w+)":`).FindAllStringSubmatch(text, -1) {
			if !slices.Contains(fields, name[1]) {
				t.Errorf("%s: the example has a field %s", heading, name[1])
			}
		}
	}
}

// fieldsOf are the names that the fields of structures have in JSON.
func fieldsOf(shapes ...any) (names []string) {
	for _, shape := range shapes {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(shape)) {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}
