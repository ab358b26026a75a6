package main

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode/utf8"
)

// kind is what a line of the terminal is.
type kind string

const (
	remark  kind = "remark"
	command kind = "command"
	output  kind = "output"
)

// entry is a line or more that came at once, and how long it took until then.
type entry struct {
	kind  kind
	text  string
	after time.Duration
}

// The picture's measures, in pixels. A glyph of a terminal's font is 0.6 of its
// size wide (DejaVu Sans Mono, Menlo, Liberation Mono); none in use is wider.
const (
	fontSize   = 14
	glyph      = 0.61 * fontSize
	lineHeight = 20
	margin     = 18
)

// Nobody wants to watch a container do nothing.
const longest = 2 * time.Second

// style has both colour schemes. An image in a page is shown in that of its
// reader (media queries level 5, prefers-color-scheme). What cannot animate, and
// who does not want it, sees the last picture at once: without the animation
// every line is visible.
const style = `
svg { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace }
text { white-space: pre; animation: line 1ms backwards }
.paper { fill: #f6f8fa; stroke: #d1d9e0 }
.command, .output { fill: #1f2328 }
.command { font-weight: bold }
.prompt { fill: #1a7f37 }
.remark { fill: #59636e }
@keyframes line { from { visibility: hidden } }
@media (prefers-color-scheme: dark) {
  .paper { fill: #151b23; stroke: #3d444d }
  .command, .output { fill: #e6edf3 }
  .prompt { fill: #3fb950 }
  .remark { fill: #9198a1 }
}
@media (prefers-reduced-motion) { text { animation: none } }
`

// draw is what a terminal showed, as a picture: each line comes when it came. What
// is said first stands there at once: a picture that begins empty looks broken.
func draw(title string, entries []entry) string {
	var body strings.Builder
	var at time.Duration
	begun, columns, y := false, 0, margin
	for i, e := range entries {
		if i > 0 && e.kind == remark {
			y += lineHeight
			begun = true
		}
		if begun {
			at += min(e.after, longest)
		}
		for _, line := range strings.Split(e.text, "\n") {
			y += lineHeight
			columns = max(columns, utf8.RuneCountInString(line))
			prompt := ""
			if e.kind == command {
				prompt, line = `<tspan class="prompt">$ </tspan>`, strings.TrimPrefix(line, "$ ")
			}
			fmt.Fprintf(&body, "<text class=%q x=\"%d\" y=\"%d\" style=\"animation-delay: %.2fs\" xml:space=\"preserve\">%s%s</text>\n",
				e.kind, margin, y-lineHeight/3, at.Seconds(), prompt, html.EscapeString(line))
		}
	}
	width, height := int(float64(columns)*glyph)+2*margin, y+margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img">`+
		"\n<title>%s</title>\n<style>%s</style>\n", width, height, html.EscapeString(title), style) +
		fmt.Sprintf(`<rect class="paper" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", width-1, height-1) +
		body.String() + "</svg>\n"
}
