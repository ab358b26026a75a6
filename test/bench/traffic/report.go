package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/test/bench/page"
)

// coldDocument lies beside the document that -out names.
const coldDocument = "cold-start.md"

// writeTraffic reports the loads, and puts charts beside the document.
func (b *bench) writeTraffic(facts string, out io.Writer) error {
	text := facts + b.report()
	fmt.Fprint(out, text)
	if b.out == "" {
		return nil
	}
	for _, s := range b.sessions {
		name := fmt.Sprintf("benchmarks-%s.svg", s.Name)
		if err := os.WriteFile(filepath.Join(filepath.Dir(b.out), name), []byte(b.chart(s.Name)), 0o644); err != nil {
			return err
		}
		text += fmt.Sprintf("\n![%s, as a chart](%s)\n", s.Name, name)
	}
	return page.Replace(b.out, "traffic", text)
}

// writeCold reports the stages of the starts from nothing.
func (b *bench) writeCold(facts string, out io.Writer) error {
	text := facts + b.stages()
	fmt.Fprint(out, text)
	if b.out == "" {
		return nil
	}
	return page.Replace(filepath.Join(filepath.Dir(b.out), coldDocument), "cold start", text)
}

// stages is a column for each manager.
func (b *bench) stages() string {
	var text strings.Builder
	text.WriteString("Milliseconds: the median of the rounds, and after ± half the distance of the quartiles in percent of it.\n\n|")
	for _, s := range b.sessions {
		fmt.Fprintf(&text, " | %s", s.Name)
	}
	fmt.Fprintf(&text, " |\n|---%s|\n", strings.Repeat("|---:", len(b.sessions)))
	for _, r := range append(stageRows(), rowCold, rowPodmanStart, rowUnitStart, rowEdge) {
		name := r.name()
		if r == rowCold {
			name = "**" + name + "**"
		}
		fmt.Fprintf(&text, "| %s", name)
		for _, s := range b.sessions {
			fmt.Fprintf(&text, " | %s", cell(b.found[s.Name][r][zero]))
		}
		text.WriteString(" |\n")
	}
	return text.String()
}

// report is the text of the tables.
func (b *bench) report() string {
	var text strings.Builder
	text.WriteString("Each value is the median of the rounds, and after ± half the distance of the quartiles in percent of it.\n")
	for _, s := range b.sessions {
		title := "Rootful (system manager, bridge network)"
		if s.UserManager {
			title = "Rootless (user manager, pasta)"
		}
		fmt.Fprintf(&text, "\n### %s\n\n", title)
		b.table(&text, s.Name, b.names(s.Name, peerNames()), trafficRows())
		if b.memory {
			fmt.Fprintf(&text, "\nMemory of the processes between client and app:\n\n")
			b.table(&text, s.Name, b.names(s.Name, peerNames()), memoryRows())
		}
		fmt.Fprintf(&text, "\nBy name, from a container on the same bridge; the plain port from the host:\n\n")
		b.table(&text, s.Name, b.names(s.Name, byName()), slices.Concat(trafficRows()[:len(trafficRows())-2], memoryRows()[:2]))
		b.coldLines(&text, s.Name)
		fmt.Fprintf(&text, "\n#### Goals, %s\n\n", s.Name)
		b.goals(&text, s.Name, s.UserManager)
	}
	if len(b.failed) > 0 {
		text.WriteString("\nWhat failed:\n\n")
		for _, f := range b.failed {
			fmt.Fprintf(&text, "- %s\n", f)
		}
	}
	return text.String()
}

// facts are machine, versions, date, and how it was measured.
func (b *bench) facts(ctx context.Context, took time.Duration) (string, error) {
	const versions = `. /etc/os-release; systemctl --version | sed -n "1s/ (.*//p"; podman --version; pasta --version | sed -n 1p
haproxy -v | sed -n "1s/ - .*//p"; nginx -v 2>&1; echo "$PRETTY_NAME"`
	out, err := b.machine.Root().Run(ctx, "sh", "-c", versions)
	if err != nil {
		return "", err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimLeft(strings.TrimSpace(name), ": ")
				break
			}
		}
	}
	return fmt.Sprintf("%s, on %d × %s, Linux %s; %s; zerolet built with %s. "+
		"Command: `make bench`, %d rounds in turns, %s for each load, %s in all.\n\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), cpu,
		unix.ByteSliceToString(uts.Release[:]), strings.ReplaceAll(strings.TrimSpace(out.Stdout), "\n", ", "), runtime.Version(),
		b.rounds, b.point, took.Round(time.Second)), nil
}

// names are those of some peers that have been measured.
func (b *bench) names(manager string, peers []string) []string {
	return slices.DeleteFunc(peers, func(name string) bool {
		return !slices.ContainsFunc(trafficRows(), func(r row) bool { return len(b.found[manager][r][name]) > 0 })
	})
}

func (b *bench) table(text *strings.Builder, manager string, names []string, rows []row) {
	fmt.Fprintf(text, "| | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---:|", len(names)))
	for _, r := range rows {
		fmt.Fprintf(text, "| %s, %s |", r.name(), r.unit())
		for _, name := range names {
			fmt.Fprintf(text, " %s |", cell(b.found[manager][r][name]))
		}
		text.WriteString("\n")
	}
}

// cell is a median with its spread.
func cell(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	if len(values) == 1 {
		return number(values[0])
	}
	spread := (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / median(values)
	return fmt.Sprintf("%s ±%.0f", number(median(values)), math.Abs(spread)*100)
}

// number has three digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile lies between the two nearest values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}

func (b *bench) coldLines(text *strings.Builder, manager string) {
	asleep := b.found[manager][rowAsleep][zero]
	if len(asleep) == 0 {
		return
	}
	fmt.Fprintf(text, "\nFrom nothing to the first answer: %s ms with zerolet, %s ms with `podman run` by hand, %s ms with the stock unit. "+
		"To a client who comes while the container is being stopped: %s ms. Processes while asleep: %g.\n", cell(b.found[manager][rowCold][zero]),
		cell(b.found[manager][rowPodmanStart][zero]), cell(b.found[manager][rowUnitStart][zero]), cell(b.found[manager][rowEdge][zero]), slices.Max(asleep))
}

// goal is a ratio that a way of zerolet's is to reach to another peer.
type goal struct {
	of, than string
	least    float64
}

func goalsOf(rootless bool) []goal {
	if rootless {
		return []goal{{zero, plain, 1.0}, {zero, proxyd, 1.5}, {zero, haproxy, 1.2}, {heard, zero, 0.9}, {native, plain, 1.5}, {native, limit, 0.95}}
	}
	return []goal{{zero, proxyd, 1.3}, {zero, haproxy, 1.0}, {heard, zero, 0.9}}
}

func (b *bench) goals(text *strings.Builder, manager string, rootless bool) {
	for _, of := range []string{zero, heard, native} {
		goals := slices.DeleteFunc(goalsOf(rootless), func(g goal) bool { return g.of != of })
		if len(goals) > 0 {
			b.goalsTable(text, manager, of, goals)
		}
	}
	b.absoluteGoals(text, manager)
}

// goalsTable has a column for each peer.
func (b *bench) goalsTable(text *strings.Builder, manager, of string, goals []goal) {
	fmt.Fprintf(text, "| %s, times as fast as (goal) |", of)
	for _, g := range goals {
		fmt.Fprintf(text, " %s (%g) |", g.than, g.least)
	}
	fmt.Fprintf(text, "\n|---|%s\n", strings.Repeat("---:|", len(goals)))
	for _, r := range trafficRows()[:8] {
		fmt.Fprintf(text, "| %s |", r.name())
		for _, g := range goals {
			ratio := median(b.found[manager][r][of]) / median(b.found[manager][r][g.than])
			missed := ""
			if ratio < g.least {
				missed = " missed"
			}
			fmt.Fprintf(text, " %.2f%s |", ratio, missed)
		}
		text.WriteString("\n")
	}
	text.WriteString("\n")
}

// absoluteGoals are those in units.
func (b *bench) absoluteGoals(text *strings.Builder, manager string) {
	found := b.found[manager]
	for _, g := range []struct {
		what       string
		got, limit float64
		unit       string
	}{
		{"memory of the fresh proxy", median(found[rowMemory][zero]) / 1024, 8, "MiB"},
		{"memory of an idle connection", median(found[rowIdle1000][zero]), 6, "KiB"},
		{"from nothing to the first answer, over the stock unit's start", median(found[rowCold][zero]) - median(found[rowUnitStart][zero]), coldGoal(manager), "ms"},
		{"from nothing to the first answer, over podman run", median(found[rowCold][zero]) - median(found[rowPodmanStart][zero]), 15, "ms"},
	} {
		if math.IsNaN(g.got) {
			continue
		}
		missed := ""
		if g.got > g.limit {
			missed = ": missed"
		}
		fmt.Fprintf(text, "%s: %s %s, goal ≤ %g%s\n\n", g.what, number(g.got), g.unit, g.limit, missed)
	}
}

// coldGoal is in milliseconds. The system's sandbox is a mount namespace.
func coldGoal(manager string) float64 {
	if manager == "root" {
		return 25
	}
	return 15
}
