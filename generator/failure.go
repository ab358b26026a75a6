package generator

import "github.com/zerolet/zerolet/proxy/wire"

// checkOnFailure tells what OnFailure= is to expect. systemd judges how an app
// has ended by its status alone, whether it was asked to or not, and by the same
// list what runs before it: with SuccessExitStatus=1 an ExecStartPre= that fails
// is one that has not (tried on systemd 257). Only who wrote the file knows which
// status is an end in order.
func (e *Endpoint) checkOnFailure() {
	f := e.Spec.File
	wanted, ok := f.Last("Unit", "OnFailure")
	if !ok || wanted.Value == "" || declared(f, "Service", "SuccessExitStatus") {
		return
	}
	e.Diagnostics.Warnf(wanted.Pos,
		"let the app end with 0 when it is stopped, or add its status to [Service]: SuccessExitStatus=137 is that of one which ignores SIGTERM",
		"OnFailure= also starts when %s goes to sleep, if its app ends by another status than 0 or 143 then", e.name(wire.Container))
}
