// Package proxy holds the clients of a container that is not there yet and
// forwards them once it is. It takes listening sockets from systemd, connects
// each client to the app as soon as the app accepts, and ends when nobody has
// been connected for the idle time, so that systemd can stop the container:
//
//	listen → hold → reach → carry → idle → exit
//
// This package is the server: it takes clients, has them wait, and counts them. The
// trades are rooms of their own, below internal: sock (system calls), reach (the way
// into the container), carry (bytes), watch (an app that accepts by itself) and
// report (systemd and the journal). Datagrams stay here: a relay needs as much of
// the server as a connection does.
//
// It does not start or stop the container (systemd does, by Upholds= and
// StopWhenUnneeded=), does not read Quadlet files or write units (packages
// quadlet and generator), and looks into the first bytes of clients only where a key
// asks for that (porter.go).
package proxy
