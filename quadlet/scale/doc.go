// Package scale says what a .container file with a [ScaleToZero] section asks
// for: the table of the keys, which is all that is to be said of each, and the
// [Spec] that comes of a file, with its ports.
//
// It does not decide what units an endpoint is made of and does not compare one
// file with another: that is package generator.
package scale
