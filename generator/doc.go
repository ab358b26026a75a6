// Package generator plans the units of every scaled .container file, spells
// them and writes them where systemd's generators write.
//
//	Spec → Plan → units → disk
//
// It reads no Quadlet syntax (package quadlet does) and forwards no byte
// (package proxy does).
package generator
