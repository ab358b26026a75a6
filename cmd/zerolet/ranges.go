package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// port is an address's last number, with what stands around it: "[::]:8080",
// "8080/udp", "[::]:53 (Datagram)".
var port = regexp.MustCompile(`^((?:.*:)?)(\d{1,5})((?:/udp| \(Datagram\))?)$`)

// ranges are addresses for a person. Ports that follow each other are one word:
// a file may have thousands.
func ranges(addresses []string) string {
	var words []string
	for i := 0; i < len(addresses); {
		last := i + 1
		m := port.FindStringSubmatch(addresses[i])
		if m == nil {
			words = append(words, addresses[i])
			i = last
			continue
		}
		first, _ := strconv.Atoi(m[2])
		for last < len(addresses) && addresses[last] == fmt.Sprint(m[1], first+last-i, m[3]) {
			last++
		}
		switch n := last - i; n {
		case 1, 2:
			words = append(words, addresses[i:last]...)
		default:
			words = append(words, fmt.Sprint(m[1], first, "-", first+n-1, m[3]))
		}
		i = last
	}
	return strings.Join(words, " ")
}
