// Package proxy holds the clients of a container that is not there yet and
// forwards them once it is. It takes listening sockets from systemd, connects
// each client to the app as soon as the app accepts, and ends when nobody has
// been connected for the idle time, so that systemd can stop the container:
//
//	fd → listen → ready/dial → forward → idle → exit
//
// Each arrow is a file. netns.go has sockets made inside the container's network
// namespace, by a helper that nsenter.go or entry.go get in there; serve.go ties
// the stages together, record.go tells systemd and the journal.
//
// It does not start or stop the container (systemd does, by Upholds= and
// StopWhenUnneeded=), does not read Quadlet files or write units (packages
// quadlet and generator), and never looks into the bytes that it carries.
package proxy
