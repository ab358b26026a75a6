// Package quadlet reads Quadlet files: it finds those of a manager, merges their
// drop-ins, keeps the file, line and column of every assignment, and tells what
// is wrong there as a [Diagnostic].
//
// It does not know what the [ScaleToZero] section means, which is package scale,
// nor how Quadlet makes a unit of a file, which is package convert.
package quadlet
