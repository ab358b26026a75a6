package scale

import (
	"context"
	"errors"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// What systemd's own manual has as examples, and what is wrong in one place.
func TestCalendar(t *testing.T) {
	for _, good := range []string{
		"Mon..Fri 08:00", "Sat,Thu,Mon..Wed,Sat..Sun", "Mon,Sun 12-*-* 2,1:23", "5..5:00", "Wed *-1", "Wed..Wed,Wed *-1", "Wed, 17:48",
		"Wed..Sat,Tue 12-10-15 1:2:3", "*-*-7 0:0:0", "10-15", "monday *-12-* 17:00", "Mon,Fri *-*-3,1,2 *:30:45",
		"12,14,13,12:20,10,30", "12..14:10,20,30", "mon,fri *-1/2-1,3 *:30:45", "03-05 08:05:40", "08:05:40", "05:40",
		"Sat,Sun 12-05 08:05:40", "2003-03-05 05:40", "05:40:23.4200004/3.1700005", "2003-02..04-05", "2003-03-05 05:40 UTC",
		"2003-03-05", "03-05", "Hourly", "daily UTC", "monthly", "weekly", "yearly", "annually", "*:2/3", "*-05~03", "*-05~1..3",
		"*-05~03/1", "*-*~1 Europe/Berlin", "@86400", "*:*:30", "Fri", "00..06/2:00",
	} {
		if err := checkCalendar(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, at := range map[string]int{
		"": -1, "Mon..": 5, "Fri..Mon": 5, "Mon..Wed..Fri": 8, "25:00": 0, "08:60": 3, "08:00:61": 6, "08:00pm": 5, "13-01": 0,
		"2026-02-": 8, "08:0/0": -1, "*:*:*:*": 5, "08:00 Mars/Base": 6, "$(reboot)": 0, "%H:00": 0, "1969-01-01": 0, "@x": 1,
		"tomorrow": 0, "Mond 08:00": 3,
	} {
		var ve *quadlet.ValueError
		if err := checkCalendar(bad); bad != "" && (!errors.As(err, &ve) || at >= 0 && ve.Offset != at) {
			t.Errorf("%q: %v at %+v, want one at %d", bad, err, ve, at)
		}
	}
}

// systemd on this machine has the same opinion of anything.
func TestCalendarIsSystemds(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	number := func() string {
		return pick("0", "1", "2", "3", "5", "07", "12", "15", "23", "24", "30", "31", "32", "59", "60", "70", "99", "1969", "1970", "2027", "2199", "2200")
	}
	var part func() string
	part = func() string {
		switch r.IntN(9) {
		case 0, 1:
			return "*"
		case 2:
			return number() + ".." + number()
		case 3:
			return number() + "/" + number()
		case 4:
			return number() + ".." + number() + "/" + number()
		case 5:
			return number() + "," + part()
		}
		return number()
	}
	day := func() string { return pick("Mon", "tue", "Wednesday", "Thu", "FRI", "Sat", "Sun", "Mo") }
	agree, n := 0, 300
	if testing.Short() {
		n = 40
	}
	for range n {
		var words []string
		if r.IntN(2) == 0 {
			words = append(words, day()+pick("", "", ","+day(), ".."+day(), "-"+day(), ",", ".."))
		}
		if r.IntN(2) == 0 {
			words = append(words, pick("", pick("", "*", "20"+number(), part())+pick("-", "-", "~"))+part()+pick("-", "-", "~")+part())
		}
		if r.IntN(3) > 0 {
			words = append(words, part()+":"+part()+pick("", "", ":"+part()+pick("", ".5")))
		}
		text := strings.Join(words, pick(" ", " ", "  ")) + pick("", "", "", " UTC", " Nowhere/Land")
		if strings.TrimSpace(text) == "" {
			continue
		}
		ours := checkCalendar(text)
		out, theirs := exec.CommandContext(context.Background(), "systemd-analyze", "calendar", "--iterations=0", "--", text).CombinedOutput()
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%q: ours %v, systemd's %v: %s", text, ours, theirs, out)
			continue
		}
		if ours == nil {
			agree++
		}
	}
	t.Logf("%d of %d are valid", agree, n)
}
