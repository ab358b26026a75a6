package convert

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// refused is the diagnostic of a file that Quadlet does not convert, at the
// line that its message is about as far as that can be told.
func refused(f *quadlet.File, message string) quadlet.Diagnostics {
	var ds quadlet.Diagnostics
	pos, key := locate(f, message)
	hint := ""
	switch {
	case strings.HasPrefix(message, "unsupported key ") && key != "":
		hint = "remove it: podman-systemd.unit(5) of this Podman has the keys that its Quadlet knows"
		if section := home(key); section != "" {
			hint = "move it to [" + section + "]: it is systemd's"
		}
	case strings.Contains(message, "was not found") || strings.Contains(message, "does not exist"):
		hint = "write that file, or name an object that Podman has without the extension"
	case strings.HasPrefix(message, "no Image or Rootfs"):
		hint = "add Image= to [Container]"
	case key != "":
		hint = "podman-systemd.unit(5) tells what " + key + "= may be"
	}
	ds.Errorf(pos, hint, "quadlet: %s", strings.TrimSuffix(message, " in "+f.Path))
	return ds
}

// locate finds the assignment that a message of Quadlet's names, by the key
// ("unsupported key 'Foo' in group 'Container'", "invalid KillMode 'x'") or by
// a file in the value ("requested Quadlet image x.image was not found"); else
// the section, else the file.
func locate(f *quadlet.File, message string) (pos quadlet.Pos, key string) {
	words := strings.FieldsFunc(message, func(r rune) bool { return strings.ContainsRune(" '\",:", r) })
	for _, word := range words {
		for _, e := range slices.Backward(f.Entries) {
			if e.Key == word || quadlet.IsKind(filepath.Ext(word)) && strings.Contains(e.Value, word) {
				return e.Pos, e.Key
			}
		}
	}
	for _, s := range f.Sections {
		if s.Name == f.Kind() {
			return s.Pos, ""
		}
	}
	return quadlet.Pos{File: f.Path}, ""
}

// home is the section of systemd that a key belongs to, if it is one of those
// that are often written for Podman (systemd.unit(5), systemd.service(5),
// systemd.exec(5), systemd.resource-control(5)). None of them is Quadlet's.
func home(key string) string {
	switch {
	case slices.Contains(unitKeys, key):
		return "Unit"
	case slices.Contains(serviceKeys, key):
		return "Service"
	case slices.Contains([]string{"WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"}, key):
		return "Install"
	}
	return ""
}

var unitKeys = strings.Fields(`
	After Before BindsTo Conflicts Description Documentation OnFailure OnSuccess PartOf PropagatesReloadTo Requires
	RequiresMountsFor Requisite StartLimitBurst StartLimitIntervalSec StopWhenUnneeded Upholds Wants
	ConditionPathExists ConditionHost AssertPathExists`)

var serviceKeys = strings.Fields(`
	AllowedCPUs CPUAccounting CPUAffinity CPUQuota CPUQuotaPeriodSec CPUSchedulingPolicy CPUWeight Delegate ExecReload
	ExecStartPost ExecStartPre ExecStop ExecStopPost IOAccounting IODeviceWeight IOReadBandwidthMax IOSchedulingClass
	IOWeight IOWriteBandwidthMax KillMode KillSignal LimitNOFILE LimitNPROC MemoryAccounting MemoryHigh MemoryLow
	MemoryMax MemoryMin MemorySwapMax Nice OOMPolicy OOMScoreAdjust RemainAfterExit Restart RestartSec RuntimeMaxSec
	Slice SuccessExitStatus TasksAccounting TasksMax TimeoutSec TimeoutStartSec TimeoutStopSec Type UMask WatchdogSec`)
