// Package convert makes service units of .container files, with the machine's
// own Quadlet where there is one and with the embedded podman/v4 otherwise.
//
// It does not know what is scaled: it is told what to change in a file.
package convert
