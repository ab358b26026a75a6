package main

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"os"
	"slices"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// writeDrawing puts another file in the place of the one that was there. Where
// others may write, too, as in /tmp, that name may be a link to what only root may
// change: it is not followed.
func writeDrawing(path string, text []byte) (err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return failure{exitUsage, path + " is there, and no file", "remove it, or name another one"}
	}
	tmp := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // O_EXCL: no link, either
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(tmp))
	}
	return err
}

// drawing is the timelines of services on one scale: a bar for each time in
// which the container ran, a tick for each wake.
func drawing(all []*service.Past) []byte {
	const left, width, row, top = 160, 800, 34, 30
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		left+width+20, top+row*len(all)+30)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="white"/>`)
	if len(all) == 0 {
		fmt.Fprintln(&b, `</svg>`)
		return b.Bytes()
	}
	from := slices.MinFunc(all, func(a, b *service.Past) int { return a.From.Compare(b.From) }).From
	to := all[0].To
	x := func(t time.Time) float64 {
		return left + width*t.Sub(from).Seconds()/max(to.Sub(from).Seconds(), 1)
	}
	for i, p := range all {
		y := top + row*i
		fmt.Fprintf(&b, `<text x="10" y="%d">%s</text>`+"\n", y+15, html.EscapeString(p.Name))
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="10" fill="#666">%s</text>`+"\n", left, y-2, html.EscapeString(summary(p)))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="16" fill="#eee"/>`+"\n", x(p.From), y+3, x(p.To)-x(p.From))
		for _, a := range p.Awake {
			fmt.Fprintf(&b, `<rect x="%.2f" y="%d" width="%.2f" height="16" fill="#2a7"/>`+"\n", x(a.From), y+3, max(x(a.To)-x(a.From), 0.5))
		}
		for _, w := range p.Wakes {
			by := ""
			if w.Client != "" {
				by = html.EscapeString(w.Client) + ", "
			}
			fmt.Fprintf(&b, `<rect x="%.2f" y="%d" width="1" height="16" fill="#064"><title>%s, %s%.2fs</title></rect>`+"\n",
				x(w.Time), y+3, w.Time.Format(time.DateTime), by, w.Seconds)
		}
	}
	y := top + row*len(all) + 10
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666">%s</text>`+"\n", left, y, from.Format(time.DateTime))
	fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#666" text-anchor="end">%s</text>`+"\n", left+width, y, to.Format(time.DateTime))
	fmt.Fprintln(&b, `</svg>`)
	return b.Bytes()
}
