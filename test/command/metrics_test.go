package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	common "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/rogpeppe/go-internal/testscript"
)

// scrape FILE METRIC NAME VALUE reads metrics as Prometheus reads OpenMetrics,
// and as the text file collector of its node exporter does. The value of a
// summary is its count.
func scrape(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: scrape FILE METRIC NAME VALUE")
	}
	text, metric, name := ts.ReadFile(args[0]), args[1], args[2]
	strict, err := openMetrics(text)
	ts.Check(err)
	collected, err := collect(text)
	ts.Check(err)
	for reader, values := range map[string]map[sample]float64{"OpenMetrics": strict, "the text file collector": collected} {
		if value, ok := values[sample{metric, name}]; !ok || fmt.Sprint(value) != args[3] {
			ts.Fatalf("to %s %s of %q is %v (there: %v), want %s", reader, metric, name, value, ok, args[3])
		}
	}
}

// sample is a value's metric and the service that it is about.
type sample struct{ metric, name string }

// collect is what the text file collector sees.
func collect(text string) (map[sample]float64, error) {
	parser := expfmt.NewTextParser(common.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	values := make(map[sample]float64)
	for metric, family := range families {
		for _, m := range family.GetMetric() {
			value := m.GetGauge().GetValue() + m.GetUntyped().GetValue()
			if m.GetSummary() != nil {
				value = float64(m.GetSummary().GetSampleCount())
			}
			for _, label := range m.GetLabel() {
				if label.GetName() == "name" {
					values[sample{metric, label.GetValue()}] = value
				}
			}
		}
	}
	return values, err
}

// openMetrics reads as Prometheus does, which looks at each line alone, and
// holds the text to what the specification says of families: each in one piece
// below its type, with its unit in its name, and samples of the suffixes that
// the type has.
func openMetrics(text string) (map[sample]float64, error) {
	parser := textparse.NewOpenMetricsParser([]byte(text), labels.NewSymbolTable())
	values := make(map[sample]float64)
	types := make(map[string]string)
	units := make(map[string]bool)
	family := ""
	for {
		entry, err := parser.Next()
		switch {
		case errors.Is(err, io.EOF):
			return values, allWithUnit(types, units)
		case err != nil:
			return nil, err
		case entry == textparse.EntryType:
			name, kind := parser.Type()
			if family = string(name); types[family] != "" {
				return nil, fmt.Errorf("%s comes twice", family)
			}
			types[family] = string(kind)
		case entry == textparse.EntryUnit:
			name, _ := parser.Unit()
			units[string(name)] = true
		case entry == textparse.EntrySeries:
			_, _, value := parser.Series()
			var set labels.Labels
			parser.Labels(&set)
			metric := set.Get(labels.MetricName)
			suffix, ours := strings.CutPrefix(metric, family)
			if !ours || !strings.Contains(suffixes()[types[family]], "|"+suffix+"|") {
				return nil, fmt.Errorf("%s is no sample of %s, a %s", metric, family, types[family])
			}
			if suffix != "_sum" && !set.Has("quantile") {
				values[sample{strings.TrimSuffix(metric, "_count"), set.Get("name")}] = value
			}
		}
	}
}

// suffixes are those that the samples of a type have.
func suffixes() map[string]string {
	return map[string]string{"gauge": "||", "counter": "|_total|", "summary": "||_sum|_count|"}
}

func allWithUnit(types map[string]string, units map[string]bool) error {
	for family := range types {
		if strings.HasSuffix(family, "_seconds") != units[family] {
			return fmt.Errorf("unit of %s: %v", family, units[family])
		}
	}
	return nil
}

// What is not OpenMetrics is refused, so that the scripts can fail.
func TestOpenMetrics(t *testing.T) {
	const good = "# HELP a_seconds Text.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{name=\"x\\\\y\"} 1\n# EOF\n"
	values, err := openMetrics(good)
	if err != nil || values[sample{"a_seconds_total", `x\y`}] != 1 {
		t.Errorf("%v, %v", values, err)
	}
	for _, change := range [][2]string{
		{"# EOF\n", ""},
		{"# EOF\n", "# EOF\n\n"},
		{"counter", "summary"},
		{"_total", ""},
		{"# UNIT a_seconds seconds\n", ""},
		{"UNIT a_seconds seconds", "UNIT a_seconds bytes"},
		{`x\\y`, `x"y`},
		{"# UNIT", "\n# UNIT"},
		{"} 1", "}"},
		{"HELP a_seconds", "TYPE a_seconds counter\n# HELP a_seconds"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if _, err := openMetrics(bad); err == nil || bad == good {
			t.Errorf("good is\n%s", bad)
		}
	}
}
