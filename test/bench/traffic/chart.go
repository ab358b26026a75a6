package main

import (
	"fmt"
	"strings"
)

// The chart's measures, in pixels.
const (
	chartWidth  = 860
	chartLeft   = 230
	chartRight  = 120
	barHeight   = 14
	groupGap    = 16
	chartTop    = 40
	chartMargin = 20
)

// colours of the peers, in the order of peerNames.
func colours() []string {
	return []string{"#9aa0a6", "#c58af9", "#fbbc04", "#34a853", "#1a73e8", "#669df6", "#174ea6", "#dadce0"}
}

// chart draws the rows where more is better, a group for each, every bar
// relative to the plain port's.
func (b *bench) chart(manager string) string {
	names := b.names(manager, peerNames())
	rows := trafficRows()[:7]
	top := 1.0
	for _, r := range rows {
		for _, name := range names {
			top = max(top, b.relative(manager, r, name))
		}
	}
	groupHeight := len(names)*barHeight + groupGap
	height := chartTop + len(rows)*groupHeight + chartMargin
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n",
		chartWidth, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	fmt.Fprintf(&svg, `<text x="%d" y="22" font-size="15">What a client gets, the %s = 1 (%s)</text>`+"\n", chartMargin, plain, manager)
	scale := float64(chartWidth-chartLeft-chartRight) / top
	for i, r := range rows {
		y := chartTop + i*groupHeight
		fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-10, y+groupHeight/2, r.name())
		for j, name := range names {
			b.bar(&svg, manager, r, name, y+j*barHeight, scale)
		}
	}
	one := chartLeft + int(scale)
	fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%[1]d" y2="%d" stroke="#202124" stroke-dasharray="3 3"/>`+"\n", one, chartTop-4, height-chartMargin)
	svg.WriteString("</svg>\n")
	return svg.String()
}

func (b *bench) bar(svg *strings.Builder, manager string, r row, name string, y int, scale float64) {
	ratio := b.relative(manager, r, name)
	colour := ""
	for i, n := range peerNames() {
		if n == name {
			colour = colours()[i]
		}
	}
	width := int(ratio * scale)
	fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, chartLeft, y, width, barHeight-2, colour)
	fmt.Fprintf(svg, `<text x="%d" y="%d" font-size="10">%s, %s %s</text>`+"\n",
		chartLeft+width+4, y+barHeight-4, name, number(median(b.found[manager][r][name])), r.unit())
}

// relative is 0 for what was not measured.
func (b *bench) relative(manager string, r row, name string) float64 {
	values, reference := b.found[manager][r][name], b.found[manager][r][plain]
	if len(values) == 0 || len(reference) == 0 {
		return 0
	}
	return median(values) / median(reference)
}
