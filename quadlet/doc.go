// Package quadlet reads Quadlet files: it finds the .container files of a
// manager, merges their drop-ins, keeps the file, line and column of every
// assignment, and turns the [ScaleToZero] section into a [Spec]. It also
// converts a .container file to its service unit, with the machine's own
// Quadlet where there is one and with the embedded podman/v4 otherwise.
//
// It does not decide what units an endpoint is made of, does not compare one
// file with another and writes nothing: that is package generator.
package quadlet
