package generator

import (
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Ends reports whether the file is a job (systemd.service(5), Type=).
func Ends(f *quadlet.File) bool {
	kind, _ := f.Last("Service", "Type")
	remains, _ := f.Last("Service", "RemainAfterExit")
	yes, _ := scale.ParseBool(remains.Value)
	return kind.Value == "oneshot" && !yes
}
