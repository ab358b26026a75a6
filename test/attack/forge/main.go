// Command forge tells the journal what it is told to, from inside a container:
// each argument is a record of FIELD=VALUE pairs with "|" between them.
package main

import (
	"log"
	"net"
	"os"
	"strings"
)

func main() {
	conn, err := net.Dial("unixgram", "/journal")
	if err != nil {
		log.Fatal(err)
	}
	for _, record := range os.Args[1:] {
		if _, err := conn.Write([]byte(strings.ReplaceAll(record, "|", "\n") + "\n")); err != nil {
			log.Fatal(err)
		}
	}
}
